"""Advantages of the steps of a few episodes, against a baseline that is fitted to them alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

import autometa as am

_PENALTY = 10.0
"""Of the squared weights of the baseline, whose features have a spread of 1: a few steps alone are not to be fitted."""
_ROUNDING = 1e-5
"""Spread of advantages, as a share of the returns, that may be nothing but rounding."""
_TIME_UNIT = 100.0
"""Steps."""


def episode_advantages(seen: am.Experience, discount: float, trace: float) -> Tensor:
    """Generalised advantages (Schulman et al. 2016, eq. 16) within episodes, of mean 0 and spread 1 in every task.

    Values are those of a linear baseline. A reward that was not told counts as none. The end of an episode, for either
    reason, ends the sum of its rewards.

    Parameters
    ----------
    seen : Experience
    discount : float
    trace : float
        λ: 1 sums up rewards, 0 trusts the baseline after one step.

    Returns
    -------
    Tensor of shape [tasks, time]
        0 where padded.
    """
    exists = seen.mask.to(seen.reward)
    reward = seen.reward * seen.told
    goes_on = F.pad(exists[:, 1:], (0, 1)) * ~seen.ended
    to_go = discounted_sums(reward, discount * goes_on)
    value = fitted_values(seen, to_go) * exists
    surprise = reward + discount * goes_on * F.pad(value[:, 1:], (0, 1)) - value
    found = discounted_sums(surprise, discount * trace * goes_on)
    count = exists.sum(1, keepdim=True).clamp(min=1)
    found = (found - (found * exists).sum(1, keepdim=True) / count) * exists
    spread, size = ((part.square().sum(1, keepdim=True) / count).sqrt() for part in (found, to_go))
    return found / (spread + _ROUNDING * size + 1e-8)


def fitted_values(seen: am.Experience, target: Tensor) -> Tensor:
    """Values that are linear in observation, its square, and time, time² and time³ (Duan et al. 2016b, section 5).

    Parameters
    ----------
    seen : Experience
    target : Tensor of shape [tasks, time]
        Returns from every step on, which ridge regression fits, in every task by itself.

    Returns
    -------
    Tensor of shape [tasks, time]
    """
    mask = seen.mask.to(target)
    observed = seen.observation.flatten(2)
    time = age(seen).to(target) / _TIME_UNIT
    times = torch.stack([time, time.square(), time**3], -1)
    features = _of_spread_1(torch.cat([observed, observed.square(), times], -1), mask)
    penalty = target.new_tensor(_PENALTY)
    weights, intercept = am.solve_ridge(features, target.unsqueeze(-1), mask, penalty)
    return (features @ weights + intercept).squeeze(-1)


def _of_spread_1(features: Tensor, mask: Tensor) -> Tensor:
    """Scale features [tasks, time, n] to a spread of 1 among the steps of their task; what never changes becomes 0."""
    share = (mask / mask.sum(1, keepdim=True).clamp(min=1)).unsqueeze(-1)
    centred = features - (features * share).sum(1, keepdim=True)
    spread = (centred.square() * share).sum(1, keepdim=True).sqrt()
    return centred / spread.clamp(min=1e-6)


def age(seen: am.Experience) -> Tensor:
    """Steps since the episode began, [tasks, time]."""
    place = torch.arange(seen.n_steps, device=seen.mask.device)
    starts = F.pad(seen.ended[:, :-1], (1, 0), value=True)
    return place - torch.where(starts, place, 0).cummax(1).values


def discounted_sums(values: Tensor, factor: Tensor) -> Tensor:
    """Return ``s[t] = values[t] + factor[t] * s[t + 1]`` along the last axis, in as many operations as its logarithm.

    Parameters
    ----------
    values, factor : Tensor of shape [..., time]
    """
    shift, length = 1, values.shape[-1]
    while shift < length:
        values = values + factor * F.pad(values[..., shift:], (0, shift))
        factor = factor * F.pad(factor[..., shift:], (0, shift))
        shift *= 2
    return values

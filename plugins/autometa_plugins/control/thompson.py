"""Thompson sampling."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from autometa_plugins.control.bandit_actor import BanditActor, BanditFacts, Counts

_PLACES = 1000
"""Means that are tried in each integral."""
_FARTHEST = 5.0
"""Largest mean of a Gaussian arm that is tried."""
_LEAST = 1e-30
_NUMBERS_AT_ONCE = 2**23
"""Numbers of the posteriors that are held at a time: 32 MiB."""


class Thompson(BanditActor):
    """Pull every arm as often as it is the best by what is known (Thompson 1933).

    The probabilities are integrals over the posterior of the means, computed on a grid.
    """

    name: ClassVar[str] = "thompson"

    def logits(self, module: BanditFacts, counts: Counts) -> Tensor:
        """Return logarithms of the posterior probabilities of being best."""
        at_once = max(1, _NUMBERS_AT_ONCE // (module.n_arms * _PLACES))
        parts = zip(*(torch.split(part, at_once) for part in counts), strict=True)
        return torch.cat([_best(posterior(module.kind, Counts(*part))) for part in parts]).clamp(min=_LEAST).log()


def _best(mass: Tensor) -> Tensor:
    """Return the probabilities [..., arms] that a mean is the largest; each has ``mass`` [..., arms, places]."""
    below = mass.cumsum(-1) - mass / 2
    log_below = below.clamp(min=_LEAST).log()
    others = log_below.sum(-2, keepdim=True) - log_below
    return (mass * others.exp()).sum(-1)


def posterior(kind: str, counts: Counts) -> Tensor:
    """Return the probabilities [..., arms, places] of the means of arms, by what is known."""
    step = (torch.arange(_PLACES, device=counts.paid.device).to(counts.paid) + 0.5) / _PLACES
    pulls, paid = counts.pulls.unsqueeze(-1), counts.paid.unsqueeze(-1)
    if kind == "bernoulli":
        return (paid * step.log() + (pulls - paid) * (1 - step).log()).softmax(-1)
    places = _FARTHEST * (2 * step - 1)
    return (-(pulls + 1) / 2 * (places - paid / (pulls + 1)).square()).softmax(-1)

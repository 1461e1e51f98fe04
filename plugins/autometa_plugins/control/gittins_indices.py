"""Finite-horizon Gittins indices: what an arm is worth to who may still pull it so many times.

Beside an arm there is a sure one, to which one may go over for good after any pull. The index of the arm is what the
sure one must pay for both to be worth the same (Gittins 1979; with a horizon Niño-Mora 2011). To pull the arm of the
largest index is not quite optimal where a horizon is counted, but no difference shows in simulations.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_RATES = np.linspace(0, 1, 401, dtype=np.float32)
"""Rewards of a sure arm that are tried; between them indices are interpolated."""
_LEADS = np.linspace(-4, 6, 401)
"""Distances of a mean to the reward of a sure arm that are tried."""
_N_NODES = 64
"""Equally probable values in place of a normal number."""


@cache
def bernoulli_indices(pulls: int) -> Tensor:
    """Indices of arms that pay 1 or nothing, with a probability that is uniform on [0, 1].

    Parameters
    ----------
    pulls : int
        Of the whole episode. Time and memory grow like its third power: a second for 100.

    Returns
    -------
    Tensor of shape [pulls, pulls, pulls]
        By pulls left beside the next one, wins so far and losses so far; 0 for more than ``pulls`` in all.
    """
    found = np.zeros((pulls, pulls, pulls), dtype=np.float32)
    seen = np.arange(pulls, dtype=np.float32)
    chance = (seen[:, None] + 1) / (seen[:, None] + seen + 2)
    gain = np.zeros((pulls + 1, pulls + 1, len(_RATES)), dtype=np.float32)  # over the sure arm, with no pull left
    for left in range(pulls):
        n = pulls - left
        p = chance[:n, :n, None]
        going_on = p - _RATES + p * gain[1 : n + 1, :n] + (1 - p) * gain[:n, 1 : n + 1]
        found[left, :n, :n] = _zeros(going_on, _RATES)
        gain = np.maximum(going_on, 0)
    return torch.from_numpy(found)


@cache
def gaussian_indices(pulls: int) -> Tensor:
    """How far indices are above the posterior mean, for arms that pay normal numbers of deviation 1.

    The mean of an arm is standard normal before anything was seen.

    Parameters
    ----------
    pulls : int
        Of the whole episode. Time grows like its square: seconds for 100.

    Returns
    -------
    Tensor of shape [pulls, pulls]
        By pulls left beside the next one, and pulls of the arm so far; 0 for more than ``pulls`` in all.
    """
    found = np.zeros((pulls, pulls), dtype=np.float32)
    nodes = (2 * (torch.arange(_N_NODES, dtype=torch.float64) + 0.5) / _N_NODES - 1).erfinv().numpy()
    nodes /= nodes.std()
    gain = np.zeros((pulls + 1, len(_LEADS)))
    for left in range(pulls):
        for n in range(pulls - left):
            spread = ((1 / (n + 1)) - (1 / (n + 2))) ** 0.5  # of the posterior mean after one more pull
            after = _LEADS[:, None] + spread * nodes
            beyond = (after - _LEADS[-1]).clip(min=0) * left  # far ahead the arm is never left
            going_on = _LEADS + (np.interp(after, _LEADS, gain[n + 1]) + beyond).mean(1)
            found[left, n] = -_zeros(-going_on[None], _LEADS)[0]
            gain[n] = going_on.clip(min=0)
    return torch.from_numpy(found)


def _zeros(values: NDArray[np.floating], places: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return where falling values [..., places] are 0, by linear interpolation."""
    last = (values > 0).sum(-1, keepdims=True).clip(1, len(places) - 1) - 1
    above, below = (np.take_along_axis(values, last + step, -1)[..., 0] for step in (0, 1))
    share = above / (above - below)
    start, end = places[last[..., 0]], places[last[..., 0] + 1]
    found: NDArray[np.floating] = start + share * (end - start)
    return found

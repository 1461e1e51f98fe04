"""Quantiles of real targets, of any learner that tells a distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from autometa.contracts.learner import Learner


def quantiles_of(learner: Learner, module: nn.Module, adapted: Any, x: Tensor, q: Sequence[float]) -> Tensor:
    """Return the learner's own quantiles, or those of a Gaussian of its mean and standard deviation.

    Parameters
    ----------
    learner : Learner
        It provides ``"distribution"``, and ``"quantiles"`` if it has its own.
    module : nn.Module
    adapted : pytree of Tensor
    x : Tensor of shape [tasks, n, *features]
    q : sequence of float
        Each between 0 and 1.

    Returns
    -------
    Tensor of shape [quantiles, tasks, n, n_outputs]
    """
    exact = torch.float32 if x.device.type == "mps" else torch.float64  # Apple's devices have no double precision
    levels = torch.tensor(q, dtype=exact, device=x.device)
    if "quantiles" in learner.provides:
        return learner.predict_quantiles(module, adapted, x, levels)
    mean, deviation = (moment.to(exact) for moment in learner.predict_distribution(module, adapted, x))
    normal: Tensor = torch.special.ndtri(levels)
    return mean + deviation * normal[:, None, None, None]

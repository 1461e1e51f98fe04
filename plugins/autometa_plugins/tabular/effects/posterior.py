"""What a few rows tell about the effects of an entity."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_STEPS = 60
"""Steps towards the most likely log-odds; each closes a constant share of the distance at least."""
_LEAST_CURVATURE = 1e-3


def factor(gram: Tensor, mask: Tensor, noise: Tensor | None = None) -> Tensor:
    """Cholesky factor of the covariance of rows, [..., n, n]; a padded place is a row by itself.

    Parameters
    ----------
    gram : Tensor of shape [..., n, n]
        Covariance of the effects.
    mask : Tensor of shape [..., n]
    noise : Tensor of shape [..., n], optional
        Variance of each row's noise; 1 when left out.
    """
    both = mask.unsqueeze(-1) & mask.unsqueeze(-2)
    ones = torch.ones_like(mask, dtype=gram.dtype)
    added = ones if noise is None else torch.where(mask, noise, ones)
    found: Tensor = torch.linalg.cholesky(gram * both + torch.diag_embed(added))
    return found


def solve(gram: Tensor, residuals: Tensor, mask: Tensor) -> Tensor:
    """Solve (K + I) x = residuals, [..., n, outputs]; zero where padded.

    Times the kernel between any rows and these, it is the best linear unbiased prediction of the effects there
    (Henderson 1975).
    """
    return torch.cholesky_solve(residuals * mask.unsqueeze(-1), factor(gram, mask))


def explained(factor: Tensor, cross: Tensor, mask: Tensor) -> Tensor:
    """How much of the variance of effects the rows explain, [..., m]; ``cross`` [..., m, n] is the kernel to them."""
    cross = (cross * mask.unsqueeze(-2)).transpose(-1, -2)
    found: Tensor = torch.linalg.solve_triangular(factor, cross, upper=False).square().sum(-2)
    return found


def class_scores(gram: Tensor, log_odds: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Return what effects on log-odds are made of: the kernel times it is the most likely effect anywhere.

    Every class has an effect of its own with the covariance ``gram``. The likelihood is climbed by majorization
    (Böhning 1992): its curvature is replaced by an upper bound, so that every step solves with the same matrix.

    Parameters
    ----------
    gram : Tensor of shape [..., n, n]
    log_odds : Tensor of shape [..., n, classes]
        Those without effects.
    targets : Tensor of shape [..., n, classes]
        One-hot classes.
    mask : Tensor of shape [..., n]

    Returns
    -------
    Tensor of shape [..., n, classes]
        Targets less the most likely probabilities; zero where padded.
    """
    gram = gram * (mask.unsqueeze(-1) & mask.unsqueeze(-2))
    bound = gram + 2 * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    step = torch.cholesky_solve(gram, torch.linalg.cholesky(bound)).transpose(-1, -2)
    exists, effects = mask.unsqueeze(-1), torch.zeros_like(log_odds)
    for _ in range(_STEPS):
        scores = (targets - (log_odds + effects).softmax(-1)) * exists
        effects = step @ (effects + 2 * scores)
    return (targets - (log_odds + effects).softmax(-1)) * exists


def class_noise(probabilities: Tensor) -> Tensor:
    """Variance of the noise that a row's class has on the scale of log-odds, [..., n]: that of its likeliest class."""
    curvature = (probabilities * (1 - probabilities)).mean(-1)
    return 1 / curvature.clamp_min(_LEAST_CURVATURE)


def moderated(log_odds: Tensor, variance: Tensor) -> Tensor:
    """Shrink log-odds [..., classes] by the variance [...] of an effect, towards the mean probability (MacKay 1992)."""
    return log_odds / (1 + math.pi / 8 * 2 * variance.unsqueeze(-1)).sqrt()

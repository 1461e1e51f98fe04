"""What a few rows tell about the effects of an entity."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

_MOST_STEPS, _MOST_HALVINGS = 100, 30
"""Newton steps towards the most likely log-odds, where a few are usual; and how often each is halved."""
_TOLERANCE = 1e-4
"""Largest last change of an effect; as steps converge quadratically, what is left is its square."""
_LEAST_FALL = 1e-12
"""Share of the height that rounding may take away."""
_LEAST_SUM = 1e-12
"""Added to a matrix whose least numbers rounding may turn negative; it bends a step, not what steps lead to."""
_MOST_PLACES = 2**22
"""Numbers in the matrices of all classes at once."""
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

    Every class has an effect of its own with the covariance ``gram``. The likelihood is climbed by Newton's steps
    (Rasmussen & Williams 2006, algorithm 3.3), halved where one goes too far.

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
        At the most likely effects, targets less probabilities; zero where padded.
    """
    n, n_classes = targets.shape[-2:]
    if not targets.numel():
        return torch.zeros_like(targets)
    gram = (gram * (mask.unsqueeze(-1) & mask.unsqueeze(-2))).expand(*targets.shape[:-1], n).reshape(-1, n, n)
    exists = mask.unsqueeze(-1).expand_as(targets).reshape(-1, n, n_classes)
    parts = (gram, log_odds.expand_as(targets).reshape(exists.shape), targets.reshape(exists.shape), exists)
    size = max(1, _MOST_PLACES // max(1, n_classes * n * n))
    found = [_most_likely(_Tasks(*each)) for each in zip(*(torch.split(part, size) for part in parts), strict=True)]
    return torch.cat(found).reshape(targets.shape)


class _Tasks(NamedTuple):
    """Arguments of :func:`class_scores`, the tasks on one axis; ``exists`` [tasks, n, classes] is the mask."""

    gram: Tensor
    log_odds: Tensor
    targets: Tensor
    exists: Tensor

    def take(self, places: Tensor) -> _Tasks:
        """Return some of the tasks."""
        return _Tasks(*(part[places] for part in self))


def _most_likely(tasks: _Tasks) -> Tensor:
    """Climb from no effect; each task stops by itself, so that what is found does not depend on those beside it."""
    found, left = torch.zeros_like(tasks.targets), torch.arange(len(tasks.gram), device=tasks.gram.device)
    height = _height(tasks, found)
    for _ in range(_MOST_STEPS):
        own, begin = tasks.take(left), found[left]
        step, least = _newton_step(own, begin), height - _LEAST_FALL * (1 + height.abs())
        share = torch.ones_like(height)
        for _ in range(_MOST_HALVINGS):
            reached = _height(own, begin + share[:, None, None] * step)
            too_far = ~(reached >= least)
            if not too_far.any():
                break
            share = torch.where(too_far, share / 2, share)
        step = share[:, None, None] * step
        found[left] = begin + step
        climbing = (own.gram @ step).abs().amax((1, 2)) > _TOLERANCE
        left, height = left[climbing], reached[climbing]
        if not len(left):
            break
    return found


def _height(tasks: _Tasks, found: Tensor) -> Tensor:
    """Logarithm of the likelihood times the density of the effects, but for a constant, [tasks]."""
    gram, log_odds, targets, exists = tasks
    effects = gram @ found
    told = ((log_odds + effects).log_softmax(-1) * targets * exists).sum((1, 2))
    return told - 0.5 * (found * effects).sum((1, 2))


def _newton_step(tasks: _Tasks, found: Tensor) -> Tensor:
    """The whole way to the top of the parabola at ``found``, [tasks, n, classes]."""
    gram, log_odds, targets, exists = tasks
    effects = gram @ found
    shares = (log_odds + effects).softmax(-1)
    curved = shares * (effects - (shares * effects).sum(-1, keepdim=True))
    wanted = (curved + targets - shares) * exists
    one = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    if shares.shape[-1] == 2:  # one's effect is the other's, negative
        root = (2 * shares.prod(-1)).sqrt()
        whole = torch.linalg.cholesky(one + root.unsqueeze(-1) * gram * root.unsqueeze(-2))
        pulled = root.unsqueeze(-1) * (gram @ wanted)
        return wanted - root.unsqueeze(-1) * torch.cholesky_solve(pulled, whole) * exists - found
    root = shares.transpose(1, 2).sqrt()  # [tasks, classes, n]
    both = root.unsqueeze(-1) * root.unsqueeze(-2)
    inner = both * torch.cholesky_inverse(torch.linalg.cholesky(one + both * gram.unsqueeze(1)))
    turned = (inner @ (gram @ wanted).transpose(1, 2).unsqueeze(-1)).squeeze(-1)  # [tasks, classes, n]
    common = torch.cholesky_solve(turned.sum(1).unsqueeze(-1), torch.linalg.cholesky(inner.sum(1) + _LEAST_SUM * one))
    back = (inner @ common.unsqueeze(1)).squeeze(-1)
    return (wanted - (turned - back).transpose(1, 2)) * exists - found


def class_noise(probabilities: Tensor) -> Tensor:
    """Variance of the noise that a row's class has on the scale of log-odds, [..., n].

    As for one class against the rest it is one over ``p (1 - p)``; here, over the mean of that of all classes.
    """
    curvature = (probabilities * (1 - probabilities)).mean(-1)
    return 1 / curvature.clamp_min(_LEAST_CURVATURE)


def moderated(log_odds: Tensor, variance: Tensor) -> Tensor:
    """Shrink log-odds [..., classes] by the variance [...] of an effect, towards the mean probability (MacKay 1992)."""
    return log_odds / (1 + math.pi / 8 * 2 * variance.unsqueeze(-1)).sqrt()

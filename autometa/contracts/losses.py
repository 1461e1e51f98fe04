"""The plain losses of a task, and how padded places are marked."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

IGNORED_CLASS = -100
"""Marks a padded place in the class targets given to ``Learner.loss``; NaN does in real targets."""


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy per task, [tasks], over the places of ``y`` that are not ``IGNORED_CLASS``."""
    each = F.cross_entropy(logits.movedim(-1, 1), y, reduction="none", ignore_index=IGNORED_CLASS)
    return each.sum(-1) / (y != IGNORED_CLASS).sum(-1).clamp(min=1)


def squared_error(outputs: Tensor, y: Tensor, *, is_full: bool = False) -> Tensor:
    """Mean squared error per task, [tasks], over the places of ``y`` that are not NaN; ``is_full`` says none is."""
    y = y if y.dim() == outputs.dim() else y.unsqueeze(-1)
    if is_full:
        return (outputs - y).square().flatten(1).mean(dim=1)
    absent = y.isnan()
    each = (outputs - y).masked_fill(absent, 0.0).square()
    return each.flatten(1).sum(-1) / (~absent).flatten(1).sum(-1).clamp(min=1)

"""How sure an answer from other tasks may be, with no row and with many rows of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

_FACTORS = torch.logspace(-0.5, 1.5, 33, dtype=torch.float64)
"""Of scores around 0 and 1, among which the one is taken that makes the logits most likely."""


@dataclass(frozen=True, slots=True)
class Sureness:
    """Logarithm of a factor of logits, or of a variance, measured on the context.

    Parameters
    ----------
    blind : Tensor of shape [1] or [n_outputs]
        Where a whole task is left out.
    seeing : Tensor of shape [1] or [n_outputs]
        Where one row is left out, and the others of its task are known.
    """

    blind: Float[Tensor, " out"]
    seeing: Float[Tensor, " out"]

    @classmethod
    def measure(cls, apart: Tensor, left_out: Tensor, targets: Tensor, *, has_classes: bool) -> Self:
        """Measure answers [context, n_outputs] for the rows of tasks left out, and for rows left out."""
        measured = _log_factor if has_classes else _log_variance
        return cls(measured(apart, targets), measured(left_out, targets))

    def after(self, n_rows: int) -> Float[Tensor, " out"]:
        """Return the factor, or the variance, where so many rows of the task are known."""
        return (self.seeing + (self.blind - self.seeing) / (1 + n_rows)).exp()


def _log_variance(answers: Tensor, targets: Tensor) -> Tensor:
    return (answers - targets).square().mean(dim=0).clamp(min=1e-8).log()


def _log_factor(scores: Tensor, members: Tensor) -> Tensor:
    factors = _FACTORS.to(scores)
    losses = [-((factor * scores).log_softmax(dim=-1) * members).sum() for factor in factors]
    return factors[torch.stack(losses).argmin()].log().reshape(1)

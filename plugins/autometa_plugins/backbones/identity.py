"""Features that are the inputs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

from torch import Tensor, nn

import autometa as am

if TYPE_CHECKING:
    from optuna import Trial


class Identity(am.Backbone):
    """The inputs themselves, flattened: nothing is learned.

    Use it on features computed elsewhere, and as the baseline that every learned backbone must beat.
    """

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Return a module mapping [batch, *input_shape] to [batch, prod(input_shape)]."""
        return _Flatten(math.prod(input_shape))

    @classmethod
    def suggest(cls, trial: Trial, input_shape: tuple[int, ...]) -> Self:
        """Be tried as it is: there is nothing to choose."""
        return cls()


class _Flatten(nn.Module):
    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.n_features = n_features

    @am.fixed_forward
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)

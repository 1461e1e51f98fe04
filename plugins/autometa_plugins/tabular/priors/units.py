"""Functions of one number, from which relations are put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from autometa_plugins.tabular.priors.draws import Draws

Unit = Callable[[Tensor], Tensor]

MONOTONE: tuple[tuple[Unit, float], ...] = (
    (lambda x: x, 3),
    (torch.tanh, 2),
    (lambda x: x * x.abs(), 1),
    (nn.functional.softplus, 1),
    (lambda x: torch.exp(0.7 * x.clamp(-3, 3)), 1),
    (lambda x: (x > 0).to(x.dtype), 1),
)
"""Rising functions and their weights."""
ANY: tuple[tuple[Unit, float], ...] = (
    *MONOTONE,
    (torch.relu, 2),
    (lambda x: torch.sin(2 * x), 1),
    (torch.abs, 1),
    (lambda x: torch.exp(-x * x), 1),
    (lambda x: x * x, 1),
)
"""Functions and their weights."""


def draw_unit(draws: Draws, units: Sequence[tuple[Unit, float]] = ANY) -> Unit:
    """Draw a function."""
    return units[draws.one_of([weight for _, weight in units])][0]


def apply_units(draws: Draws, x: Tensor, units: Sequence[tuple[Unit, float]] = ANY, most: int = 4) -> Tensor:
    """Apply up to ``most`` functions, each to some of the columns."""
    parts = x.tensor_split(min(most, x.shape[-1]), dim=-1)
    return torch.cat([draw_unit(draws, units)(part) for part in parts], dim=-1)

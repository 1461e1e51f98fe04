"""The plain scores of a task, which comparisons are about."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from autometa.contracts.examples import Examples


def accuracy(outputs: Float[Tensor, "task query way"], query: Examples) -> Float[Tensor, " task"]:
    """Share of the queries whose most probable class is the right one."""
    right = (outputs.argmax(dim=-1) == query.y) & query.mask
    return right.sum(dim=1).to(outputs.dtype) / query.mask.sum(dim=1).clamp(min=1)


def mean_squared_error(outputs: Float[Tensor, "task query out"], query: Examples) -> Float[Tensor, " task"]:
    """Mean squared error over the queries and their targets, in the units drawn."""
    squares = (outputs - query.targets()).square().mean(dim=-1).masked_fill(~query.mask, 0.0)
    return squares.sum(dim=1) / query.mask.sum(dim=1).clamp(min=1)

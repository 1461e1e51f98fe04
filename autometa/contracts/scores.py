"""The plain scores of a task, which comparisons are about."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from autometa.contracts.examples import Examples
from autometa.contracts.objectives import LEAST_PROBABILITY

BINS = 10
"""Bins of equal width of the expected calibration error (Guo et al. 2017, "On calibration of modern neural
networks")."""
_EQUAL = 1e-20
"""Squared distances of targets from their mean that are no more than this part of their squares are rounding."""


def accuracy(outputs: Float[Tensor, "task query way"], query: Examples) -> Float[Tensor, " task"]:
    """Share of the queries whose most probable class is the right one."""
    right = (outputs.argmax(dim=-1) == query.y) & query.mask
    return right.sum(dim=1).to(outputs.dtype) / query.mask.sum(dim=1).clamp(min=1)


def mean_squared_error(outputs: Float[Tensor, "task query out"], query: Examples) -> Float[Tensor, " task"]:
    """Mean squared error over the queries and their targets, in the units drawn."""
    squares = (outputs - query.targets()).square().mean(dim=-1).masked_fill(~query.mask, 0.0)
    return squares.sum(dim=1) / query.mask.sum(dim=1).clamp(min=1)


def log_loss(outputs: Float[Tensor, "task query way"], query: Examples) -> Float[Tensor, " task"]:
    """Mean of -log p of the right class over the queries, in nats; p is at least :data:`LEAST_PROBABILITY`."""
    told = exact(outputs).log_softmax(dim=-1).gather(2, query.y.unsqueeze(2)).squeeze(2)
    return _mean(-told.clamp(min=math.log(LEAST_PROBABILITY)), query)


def brier(outputs: Float[Tensor, "task query way"], query: Examples) -> Float[Tensor, " task"]:
    """Mean over the queries of the squared distance of the probabilities from the right answer, 0 to 2 (Brier 1950)."""
    probabilities = exact(outputs).softmax(dim=-1)
    right = torch.nn.functional.one_hot(query.y, outputs.shape[-1])
    return _mean((probabilities - right).square().sum(dim=-1), query)


def calibration_gaps(outputs: Float[Tensor, "task query way"], query: Examples) -> Float[Tensor, "task bin"]:
    """How far the probability of the answer is above the share of right answers, a part of it in each of :data:`BINS`.

    The sum over bins of the size of the mean over tasks is the expected calibration error of all queries together,
    where every task counts as much as every other.
    """
    sure, answer = exact(outputs).softmax(dim=-1).max(dim=-1)
    gap = (sure - (answer == query.y).to(sure.dtype)).masked_fill(~query.mask, 0.0)
    place = (sure.nan_to_num() * BINS).long().clamp(max=BINS - 1)
    parts = gap.new_zeros(len(gap), BINS).scatter_add_(1, place, gap)
    return parts / query.mask.sum(dim=1, keepdim=True).clamp(min=1)


def mean_absolute_error(outputs: Float[Tensor, "task query out"], query: Examples) -> Float[Tensor, " task"]:
    """Mean absolute error over the queries and their targets, in the units drawn."""
    return _mean((exact(outputs) - exact(query.targets())).abs().mean(dim=-1), query)


def r2(outputs: Float[Tensor, "task query out"], query: Examples) -> Float[Tensor, " task"]:
    """1 - squared error / squared distance from the mean of the task's own query targets, mean over targets.

    Where all query targets of a task are equal, it is 1 if all answers are right and 0 if not, as in scikit-learn.
    """
    y, mask = exact(query.targets()), query.mask.unsqueeze(-1)
    centre = y.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
    around = (y - centre).square().masked_fill(~mask, 0.0).sum(dim=1)
    error = (exact(outputs) - y).square().masked_fill(~mask, 0.0).sum(dim=1)
    same = torch.where(error == 0, 1.0, torch.where(error.isnan(), torch.nan, 0.0)).to(error)
    differs = around > _EQUAL * y.square().sum(dim=1)
    return torch.where(differs, 1 - error / around, same).mean(dim=-1)


def mean_log_density(log_density: Float[Tensor, "task query out"], query: Examples) -> Float[Tensor, " task"]:
    """Mean over the queries and their targets, in nats, of densities of targets in the units drawn."""
    return _mean(log_density.mean(dim=-1), query)


def exact(values: Tensor) -> Tensor:
    """Return numbers in double precision, where the device has it."""
    return values.to(torch.float32 if values.device.type == "mps" else torch.float64)


def _mean(of_queries: Float[Tensor, "task query"], query: Examples) -> Float[Tensor, " task"]:
    return of_queries.masked_fill(~query.mask, 0.0).sum(dim=1) / query.mask.sum(dim=1).clamp(min=1)

"""Rows as the experts compare them: numbers standardised, bent and ranked, categories to match."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autometa_plugins.tabular.columns import Cells
from autometa_plugins.tabular.scale import Scale, find_scale

_CLIP = 4.0


@dataclass(frozen=True, slots=True)
class Encoding:
    """What is learned of the columns before any label is read; every tensor leads with [tasks].

    Parameters
    ----------
    scale : Scale
        Of the numbers.
    speaks : Tensor of shape [tasks, 1, columns], bool
        Columns that are numbers and not constant.
    matched : Tensor of shape [tasks, 1, categories], bool
        Categorical columns of more than two levels: their rows are equal or not. One of two levels counts as a number.
    low, high : Tensor of shape [tasks, 1, categories]
        The two levels that count as numbers.
    ordered : Tensor of shape [tasks, columns, n]
        The known values in ascending order; the largest number there is fills the rest.
    counts : Tensor of shape [tasks, 1, columns]
        How many they are, at least 1.
    """

    scale: Scale
    speaks: Bool[Tensor, "task 1 column"]
    matched: Bool[Tensor, "task 1 category"]
    low: Float[Tensor, "task 1 category"]
    high: Float[Tensor, "task 1 category"]
    ordered: Float[Tensor, "task column scaled"]
    counts: Float[Tensor, "task 1 column"]


@dataclass(frozen=True, slots=True)
class Rows:
    """Encoded rows. A missing or unseen value is 0, the mean; so is every value of a constant column.

    Parameters
    ----------
    clipped : Tensor of shape [tasks, n, columns]
        Standardised numbers z, clipped to ±4.
    bent : Tensor of shape [tasks, n, columns]
        asinh z: near the mean z, far from it a logarithm.
    ranks : Tensor of shape [tasks, n, columns]
        Mid-ranks from -1 to 1.
    levels : Tensor of shape [tasks, n, categories]
        Levels to match: a missing or unseen one is -1, all of a column that counts as a number are 0.
    """

    clipped: Float[Tensor, "task row column"]
    bent: Float[Tensor, "task row column"]
    ranks: Float[Tensor, "task row column"]
    levels: Float[Tensor, "task row category"]

    def part(self, rows: slice | list[int]) -> Rows:
        """Return some of the rows."""
        return Rows(self.clipped[:, rows], self.bent[:, rows], self.ranks[:, rows], self.levels[:, rows])


def fit_encoding(cells: Cells, mask: Bool[Tensor, "task row"], n_categorical: int) -> Encoding:
    """Learn scales, ranks and which categories count as numbers from the rows of the mask."""
    known = cells.known & mask.unsqueeze(-1)
    levels, present = _categorical(cells.entries, n_categorical), _categorical(known, n_categorical)
    low = torch.where(present, levels, torch.inf).amin(dim=1, keepdim=True).nan_to_num(posinf=0)
    high = torch.where(present, levels, 0).amax(dim=1, keepdim=True)
    matched = (present & (levels != low) & (levels != high)).any(dim=1, keepdim=True)
    numbers = _numbers(cells.entries, matched, high)
    scale = find_scale(numbers, known)
    ordered = torch.where(known, numbers, torch.finfo(numbers.dtype).max).transpose(1, 2).sort(dim=-1).values
    is_number = torch.ones_like(scale.varies)
    is_number[..., is_number.shape[-1] - n_categorical :] = ~matched
    return Encoding(
        scale=scale,
        speaks=scale.varies & is_number,
        matched=matched,
        low=low,
        high=high,
        ordered=ordered,
        counts=known.sum(dim=1, keepdim=True).clamp(min=1).to(numbers.dtype),
    )


def encode(cells: Cells, encoding: Encoding) -> Rows:
    """Encode rows, each by itself."""
    n_categorical = encoding.matched.shape[-1]
    levels, present = _categorical(cells.entries, n_categorical), _categorical(cells.known, n_categorical)
    numbers = _numbers(cells.entries, encoding.matched, encoding.high)
    usable = cells.known & encoding.speaks
    usable[..., usable.shape[-1] - n_categorical :] &= (levels == encoding.low) | (levels == encoding.high)
    standard = torch.where(usable, encoding.scale.standardise(numbers), 0)
    return Rows(
        clipped=standard.clamp(-_CLIP, _CLIP),
        bent=standard.asinh(),
        ranks=torch.where(usable, _mid_ranks(numbers, encoding), 0),
        levels=torch.where(encoding.matched, torch.where(present, levels, -1), 0),
    )


def _categorical(values: Tensor, n_categorical: int) -> Tensor:
    return values[..., values.shape[-1] - n_categorical :]


def _numbers(values: Tensor, matched: Tensor, high: Tensor) -> Tensor:
    """Put 1 for the one and 0 for the other of two levels; 0 for levels to match."""
    levels = _categorical(values, matched.shape[-1])
    two = (levels == high) & ~matched
    return torch.cat([values[..., : values.shape[-1] - matched.shape[-1]], two.to(values.dtype)], dim=-1)


def _mid_ranks(numbers: Tensor, encoding: Encoding) -> Tensor:
    ordered, columns = encoding.ordered.contiguous(), numbers.transpose(1, 2).contiguous()
    below = torch.searchsorted(ordered, columns)
    not_above = torch.searchsorted(ordered, columns, right=True)
    return (below + not_above).transpose(1, 2) / encoding.counts - 1

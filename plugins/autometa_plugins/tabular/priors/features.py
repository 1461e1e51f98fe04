"""From cells to features, laid out as ``autometa.TableEncoder`` lays out a real table."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot


def feature_kinds(n_columns: int, n_categorical: int, n_levels: int, missing: bool) -> tuple[tuple[str, int], ...]:
    """Return the kind of every feature and the column that it comes from."""
    marks = ("missing",) * missing
    numeric, categorical = ("numeric", *marks), ("categorical",) * n_levels + marks
    kinds = [numeric] * (n_columns - n_categorical) + [categorical] * n_categorical
    return tuple((kind, column) for column, of_column in enumerate(kinds) for kind in of_column)


def encode_cells(columns: Tensor, missing: Tensor | None, n_categorical: int, n_levels: int) -> Tensor:
    """Return features [tables, rows, features] in the order of :func:`feature_kinds`.

    A missing number becomes the median of its column, a missing level no level at all.
    """
    n_numeric = columns.shape[-1] - n_categorical
    numbers, levels = columns[..., :n_numeric], columns[..., n_numeric:].long()
    members = one_hot(levels, n_levels).to(columns.dtype)
    if missing is None:
        return torch.cat([numbers, members.flatten(2)], dim=-1)
    median = torch.where(missing[..., :n_numeric], torch.nan, numbers).nanmedian(dim=1, keepdim=True).values
    numbers = torch.where(missing[..., :n_numeric], median, numbers)
    marks = missing.to(columns.dtype).unsqueeze(-1)
    members = torch.cat([members * (1 - marks[:, :, n_numeric:]), marks[:, :, n_numeric:]], dim=-1)
    pairs = torch.cat([numbers.unsqueeze(-1), marks[:, :, :n_numeric]], dim=-1)
    return torch.cat([pairs.flatten(2), members.flatten(2)], dim=-1)

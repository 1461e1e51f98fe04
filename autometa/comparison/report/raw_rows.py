"""Encoded rows of a table as their readers know them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from autometa.contracts.row_encoder import RowEncoder
from autometa.tables.columns import Column
from autometa.tables.encoder import TableEncoder

MOST_COLUMNS = 8
"""Columns shown; the first ones."""
MISSING, OTHER = "missing", "another"
"""What stands for a value that was not there, and for one of a rare level."""


def column_names(x: Tensor, encoder: RowEncoder | None) -> list[str]:
    """Names of the columns that :func:`raw_rows` shows."""
    if isinstance(encoder, TableEncoder):
        return [column.name for column in encoder.columns_[:MOST_COLUMNS]]
    return [f"x{place}" for place in range(min(MOST_COLUMNS, x.flatten(1).shape[1]))]


def raw_rows(x: Tensor, encoder: RowEncoder | None) -> Iterator[list[str]]:
    """Go through rows as lists of texts: values of the table's own columns where it has an encoder.

    Parameters
    ----------
    x : Tensor of shape [n, *features]
    encoder : RowEncoder or None
        What the rows were encoded by.
    """
    rows = x.flatten(1).double().numpy()
    if not isinstance(encoder, TableEncoder):
        for row in rows:
            yield [f"{value:.4g}" for value in row[:MOST_COLUMNS]]
        return
    ends = np.cumsum([len(column.output_kinds) for column in encoder.columns_])
    shown: Sequence[tuple[Column, int, int]] = [
        (column, int(end) - len(column.output_kinds), int(end))
        for column, end in zip(encoder.columns_[:MOST_COLUMNS], ends, strict=False)
    ]
    for row in rows:
        yield [_value(column, row[start:end]) for column, start, end in shown]


def _value(column: Column, encoded: NDArray[np.float64]) -> str:
    """The value of one column of a row."""
    if column.has_missing and encoded[-1] > 0.5:
        return MISSING
    if column.kind == "empty":
        return ""
    if column.kind == "categorical":
        levels = (*column.levels, OTHER)
        return levels[int(encoded[: len(column.levels) + column.has_other].argmax())]
    # float32 keeps so many places; beyond, a 0 would be told as -1.3e-07
    number = round(column.mean + column.scale * float(encoded[0]), 5 - math.floor(math.log10(column.scale))) + 0.0
    if column.kind == "datetime":
        minutes = np.datetime64("1970-01-01T00:00", "m") + np.timedelta64(round(number * 24 * 60), "m")
        return str(minutes).removesuffix("T00:00")
    return f"{number:.4g}" + " days" * (column.kind == "timedelta")

"""All columns of a frame of plain numbers at once."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autometa.tables.columns import Column, read_column
from autometa.tables.scale import mean_and_scale, standardise


def are_numbers(frame: pd.DataFrame) -> bool:
    """Tell whether all columns are of a numpy type of integers or floats."""
    return all(isinstance(dtype, np.dtype) and dtype.kind in "iuf" for dtype in frame.dtypes)


def number_columns(frame: pd.DataFrame) -> tuple[Column, ...]:
    """Learn how to encode every column of a frame of numbers.

    Raises
    ------
    InvalidData
        Infinite values.
    """
    x = frame.to_numpy(dtype=np.float64)
    finite = np.atleast_1d(np.isfinite(x).all(axis=0))
    mean, scale, median = np.zeros(len(finite)), np.ones(len(finite)), np.full(len(finite), np.nan)
    mean[finite], scale[finite] = mean_and_scale(x[:, finite])
    with np.errstate(over="ignore"):
        median[finite] = np.median(x[:, finite], axis=0)
    # Columns with missing or infinite values, or whose median overflows, are read one by one.
    return tuple(
        Column(name=str(name), kind="numeric", has_missing=False, median=float(m), mean=float(a), scale=float(s))
        if np.isfinite(m)
        else read_column(frame.iloc[:, i], str(name), 1)
        for i, (name, m, a, s) in enumerate(zip(frame.columns, median, mean, scale, strict=True))
    )


def encode_numbers(columns: tuple[Column, ...], frame: pd.DataFrame) -> NDArray[np.float64] | None:
    """Encode rows as :meth:`Column.encode` does, [n, n_features_out]; None if some are neither finite nor missing."""
    if not are_numbers(frame) or not all(column.kind in ("numeric", "empty") for column in columns):
        return None
    x = frame.to_numpy(dtype=np.float64)
    if np.isinf(x).any():
        return None
    median, mean, scale, is_empty, has_missing = (
        np.array([getattr(column, name) if name != "kind" else column.kind == "empty" for column in columns])
        for name in ("median", "mean", "scale", "kind", "has_missing")
    )
    missing = np.isnan(x)
    standard = standardise(np.where(missing, median, x), mean, scale)
    standard[:, is_empty] = 0
    if not has_missing.any():
        return standard
    place = np.arange(len(columns)) + np.cumsum(has_missing) - has_missing
    encoded = np.empty((len(x), len(columns) + int(has_missing.sum())))
    encoded[:, place] = standard
    encoded[:, place[has_missing] + 1] = missing[:, has_missing]
    return encoded

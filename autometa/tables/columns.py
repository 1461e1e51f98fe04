"""One column of a table: what is learned of it, and how it is encoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from autometa.errors import InvalidData

Kind = Literal["numeric", "datetime", "timedelta", "categorical"]


class InvalidColumn(InvalidData):
    """The values of one column cannot be used; the text completes "column ... "."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """How one column is encoded.

    Parameters
    ----------
    name : str
    kind : {"numeric", "datetime", "timedelta", "categorical"}
    has_missing : bool
        Whether a column tells where values were missing.
    median, mean, scale : float
        Of a number: what replaces missing values, and what standardises.
    levels : tuple of str
        Of a category: levels with a column of their own.
    has_other : bool
        Whether rarer and unknown levels have a column.
    """

    name: str
    kind: Kind
    has_missing: bool
    median: float = 0.0
    mean: float = 0.0
    scale: float = 1.0
    levels: tuple[str, ...] = ()
    has_other: bool = False

    @property
    def output_kinds(self) -> tuple[str, ...]:
        """Kinds of the columns it becomes."""
        own = ("numeric",) if self.kind != "categorical" else ("categorical",) * (len(self.levels) + self.has_other)
        return own + ("categorical",) * self.has_missing

    def encode(self, values: pd.Series[Any]) -> NDArray[np.float32]:
        """Encode values as numbers [n, len(output_kinds)].

        Raises
        ------
        InvalidData
            The values are infinite or of another kind.
        """
        try:
            return self._encode_levels(values) if self.kind == "categorical" else self._encode_numbers(values)
        except InvalidColumn as error:
            raise InvalidData(f"column {self.name!r} {error}.") from error

    def _encode_numbers(self, values: pd.Series[Any]) -> NDArray[np.float32]:
        found = kind_of(values)
        if found != self.kind and not values.isna().all():
            raise InvalidColumn(f"was {self.kind} when the encoder was fitted and is now {found} ({values.dtype})")
        numbers = np.full(len(values), np.nan) if values.isna().all() else numbers_of(values)
        missing = np.isnan(numbers)
        standard = (np.where(missing, self.median, numbers) - self.mean) / self.scale
        return np.stack([standard, missing] if self.has_missing else [standard], axis=1).astype(np.float32)

    def _encode_levels(self, values: pd.Series[Any]) -> NDArray[np.float32]:
        texts = levels_of(values)
        missing = values.isna().to_numpy(dtype=bool)
        code = pd.Index(self.levels, dtype=object).get_indexer(pd.Index(texts, dtype=object))
        encoded = np.zeros((len(values), len(self.output_kinds)), dtype=np.float32)
        known = (code >= 0) & ~missing
        encoded[known.nonzero()[0], code[known]] = 1
        if self.has_other:
            encoded[(code < 0) & ~missing, len(self.levels)] = 1
        if self.has_missing:
            encoded[missing, -1] = 1
        return encoded


def read_column(values: pd.Series[Any], name: str, max_levels: int) -> Column:
    """Learn how to encode a column.

    Raises
    ------
    InvalidData
        Infinite values, or a type that is neither number, date, boolean, text nor category.
    """
    try:
        kind = kind_of(values)
        missing = bool(values.isna().any())
        if kind == "categorical":
            counts = pd.Series(levels_of(values)[~values.isna().to_numpy(dtype=bool)], dtype=object).value_counts()
            levels = sorted(counts.index, key=lambda level: (-counts[level], level))
            return Column(
                name=name,
                kind=kind,
                has_missing=missing,
                levels=tuple(sorted(levels[:max_levels])),
                has_other=len(levels) > max_levels,
            )
        numbers = numbers_of(values)
    except InvalidColumn as error:
        raise InvalidData(f"column {name!r} {error}.") from error
    present = numbers[~np.isnan(numbers)]
    median = float(np.median(present)) if len(present) else 0.0
    filled = np.where(np.isnan(numbers), median, numbers)
    deviation = float(filled.std())
    return Column(
        name=name,
        kind=kind,
        has_missing=missing,
        median=median,
        mean=float(filled.mean()),
        scale=deviation if deviation > 1e-12 * max(1.0, float(np.abs(filled).max())) else 1.0,
    )


def kind_of(values: pd.Series[Any]) -> Kind:
    """Tell the kind of a column.

    Raises
    ------
    InvalidColumn
        Its type is none that can be.
    """
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype) or types.is_bool_dtype(dtype):
        return "categorical"
    if types.is_complex_dtype(dtype) or isinstance(dtype, (pd.PeriodDtype, pd.IntervalDtype)):
        raise InvalidColumn(f"has the type {dtype}; numbers, dates, booleans, strings and categories can be used")
    if types.is_datetime64_any_dtype(dtype):
        return "datetime"
    if types.is_timedelta64_dtype(dtype):
        return "timedelta"
    if types.is_numeric_dtype(dtype):
        return "numeric"
    content = types.infer_dtype(values, skipna=True)
    return "numeric" if content in ("integer", "floating", "mixed-integer-float", "decimal", "empty") else "categorical"


def numbers_of(values: pd.Series[Any]) -> NDArray[np.float64]:
    """Return a column as float64, dates as days; NaN where missing.

    Raises
    ------
    InvalidColumn
        Not numbers, or infinite.
    """
    kind = kind_of(values)
    untyped: Any = values  # the stubs know neither a column of durations nor a float na_value
    if kind == "datetime":
        untyped = pd.to_datetime(values, utc=True) - pd.Timestamp(0, tz="UTC")
    if kind in ("datetime", "timedelta"):
        untyped = untyped / pd.Timedelta(days=1)
    if kind == "categorical" and not types.is_bool_dtype(values.dtype):
        sample = values.dropna()
        raise InvalidColumn(f"holds {sample.iloc[0]!r}, which is not a number" if len(sample) else "holds no number")
    numbers = np.asarray(untyped.to_numpy(dtype=np.float64, na_value=np.nan))
    if np.isinf(numbers).any():
        raise InvalidColumn("holds infinite values; replace them by missing ones or finite numbers")
    return numbers


def levels_of(values: pd.Series[Any]) -> NDArray[Any]:
    """Return a column as strings, type object; a missing value has some string too.

    Raises
    ------
    InvalidColumn
        It holds lists or other containers.
    """
    return np.array([_text(value) for value in values.to_numpy(dtype=object)], dtype=object)


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple, dict, set, np.ndarray)):
        raise InvalidColumn(f"holds a {type(value).__name__}; give each part a column of its own")
    # pandas turns whole numbers into floats where some are missing; the level is the same
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

"""The values of one column as numbers or as levels."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from autometa.errors import InvalidData
from autometa.tables.text import (
    all_dates,
    days_of,
    days_of_dtype,
    days_of_text,
    days_of_texts,
    is_date,
    is_number_object,
    row_of,
)

Kind = Literal["numeric", "datetime", "timedelta", "categorical", "empty"]


class InvalidColumn(InvalidData):
    """The values of one column cannot be used; the text completes "column ... "."""


def kind_of(values: pd.Series) -> Kind:
    """Tell the kind of a column.

    The type decides where it is one of numbers, dates, durations, booleans or categories; of objects, what all values
    present are. Text is a date if every value present is one in the ISO form, ``2024-12-31`` with or without a time
    and a zone; all other text is categorical.

    Raises
    ------
    InvalidColumn
        Its type is none that can be used.
    """
    dtype = values.dtype
    if values.isna().all():
        return "empty"
    if isinstance(dtype, pd.CategoricalDtype) or types.is_bool_dtype(dtype):
        return "categorical"
    if types.is_complex_dtype(dtype) or isinstance(dtype, (pd.PeriodDtype, pd.IntervalDtype)):
        raise _unusable(str(dtype))
    if dtype.kind in "mM":
        return "datetime" if dtype.kind == "M" else "timedelta"
    if types.is_numeric_dtype(dtype):
        return "numeric"
    return _kind_of_objects(values)


def _kind_of_objects(values: pd.Series) -> Kind:
    content = types.infer_dtype(values, skipna=True)
    if content in ("integer", "floating", "mixed-integer-float", "decimal"):
        return "numeric"
    if content == "complex":
        raise _unusable(content)
    if content == "string":
        return "datetime" if all_dates(values) else "categorical"
    if content in ("datetime", "date", "datetime64"):
        return "datetime"
    if content in ("timedelta", "timedelta64"):
        return "timedelta"
    if content.startswith("mixed"):
        present = _objects(values)[values.notna().to_numpy(dtype=bool)]
        if all(is_number_object(value) for value in present):
            return "numeric"
        if all(is_date(value) for value in present):
            return "datetime"
        if any(isinstance(value, (complex, np.complexfloating)) for value in present):
            raise _unusable("complex")
    return "categorical"


def numbers_of(values: pd.Series, kind: Kind | None = None) -> NDArray[np.float64]:
    """Return a column as float64; NaN where missing.

    Dates are days since 1970 began in UTC, of any year; dates without a zone count as UTC. Durations are days,
    booleans 0 and 1.

    Parameters
    ----------
    values : Series
    kind : str, optional
        What :func:`kind_of` says, where that is known.

    Raises
    ------
    InvalidColumn
        Not numbers, or infinite.
    """
    kind = kind_of(values) if kind is None else kind
    if kind == "empty":
        return np.full(len(values), np.nan)
    if kind == "categorical" and not is_boolean(values):
        value, row = first_that(values, lambda value: not is_number_object(value))
        raise InvalidColumn(f"holds {value!r} in {row}, which is not a number")
    is_arrow = isinstance(values.dtype, pd.ArrowDtype)
    if kind in ("datetime", "timedelta"):
        numbers = days_of_dtype(values) if values.dtype.kind in "mM" and not is_arrow else _days_of_objects(values)
    elif values.dtype.kind in "biuf":
        numbers = np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
    else:
        numbers = _each(values, float)
    infinite = np.isinf(numbers)
    if infinite.any():
        raise InvalidColumn(
            f"holds infinite values, the first in {row_of(values, infinite)}; replace them by missing ones or finite "
            "numbers"
        )
    return numbers


def is_boolean(values: pd.Series) -> bool:
    """Tell whether all values present are True or False."""
    return types.is_bool_dtype(values.dtype) or (
        not isinstance(values.dtype, pd.CategoricalDtype) and types.infer_dtype(values, skipna=True) == "boolean"
    )


def first_that(values: pd.Series, holds: Callable[[Any], bool]) -> tuple[Any, str]:
    """Return the first present value of which something holds, and the name of its row."""
    present = values.notna().to_numpy(dtype=bool)
    found = np.array([p and holds(v) for v, p in zip(_objects(values), present, strict=True)], dtype=bool)
    return _objects(values)[int(np.argmax(found))], row_of(values, found)


def levels_of(values: pd.Series) -> NDArray[Any]:
    """Return a column as strings, type object; what stands for a missing value means nothing.

    Raises
    ------
    InvalidColumn
        It holds lists or other containers.
    """
    objects = _objects(values)
    if values.dtype.kind == "b" and not values.isna().any():
        return np.where(objects.astype(bool), "True", "False").astype(object)
    if types.infer_dtype(values, skipna=True) == "string":
        return objects
    return np.array([_text(value) for value in objects], dtype=object)


def is_plain(level: str) -> bool:
    """Tell whether a number is written as its own level is: "1" and "1.5", but neither "01" nor "1.50"."""
    digits = level.removeprefix("-")
    return _text(int(level) if digits.isdecimal() else float(level)) == level


def _objects(values: pd.Series) -> NDArray[Any]:
    return np.asarray(values.to_numpy(dtype=object))


def _each(values: pd.Series, number: Callable[[Any], float]) -> NDArray[np.float64]:
    numbers = np.full(len(values), np.nan)
    found = _objects(values)
    for i in np.flatnonzero(values.notna().to_numpy(dtype=bool)):
        try:
            numbers[i] = number(found[i])
        except OverflowError:
            numbers[i] = np.inf
        except (TypeError, ValueError) as error:
            here = np.arange(len(values)) == i
            raise InvalidColumn(f"holds {found[i]!r} in {row_of(values, here)}, which cannot be read") from error
    return numbers


def _days_of_objects(values: pd.Series) -> NDArray[np.float64]:
    days = days_of_texts(_objects(values))
    left = np.isnan(days) & values.notna().to_numpy(dtype=bool)
    if left.any():
        days[left] = _each(values[left], _days)
    return days


def _days(value: Any) -> float:
    if isinstance(value, str):
        days = days_of_text(value)
        if days is None:
            raise ValueError(value)
        return days
    if isinstance(value, pd.Timestamp):
        value = value.to_datetime64()
    if isinstance(value, pd.Timedelta):
        value = value.to_timedelta64()
    if isinstance(value, np.datetime64):
        day = value.astype("M8[D]")
        return float(day.astype(np.int64)) + float((value - day) / np.timedelta64(1, "D"))
    if isinstance(value, np.timedelta64):
        return float(value / np.timedelta64(1, "D"))
    if isinstance(value, timedelta):
        return value / timedelta(days=1)
    return days_of(value)


def _text(value: Any) -> str:
    if isinstance(value, (str, bool, int)):
        return str(value)
    if isinstance(value, (list, tuple, dict, set, np.ndarray)):
        raise InvalidColumn(f"holds a {type(value).__name__}; give each part a column of its own")
    # pandas turns whole numbers into floats where some are missing; the level is the same
    whole = is_number_object(value) and math.isfinite(value) and value == int(value)
    return str(int(value)) if whole else str(value)


def _unusable(type_name: str) -> InvalidColumn:
    return InvalidColumn(f"has the type {type_name}; numbers, dates, booleans, strings and categories can be used")

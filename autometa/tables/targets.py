"""What a target may hold: the one rule for classes and for real targets."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas import api

from autometa.checks import check_choice
from autometa.errors import InvalidData
from autometa.tables.frames import as_column
from autometa.tables.text import is_number, is_number_object, misread, present_texts, refuse_missing, row_of
from autometa.tables.values import InvalidColumn, first_that, is_boolean, kind_of, numbers_of

_CLASSES = "classes are strings, whole numbers, booleans or dates without a time zone"

_LARGEST_WHOLE = 2.0**53
"""Up to here a float tells every whole number from the next."""


def problem_of(y: Any, what: str = "y") -> str:
    """Tell the problem of a target.

    Numbers of more than two distinct values, or that are not whole, are a regression; all else are classes.

    Raises
    ------
    InvalidData
        It is text that reads as numbers, most of it or all; the message names value and row.
    """
    values = as_column(y, what)
    try:
        kind = kind_of(values)
        numbers = numbers_of(values.dropna(), kind) if kind == "numeric" else None
    except InvalidColumn as error:
        raise InvalidData(f"{what} {error}.") from error
    if numbers is not None:
        return "regression" if values.nunique() > 2 or (numbers % 1 != 0).any() else "classification"
    found = None
    if kind == "categorical":
        found = misread(_as_text(values)) or _numbers_as_text(values)
    if found is not None:
        raise InvalidData(f"{what} {found}. If it holds classes, say problem='classification'.")
    return "classification"


def read_target(y: Any, problem: str = "auto", *, what: str = "y") -> tuple[str, NDArray[Any]]:
    """Read a target as what an estimator can learn.

    Parameters
    ----------
    y : array-like of shape [n]
    problem : {"auto", "regression", "classification"}, default="auto"
        "auto": numbers of more than two distinct values, or that are not whole, are a regression; all else are
        classes, but for text that reads as numbers, which is refused.
    what : str, default="y"
        What the messages call it.

    Returns
    -------
    problem : {"regression", "classification"}
    values : ndarray of shape [n]
        Real targets as float64, of any type of number. Class labels as strings, whole numbers, booleans or
        datetime64.

    Raises
    ------
    InvalidData
        A value that is missing or of no use; the message names it and its row.

    Examples
    --------
    >>> from decimal import Decimal
    >>> import autometa as am
    >>> am.read_target([Decimal("1.5"), 2, 4])
    ('regression', array([1.5, 2. , 4. ]))
    """
    check_choice("problem", problem, ("auto", "regression", "classification"))
    if problem == "classification" or (problem == "auto" and problem_of(y, what) == "classification"):
        return "classification", class_labels(y, what)
    return "regression", real_targets(y, what)


def real_targets(y: Any, what: str = "y") -> NDArray[np.float64]:
    """Return targets of a regression as float64 [n]: numbers of any type, booleans as 0 and 1.

    Raises
    ------
    InvalidData
        Missing, infinite or something else; the message names value and row.
    """
    values = _as_text(as_column(y, what))
    refuse_missing(values, what)
    try:
        kind = kind_of(values)
        if kind in ("datetime", "timedelta") and len(values):
            unit = "(y - y.min()) / pd.Timedelta(days=1)" if kind == "datetime" else "y / pd.Timedelta(days=1)"
            raise InvalidColumn(
                f"holds {values.iloc[0]!r} in {row_of(values, [True])}; a regression needs numbers, such as {unit}"
            )
        if kind == "categorical" and not is_boolean(values):
            raise _not_a_number(values)
        return numbers_of(values, kind)
    except InvalidColumn as error:
        raise InvalidData(f"{what} {error}.") from error


def class_labels(y: Any, what: str = "y") -> NDArray[Any]:
    """Return class labels as an array [n] of one type: str, int, float of whole numbers, bool or datetime64.

    Objects become the type that all of them have; dates and times become datetime64.

    Raises
    ------
    InvalidData
        Missing, of several types, or of a type that labels cannot have; the message names value and row.
    """
    if isinstance(y, np.ndarray) and y.ndim == 1 and y.dtype.kind in "biuU":
        return y
    values = as_column(y, what)
    refuse_missing(values, what)
    array: NDArray[Any] = values.to_numpy()
    if array.dtype.kind in "OSV":
        array = _typed(values, what)
    if array.dtype.kind == "M":
        return _dates(array)
    if array.dtype.kind == "f":
        odd = ~((np.abs(array) <= _LARGEST_WHOLE) & (array == np.floor(array)))
        if odd.any():
            raise _no_label(what, array[odd][0].item(), row_of(values, odd))
    elif array.dtype.kind not in "biuUO":
        raise _no_label(what, values.iloc[0], row_of(values, [True]))
    return array


def distinct_labels(labels: NDArray[Any]) -> NDArray[Any]:
    """Return the distinct labels of :func:`class_labels`, sorted; strings as objects."""
    if labels.dtype.kind == "O":
        return np.asarray(sorted(set(labels.tolist())), dtype=object)
    found = np.unique(labels)
    return found.astype(object) if found.dtype.kind == "U" else found


def _typed(values: pd.Series, what: str) -> NDArray[Any]:
    """Return objects as an array of the type that all of them have."""
    objects: NDArray[Any] = values.to_numpy(dtype=object)
    if api.types.infer_dtype(objects, skipna=False) == "string":
        return objects
    types = [_type_of(value) for value in objects]
    if None in types:
        odd = [found is None for found in types]
        raise _no_label(what, objects[odd.index(True)], row_of(values, odd))
    found = {float} if set(types) == {int, float} else set(types)
    if len(found) > 1:
        mixed = [kind is not types[0] for kind in types]
        raise InvalidData(
            f"{what} mixes labels of several types, such as {objects[0]!r} and {objects[mixed.index(True)]!r} in "
            f"{row_of(values, mixed)}; use one type, such as y.astype(str)."
        )
    if date in found:
        return _date_array(values, objects, what)
    if str in found or not found:
        return objects
    try:
        typed: NDArray[Any] = objects.astype(found.pop())
        return typed
    except OverflowError:
        raise _no_label(what, objects[0], row_of(values, [True])) from None


def _type_of(value: Any) -> type | None:
    """Return the type a label counts as; None if it can be none."""
    for types, counts_as in (
        (str, str),
        ((bool, np.bool_), bool),
        ((int, np.integer), int),
        ((float, np.floating), float),
        ((date, np.datetime64), date),
    ):
        if isinstance(value, types):
            return counts_as
    return None


def _date_array(values: pd.Series, objects: NDArray[Any], what: str) -> NDArray[Any]:
    zoned = [getattr(value, "tzinfo", None) is not None for value in objects]
    if any(zoned):
        raise _no_label(what, objects[int(np.argmax(zoned))], row_of(values, zoned))
    plain = [value.to_datetime64() if isinstance(value, pd.Timestamp) else np.datetime64(value) for value in objects]
    return np.array(plain)


def _dates(array: NDArray[Any]) -> NDArray[Any]:
    """Return dates in microseconds, where that loses nothing, so that equal ones are equal whatever their unit."""
    fine = array.astype("M8[us]")
    return fine if (fine.astype(array.dtype) == array).all() else array


def _no_label(what: str, value: Any, row: str) -> InvalidData:
    hint = (
        "decode it, such as y.str.decode('utf-8')" if isinstance(value, bytes) else "convert it, such as y.astype(str)"
    )
    # scikit-learn's words come first: its own checks look for them
    return InvalidData(f"Unknown label type: {what} holds {value!r} in {row}; {_CLASSES}: {hint}.")


def _not_a_number(values: pd.Series) -> InvalidColumn:
    def odd(value: Any) -> bool:
        return not (is_number(value) if isinstance(value, str) else is_number_object(value))

    n_odd = sum(map(odd, values))
    if n_odd == 0:
        value, row = first_that(values, lambda value: isinstance(value, str))
        return InvalidColumn(f"holds the text {value!r} in {row}; convert it to numbers first, as pd.to_numeric does")
    value, row = first_that(values, odd)
    others = f", while {len(values) - n_odd} of {len(values)} are numbers" if 2 * n_odd < len(values) else ""
    return InvalidColumn(f"holds {value!r} in {row}{others}; a regression needs numbers")


def _numbers_as_text(values: pd.Series) -> str | None:
    """Explain why text may be meant as numbers where all of it is; None if some is not, or its type says category."""
    texts = None if isinstance(values.dtype, pd.CategoricalDtype) else present_texts(values)
    if texts is None or not all(map(is_number, texts)):
        return None
    value, row = first_that(values, lambda value: isinstance(value, str))
    return f"holds the text {value!r} in {row}, and all of its text is numbers; convert it (pd.to_numeric(column))"


def _as_text(values: pd.Series) -> pd.Series:
    """Return the values themselves, without the type of a category."""
    return values.astype(object) if isinstance(values.dtype, pd.CategoricalDtype) else values

"""From any container of rows to a DataFrame, and from any container of values to a Series."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.utils.validation import column_or_1d

from autometa.errors import InvalidData
from autometa.tables.text import row_of


def as_frame(X: Any) -> pd.DataFrame:
    """Return rows as a DataFrame.

    Parameters
    ----------
    X : DataFrame, array of shape [n, n_columns], list of rows, or a frame of another library
        A list of rows gives every column the type of its values; rows that are dicts or Series name the columns. A
        frame of another library is read column by column (polars, pyarrow), by its ``to_pandas`` or by the DataFrame
        interchange protocol, and keeps its names.

    Raises
    ------
    InvalidData
        Sparse, not of two axes, a column name twice, or names that are strings for some columns only.
    """
    frame = _frame_of(X)
    if not frame.columns.is_unique:
        raise InvalidData(f"X has the column {frame.columns[frame.columns.duplicated()][0]!r} twice.")
    others = [name for name in frame.columns if not isinstance(name, str)]
    if others and len(others) < frame.shape[1]:
        text = next(name for name in frame.columns if isinstance(name, str))
        raise InvalidData(
            f"X mixes column names of several types, such as {text!r} and {others[0]!r}; make all of them strings, "
            "as X.columns = X.columns.astype(str) does."
        )
    for i, (name, dtype) in enumerate(frame.dtypes.items()):
        if dtype.kind == "O":
            _refuse_signals(frame.iloc[:, i], f"column {name!r}")
    return frame


def has_names(frame: pd.DataFrame) -> bool:
    """Tell whether the columns of what :func:`as_frame` returned have names of their own: strings, not places."""
    return frame.shape[1] > 0 and all(isinstance(name, str) for name in frame.columns)


def check_column(argument: str, name: Any, frame: pd.DataFrame, *, of: str) -> None:
    """Refuse the name of a column that a table lacks.

    Parameters
    ----------
    argument : str
        The parameter that names the column.
    name : object
        What was given.
    frame : DataFrame
    of : str
        What the message calls the table, such as ``"X"``.

    Raises
    ------
    InvalidData

    Examples
    --------
    >>> import pandas as pd
    >>> import autometa as am
    >>> am.check_column("task", "scool", pd.DataFrame({"school": [1], "score": [2]}), of="the table")
    Traceback (most recent call last):
    autometa.errors.InvalidData: task='scool' is no column of the table; did you mean 'school'?
    """
    if not isinstance(name, Hashable) or name not in frame.columns:
        close = difflib.get_close_matches(str(name), [str(column) for column in frame.columns], n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(map(repr, frame.columns[:12]))}."
        raise InvalidData(f"{argument}={name!r} is no column of {of}; {hint}")


def _refuse_signals(values: pd.Series, what: str) -> None:
    """Refuse the Decimal that raises wherever it is compared, even when asked whether it is missing."""
    try:
        values.isna()
    except InvalidOperation as error:
        found = [isinstance(value, Decimal) and value.is_snan() for value in values]
        raise InvalidData(
            f"{what} holds {values.iloc[found.index(True)]!r} in {row_of(values, found)}; write missing values as None."
        ) from error


def as_column(values: Any, name: str) -> pd.Series:
    """Return values of one axis as a Series of their own type, with rows counted from 0.

    Parameters
    ----------
    values : array-like of shape [n] or [n, 1], Series, or a column of another library
    name : str
        What the values are, for messages.

    Raises
    ------
    InvalidData
        Not of one axis.
    """
    column = _column_of(values, name)
    if column.dtype.kind == "O":
        _refuse_signals(column, name)
    return column


def _column_of(values: Any, name: str) -> pd.Series:
    if isinstance(values, pd.Series):
        return values.reset_index(drop=True)
    if issparse(values):
        raise InvalidData(f"{name} is a sparse matrix; give an array of one axis, such as {name}.toarray().ravel().")
    if isinstance(values, (pd.Index, pd.api.extensions.ExtensionArray)):
        return pd.Series(values)
    if not isinstance(values, (np.ndarray, pd.DataFrame, Sequence)):
        listed = _listed(values)
        if listed is not None:
            return pd.Series(listed, dtype=object if isinstance(listed, list) else None).infer_objects()
    if isinstance(values, Sequence) and not isinstance(values, str) and _are_cells(values):
        return pd.Series(_object_array(values)).infer_objects()
    try:
        return pd.Series(column_or_1d(values, warn=True))
    except ValueError as error:
        raise InvalidData(f"{name} must be of one axis, a value for each row: {error}") from error


def _are_cells(values: Sequence[Any]) -> bool:
    return len(values) > 0 and not any(isinstance(value, (list, np.ndarray)) for value in values)


def _object_array(values: Sequence[Any]) -> np.ndarray[Any, Any]:
    """Return the values as an array of one axis, tuples left whole."""
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value.item() if isinstance(value, np.generic) and value.dtype.kind not in "mM" else value
    return array


def _frame_of(X: Any) -> pd.DataFrame:
    if isinstance(X, pd.DataFrame):
        return X
    if issparse(X):
        raise InvalidData("X is a sparse matrix; the rows of a table are dense: give X.toarray() or a DataFrame.")
    for method in ("collect", "compute"):
        if hasattr(X, method) and (method == "compute" or not hasattr(X, "__len__")):
            raise InvalidData(f"X is a lazy {type(X).__name__}, which holds no rows yet; give X.{method}().")
    if isinstance(X, np.ma.MaskedArray) or (isinstance(X, np.ndarray) and X.dtype.names is not None):
        return pd.DataFrame(X)
    if isinstance(X, Sequence) and not isinstance(X, str):
        return _frame_of_rows(X)
    names = _names(X)
    if names is not None:
        columns = [_listed(X[name]) for name in names] if hasattr(X, "__getitem__") else [None]
        if all(column is not None for column in columns):
            return pd.DataFrame({name: pd.Series(c).infer_objects() for name, c in zip(names, columns, strict=True)})
    if hasattr(X, "to_pandas"):
        return _frame_of(X.to_pandas())
    if hasattr(X, "__dataframe__"):
        return pd.api.interchange.from_dataframe(X)
    array = np.asarray(X)
    if array.ndim != 2:
        hint = ""
        if isinstance(X, Mapping) or array.ndim == 0:
            hint = (
                f" A {type(X).__name__} is neither: give pd.DataFrame(X), or what its collect() or compute() returns."
            )
        raise InvalidData(f"X must be a DataFrame or an array of two axes [rows, columns]; it has {array.ndim}.{hint}")
    return pd.DataFrame(array)


def _frame_of_rows(rows: Sequence[Any]) -> pd.DataFrame:
    """Return a list of rows, each a sequence of cells or a dict, with every column's own type."""
    if len(rows) and all(isinstance(row, (Mapping, pd.Series)) for row in rows):
        return pd.DataFrame(list(rows)).reset_index(drop=True)
    for i, row in enumerate(rows):
        if isinstance(row, (str, bytes, Mapping)) or not hasattr(row, "__len__") or np.ndim(row) == 0:
            raise InvalidData(
                f"X must be a DataFrame or of two axes [rows, columns]; row {i} of the list is {row!r}, which has no "
                "columns."
            )
        if len(row) != len(rows[0]):
            raise InvalidData(f"X has rows of several lengths: row 0 has {len(rows[0])} columns, row {i} {len(row)}.")
    return pd.DataFrame([list(row) for row in rows]) if len(rows) else pd.DataFrame()


def _names(X: Any) -> list[Any] | None:
    """Return the column names of another library's frame (polars' ``columns``, pyarrow's ``column_names``)."""
    for attribute in ("column_names", "columns"):
        names = getattr(X, attribute, None)
        if names is not None and not callable(names) and not isinstance(X, np.ndarray):
            names = list(names)
            if all(isinstance(name, str) for name in names):
                return names
    return None


def _listed(column: Any) -> Any:
    """Return another library's column as an array of numbers or a list of values; None if it is no column."""
    if hasattr(column, "to_pylist"):
        return list(column.to_pylist())
    if not hasattr(column, "to_list"):
        return None
    array = column.to_numpy() if hasattr(column, "to_numpy") else None
    is_plain = isinstance(array, np.ndarray) and array.dtype.kind in "biuf" and array.ndim == 1
    return array if is_plain else list(column.to_list())

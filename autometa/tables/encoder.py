"""Encoding the rows of a table as numbers, learned from the meta-train rows alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from autometa.checks import check_int
from autometa.contracts.problems import PROBLEMS, find_problem
from autometa.errors import InvalidData, InvalidFile, InvalidParameter, warn_user
from autometa.schema import Schema, finite, misfit, positive, read_json, share, text_like, whole
from autometa.tables.columns import Column, read_column
from autometa.tables.frames import as_frame, has_names
from autometa.tables.numbers import are_numbers, encode_numbers, number_columns
from autometa.tables.scale import mean_and_scale, standardise
from autometa.tables.targets import class_labels, distinct_labels, real_targets
from autometa.tables.text import is_numbers, misread, present_texts, row_of
from autometa.tables.values import first_that

_FORMAT = 1
_WRITTEN: Schema = {
    "max_levels": whole(1),
    "feature_names": (None, [str]),
    "columns": [
        {
            "name": str,
            "kind": ("numeric", "datetime", "timedelta", "categorical", "empty"),
            "has_missing": bool,
            **dict.fromkeys(("median?", "mean?"), finite),
            "scale?": positive,
            "levels": [str],
            **dict.fromkeys(("has_other?", "is_boolean?"), bool),
        }
    ],
    "problem": str | None,
    "classes": (None, [str | bool | int | float]),
    "classes_type?": (None, text_like(r"[<>=|]?M8(\[[1-9]?\d{0,8}[A-Za-zμ]{1,2}\])?", "the type of an array of dates")),
    "class_shares?": [share],
    "target_mean": finite,
    "target_scale": positive,
}
"""What :meth:`TableEncoder.to_json` writes."""


class TableEncoder(BaseEstimator):
    """Turn the rows of a table into a float32 matrix, and targets into numbers a learner can predict.

    Numeric columns, dates and durations have missing values replaced by the median and are standardised.
    Booleans, strings and pandas categories become one column per level, the ``max_levels`` commonest; all
    rarer levels share one further column, where later unknown levels go too. A column that missed values when
    the encoder was fitted also has a column that says where. Real targets are standardised, classes are
    numbered in sorted order.

    Kind of a column. The type decides where there is one; a column of objects has the kind of all its values
    present. Numbers are integers, floats, Decimals and fractions. Dates are pandas and numpy dates, ``datetime``
    and ``date`` objects, and text of which every value present is an ISO date: ``2024-12-31``, also with a time
    (``2024-12-31 23:59:30``) and a zone. They count in days from 1970 in UTC, in any year; without a zone they are
    taken as UTC. Text that is a number, or a date in some rows only, or written otherwise (``31.12.2024``, ``12:30``,
    ``1,234``, ``5%``, ``1 kg``), stays categorical, with a warning if that is more than half of the column: convert it
    with ``pd.to_datetime`` or ``pd.to_numeric``. Codes with zeros in front (``"007"``) are text without a warning. A
    column without any value has no kind: later values of any kind become 0. Where booleans were fitted, 0 and 1 are
    taken as well, and the other way round; where text was fitted, numbers that are the text of a level. Any other
    change of kind is an error that names the column.

    Parameters
    ----------
    max_levels : int, default=20
        Levels of a categorical column that have a column of their own.

    Attributes
    ----------
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only when fitted on a DataFrame whose column names are all strings.
    columns_ : tuple of Column
        What was learned of every input column.
    kinds_ : tuple of {"numeric", "categorical", "missing"}
        Kind of every output column: a number, one level of a category, or where the values of a column were missing.
    sources_ : tuple of int
        The input column that every output column comes from.
    problem_ : {"regression", "classification"} or None
    classes_ : ndarray
        Sorted labels; classification only.
    class_shares_ : ndarray
        Share of each class among the rows it was fitted on, equal ones if there are none; classification only.
    target_mean_, target_scale_ : float
        Mean and standard deviation of the target; 0 and 1 unless the problem is a regression.

    Examples
    --------
    >>> import pandas as pd
    >>> from autometa import TableEncoder
    >>> frame = pd.DataFrame({"age": [20, 40, None], "sex": ["f", "m", "f"]})
    >>> TableEncoder().fit(frame).transform(frame).round(1)
    array([[-1.2,  0. ,  1. ,  0. ],
           [ 1.2,  0. ,  0. ,  1. ],
           [ 0. ,  1. ,  1. ,  0. ]], dtype=float32)
    """

    def __init__(self, *, max_levels: int = 20) -> None:
        self.max_levels = max_levels

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        problem: str | None = None,
        classes: Sequence[Any] | None = None,
        rows: NDArray[np.bool_] | None = None,
    ) -> Self:
        """Learn medians, scales, levels and the target's scale or classes.

        Parameters
        ----------
        X : array-like of shape [n, n_features_in_]
            A DataFrame, also one of polars or pyarrow, an array, or a list of rows.
        y : array-like of shape [n], optional
            Targets; needs ``problem``.
        problem : {"regression", "classification"}, optional
        classes : sequence, optional
            Further labels, beside those in ``y``, that targets may have later.
        rows : array of bool of shape [n], optional
            Rows of ``X`` and ``y`` to learn from; all by default. The others only help to tell a column's kind.

        Raises
        ------
        InvalidData
            A column or the target cannot be used; the message names it.

        Warns
        -----
        UserWarning
            A column that is mostly or all numbers, dates or times is taken as text, as it holds text.
        """
        check_int("max_levels", self.max_levels)
        frame = as_frame(X)
        if len(frame) == 0:
            raise InvalidData("X has no rows; at least one is needed.")
        if frame.shape[1] == 0:
            raise InvalidData("X has no columns; at least one is needed.")
        self.n_features_in_ = frame.shape[1]
        self.__dict__.pop("feature_names_in_", None)
        if has_names(frame):
            self.feature_names_in_ = np.asarray(frame.columns, dtype=object)
        if rows is None and are_numbers(frame):
            self.columns_ = number_columns(frame)
        else:
            self.columns_ = tuple(
                read_column(frame.iloc[:, i], str(name), self.max_levels, rows) for i, name in enumerate(frame.columns)
            )
            _warn_of_text(X, frame, self.columns_)
        self._fit_target(y, problem, classes, rows)
        return self

    def transform(self, X: Any, *, dtype: type[np.floating[Any]] = np.float32) -> NDArray[Any]:
        """Encode rows, [n, len(kinds_)]; finite everywhere.

        Parameters
        ----------
        X : array-like of shape [n, n_features_in_]
            In any of the forms that :meth:`fit` takes.
        dtype : type, default=numpy.float32
            Of the result; float64 keeps all digits.

        Raises
        ------
        InvalidData
            A column is missing, infinite or of another kind than the encoder was fitted on.
        """
        self._check_fitted()
        frame = self._select(X)
        numbers = encode_numbers(self.columns_, frame)
        if numbers is not None:
            return numbers.astype(dtype, copy=False)
        parts = [column.encode(frame.iloc[:, i]) for i, column in enumerate(self.columns_)]
        return np.concatenate(parts, axis=1, dtype=dtype)

    @property
    def kinds_(self) -> tuple[str, ...]:
        """Kind of every output column: "numeric", "categorical" or "missing"."""
        self._check_fitted()
        return tuple(kind for column in self.columns_ for kind in column.output_kinds)

    @property
    def sources_(self) -> tuple[int, ...]:
        """The input column that every output column comes from."""
        self._check_fitted()
        return tuple(i for i, column in enumerate(self.columns_) for _ in column.output_kinds)

    @property
    def has_classes_(self) -> bool:
        """True if the targets are labels of classes; False also where it was fitted without targets."""
        self._check_fitted()
        return self.problem_ is not None and find_problem(self.problem_).has_classes

    def encode_target(self, y: Any) -> NDArray[Any]:
        """Return standardised targets (float32) or class indices (int64), [n].

        Raises
        ------
        InvalidData
            A target is missing, not finite or a label never seen.
        """
        self._check_fitted()
        if self.problem_ is None:
            raise InvalidParameter(
                "y cannot be encoded: the encoder was fitted without targets; give fit y and problem."
            )
        if not self.has_classes_:
            return standardise(real_targets(y), self.target_mean_, self.target_scale_).astype(np.float32)
        labels = class_labels(y)
        known, given = self.classes_, labels
        if known.dtype != given.dtype:
            known, given = _as_objects(known), _as_objects(given)
        index = pd.Index(known, dtype=known.dtype).get_indexer(pd.Index(given, dtype=given.dtype))
        unknown = index < 0
        if unknown.any():
            label = _as_objects(labels)[int(np.argmax(unknown))]
            where = row_of(pd.Series(labels), unknown)
            raise InvalidData(f"y holds the class {label!r} in {where}, which is none of {_shown(self.classes_)}.")
        return np.asarray(index, dtype=np.int64)

    def decode_target(self, encoded: Any) -> NDArray[Any]:
        """Convert encoded targets back to the user's units, or to labels."""
        self._check_fitted()
        if self.has_classes_:
            labels: NDArray[Any] = self.classes_[np.asarray(encoded, dtype=np.int64)]
            return labels
        return np.asarray(encoded, dtype=np.float64) * self.target_scale_ + self.target_mean_

    def to_json(self) -> str:
        """Return everything learned, as text that :meth:`from_json` reads."""
        self._check_fitted()
        names = getattr(self, "feature_names_in_", None)
        return json.dumps(
            {
                "format": _FORMAT,
                "max_levels": self.max_levels,
                "feature_names": None if names is None else list(names),
                "columns": [asdict(column) for column in self.columns_],
                "problem": self.problem_,
                **self._classes_to_json(),
                "target_mean": self.target_mean_,
                "target_scale": self.target_scale_,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> TableEncoder:
        """Rebuild an encoder from :meth:`to_json`.

        Raises
        ------
        InvalidFile
            The text is not that of an encoder of this version.
        """
        try:
            state = read_json(text)
            if state["format"] != _FORMAT:
                raise InvalidFile(f"the table encoder has format {state['format']!r}; this version reads {_FORMAT}.")
            wrong = misfit(state, _WRITTEN) or _misfit_of_classes(state)
            if wrong:
                raise InvalidFile(f"not the text of a table encoder: {wrong}.")
            encoder = cls(max_levels=state["max_levels"])
            encoder.columns_ = tuple(
                Column(**{**column, "levels": tuple(column["levels"])}) for column in state["columns"]
            )
            encoder.n_features_in_ = len(encoder.columns_)
            if state["feature_names"] is not None:
                encoder.feature_names_in_ = np.asarray(state["feature_names"], dtype=object)
            encoder.problem_ = None if state["problem"] is None else find_problem(state["problem"]).name
            encoder.target_mean_, encoder.target_scale_ = float(state["target_mean"]), float(state["target_scale"])
            if state["classes"] is not None:
                encoder.classes_ = _class_array(state["classes"], state.get("classes_type"))
                n_classes = len(encoder.classes_)
                # Text of earlier versions does not tell the shares.
                shares = state.get("class_shares", [1 / n_classes] * n_classes)
                encoder.class_shares_ = np.asarray(shares, dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InvalidFile):
                raise
            raise InvalidFile(f"not the text of a table encoder: {type(error).__name__}: {error}") from error
        return encoder

    @classmethod
    def of_numbers(cls, mean: NDArray[np.float64], scale: NDArray[np.float64]) -> TableEncoder:
        """Return an encoder of numbers, whose columns have these means and scales."""
        encoder = cls()
        encoder.n_features_in_ = len(mean)
        encoder.columns_ = tuple(
            Column(name=str(i), kind="numeric", has_missing=False, median=float(m), mean=float(m), scale=float(s))
            for i, (m, s) in enumerate(zip(mean, scale, strict=True))
        )
        encoder._fit_target(None, None, None, None)
        return encoder

    def _classes_to_json(self) -> dict[str, Any]:
        if not self.has_classes_:
            return {"classes": None}
        shares = {"class_shares": self.class_shares_.tolist()}
        if self.classes_.dtype.kind == "M":
            return {"classes": self.classes_.astype(str).tolist(), "classes_type": self.classes_.dtype.str} | shares
        return {"classes": self.classes_.tolist()} | shares

    def _fit_target(
        self, y: Any, problem: str | None, classes: Sequence[Any] | None, rows: NDArray[np.bool_] | None
    ) -> None:
        self.problem_, self.target_mean_, self.target_scale_ = problem, 0.0, 1.0
        for name in ("classes_", "class_shares_"):
            self.__dict__.pop(name, None)
        if y is None:
            self.problem_ = None
        elif problem is None:
            raise InvalidParameter(f"problem=None must be one of {', '.join(map(repr, PROBLEMS))} where y is given.")
        elif find_problem(problem).has_classes:
            labels = class_labels(y)
            self.classes_ = distinct_labels(labels if rows is None else labels[rows])
            if classes is not None:
                further = distinct_labels(class_labels(classes, "classes"))
                every = [*_as_objects(self.classes_).tolist(), *_as_objects(further).tolist()]
                self.classes_ = distinct_labels(class_labels(every))
            learned = self.encode_target(labels if rows is None else labels[rows])
            counts = np.bincount(learned, minlength=len(self.classes_))
            self.class_shares_ = counts / len(learned) if len(learned) else np.full(len(counts), 1 / len(counts))
        else:
            target = real_targets(y)
            mean, scale = mean_and_scale(target if rows is None else target[rows])
            self.target_mean_, self.target_scale_ = float(mean), float(scale)

    def _select(self, X: Any) -> pd.DataFrame:
        """Select the columns that were fitted, in their order: by name if there are names, else by position."""
        frame = as_frame(X)
        names = getattr(self, "feature_names_in_", None)
        if names is not None and has_names(frame):
            missing = [name for name in names if name not in frame.columns]
            if missing:
                raise InvalidData(f"X lacks the columns {_shown(missing)}, which the encoder was fitted on.")
            return frame[list(names)]
        if frame.shape[1] != self.n_features_in_:
            raise InvalidData(f"X has {frame.shape[1]} columns, but the encoder was fitted on {self.n_features_in_}.")
        return frame

    def _check_fitted(self) -> None:
        if not hasattr(self, "columns_"):
            raise NotFittedError("This TableEncoder is not fitted yet; call fit first.")


def _warn_of_text(X: Any, frame: pd.DataFrame, columns: tuple[Column, ...]) -> None:
    """Warn of text that may be meant as numbers or dates."""
    is_text_array = isinstance(X, np.ndarray) and X.dtype.kind in "US"
    for i, column in enumerate(columns):
        if column.kind != "categorical":
            continue
        values = frame.iloc[:, i]
        found = misread(values)
        texts = None if isinstance(values.dtype, pd.CategoricalDtype) else present_texts(values)
        if found is None and texts is not None and is_numbers(texts):
            value, row = first_that(values, lambda value: True)
            if is_text_array:
                found = "comes from an array of strings; give a DataFrame or a list of rows, which keep numbers"
            elif not {"0", "1"}.issuperset(texts):  # as levels they tell the same
                found = (
                    f"holds the text {value!r} in {row}, and all of its text is numbers; convert it "
                    "(pd.to_numeric(column)), or make it a category (column.astype('category'))"
                )
        if found is not None:
            warn_user(f"column {column.name!r} is taken as categories: it {found}.")


def _misfit_of_classes(state: dict[str, Any]) -> str | None:
    """Say what is wrong with the classes of an encoder and their shares; None if nothing is."""
    classes, shares = state["classes"], state.get("class_shares")
    if classes is None:
        return None
    if not classes:
        return "it has no class"
    if shares is not None and len(shares) != len(classes):
        return f"it has {len(shares)} shares of {len(classes)} classes"
    return "the shares of its classes are all 0" if shares is not None and not any(shares) else None


def _class_array(labels: Sequence[Any], type_: str | None = None) -> NDArray[Any]:
    """Return sorted labels that were read from text as the array they were."""
    if type_ is not None:
        return np.asarray(labels, dtype=np.dtype(type_))
    numeric = all(isinstance(label, (bool, int, float)) for label in labels)
    return np.asarray(labels) if numeric else np.asarray(labels, dtype=object)


def _as_objects(labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels as Python objects, so that those of several types can be compared."""
    if labels.dtype.kind == "M":
        return np.asarray(pd.Series(labels).astype(object), dtype=object)
    return np.asarray(labels.tolist(), dtype=object)


def _shown(values: Any, limit: int = 8) -> str:
    texts = [repr(value) for value in values]
    return ", ".join(texts[:limit]) + (f", ... ({len(texts)} in all)" if len(texts) > limit else "")

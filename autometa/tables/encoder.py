"""Encoding the rows of a table as numbers, learned from the meta-train rows alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from autometa.checks import check_int
from autometa.contracts.problems import PROBLEMS, find_problem
from autometa.errors import InvalidData, InvalidFile, InvalidParameter
from autometa.tables.columns import Column, InvalidColumn, numbers_of, read_column

_FORMAT = 1


class TableEncoder(BaseEstimator):
    """Turn the rows of a table into a float32 matrix, and targets into numbers a learner can predict.

    Numeric columns and dates (as days) have missing values replaced by the median and are standardised.
    Booleans, strings and pandas categories become one column per level, the ``max_levels`` commonest; all
    rarer levels share one further column, where later unknown levels go too. A column that missed values when
    the encoder was fitted also has a column that says where. Real targets are standardised, classes are
    numbered in sorted order.

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
    kinds_ : tuple of {"numeric", "categorical"}
        Kind of every output column.
    problem_ : {"regression", "classification"} or None
    classes_ : ndarray
        Sorted labels; classification only.
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
        X: pd.DataFrame | NDArray[Any],
        y: Any = None,
        *,
        problem: Literal["regression", "classification"] | None = None,
        classes: Sequence[Any] | None = None,
    ) -> Self:
        """Learn medians, scales, levels and the target's scale or classes.

        Parameters
        ----------
        X : DataFrame or array of shape [n, n_features_in_]
        y : array-like of shape [n], optional
            Targets; needs ``problem``.
        problem : {"regression", "classification"}, optional
        classes : sequence, optional
            Further labels, beside those in ``y``, that targets may have later.

        Raises
        ------
        InvalidData
            A column or the target cannot be used; the message names it.
        """
        check_int("max_levels", self.max_levels)
        frame = _as_frame(X)
        if len(frame) == 0:
            raise InvalidData("X has no rows; at least one is needed.")
        self.n_features_in_ = frame.shape[1]
        self.__dict__.pop("feature_names_in_", None)
        if isinstance(X, pd.DataFrame) and all(isinstance(name, str) for name in frame.columns):
            self.feature_names_in_ = np.asarray(frame.columns, dtype=object)
        self.columns_ = tuple(
            read_column(frame.iloc[:, i], str(name), self.max_levels) for i, name in enumerate(frame.columns)
        )
        self._fit_target(y, problem, classes)
        return self

    def transform(self, X: pd.DataFrame | NDArray[Any]) -> NDArray[np.float32]:
        """Encode rows, [n, n_features_out]; finite everywhere.

        Raises
        ------
        InvalidData
            A column is missing, infinite or of another kind than the encoder was fitted on.
        """
        self._check_fitted()
        frame = self._select(X)
        parts = [column.encode(frame.iloc[:, i]) for i, column in enumerate(self.columns_)]
        return np.concatenate(parts, axis=1, dtype=np.float32)

    @property
    def kinds_(self) -> tuple[str, ...]:
        """Kind of every output column: "numeric" or "categorical"."""
        self._check_fitted()
        return tuple(kind for column in self.columns_ for kind in column.output_kinds)

    @property
    def has_classes_(self) -> bool:
        """True if the targets are labels of classes; False also where it was fitted without targets."""
        self._check_fitted()
        return self.problem_ is not None and find_problem(self.problem_).has_classes

    @property
    def n_features_out_(self) -> int:
        """Number of output columns."""
        return len(self.kinds_)

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
            return np.asarray((_real_target(y) - self.target_mean_) / self.target_scale_, dtype=np.float32)
        labels = _labels(y)
        index = pd.Index(self.classes_, dtype=object).get_indexer(pd.Index(labels, dtype=object))
        if (index < 0).any():
            unknown = labels[int(np.argmax(index < 0))]
            raise InvalidData(f"y holds the class {unknown!r}, which is none of {_shown(self.classes_)}.")
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
                "classes": self.classes_.tolist() if self.has_classes_ else None,
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
            state = json.loads(text)
            if state["format"] != _FORMAT:
                raise InvalidFile(f"the table encoder has format {state['format']!r}; this version reads {_FORMAT}.")
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
                encoder.classes_ = _class_array(state["classes"])
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InvalidFile):
                raise
            raise InvalidFile(f"not the text of a table encoder: {type(error).__name__}: {error}") from error
        return encoder

    def _fit_target(self, y: Any, problem: str | None, classes: Sequence[Any] | None) -> None:
        self.problem_, self.target_mean_, self.target_scale_ = problem, 0.0, 1.0
        self.__dict__.pop("classes_", None)
        if y is None:
            self.problem_ = None
        elif problem is None:
            raise InvalidParameter(f"problem=None must be one of {', '.join(map(repr, PROBLEMS))} where y is given.")
        elif find_problem(problem).has_classes:
            self.classes_ = _class_array([*_labels(y), *([] if classes is None else _labels(classes))])
        else:
            target = _real_target(y)
            self.target_mean_ = float(target.mean())
            deviation = float(target.std())
            self.target_scale_ = deviation if deviation > 0 else 1.0

    def _select(self, X: pd.DataFrame | NDArray[Any]) -> pd.DataFrame:
        """Select the columns that were fitted, in their order: by name if there are names, else by position."""
        frame = _as_frame(X)
        names = getattr(self, "feature_names_in_", None)
        if isinstance(X, pd.DataFrame) and names is not None:
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


def _as_frame(X: Any) -> pd.DataFrame:
    if isinstance(X, pd.DataFrame):
        if not X.columns.is_unique:
            raise InvalidData(f"X has the column {X.columns[X.columns.duplicated()][0]!r} twice.")
        return X
    array = np.asarray(X)
    if array.ndim != 2:
        raise InvalidData(f"X must be a DataFrame or an array of two axes [rows, columns]; it has {array.ndim}.")
    return pd.DataFrame(array).infer_objects()


def _real_target(y: Any) -> NDArray[np.float64]:
    try:
        values = numbers_of(pd.Series(y))
    except InvalidColumn as error:
        raise InvalidData(f"y {error}; a regression needs numbers.") from error
    if not np.isfinite(values).all():
        raise InvalidData("y holds missing or infinite values; remove those rows.")
    return values


def _labels(y: Any) -> list[Any]:
    series = pd.Series(y)
    if series.isna().any():
        raise InvalidData("y holds missing values; remove those rows.")
    return [value.item() if isinstance(value, np.generic) else value for value in series.tolist()]


def _class_array(labels: Sequence[Any]) -> NDArray[Any]:
    """Return the distinct labels, sorted; of type object if they are not all numbers."""
    distinct = list(dict.fromkeys(labels))
    try:
        distinct.sort()
    except TypeError:
        raise InvalidData(f"y mixes labels that cannot be sorted: {_shown(distinct)}; use one type.") from None
    numeric = all(isinstance(label, (bool, int, float)) for label in distinct)
    return np.asarray(distinct) if numeric else np.asarray(distinct, dtype=object)


def _shown(values: Any, limit: int = 8) -> str:
    texts = [repr(value) for value in values]
    return ", ".join(texts[:limit]) + (f", ... ({len(texts)} in all)" if len(texts) > limit else "")

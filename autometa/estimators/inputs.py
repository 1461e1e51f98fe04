"""Turning a user's rows into a learner's inputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import (
    assert_all_finite,
    check_array,
    check_consistent_length,
    column_or_1d,
    validate_data,
)

from autometa.contracts.row_encoder import RowEncoder
from autometa.errors import InvalidData
from autometa.estimators.images import are_images, check_range, image_rows
from autometa.estimators.state import MetaTrained


def rows_of(estimator: BaseEstimator, X: Any, meta: MetaTrained | None, *, reset: bool) -> NDArray[Any]:
    """Return rows [n, n_features] of finite numbers, checked against those seen before.

    Parameters
    ----------
    estimator : FewShotEstimator
        Remembers number and names of the features.
    X : array-like or DataFrame
    meta : MetaTrained or None
        Decides what ``X`` must look like.
    reset : bool
        Whether to remember number and names of these features. After ``meta_fit`` those of the tasks hold.

    Raises
    ------
    ValueError
        The rows cannot be used; the text says why.
    """
    X = (estimator._learner_now() if reset else estimator._fitted.learner).encode_rows(X)
    if meta is None:
        return validate_data(estimator, X, reset=reset, dtype=np.float64)  # type: ignore[no-any-return]
    if meta.encoder is not None:
        return _encoded_rows(estimator, X, meta.encoder)
    is_bytes = False
    if are_images(meta.info):
        X, is_bytes = image_rows(X, meta.info.input_shape)
    else:
        X = flat_rows(X, meta.info.input_shape)
    width = np.shape(X)[1:]
    if reset and width not in ((), (meta.n_features,)):
        raise InvalidData(
            f"X has {width[0]} features, but {type(estimator).__name__} was meta-trained on {meta.n_features} features."
        )
    rows: NDArray[Any] = validate_data(estimator, X, reset=reset, dtype=[np.float64, np.float32])
    if are_images(meta.info):
        check_range(rows, is_bytes, meta.input_range, type(estimator).__name__)
    return rows


def _encoded_rows(estimator: BaseEstimator, X: Any, encoder: RowEncoder) -> NDArray[Any]:
    if not hasattr(X, "columns"):
        X = check_array(X, dtype=None, ensure_all_finite=False, estimator=estimator)
    X = validate_data(estimator, X, reset=False, skip_check_array=True)
    if len(X) == 0:
        raise InvalidData("X has 0 rows; at least one is needed.")
    return encoder.transform(X)


def checked_y(estimator: BaseEstimator, X: Any, y: Any, *, multi_output: bool = False) -> NDArray[Any]:
    """Return targets [n], or [n, n_targets] if several are allowed, checked to be present and finite."""
    name = type(estimator).__name__
    if y is None:
        raise InvalidData(f"{name} requires y to be passed, but the target y is None.")
    if multi_output:
        y = check_array(y, ensure_2d=False, dtype=None, input_name="y", estimator=estimator)
    if not multi_output or (y.ndim == 2 and y.shape[1] == 1):
        y = column_or_1d(y, warn=True)
    assert_all_finite(y, estimator_name=name, input_name="y")
    check_consistent_length(X, y)
    return y  # type: ignore[no-any-return]


def flat_rows(X: Any, input_shape: tuple[int, ...]) -> Any:
    """Flatten examples of ``input_shape`` to rows [n, n_features]; a table of two axes stays as it is.

    Parameters
    ----------
    X : array of shape [n, *input_shape] or [n, n_features]

    Raises
    ------
    InvalidData
        Another shape.
    """
    shape = np.shape(X) if not hasattr(X, "shape") else tuple(X.shape)
    if len(shape) <= 2:
        return X
    if tuple(shape[1:]) != input_shape:
        layouts = [input_shape, (n_features(input_shape),)] if len(input_shape) > 1 else [input_shape]
        takes = " or ".join(str(("n", *s)).replace("'", "") for s in layouts)
        raise InvalidData(f"X has the shape {tuple(shape)}; this estimator was meta-trained on {takes}.")
    return np.asarray(X).reshape(shape[0], -1)


def n_features(input_shape: tuple[int, ...]) -> int:
    """Return the number of values of one example."""
    return math.prod(input_shape)


def shaped(rows: NDArray[Any], input_shape: tuple[int, ...]) -> NDArray[Any]:
    """Return rows [n, n_features] as [n, *input_shape]."""
    return rows.reshape(len(rows), *input_shape)

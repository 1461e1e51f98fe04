"""Turning a user's rows into a learner's inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import (
    assert_all_finite,
    check_array,
    check_consistent_length,
    column_or_1d,
    validate_data,
)

from autometa.contracts.learner import Learner
from autometa.contracts.row_encoder import RowEncoder
from autometa.errors import InvalidData
from autometa.estimators.images import are_images, check_range, image_rows
from autometa.estimators.state import Fitted, MetaTrained
from autometa.tables.encoder import TableEncoder
from autometa.tables.frames import as_column, as_frame
from autometa.tables.targets import class_labels, real_targets

T = TypeVar("T")
MOST_LEVELS = 100
"""Levels of a category with a feature of their own in a table of many rows; in one of few, all have one."""


def plain_rows(
    estimator: BaseEstimator, X: Any, encoder: TableEncoder | None = None
) -> tuple[NDArray[np.float64], TableEncoder]:
    """Return rows [n, n_features] of finite numbers without meta-training, and what encodes them.

    Parameters
    ----------
    estimator : FewShotEstimator
        Remembers number and names of the columns.
    X : array-like or DataFrame
    encoder : TableEncoder, optional
        Fitted on the support set; by default a new one is fitted on ``X``.

    Raises
    ------
    ValueError
        The rows cannot be used; the text says why.
    """
    X = _encoding_learner(estimator, reset=encoder is None).encode_rows(X)
    _check_numbered(estimator, X, None, reset=encoder is None)
    if _is_mixed(X):
        table = validate_data(estimator, as_frame(X), reset=encoder is None, skip_check_array=True)
        _refuse_empty(table)
    else:
        table = _checked(
            validate_data, estimator, X, reset=encoder is None, dtype=np.float64, ensure_all_finite="allow-nan"
        )
    if encoder is None:
        encoder = TableEncoder(max_levels=min(max(TableEncoder().max_levels, len(table)), MOST_LEVELS)).fit(table)
    return encoder.transform(table, dtype=np.float64), encoder


def _checked(check: Callable[..., T], *given: Any, **options: Any) -> T:
    """Call a check of scikit-learn, which sums all numbers to see whether they are finite: huge ones may overflow."""
    with np.errstate(over="ignore", invalid="ignore"):
        return check(*given, **options)


def has_no_rows(X: Any) -> bool:
    """Tell whether rows are there in number zero, whatever holds them."""
    shape = getattr(X, "shape", None)
    return bool(shape[0] == 0) if shape else hasattr(X, "__len__") and len(X) == 0


def check_no_rows(estimator: BaseEstimator, X: Any, meta: MetaTrained) -> None:
    """Refuse a table without rows whose columns are not those of meta-training.

    Raises
    ------
    ValueError
        Names or number of the columns differ.
    """
    if meta.encoder is not None and len(getattr(X, "shape", ())) == 2:
        validate_data(estimator, as_frame(X), reset=False, skip_check_array=True)


def _encoding_learner(estimator: BaseEstimator, *, reset: bool) -> Learner:
    """Return the learner that may encode raw rows: that of the parameters, or the one that was fitted."""
    fitted: Fitted | None = None if reset else getattr(estimator, "_fitted", None)
    learner: Learner = estimator._learner_now() if fitted is None else fitted.learner
    return learner


def _is_mixed(X: Any) -> bool:
    """Tell whether rows may hold more than numbers; no sparse matrix can."""
    if issparse(X):
        return False
    if isinstance(X, np.ndarray):
        is_plain = not isinstance(X, np.ma.MaskedArray) and X.dtype.names is None
        return not (is_plain and X.dtype.kind in "iufc")
    if hasattr(X, "columns") or hasattr(X, "column_names"):
        return True
    try:
        array = np.asarray(X)
    except ValueError:  # rows of several lengths
        return True
    return array.ndim > 0 and array.dtype.kind not in "iufc"


def _refuse_empty(table: pd.DataFrame) -> None:
    for n, what in ((table.shape[0], "sample"), (table.shape[1], "feature")):
        if n == 0:
            raise InvalidData(f"Found array with 0 {what}(s) (shape={table.shape}) while a minimum of 1 is required.")


def rows_of(estimator: BaseEstimator, X: Any, meta: MetaTrained, *, reset: bool) -> NDArray[Any]:
    """Return rows [n, n_features] of finite numbers, checked against those of meta-training.

    Parameters
    ----------
    estimator : FewShotEstimator
        Remembers number and names of the features.
    X : array-like or DataFrame
    meta : MetaTrained
        Decides what ``X`` must look like.
    reset : bool
        Whether these are a support set.

    Raises
    ------
    ValueError
        The rows cannot be used; the text says why.
    """
    X = _encoding_learner(estimator, reset=reset).encode_rows(X)
    _check_numbered(estimator, X, meta, reset=reset)
    if meta.encoder is not None:
        return _encoded_rows(estimator, X, meta.encoder)
    is_bytes = was_deep = False
    if are_images(meta.info):
        bits = 16 if meta.input_range is None else meta.input_range.bits
        X, is_bytes, was_deep = image_rows(X, meta.info.input_shape, bits)
    else:
        X = flat_rows(X, meta.info.input_shape)
    width = np.shape(X)[1:]
    if reset and width not in ((), (meta.n_features,)):
        raise InvalidData(
            f"X has {width[0]} features, but {type(estimator).__name__} was meta-trained on {meta.n_features} features."
        )
    rows: NDArray[Any] = _checked(validate_data, estimator, X, reset=reset, dtype=[np.float64, np.float32])
    if are_images(meta.info):
        check_range(rows, is_bytes, meta.input_range, type(estimator).__name__, was_deep)
    return rows


def _check_numbered(estimator: BaseEstimator, X: Any, meta: MetaTrained | None, *, reset: bool) -> None:
    """Refuse columns whose names are no text in another order than in ``fit``; scikit-learn compares text alone.

    After ``meta_fit`` on a table they must be those of the first ``fit``. The places 0, 1, ... may be no names at all.
    """
    names = list(X.columns) if isinstance(X, pd.DataFrame) else []
    given = None if not names or any(isinstance(name, str) for name in names) else [str(name) for name in names]
    known = estimator.__dict__.get("_numbered")
    if reset and (known is None or meta is None or meta.encoder is None):
        estimator._numbered = given
        return
    if given is None or known is None or given == known:
        return
    places = [str(i) for i in range(len(given))]
    if sorted(given) == sorted(known) or places not in (given, known):
        raise InvalidData(
            f"the columns of X are named {_shown(given)}, and {_shown(known)} when fit was called; give them in the "
            "same order."
        )


def _shown(names: list[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def _encoded_rows(estimator: BaseEstimator, X: Any, encoder: RowEncoder) -> NDArray[Any]:
    X = validate_data(estimator, as_frame(X), reset=False, skip_check_array=True)
    if len(X) == 0:
        raise InvalidData("X has 0 rows; at least one is needed.")
    return encoder.transform(X)


def labels_of(estimator: BaseEstimator, X: Any, y: Any) -> NDArray[Any]:
    """Return class labels [n], by the rule of :func:`autometa.read_target`.

    Raises
    ------
    ValueError
        Missing, or of a type that labels cannot have.
    """
    labels = class_labels(_given(estimator, y))
    check_consistent_length(X, labels)
    return labels


def real_targets_of(estimator: BaseEstimator, X: Any, y: Any) -> NDArray[np.float64]:
    """Return real targets [n, n_targets], by the rule of :func:`autometa.read_target`.

    Raises
    ------
    ValueError
        Missing, infinite or no numbers.
    """
    y = _given(estimator, y)
    if isinstance(y, pd.Series):
        real = real_targets(y)[:, None]
    elif np.asarray(y).dtype.kind in "biuf":
        y = _checked(check_array, y, ensure_2d=False, dtype=None, input_name="y", estimator=estimator)
        real = np.asarray(column_or_1d(y, warn=True) if y.ndim == 1 or y.shape[1] == 1 else y, dtype=np.float64)
        real = real.reshape(len(real), -1)
    else:
        frame = as_frame(y)
        names = [str(name) if isinstance(name, str) else f"column {name} of y" for name in frame.columns]
        real = np.stack([real_targets(frame.iloc[:, i], name) for i, name in enumerate(names)], axis=1)
    check_consistent_length(X, real)
    return real


def _given(estimator: BaseEstimator, y: Any) -> Any:
    """Return a target that is there: a Series if it is of one axis, an array or frame else."""
    name = type(estimator).__name__
    if y is None:
        raise InvalidData(f"{name} requires y to be passed, but the target y is None.")
    if isinstance(y, np.ndarray):
        if y.dtype.kind == "f":
            _checked(assert_all_finite, y, estimator_name=name, input_name="y")
        return pd.Series(y) if y.ndim == 1 and y.dtype.kind not in "biufcU" else y
    if isinstance(y, pd.DataFrame) or hasattr(y, "columns") or hasattr(y, "column_names") or issparse(y):
        return y
    if isinstance(y, Sequence) and len(y) and isinstance(y[0], (list, np.ndarray)):
        return np.asarray(y)
    values = as_column(y, "y")
    if values.dtype.kind == "f":
        _checked(assert_all_finite, values.to_numpy(), estimator_name=name, input_name="y")
    return values


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


def as_tensor(values: NDArray[Any], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Copy an array of any layout and byte order to a tensor; torch takes none with negative strides."""
    native = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    return torch.tensor(native, device=device, dtype=dtype)


def check_proportion(rows: NDArray[Any], dtype: torch.dtype) -> None:
    """Refuse rows with a column so large that a network, which adds columns up, would lose the others to rounding.

    Raises
    ------
    InvalidData
        Names the column.
    """
    sizes = np.abs(rows).max(axis=0)
    usual = max(1.0, float(np.partition(sizes, (len(sizes) - 1) // 2)[(len(sizes) - 1) // 2]))
    widest = int(sizes.argmax())
    # Sums of 32 bits keep 7 digits, and sums of squares of 64 bits 8 digits of what is squared.
    if sizes[widest] * max(torch.finfo(dtype).eps, torch.finfo(torch.float64).eps ** 0.5) > usual:
        raise InvalidData(
            f"column {widest} of X reaches {sizes[widest]:.3g} and most columns no more than {usual:.3g}: beside it "
            "the others would be lost to rounding; scale X as the tasks of meta-training are."
        )


def n_features(input_shape: tuple[int, ...]) -> int:
    """Return the number of values of one example."""
    return math.prod(input_shape)


def shaped(rows: NDArray[Any], input_shape: tuple[int, ...]) -> NDArray[Any]:
    """Return rows [n, n_features] as [n, *input_shape]."""
    return rows.reshape(len(rows), *input_shape)

"""Which scikit-learn estimators there are by name, and how one is fitted and asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.linear_model import LogisticRegression, RidgeClassifier, RidgeCV
from sklearn.linear_model import Ridge as RidgeRegressor
from sklearn.multioutput import MultiOutputRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.svm import SVC, SVR
from sklearn.utils import get_tags
from torch import Tensor

import autometa as am

Array = NDArray[Any]
Maker = Callable[[int, int], BaseEstimator]
"""An unfitted estimator for (n_rows, n_features): some defaults of scikit-learn fail on a handful of rows."""


def _leaf(n_rows: int) -> int:
    """Rows in a leaf of a boosted tree: scikit-learn's 20 would leave a support set without any split."""
    return min(20, max(1, n_rows // 10))


def _ridge(n_rows: int) -> BaseEstimator:
    # Choosing the penalty by leaving rows out needs some to remain; beside thousands it costs much and changes nothing.
    return RidgeCV(alphas=np.logspace(-3, 3, 13)) if 2 < n_rows <= 1000 else RidgeRegressor()


CLASSIFIERS: Mapping[str, Maker] = {
    "logistic_regression": lambda n, d: LogisticRegression(max_iter=1000),
    "ridge": lambda n, d: RidgeClassifier(),
    "knn": lambda n, d: KNeighborsClassifier(n_neighbors=min(5, n), weights="distance"),
    "naive_bayes": lambda n, d: GaussianNB(var_smoothing=1e-2),
    "svm": lambda n, d: SVC(),
    "random_forest": lambda n, d: RandomForestClassifier(random_state=0),
    "hist_gradient_boosting": lambda n, d: HistGradientBoostingClassifier(
        max_iter=50, min_samples_leaf=_leaf(n), early_stopping=False, random_state=0
    ),
    "gaussian_process": lambda n, d: GaussianProcessClassifier(RBF(d**0.5), optimizer=None, random_state=0),
}
REGRESSORS: Mapping[str, Maker] = {
    "ridge": lambda n, d: _ridge(n),
    "knn": lambda n, d: KNeighborsRegressor(n_neighbors=min(5, n), weights="distance"),
    "svm": lambda n, d: SVR(),
    "random_forest": lambda n, d: RandomForestRegressor(random_state=0),
    "hist_gradient_boosting": lambda n, d: HistGradientBoostingRegressor(
        max_iter=50, min_samples_leaf=_leaf(n), early_stopping=False, random_state=0
    ),
    "gaussian_process": lambda n, d: GaussianProcessRegressor(
        RBF(d**0.5) + WhiteKernel(1e-2), optimizer=None, normalize_y=True, random_state=0
    ),
}


def estimator_maker(estimator: Any, has_classes: bool, learner: str) -> Maker:
    """Return what makes an unfitted estimator for a number of rows and features.

    Parameters
    ----------
    estimator : str or estimator
        ``"auto"``, a name, or an object, which is cloned; wherever its ``random_state`` is None, 0 is used.
    has_classes : bool
        True if targets are classes; a regressor is made where they are real numbers.
    learner : str
        Named in errors.

    Raises
    ------
    InvalidParameter
        The name is unknown for these targets, or the object predicts others.
    """
    if has_classes:
        named, auto, suits, kind = CLASSIFIERS, "logistic_regression", is_classifier, "classifier"
    else:
        named, auto, suits, kind = REGRESSORS, "ridge", is_regressor, "regressor"
    if isinstance(estimator, str):
        name = auto if estimator == "auto" else estimator
        if name not in named:
            raise am.InvalidParameter(
                f"estimator={estimator!r} of learner {learner!r} is not known as a {kind}; use one of "
                f"{('auto', *sorted(named))} or a scikit-learn {kind}."
            )
        return named[name]
    if not isinstance(estimator, BaseEstimator) or not suits(estimator):
        raise am.InvalidParameter(
            f"estimator={estimator!r} of learner {learner!r} must be a scikit-learn {kind} or one of "
            f"{('auto', *sorted(named))}."
        )
    return lambda n_rows, n_features: _seeded(clone(estimator))


def _seeded(estimator: BaseEstimator) -> BaseEstimator:
    parameters = estimator.get_params(deep=True)
    unset = [name for name, value in parameters.items() if name.split("__")[-1] == "random_state" and value is None]
    estimator.set_params(**dict.fromkeys(unset, 0))
    return estimator


def array(t: Tensor) -> Array:
    """Rows of numbers for scikit-learn, [n, n_features], in double precision."""
    numbers: Array = t.detach().cpu().double().flatten(1).numpy()
    return numbers


Answer = Callable[[Array], Array]
"""Outputs for rows [n, n_features]: log-probabilities or means, [n, n_outputs]."""


def fit_and_ask(
    make: Maker, has_classes: bool, rows: Array, targets: Array, x: Array, weights: Array | None = None
) -> Array:
    """Fit a new estimator and return its outputs for ``x``; see :func:`fit`."""
    return fit(make, has_classes, rows, targets, weights)(x)


def fit(make: Maker, has_classes: bool, rows: Array, targets: Array, weights: Array | None = None) -> Answer:
    """Fit a new estimator and return what answers with its outputs: log-probabilities or means, [n, n_outputs].

    Without any row to fit, all outputs are 0: classes are alike, and targets their mean where they are standardised.

    Parameters
    ----------
    make : callable
        From :func:`estimator_maker`.
    has_classes : bool
    rows : array of shape [n_rows, n_features]
    targets : array of shape [n_rows, n_outputs]
        One-hot classes or real targets.
    weights : array of shape [n_rows], optional
        Sample weights.
    """
    n_outputs = targets.shape[1]
    if len(rows) == 0:
        return lambda x: np.zeros((len(x), n_outputs))
    estimator = make(*rows.shape)
    if has_classes:
        return _fit_classes(estimator, rows, targets, weights)
    if n_outputs > 1 and not get_tags(estimator).target_tags.multi_output:
        estimator = MultiOutputRegressor(estimator)
    fitted = _fit(estimator, rows, targets if n_outputs > 1 else targets[:, 0], weights)
    return lambda x: np.reshape(fitted.predict(x), (len(x), -1)) if len(x) else np.zeros((0, n_outputs))


def _fit_classes(estimator: BaseEstimator, rows: Array, targets: Array, weights: Array | None) -> Answer:
    """Classes without rows get the least there is; a class that is alone needs no estimator, and few take one."""
    labels, n_outputs = targets.argmax(axis=1), targets.shape[1]
    present = np.unique(labels)
    fitted = None if len(present) == 1 else _fit(estimator, rows, labels, weights)

    def answer(x: Array) -> Array:
        probabilities = np.zeros((len(x), n_outputs))
        if len(x):
            probabilities[:, present] = 1.0 if fitted is None else _probabilities(fitted, x)
        return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))

    return answer


def _probabilities(estimator: Any, x: Array) -> Array:
    if hasattr(estimator, "predict_proba"):
        probabilities: Array = estimator.predict_proba(x)
        return probabilities
    if not hasattr(estimator, "decision_function"):
        certain: Array = np.eye(len(estimator.classes_))[np.searchsorted(estimator.classes_, estimator.predict(x))]
        return certain
    scores: Array = estimator.decision_function(x)
    if scores.ndim == 1:
        scores = np.stack([-scores, scores], axis=1) / 2
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Array = scores / scores.sum(axis=1, keepdims=True)
    return shares


def _fit(estimator: Any, rows: Array, targets: Array, weights: Array | None) -> Any:
    return estimator.fit(rows, targets) if weights is None else estimator.fit(rows, targets, sample_weight=weights)

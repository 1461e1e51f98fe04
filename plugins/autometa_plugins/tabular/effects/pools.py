"""Models of all entities together, which know nothing of any one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold, KFold
from sklearn.multioutput import MultiOutputRegressor
from sklearn.utils import get_tags
from threadpoolctl import threadpool_limits

Array = NDArray[Any]
Answer = Callable[[Array], Array]
"""Means of real targets, or probabilities of classes, [n, outputs], for rows [n, features]."""

N_FOLDS = 5
_LEAST = 1e-4
"""Least probability of a class that a pool may tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A model of all entities: a linear one, which is numbers, and a share of a fitted estimator.

    Parameters
    ----------
    coefficients : array of shape [1 + features, outputs]
        The first row is the intercept. Of classes they make log-odds.
    share : float in [0, 1]
        What part of the answer is the estimator's.
    kind : str, optional
        Name of the estimator; None where its share is 0.
    estimator : callable, optional
        Its answers.
    temperature : float
        Log-odds of classes are multiplied by it.
    has_classes : bool
    """

    coefficients: Array
    share: float = 0.0
    kind: str | None = None
    estimator: Answer | None = None
    temperature: float = 1.0
    has_classes: bool = False

    def __call__(self, x: Array) -> Array:
        """Answer for rows [n, features]: means, or log-odds that sum to zero, [n, outputs]."""
        answer = linear_answer(self.coefficients, self.has_classes)(x)
        if self.estimator is not None:
            answer = (1 - self.share) * answer + self.share * self.estimator(x)
        return log_odds(answer, self.temperature) if self.has_classes else answer

    def __deepcopy__(self, memo: dict[int, Any]) -> Pool:
        return self  # which nothing changes


def linear_answer(coefficients: Array, has_classes: bool) -> Answer:
    """Answers of a linear model."""

    def answer(x: Array) -> Array:
        sums: Array = x @ coefficients[1:] + coefficients[0]
        return np.exp(log_softmax(sums, axis=1)) if has_classes else sums

    return answer


def log_odds(probabilities: Array, temperature: float) -> Array:
    """Logarithms that sum to zero in each row, times a temperature."""
    logs = np.log(np.maximum(probabilities, _LEAST))
    return np.asarray(temperature * (logs - logs.mean(axis=1, keepdims=True)))


def best_temperature(odds: Array, targets: Array, weights: Array | None = None) -> float:
    """Factor of log-odds [n, classes] that has the least log loss, between 0.2 and 2."""

    def loss(temperature: float) -> float:
        return -float(np.average((log_softmax(temperature * odds, axis=1) * targets).sum(1), weights=weights))

    return float(minimize_scalar(loss, bounds=(0.2, 2.0), method="bounded").x)


def mean_coefficients(x: Array, targets: Array, has_classes: bool) -> Array:
    """The mean of all rows; of classes, their frequency with one more row for each."""
    coefficients = np.zeros((1 + x.shape[1], targets.shape[1]))
    if has_classes:
        coefficients[0] = np.log((targets.sum(0) + 1) / (len(targets) + targets.shape[1]))
    elif len(targets):
        coefficients[0] = targets.mean(0)
    return coefficients


def linear_coefficients(x: Array, targets: Array, has_classes: bool) -> Array:
    """Ridge or logistic regression; classes without rows are the least likely."""
    if not has_classes:
        fitted = Ridge().fit(x, targets)
        return np.concatenate([np.reshape(fitted.intercept_, (1, -1)), np.reshape(fitted.coef_, (-1, x.shape[1])).T])
    labels = targets.argmax(1)
    present = np.unique(labels)
    coefficients = np.zeros((1 + x.shape[1], targets.shape[1]))
    coefficients[0] = np.log(_LEAST)
    if len(present) == 1:
        coefficients[0, present] = 0.0
        return coefficients
    fitted = LogisticRegression(max_iter=300).fit(x, labels)
    found = np.concatenate([fitted.intercept_[None], fitted.coef_.T])
    coefficients[:, present] = np.concatenate([-found / 2, found / 2], axis=1) if len(present) == 2 else found
    return coefficients


def fit_estimator(estimator: BaseEstimator, x: Array, targets: Array, has_classes: bool) -> Answer:
    """Fit a clone of an estimator; its answers have a column for every class or target."""
    n_outputs, made = targets.shape[1], _seeded(clone(estimator))
    if not has_classes:
        if n_outputs > 1 and not get_tags(made).target_tags.multi_output:
            made = MultiOutputRegressor(made)
        fitted = _on_one_thread(made.fit, x, targets if n_outputs > 1 else targets[:, 0])
        return lambda asked: np.reshape(fitted.predict(asked), (len(asked), -1))
    labels = targets.argmax(1)
    present = np.unique(labels)
    if len(present) == 1:
        return lambda asked: np.tile(np.eye(n_outputs)[present], (len(asked), 1))
    fitted = _on_one_thread(made.fit, x, labels)

    def answer(asked: Array) -> Array:
        probabilities = np.zeros((len(asked), n_outputs))
        probabilities[:, present] = fitted.predict_proba(asked)
        return probabilities

    return answer


def boosting(n_rows: int, has_classes: bool) -> BaseEstimator:
    """Histogram boosting with leaves that so many rows can fill."""
    kind, n_trees = (HistGradientBoostingClassifier, 60) if has_classes else (HistGradientBoostingRegressor, 100)
    leaf = min(20, max(1, n_rows // 10))
    return kind(max_iter=n_trees, min_samples_leaf=leaf, early_stopping=False, random_state=0)


def folds(entity: Array) -> list[tuple[Array, Array]]:
    """Places of the rows to fit on and of those to answer for: other entities, or rows where there is but one.

    A single row in all answers for itself.
    """
    n_entities = len(np.unique(entity))
    if len(entity) == 1:
        return [(np.arange(1), np.arange(1))]
    if n_entities > 1:
        return list(GroupKFold(min(N_FOLDS, n_entities)).split(entity, groups=entity))
    return list(KFold(min(N_FOLDS, len(entity)), shuffle=True, random_state=0).split(entity))


def _seeded(estimator: BaseEstimator) -> BaseEstimator:
    """Set every ``random_state`` that is None to 0."""
    parameters = estimator.get_params(deep=True)
    unset = [name for name, value in parameters.items() if name.split("__")[-1] == "random_state" and value is None]
    estimator.set_params(**dict.fromkeys(unset, 0))
    return estimator


def _on_one_thread(fit: Callable[..., Any], *arguments: Array) -> Any:
    """Fit on one thread, as sums over threads differ in their last bits, and trees then in their splits."""
    with threadpool_limits(1, user_api="openmp"):
        return fit(*arguments)

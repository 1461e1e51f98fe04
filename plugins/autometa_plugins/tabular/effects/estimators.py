"""Estimators that a pool may have a share of, by name, and how each is fitted."""

from __future__ import annotations

from sklearn.base import BaseEstimator
from torch import Tensor

from autometa_plugins.tabular.effects.pools import Answer, boosting, fit_estimator
from autometa_plugins.tabular.effects.training_rows import TrainingRows, fit_mixed_boosting

ESTIMATORS: tuple[str | None, ...] = (None, "boosting", "mixed_boosting", "estimator")
"""The last is the user's."""


def fit_named(kind: str, rows: TrainingRows, weights: Tensor, own: str | BaseEstimator) -> Answer:
    """Fit an estimator to rows; ``weights`` are the variances that the mixed one is fitted beside."""
    if kind == "mixed_boosting":
        return fit_mixed_boosting(rows, weights)
    made = boosting(len(rows), rows.has_classes) if kind == "boosting" else own
    return fit_estimator(made, rows.x, rows.targets, rows.has_classes)

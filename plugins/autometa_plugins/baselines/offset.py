"""A scikit-learn estimator for all entities, and a shrunken offset for each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from autometa_plugins.baselines.entity_learner import EntityEstimator, of_each, out_of_fold
from autometa_plugins.baselines.estimators import Answer, Array, estimator_maker, fit
from autometa_plugins.baselines.memory import TrainingRows
from autometa_plugins.baselines.shrinkage import log_odds_variance, pseudo_rows, shrunken_log_odds, shrunken_mean


class PooledOffset(EntityEstimator):
    """Any scikit-learn estimator fitted on remembered meta-train rows, and for each entity a shrunken offset.

    The offset of an entity with k rows is k / (k + λ) of the mean of what the pool leaves of them, where λ is the
    variance within entities over that between them, of the residuals of pools that have not seen the entity. Of
    classes it is the most probable shift of the log-odds, under a Gaussian of the variance between entities.

    Parameters
    ----------
    estimator : str or scikit-learn estimator, default="auto"
        As of learner "sklearn"; "auto" is logistic or ridge regression.
    max_rows : int, default=5000
        Size of the memory.
    """

    name: ClassVar[str] = "sklearn_offset"

    def learn(self, rows: TrainingRows) -> Offsets:
        """Fit the pool, and measure how much entities differ from it."""
        fitting = partial(fit, estimator_maker(self.estimator, rows.has_classes, self.name), rows.has_classes)
        return measured(fitting(rows.x, rows.targets), out_of_fold(fitting, rows), rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offsets:
    """A pool, and how far an entity's rows move it.

    Parameters
    ----------
    pool : callable
    has_classes : bool
    pseudo_rows : array of shape [n_outputs]
        Rows that the population counts for, of real targets.
    variance : float
        Of offsets of log-odds, of classes.
    """

    pool: Answer
    has_classes: bool
    pseudo_rows: Array
    variance: float = 0.0

    def know(self, x: Array, targets: Array) -> Array:
        """Return the offset of an entity, [n_outputs]."""
        if not len(x):
            return np.zeros(targets.shape[1])
        if self.has_classes:
            return shrunken_log_odds(self.pool(x), targets, self.variance)
        return shrunken_mean(targets - self.pool(x), self.pseudo_rows)

    def answer(self, x: Array, known: Array) -> Array:
        """Add the offsets to what the pool answers."""
        return of_each(self.pool, x) + known[:, None]


def measured(pool: Answer, answers: Array, rows: TrainingRows) -> Offsets:
    """Measure how much entities differ by the answers [n, n_outputs] of pools that have not seen them."""
    if rows.has_classes:
        variance = log_odds_variance(rows, answers)
        return Offsets(pool=pool, has_classes=True, pseudo_rows=np.empty(0), variance=variance)
    return Offsets(pool=pool, has_classes=False, pseudo_rows=pseudo_rows(rows, rows.targets - answers))

"""A scikit-learn estimator for all entities, which reads the entity as a column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from autometa_plugins.baselines.entity_learner import N_FOLDS, EntityEstimator, of_each
from autometa_plugins.baselines.estimators import Answer, Array, estimator_maker, fit
from autometa_plugins.baselines.memory import TrainingRows
from autometa_plugins.baselines.shrinkage import pseudo_rows


class PooledEncoded(EntityEstimator):
    """Any scikit-learn estimator fitted on remembered meta-train rows, with the entity as a target-encoded column.

    The column is the mean of the entity's targets (of each class: its share), shrunken towards that of all rows
    (Micci-Barreca 2001): k rows count beside λ of the population, the variance within entities over that between them.
    For training it is cross-fitted, so that no row tells its own target. A new entity is encoded by its support rows,
    and without any as the population.

    Parameters
    ----------
    estimator : str or scikit-learn estimator, default="auto"
        As of learner "sklearn"; "auto" is logistic or ridge regression.
    max_rows : int, default=5000
        Size of the memory.

    References
    ----------
    D. Micci-Barreca: A preprocessing scheme for high-cardinality categorical attributes in classification and
    prediction problems. ACM SIGKDD Explorations 3, 2001.
    """

    name: ClassVar[str] = "sklearn_encoded"

    def learn(self, rows: TrainingRows) -> Encoded:
        """Encode the entities of the rows, and fit the estimator to rows and codes."""
        make = estimator_maker(self.estimator, rows.has_classes, self.name)
        pseudo = pseudo_rows(rows, rows.targets)
        both = np.concatenate([rows.x, cross_fitted(rows, pseudo)], axis=1)
        level = rows.targets.mean(0) if len(rows) else np.zeros(rows.targets.shape[1])
        return Encoded(answer_both=fit(make, rows.has_classes, both, rows.targets), level=level, pseudo_rows=pseudo)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """An estimator of rows with the code of their entity.

    Parameters
    ----------
    answer_both : callable
    level : array of shape [n_outputs]
        Mean of the targets of all rows.
    pseudo_rows : array of shape [n_outputs]
        Rows that the population counts for.
    """

    answer_both: Answer
    level: Array
    pseudo_rows: Array

    def know(self, x: Array, targets: Array) -> Array:
        """Return the code of an entity, [n_outputs]."""
        return code(targets.sum(0), len(targets), self.level, self.pseudo_rows)

    def answer(self, x: Array, known: Array) -> Array:
        """Ask about rows with their entity's code."""
        codes = np.broadcast_to(known[:, None], (*x.shape[:2], known.shape[1]))
        return of_each(self.answer_both, np.concatenate([x, codes], axis=2))


def code(sums: Array, count: Array | int, level: Array, pseudo: Array) -> Array:
    """Mean of the targets of so many rows, shrunken towards a level, [..., n_outputs]."""
    count = np.asarray(count, dtype=np.float64)
    with np.errstate(divide="ignore"):
        share = count / (count + pseudo) * np.ones_like(level)
    mean = sums / np.maximum(count, 1)
    return np.asarray(level + share * (mean - level))


def cross_fitted(rows: TrainingRows, pseudo: Array) -> Array:
    """Code of every row's entity by its other rows, in folds, [n, n_outputs]."""
    codes = np.zeros_like(rows.targets)
    fold = np.random.default_rng(0).permutation(len(rows)) % min(N_FOLDS, max(2, len(rows)))
    for number in np.unique(fold):
        asked = fold == number
        rest = (~asked)[:, None]
        sums, counts = rows.sums(rows.targets * rest), rows.sums(rest.astype(np.float64))
        level = (rows.targets * rest).sum(0) / max(1, rest.sum())
        codes[asked] = code(sums, counts, level, pseudo)[rows.entity[asked]]
    return codes

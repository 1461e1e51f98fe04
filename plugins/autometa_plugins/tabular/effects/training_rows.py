"""Rows of training entities, by entity, and pools that answer for them without having seen the entity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autometa_plugins.tabular.effects.episodes import Places
from autometa_plugins.tabular.effects.kernels import EffectColumns, kernel
from autometa_plugins.tabular.effects.pools import Answer, Array, boosting, fit_estimator, folds, linear_answer
from autometa_plugins.tabular.effects.posterior import factor

_MOST_ROWS = 200
"""Rows of an entity that the mixed pools take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRows:
    """Rows of training entities.

    Parameters
    ----------
    x : array of shape [rows, features]
    targets : array of shape [rows, outputs]
        Real targets, or one-hot classes.
    entity : array of shape [rows]
        Entities are numbered from 0.
    columns : EffectColumns
    has_classes : bool
    """

    x: Array
    targets: Array
    entity: Places
    columns: EffectColumns
    has_classes: bool

    def __len__(self) -> int:
        return len(self.x)

    def take(self, places: Places) -> TrainingRows:
        """Return some of the rows."""
        return TrainingRows(
            x=self.x[places],
            targets=self.targets[places],
            entity=self.entity[places],
            columns=self.columns,
            has_classes=self.has_classes,
        )

    def by_entity(self) -> list[Places]:
        """Places of the rows of every entity."""
        order = np.argsort(self.entity, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(self.entity[order])) + 1)


Fit = Callable[[TrainingRows], Answer]


def out_of_fold(fit: Fit, rows: TrainingRows) -> Array:
    """Answers for all rows, each by a pool fitted on other entities."""
    answers = np.zeros_like(rows.targets)
    for known, asked in folds(rows.entity):
        answers[asked] = fit(rows.take(known))(rows.x[asked])
    return answers


def mixed_coefficients(rows: TrainingRows, weights: Tensor) -> Array:
    """Coefficients of a linear mixed model: generalized least squares, given the covariance of effects.

    Rows of one entity count as far as they tell something new, so that what is the same in all rows of an entity is not
    taken for what varies among them (Henderson 1975).
    """
    n_features, n_outputs = rows.x.shape[1], rows.targets.shape[1]
    normal = np.diag(np.r_[1e-8, np.ones(n_features)])
    right = np.zeros((1 + n_features, n_outputs))
    for own in rows.by_entity():
        own = own[:_MOST_ROWS]
        design = np.concatenate([np.ones((len(own), 1)), rows.x[own], rows.targets[own]], axis=1)
        white = torch.linalg.solve_triangular(_factor(rows, own, weights), torch.from_numpy(design), upper=False)
        inputs, outputs = white[:, : 1 + n_features].numpy(), white[:, 1 + n_features :].numpy()
        normal += inputs.T @ inputs
        right += inputs.T @ outputs
    return np.asarray(np.linalg.solve(normal, right))


def effects(rows: TrainingRows, residuals: Array, weights: Tensor) -> Array:
    """Best linear unbiased predictions of the effects of the entities on their own rows."""
    found = np.zeros_like(residuals)
    for own in rows.by_entity():
        known = own[:_MOST_ROWS]
        solved = torch.cholesky_solve(torch.from_numpy(residuals[known]), _factor(rows, known, weights))
        x = torch.from_numpy(rows.x)
        found[own] = (kernel(x[own], x[known], weights, rows.columns) @ solved).numpy()
    return found


def fit_mixed(rows: TrainingRows, weights: Tensor) -> Answer:
    """Fit a linear mixed model."""
    return linear_answer(mixed_coefficients(rows, weights), has_classes=False)


def fit_mixed_boosting(rows: TrainingRows, weights: Tensor) -> Answer:
    """Fit boosting to targets less the effects that a linear mixed model sees (Hajjem et al. 2014)."""
    residuals = rows.targets - fit_mixed(rows, weights)(rows.x)
    targets = rows.targets - effects(rows, residuals, weights)
    return fit_estimator(boosting(len(rows), False), rows.x, targets, has_classes=False)


def _factor(rows: TrainingRows, places: NDArray[np.int64], weights: Tensor) -> Tensor:
    x = torch.from_numpy(rows.x[places])
    return factor(kernel(x, x, weights, rows.columns), torch.ones(len(places), dtype=torch.bool))

"""Which pool, and which covariance of effects beside it: chosen by how simulated newcomers fare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.base import BaseEstimator

from autometa_plugins.tabular.effects.calibration import Choice, calibrate
from autometa_plugins.tabular.effects.episodes import SHOTS, Episodes, gather, simulate
from autometa_plugins.tabular.effects.estimators import ESTIMATORS, fit_named
from autometa_plugins.tabular.effects.kernels import grouped
from autometa_plugins.tabular.effects.newcomers import Model
from autometa_plugins.tabular.effects.pools import (
    Answer,
    Array,
    Pool,
    best_temperature,
    linear_answer,
    linear_coefficients,
    log_odds,
    mean_coefficients,
)
from autometa_plugins.tabular.effects.posterior import class_scores, solve
from autometa_plugins.tabular.effects.training_rows import TrainingRows, mixed_coefficients, out_of_fold
from autometa_plugins.tabular.effects.variances import Covariance, Variances

POOLS: Mapping[str, tuple[str, str | None]] = {
    "mean": ("mean", None),
    "linear": ("linear", None),
    "mixed": ("mixed", None),
    "boosting": ("mean", "boosting"),
    "mixed_boosting": ("mean", "mixed_boosting"),
    "average": ("linear", "boosting"),
    "mixed_average": ("mixed", "mixed_boosting"),
}
"""Linear model and estimator of every pool: half of the answer each, and beside the mean the estimator's alone."""
_REAL_ONLY = frozenset({"mixed", "mixed_boosting", "mixed_average"})
_SCALES = (0.5, 1.0, 2.0, 4.0)
"""Variances of effects on log-odds are tried times these, as the estimate is too low for classes."""
_LEAST_LOSS = 1e-12


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pool by name, and the covariance of effects beside it."""

    pool: str
    covariance: Covariance


def pool_names(pool: str | BaseEstimator, has_classes: bool) -> list[str]:
    """Names of the pools to choose from."""
    if not isinstance(pool, str):
        return ["estimator"]
    known = [name for name in POOLS if not (has_classes and name in _REAL_ONLY)]
    return known if pool == "auto" else [pool]


def choose(rows: TrainingRows, pool: str | BaseEstimator = "auto", seed: int = 0) -> Model:
    """Estimate the covariance of effects beside every pool, and take what is best for newcomers.

    The loss of a candidate is divided by the lowest for the same number of known rows, and averaged over these numbers:
    one choice for all, as variances do not depend on how many rows are known. Every newcomer counts alike.

    Parameters
    ----------
    rows : TrainingRows
    pool : str or estimator
        A name, or "auto" for all of them.
    seed : int
        Decides which newcomers are simulated.
    """
    variances = Variances(rows, seed)
    pools = Pools(rows, pool, variances)
    candidates = [
        Candidate(name, scaled)
        for name, answers in pools.answers.items()
        for covariance in variances.offered(answers)
        for scaled in _scaled(covariance, rows.has_classes)
    ]
    newcomers = list(simulate(rows.entity, seed))
    losses = Losses(rows, pools.answers, candidates, newcomers)
    best, least = candidates[losses.best()], losses.names[losses.least()]
    model = Model(
        pool=pools.whole(best.pool),
        population=pools.whole(least),
        weights=best.covariance.weights,
        mixed_weights=pools.weights,
        noise=best.covariance.noise,
        degrees=best.covariance.degrees,
        calibration=torch.ones(len(SHOTS), dtype=torch.float64),
        columns=rows.columns,
        has_classes=rows.has_classes,
        told=pools.answers[best.pool],
    )
    pairs, chosen = np.unique(losses.without_each(), axis=0, return_inverse=True)
    choices = [Choice(candidates[i].pool, losses.names[j], candidates[i].covariance) for i, j in pairs]
    return calibrate(model, rows, pools.answers, choices, chosen, newcomers)


def _scaled(covariance: Covariance, has_classes: bool) -> list[Covariance]:
    """The covariances to try for one that was estimated."""
    if not has_classes or not covariance.weights.any():
        return [covariance]
    return [covariance.times(scale) for scale in _SCALES]


class Pools:
    """Pools by name, their out-of-fold answers, and themselves fitted on all rows.

    Parameters
    ----------
    rows : TrainingRows
    pool : str or estimator
    variances : Variances
        Estimates the covariance that the mixed pools are fitted beside.
    """

    def __init__(self, rows: TrainingRows, pool: str | BaseEstimator, variances: Variances) -> None:
        self.rows, self.estimator = rows, pool
        self.weights = torch.zeros(rows.columns.n_kernels, dtype=torch.float64)
        self.temperatures: dict[str, float] = {}
        self.answers: dict[str, Array] = {}
        """Means of real targets, or log-odds, [rows, outputs], of pools fitted on other entities."""
        parts: dict[str, Array] = {}
        for name in pool_names(pool, rows.has_classes):
            if name in _REAL_ONLY and "mixed" not in parts:
                best = variances.best(self._part("linear", parts)).weights
                self.weights = best.float().double()  # as a file keeps them
            self.answers[name] = self._finish(name, self._mixture(name, parts))

    def whole(self, name: str) -> Pool:
        """Fit a pool on all rows."""
        linear, estimator = POOLS.get(name, ("mean", "estimator"))
        return Pool(
            coefficients=self._coefficients(linear, self.rows),
            share=self._share(name),
            kind=estimator,
            estimator=None if estimator is None else self._fit(estimator, self.rows),
            temperature=self.temperatures.get(name, 1.0),
            has_classes=self.rows.has_classes,
        )

    def _share(self, name: str) -> float:
        linear, estimator = POOLS.get(name, ("mean", "estimator"))
        return 0.0 if estimator is None else 1.0 if linear == "mean" else 0.5

    def _mixture(self, name: str, parts: dict[str, Array]) -> Array:
        linear, estimator = POOLS.get(name, ("mean", "estimator"))
        share = self._share(name)
        told = (1 - share) * self._part(linear, parts) if share < 1 else np.zeros_like(self.rows.targets)
        return told if estimator is None else told + share * self._part(estimator, parts)

    def _finish(self, name: str, answers: Array) -> Array:
        if not self.rows.has_classes:
            return answers
        self.temperatures[name] = best_temperature(log_odds(answers, 1.0), self.rows.targets)
        return log_odds(answers, self.temperatures[name])

    def _part(self, kind: str, parts: dict[str, Array]) -> Array:
        if kind not in parts:
            parts[kind] = out_of_fold(partial(self._fit, kind), self.rows)
        return parts[kind]

    def _fit(self, kind: str, rows: TrainingRows) -> Answer:
        if kind in ESTIMATORS:
            return fit_named(kind, rows, self.weights, self.estimator)
        return linear_answer(self._coefficients(kind, rows), rows.has_classes)

    def _coefficients(self, kind: str, rows: TrainingRows) -> Array:
        if kind == "mixed":
            return mixed_coefficients(rows, self.weights)
        fit = mean_coefficients if kind == "mean" else linear_coefficients
        return fit(rows.x, rows.targets, rows.has_classes)


class Losses:
    """Losses of candidates on simulated newcomers, and of pools by themselves, of all entities or of all but one.

    Parameters
    ----------
    rows : TrainingRows
    answers : mapping of str to array of shape [rows, outputs]
        Out-of-fold answers of every pool.
    candidates : list of Candidate
    newcomers : list of Episodes
    """

    def __init__(
        self,
        rows: TrainingRows,
        answers: Mapping[str, Array],
        candidates: list[Candidate],
        newcomers: list[Episodes],
    ) -> None:
        self.names = list(answers)
        n_entities = int(rows.entity.max()) + 1
        self.of_candidates = [
            _Sums.of(_newcomer_losses(rows, answers, candidates, few), rows.entity[few.query[:, 0]], n_entities)
            for few in newcomers
        ]
        alone = np.stack([_row_losses(rows, answers[name]) for name in self.names])
        self.of_pools = _Sums.of(alone, rows.entity, n_entities)

    def best(self) -> int:
        """Number of the candidate with the least loss beside the least of all, mean over numbers of known rows."""
        return int(self._relative([sums.whole() for sums in self.of_candidates]).argmin())

    def least(self) -> int:
        """Number of the pool with the least loss by itself."""
        return int(self.of_pools.whole().argmin())

    def without_each(self) -> NDArray[np.int64]:
        """What both numbers were without an entity, [entities, 2]."""
        best = self._relative([sums.without_each() for sums in self.of_candidates]).argmin(0)
        least = self.of_pools.without_each().argmin(0)
        return np.stack([best, least], axis=1)

    def _relative(self, losses: list[Array]) -> Array:
        each = [np.maximum(part, _LEAST_LOSS) for part in losses]
        return np.asarray(np.mean([part / part.min(0, keepdims=True) for part in each], axis=0))


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums of losses [candidates, entities], and how many losses each is of [entities]."""

    losses: Array
    count: Array

    @classmethod
    def of(cls, losses: Array, entity: Array, n_entities: int) -> _Sums:
        """Add losses [candidates, n] of entities [n]."""
        sums = np.stack([np.bincount(entity, part, n_entities) for part in losses])
        return cls(sums, np.bincount(entity, minlength=n_entities))

    def whole(self) -> Array:
        """Mean of all, [candidates]."""
        return np.asarray(self.losses.sum(1) / self.count.sum())

    def without_each(self) -> Array:
        """Mean of all but those of an entity, [candidates, entities]; that of all where no other has any."""
        left = self.count.sum() - self.count
        others = (self.losses.sum(1, keepdims=True) - self.losses) / np.maximum(left, 1)
        return np.where(left > 0, others, self.whole()[:, None])


def _row_losses(rows: TrainingRows, answers: Array) -> Array:
    """Loss of a pool by itself on every row, [rows]."""
    if rows.has_classes:
        return np.asarray(-(log_softmax(answers, axis=1) * rows.targets).sum(1))
    return np.asarray((np.square(rows.targets - answers) / _scale(rows)).mean(1))


def _scale(rows: TrainingRows) -> Array:
    return np.asarray(np.maximum(rows.targets.var(0), _LEAST_LOSS))


def _newcomer_losses(
    rows: TrainingRows, answers: Mapping[str, Array], candidates: list[Candidate], few: Episodes
) -> Array:
    """Mean loss of the queries of newcomers with equally many known rows, [candidates, episodes]."""
    groups, places = torch.unique(torch.stack([c.covariance.weights for c in candidates]), dim=1, return_inverse=True)
    x = torch.from_numpy(rows.x)
    known, asked = gather(x, few.support), gather(x, few.query)
    gram, cross = (grouped(part, known, rows.columns, places) for part in (known, asked))
    targets = torch.from_numpy(rows.targets)
    y_known, y_asked = gather(targets, few.support), gather(targets, few.query)
    every, exists = torch.ones(few.support.shape, dtype=torch.bool), few.mask
    scale = torch.from_numpy(_scale(rows))
    losses = []
    for one, weights in zip(candidates, groups, strict=True):
        told = torch.from_numpy(answers[one.pool])
        base_known, base_asked = gather(told, few.support), gather(told, few.query)
        sums, crossed = (torch.einsum("g,genm->enm", weights, part) for part in (gram, cross))
        if rows.has_classes:
            outputs = base_asked + crossed @ class_scores(sums, base_known, y_known, every)
            each = -(outputs.log_softmax(-1) * y_asked).sum(-1)
        else:
            outputs = base_asked + crossed @ solve(sums, y_known - base_known, every)
            each = ((outputs - y_asked).square() / scale).mean(-1)
        losses.append((each * exists).sum(1) / exists.sum(1))
    return torch.stack(losses).numpy()

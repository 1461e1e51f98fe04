"""GPBoost (Sigrist 2022): boosted trees and a random intercept for each entity, fitted together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

import autometa as am
from autometa_plugins.baselines.entity_learner import EntityLearner
from autometa_plugins.baselines.estimators import Answer, Array
from autometa_plugins.baselines.extras import needed
from autometa_plugins.baselines.memory import TrainingRows
from autometa_plugins.baselines.offset import Offsets

if TYPE_CHECKING:
    from optuna import Trial

_MOST = 80.0
"""Log-odds of a class that all rows have."""


class GPBoost(EntityLearner):
    """Boosted trees with a Gaussian random intercept for each entity, of the package gpboost (extra ``gpboost``).

    Trees and variances are fitted together to remembered meta-train rows. A new entity's intercept is predicted from
    its few rows: k / (k + λ) of the mean of what the trees leave, where λ is the variance of the noise over that of the
    intercepts. Of classes, each of which is fitted against the rest, it is the most probable shift of the log-odds.
    Several targets are independent.

    Parameters
    ----------
    n_trees : int, default=100
    learning_rate : float, default=0.1
    max_depth : int, default=3
    max_rows : int, default=5000
        Size of the memory.

    References
    ----------
    F. Sigrist: Gaussian Process Boosting. JMLR 23, 2022.
    """

    name: ClassVar[str] = "gpboost"

    def __init__(
        self, n_trees: int = 100, learning_rate: float = 0.1, max_depth: int = 3, max_rows: int = 5000
    ) -> None:
        self.n_trees = n_trees
        self.learning_rate = learning_rate
        self.max_depth = max_depth
        self.max_rows = max_rows

    def check(self, info: am.TaskInfo) -> None:
        """Refuse numbers that cannot work, and an installation without gpboost."""
        for name in ("n_trees", "max_depth"):
            am.check_int(name, getattr(self, name), of="learner 'gpboost'")
        am.check_real("learning_rate", self.learning_rate, above=0, of="learner 'gpboost'", such_as=0.1)
        needed("gpboost", learner=self.name, extra="gpboost")

    def learn(self, rows: TrainingRows) -> Offsets:
        """Fit trees and variances."""
        if rows.has_classes:
            return self._learn_classes(rows)
        fits = [self._fit(rows, y) for y in rows.targets.T]
        pool = _columns([answer for answer, _ in fits])
        return Offsets(pool=pool, has_classes=False, pseudo_rows=np.array([size for _, size in fits]))

    def _learn_classes(self, rows: TrainingRows) -> Offsets:
        n_classes = rows.targets.shape[1]
        if n_classes == 2:
            answer, variance = self._fit(rows, rows.targets[:, 1])
            answers, variances = [lambda x: -answer(x), answer], [variance]
        else:
            fits = [self._fit(rows, y) for y in rows.targets.T]
            answers, variances = [answer for answer, _ in fits], [variance for _, variance in fits]
        # one class against the rest has the offsets of both
        variance = (1 - 1 / n_classes) * float(np.mean(variances))
        odds = _columns(answers)
        return Offsets(
            pool=lambda x: -np.logaddexp(0.0, -odds(x)), has_classes=True, pseudo_rows=np.empty(0), variance=variance
        )

    def _fit(self, rows: TrainingRows, y: Array) -> tuple[Answer, float]:
        """Return what the trees answer, [n], and λ; of a class its log-odds against the rest, and their variance."""
        if not len(y):
            return _constant(0.0), 1.0
        if np.ptp(y) == 0:
            return _constant(float(y[0]) if not rows.has_classes else math.copysign(_MOST, y[0] - 0.5)), 1.0
        import gpboost

        kind = "bernoulli_logit" if rows.has_classes else "gaussian"
        intercepts = gpboost.GPModel(group_data=rows.entity, likelihood=kind, num_parallel_threads=1)
        settings = {
            "objective": "binary" if rows.has_classes else "regression",
            "learning_rate": self.learning_rate,
            "max_depth": self.max_depth,
            "min_data_in_leaf": min(20, max(1, len(rows) // 10)),
            "num_threads": 1,  # sums over threads differ in their last bits, and trees then in their splits
            "deterministic": True,
            "seed": 0,
            "verbose": -1,
        }
        with _threads_kept():
            trees = gpboost.train(
                params=settings,
                train_set=gpboost.Dataset(rows.x, y, params={"verbose": -1, "num_threads": 1}),
                gp_model=intercepts,
                num_boost_round=self.n_trees,
            )
        variances = np.asarray(intercepts.get_cov_pars()).ravel()

        def answer(x: Array) -> Array:
            if not len(x):
                return np.zeros(0)
            with _threads_kept():
                return np.asarray(trees.predict(data=x, ignore_gp_model=True, pred_latent=True, num_threads=1)).ravel()

        if rows.has_classes:
            return answer, float(variances[0])
        noise, between = variances
        return answer, float(noise / between) if between > 1e-12 * noise else math.inf

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> GPBoost:
        """Search the number and the depth of the trees."""
        return cls(
            n_trees=trial.suggest_int("n_trees", 20, 300, log=True), max_depth=trial.suggest_int("max_depth", 1, 6)
        )


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Put back the number of threads, which GPBoost sets for the whole process: torch shares its OpenMP library."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _constant(level: float) -> Answer:
    return lambda x: np.full(len(x), level)


def _columns(answers: Sequence[Answer]) -> Answer:
    """Put answers [n] side by side, [n, n_outputs]."""
    return lambda x: np.stack([answer(x) for answer in answers], axis=1)

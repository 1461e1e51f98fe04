"""The final runs of a learner on one task distribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from autometa.comparison.plan.domains import Domain
from autometa.comparison.plan.pair import Pair
from autometa.comparison.results.crossed_effects import Scores


class TrainedLearner(NamedTuple):
    """What is compared on a task distribution: a learner, and what it was trained on."""

    learner: str
    trained_on: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The final runs of one pair on one task distribution: its own, or another."""

    pair: Pair
    domain: Domain
    """What it is judged on."""
    results: Mapping[int, dict[str, Any]]
    """By seed."""
    params: dict[str, Any]
    n_trials: int

    @property
    def tasks(self) -> str:
        """Label of what it is judged on."""
        return self.domain.label

    @property
    def trained(self) -> TrainedLearner:
        """What is compared on these tasks."""
        return TrainedLearner(self.pair.learner, self.pair.tasks)

    def matrix(self) -> Scores:
        """Scores [n_tasks, n_seeds]."""
        return np.array([self.results[seed]["scores"] for seed in sorted(self.results)], dtype=np.float64).T

    def metric_matrix(self) -> Scores:
        """Scores by the problem's metric, [n_tasks, n_seeds]."""
        found = [self.results[seed].get("metric_scores", self.results[seed]["scores"]) for seed in sorted(self.results)]
        return np.array(found, dtype=np.float64).T

    @property
    def over_limit(self) -> str:
        """Which limits of the comparison it is over, in words; such a learner cannot win."""
        milliseconds = self.mean_of("adapt_ms") + self.mean_of("predict_ms")
        return self.domain.settings.over_limit(milliseconds=milliseconds, mebibytes=self.most_of("mebibytes"))

    def mean_of(self, key: str) -> float:
        """Mean of a number over seeds."""
        return float(np.mean([result[key] for result in self.results.values()]))

    def most_of(self, key: str) -> float:
        """Largest of a number over seeds; NaN where a run has none, as those of older comparisons may."""
        return float(np.max([result.get(key, np.nan) for result in self.results.values()]))

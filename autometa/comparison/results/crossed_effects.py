"""Means over tasks and training runs, and how sure they are of the learner and not of the trained models at hand.

Every run of a learner is judged on every task, so runs and tasks are crossed random effects (Owen 2007, "The pigeonhole
bootstrap", section 2), and both count: which tasks were drawn, and which runs (Bouthillier et al. 2021, "Accounting for
variance in machine learning benchmarks", section 3). Scores are [n_tasks, n_runs].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

Scores = NDArray[np.float64]
"""Scores of one learner on one task distribution, [n_tasks, n_runs]."""

Bounds = tuple[float, float]
UNBOUNDED: Bounds = (-math.inf, math.inf)

LEVEL = 0.95
ALPHA = 0.05
"""Level of significance, after correction."""

MOST_RUNS = 100
"""More runs than anybody would make are not counted out."""


@dataclass(frozen=True, slots=True)
class Part:
    """One source of variance of a mean."""

    variance: float
    """Of the mean, not of a single run or task."""
    degrees: float
    """Degrees of freedom of this estimate."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, or a difference of means, with its uncertainty."""

    value: float
    parts: tuple[Part, ...]
    bounds: Bounds = UNBOUNDED
    """The least and the largest value there can be. An interval ends there: no more means are missed for it."""

    @property
    def error(self) -> float:
        """Standard error."""
        return math.sqrt(sum(part.variance for part in self.parts))

    @property
    def degrees(self) -> float:
        """Degrees of freedom after Satterthwaite (1946)."""
        spent = sum(part.variance**2 / part.degrees for part in self.parts if part.variance > 0)
        return self.error**4 / spent if spent > 0 else math.inf

    @property
    def interval(self) -> tuple[float, float]:
        """Interval of `LEVEL`, central up to where the bounds cut it."""
        return self._within(self.value - self._reach, self.value + self._reach)

    @property
    def positive_interval(self) -> tuple[float, float]:
        """Interval of `LEVEL` of a mean that cannot be below 0, such as of squared errors: central in its logarithm.

        The error of the logarithm is that of the mean over the mean (delta method). Like the values, which a few large
        ones dominate, it reaches further up than down.
        """
        if not self.value > 0:
            return self.interval
        reach = self._reach / self.value
        return self._within(self.value * math.exp(-reach), self.value * math.exp(reach))

    @property
    def _reach(self) -> float:
        return self.error * float(student.ppf((1 + LEVEL) / 2, self.degrees)) if self.error > 0 else 0.0

    def _within(self, low: float, high: float) -> tuple[float, float]:
        least, most = self.bounds
        return max(low, least), min(high, most)

    @property
    def p_value(self) -> float:
        """Two-sided, against a value of 0."""
        if self.error == 0:
            return 1.0 if self.value == 0 else 0.0
        return float(2 * student.sf(abs(self.value) / self.error, self.degrees))


def interval_of(scores: Scores, *, positive: bool, bounds: Bounds = UNBOUNDED) -> tuple[float, float]:
    """Interval of `LEVEL` of a learner's mean score, NaN on one task; ``positive``: central in the logarithm."""
    if len(scores) < 2:
        return math.nan, math.nan
    found = replace(mean_of(scores), bounds=bounds)
    return found.positive_interval if positive else found.interval


def is_decidable(scores: Scores) -> bool:
    """Tell whether the spread of tasks and that of runs can be seen: there are two or more of both."""
    return bool(min(scores.shape) > 1)


def run_spread(*scores: Scores) -> float:
    """Return by how much means over tasks vary from run to run: of one learner, or the gap of two; NaN for one run."""
    if any(of.shape[1] < 2 for of in scores):
        return math.nan
    return math.sqrt(sum(float(of.mean(axis=0).var(ddof=1)) for of in scores))


def mean_of(scores: Scores) -> Estimate:
    """Estimate a learner's mean score; of one run, the mean of that trained model over tasks.

    With two runs the interval is too narrow: 90.5% of 400 simulated ones held the true mean, where 95% should.
    """
    of_tasks = _tasks_part(scores.mean(axis=1), _residual(scores) / scores.shape[1])
    return Estimate(float(scores.mean()), (of_tasks, *_runs_part(scores)))


def difference_of(a: Scores, b: Scores, bounds: Bounds = UNBOUNDED) -> Estimate:
    """Estimate the difference of two learners' mean scores on the same tasks, with runs of each their own.

    ``bounds`` are those of a score.

    The variance is that of the run means of either, and that of the tasks' differences beyond what runs and their
    residual explain. Equal runs, as of a learner with nothing random in its training, have none.
    """
    explained = _residual(a) / a.shape[1] + _residual(b) / b.shape[1]
    of_tasks = _tasks_part(a.mean(axis=1) - b.mean(axis=1), explained)
    least, most = bounds
    parts = (of_tasks, *_runs_part(a), *_runs_part(b))
    return Estimate(float(a.mean() - b.mean()), parts, bounds=(least - most, most - least))


def runs_that_decide(a: Scores, b: Scores) -> float:
    """Return how many runs of each would make a difference of this size significant; NaN if `MOST_RUNS` would not.

    Spreads are taken to be those seen. Correction for the number of comparisons is left out.
    """
    difference = difference_of(a, b)
    of_tasks, *of_runs = difference.parts
    single = [part.variance * (part.degrees + 1) for part in of_runs]
    for runs in range(2, MOST_RUNS + 1):
        parts = [Part(variance / runs, runs - 1) for variance in single]
        if Estimate(difference.value, (of_tasks, *parts)).p_value < ALPHA:
            return runs
    return math.nan


def _runs_part(scores: Scores) -> tuple[Part, ...]:
    """Variance of a mean by the runs that it is of; nothing where there is one run, or all are equal."""
    runs = scores.shape[1]
    if runs < 2 or (scores == scores[:, :1]).all():
        return ()
    return (Part(float(scores.mean(axis=0).var(ddof=1)) / runs, runs - 1),)


def _tasks_part(of_tasks: NDArray[np.float64], explained: float) -> Part:
    """Variance of a mean by the tasks that it is over, beyond what the runs on each have explained."""
    n_tasks = len(of_tasks)
    if n_tasks < 2:
        return Part(0.0, 1)
    spread = max(0.0, float(of_tasks.var(ddof=1)) - explained)
    return Part(spread / n_tasks, n_tasks - 1)


def _residual(scores: Scores) -> float:
    """Variance of a single score that neither its task nor its run explains."""
    n_tasks, runs = scores.shape
    if n_tasks < 2 or runs < 2:
        return 0.0
    rest = scores - scores.mean(axis=0) - scores.mean(axis=1, keepdims=True) + scores.mean()
    return float((rest**2).sum() / ((n_tasks - 1) * (runs - 1)))

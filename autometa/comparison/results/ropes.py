"""Regions of practical equivalence: differences of scores that nobody would act on, with the words that name them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from autometa.checks import check_real
from autometa.comparison.results.score_frame import Key, ReadScores
from autometa.errors import InvalidParameter

SHARE = 0.01
"""Of 1 for scores that are shares, of the baseline's error for errors, of the span of the learners for returns."""


@dataclass(frozen=True, slots=True)
class Rope:
    """Half the width of the region on one task distribution."""

    width: float
    """In units of the score."""
    words: str
    """What it is."""


def ropes_of(read: ReadScores, rope: float | Mapping[str, float] | None, *, baseline: str | None) -> dict[str, Rope]:
    """Return the region of every task distribution, see :func:`autometa.practical_equivalence`.

    Raises
    ------
    InvalidParameter
        It is negative, says nothing of a distribution, or is left out where the scores are of an unknown metric.
    """
    if isinstance(rope, Mapping):
        lacking = [tasks for tasks in read.scores if tasks not in rope]
        if lacking:
            raise InvalidParameter(f"rope says nothing about {lacking[0]!r}; give a number for it.")
        return {tasks: _given(rope[tasks]) for tasks in read.scores}
    if rope is not None:
        found = _given(rope)
        return dict.fromkeys(read.scores, found)
    return {tasks: _usual(read, tasks, baseline) for tasks in read.scores}


def _given(rope: float) -> Rope:
    check_real("rope", rope, least=0, such_as=0.01)
    return Rope(float(rope), "as asked for")


def _usual(read: ReadScores, tasks: str, baseline: str | None) -> Rope:
    problem, scores = read.problems[tasks], read.scores[tasks]
    if problem is None:
        raise InvalidParameter(
            f"rope is needed: the scores of {tasks!r} are of no metric of autometa's, so what difference is of no "
            "practical account is not known; give a number in their units."
        )
    if problem.is_share:
        return Rope(SHARE, f"1 point of {problem.metric_title}")
    if problem.higher_is_better and not problem.acts:
        return Rope(SHARE, f"0.01 of {problem.metric_title}")
    means = {key: float(matrix.mean()) for key, matrix in scores.items()}
    if problem.higher_is_better:
        span = max(means.values()) - min(means.values())
        return Rope(
            SHARE * span, f"a hundredth of the way from the worst learner's {problem.metric_title} to the best's"
        )
    level, who = _baseline(means, baseline)
    return Rope(SHARE * abs(level), f"a hundredth of the {problem.metric_title} of {who}")


def _baseline(means: Mapping[Key, float], baseline: str | None) -> tuple[float, str]:
    """Return the mean score that errors are measured by, and whose it is."""
    own = [mean for key, mean in means.items() if key[0] == baseline]
    if own:
        return float(np.mean(own)), str(baseline)
    return float(np.median(list(means.values()))), "the median learner"

"""How far learners are from one that all are held against, such as the pooled model."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from autometa.comparison.results.crossed_effects import (
    ALPHA,
    UNBOUNDED,
    Bounds,
    Estimate,
    Scores,
    difference_of,
    is_decidable,
)
from autometa.comparison.results.statistics import holm

LearnerT = TypeVar("LearnerT", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A learner's mean score minus that of the reference, on the same tasks.

    All but the value is NaN where one run of either says nothing about the learners.
    """

    value: float
    error: float
    """Standard error: tasks and training runs are random."""
    low: float
    high: float
    """Ends of the 95% interval."""
    p_value: float
    p_holm: float
    """Corrected for the number of learners held against the reference (Holm 1979)."""

    def verdict(self, *, higher_is_better: bool) -> str:
        """``"better"`` or ``"worse"`` where the difference is significant after correction, else empty."""
        if not self.p_holm < ALPHA:
            return ""
        return "better" if (self.value > 0) == higher_is_better else "worse"


def gaps_to(reference: LearnerT, scores: Mapping[LearnerT, Scores], bounds: Bounds = UNBOUNDED) -> dict[LearnerT, Gap]:
    """Hold every learner against the reference.

    Parameters
    ----------
    reference : hashable
        One of the keys.
    scores : mapping from learner to scores [n_tasks, n_runs]
        All on the same tasks.
    bounds : pair of float, optional
        Of a mean score.

    Returns
    -------
    dict
        Of every learner but the reference; empty where the reference has no scores.
    """
    if reference not in scores:
        return {}
    others = [learner for learner in scores if learner != reference]
    found = [difference_of(scores[learner], scores[reference], bounds) for learner in others]
    decided = [is_decidable(scores[learner]) and is_decidable(scores[reference]) for learner in others]
    p_values = np.array([one.p_value if can else math.nan for one, can in zip(found, decided, strict=True)])
    corrected = holm(p_values)
    return {
        learner: _gap(one, can, p_holm)
        for learner, one, can, p_holm in zip(others, found, decided, corrected.tolist(), strict=True)
    }


def _gap(difference: Estimate, decidable: bool, p_holm: float) -> Gap:
    if not decidable:
        nothing = math.nan
        return Gap(value=difference.value, error=nothing, low=nothing, high=nothing, p_value=nothing, p_holm=nothing)
    low, high = difference.interval
    return Gap(
        value=difference.value,
        error=difference.error,
        low=low,
        high=high,
        p_value=difference.p_value,
        p_holm=p_holm,
    )

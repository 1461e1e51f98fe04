"""Tests of pairs of learners, corrected for their number, and ranks that rest on them."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata, wilcoxon

from autometa.comparison.results.crossed_effects import (
    ALPHA,
    UNBOUNDED,
    Bounds,
    Scores,
    difference_of,
    is_decidable,
    run_spread,
    runs_that_decide,
)

RUNS = 5
"""Training runs of each learner to ask for; three already find most differences of four times the spread of runs."""
SIGNIFICANCE = [
    "tasks", "learner_a", "learner_b", "difference", "ci_low", "ci_high", "p_value", "p_holm", "verdict", "better",
    "runs_needed", "p_models", "p_beside_best", "run_spread",
]  # fmt: skip
RANKS = ["learner", "mean_rank", "n_distributions"]
DIFFERENT, LEVEL_WITH, NOT_DECIDED = "different", "no difference found", "not decided"

_ALL_SIGNS = 13  # tasks; beyond them scipy's own choice is as good, up to them it tries all signs one by one

LearnerT = TypeVar("LearnerT", bound=Hashable)
_NOBODY: Mapping[str, Collection[Any]] = {}
_NO_BOUNDS: Mapping[str, Bounds] = {}


def test_of_models(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """p-value of Wilcoxon's signed-rank test on paired values [n_tasks], two-sided; 1 where all pairs are equal.

    It is of the trained models at hand: other runs of the same learners may differ the other way. Ties within pairs
    take part in the ranking (Pratt 1959), for accuracies of few queries often agree.
    """
    difference = np.round(a - b, 12)  # means over seeds differ in the last digit where scores agree
    if not difference.any():
        return 1.0
    if len(difference) <= _ALL_SIGNS:
        return _p_over_all_signs(difference)
    return float(wilcoxon(difference, zero_method="pratt").pvalue)


def _p_over_all_signs(difference: NDArray[np.float64]) -> float:
    """Return the exact p-value: ties and all, from the number of sign patterns that give each sum of ranks."""
    ranks = np.rint(2 * rankdata(np.abs(difference))).astype(np.int64)  # ranks of ties are halves
    patterns = np.ones(1)
    for rank in ranks[difference != 0]:
        without = np.pad(patterns, (0, rank))
        patterns = without + np.roll(without, rank)
    found = ranks[difference > 0].sum()
    tail = min(patterns[: found + 1].sum(), patterns[found:].sum())
    return float(min(1.0, 2 * tail / patterns.sum()))


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """p-values corrected for their number, by Holm's step-down method (1979); NaN takes no part."""
    adjusted = np.full(len(p_values), np.nan)
    taking_part = np.flatnonzero(~np.isnan(p_values))
    n = len(taking_part)
    order = taking_part[np.argsort(p_values[taking_part])]
    corrected = np.maximum.accumulate(p_values[order] * (n - np.arange(n)))
    adjusted[order] = np.minimum(corrected, 1.0)
    return adjusted


def significance_of(
    scores: Mapping[str, Mapping[LearnerT, Scores]],
    higher_is_better: Mapping[str, bool],
    cannot_win: Mapping[str, Collection[Any]] = _NOBODY,
    bounds: Mapping[str, Bounds] = _NO_BOUNDS,
) -> pd.DataFrame:
    """Compare all pairs of learners on every task distribution.

    Parameters
    ----------
    scores : mapping from tasks to a mapping from learner to scores [n_tasks, n_runs]
        Learners of one distribution share their tasks; they may differ in runs. What stands for a learner is up to
        the caller.
    higher_is_better : mapping from tasks to bool
    cannot_win : mapping from tasks to learners, optional
        Those that are not held to be the best whatever their scores, unless nobody else is there.
    bounds : mapping from tasks to pair of float, optional
        The least and the largest mean score.

    Returns
    -------
    pandas.DataFrame
        One row per pair, see :func:`autometa.significance`.
    """
    rows: list[dict[str, Any]] = []
    for tasks, of_learner in scores.items():
        limits = bounds.get(tasks, UNBOUNDED)
        family = [
            {"tasks": tasks, "learner_a": a, "learner_b": b, **_pair(of_learner[a], of_learner[b], limits)}
            for a, b in combinations(of_learner, 2)
        ]
        corrected = holm(np.array([row["p_value"] for row in family], dtype=np.float64))
        barred = cannot_win.get(tasks, ())
        able = {learner: of for learner, of in of_learner.items() if learner not in barred} or of_learner
        best = _best(able, higher_is_better[tasks])
        for row, p_holm in zip(family, corrected, strict=True):
            beside = best in (row["learner_a"], row["learner_b"])
            p_beside = one_sided(row["p_value"], max(1, len(able) - 1)) if beside else math.nan
            verdict = _verdict(row, p_holm, higher_is_better[tasks])
            rows.append({**row, "p_holm": p_holm, "p_beside_best": p_beside, **verdict})
    return pd.DataFrame(rows, columns=SIGNIFICANCE)


def _best(of_learner: Mapping[LearnerT, Scores], higher_is_better: bool) -> LearnerT:
    """Return the learner of the best mean."""
    means = {learner: float(scores.mean()) for learner, scores in of_learner.items()}
    return max(means, key=means.__getitem__) if higher_is_better else min(means, key=means.__getitem__)


def one_sided(p_value: float, n_others: int) -> float:
    """Return the p-value of the claim that a learner is not the best of all, which is beside the best of the scores.

    The learners for which it is not below 5% hold the best of all in 95% of comparisons at least (subset selection,
    Gupta 1965): the best of all is missed only if one of the ``n_others`` came out ahead of it by that much, and each
    does so with half its two-sided probability.
    """
    return math.nan if math.isnan(p_value) else min(1.0, 0.5 * p_value * n_others)


def _pair(a: Scores, b: Scores, bounds: Bounds) -> dict[str, Any]:
    difference = difference_of(a, b, bounds)
    decidable = is_decidable(a) and is_decidable(b)
    low, high = difference.interval if decidable else (math.nan, math.nan)
    return {
        "difference": difference.value,
        "ci_low": low,
        "ci_high": high,
        "p_value": difference.p_value if decidable else math.nan,
        "p_models": test_of_models(a.mean(axis=1), b.mean(axis=1)),
        "runs_needed": runs_that_decide(a, b) if decidable else RUNS if len(a) > 1 else math.nan,
        "run_spread": run_spread(a, b),
    }


def _verdict(row: Mapping[str, Any], p_holm: float, higher_is_better: bool) -> dict[str, Any]:
    if math.isnan(p_holm):
        return {"verdict": NOT_DECIDED, "better": None}
    if p_holm >= ALPHA:
        return {"verdict": LEVEL_WITH, "better": None}
    a_is_better = (row["difference"] > 0) == higher_is_better
    return {"verdict": DIFFERENT, "better": row["learner_a"] if a_is_better else row["learner_b"]}


def mean_ranks(significance: Mapping[str, tuple[list[str], pd.DataFrame]]) -> pd.DataFrame:
    """Average rank of the learners that were judged on every distribution, 1 being best; empty for one distribution.

    A learner's rank is 1, plus 1 for each that is better by the test, plus a half for each that is not decided or not
    different: differences that a test does not find move no rank.

    Parameters
    ----------
    significance : mapping from tasks to their learners and the rows of the tests of their pairs
    """
    if len(significance) < 2:
        return pd.DataFrame(columns=RANKS)
    every = [set(learners) for learners, _ in significance.values()]
    common = [learner for learner in next(iter(significance.values()))[0] if all(learner in of for of in every)]
    if not common:
        return pd.DataFrame(columns=RANKS)
    ranks = [_ranks(common, pairs) for _, pairs in significance.values()]
    table = pd.DataFrame({"learner": common, "mean_rank": np.mean(ranks, axis=0), "n_distributions": len(ranks)})
    return table.sort_values("mean_rank", kind="stable", ignore_index=True)


def _ranks(learners: list[str], pairs: pd.DataFrame) -> list[float]:
    ranks = dict.fromkeys(learners, 1.0)
    for pair in pairs.itertuples():
        if pair.learner_a not in ranks or pair.learner_b not in ranks:
            continue
        for own, other in ((pair.learner_a, pair.learner_b), (pair.learner_b, pair.learner_a)):
            if pair.verdict != DIFFERENT:
                ranks[own] += 0.5
            elif pair.better == other:
                ranks[own] += 1.0
    return list(ranks.values())

"""Mean ranks of learners and the groups that no test tells apart, as a critical-difference diagram shows them
(Demšar 2006, "Statistical comparisons of classifiers over multiple data sets", section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import friedmanchisquare, rankdata, studentized_range

from autometa.comparison.results.crossed_effects import ALPHA
from autometa.comparison.results.signed_rank import DIGITS
from autometa.comparison.results.statistics import holm, test_of_models

Numbers = NDArray[np.float64]


def mean_ranks_of(means: Numbers, *, higher_is_better: bool) -> Numbers:
    """Rank the learners on each block, 1 being best and equal ones sharing their ranks; return the mean, [learners].

    Parameters
    ----------
    means : array of shape [blocks, learners]
        Scores; a block is a task, or a task distribution.
    higher_is_better : bool
    """
    signed = np.round(-means if higher_is_better else means, DIGITS)
    return np.asarray(rankdata(signed, axis=1).mean(axis=0), dtype=np.float64)


def friedman_p(means: Numbers) -> float:
    """p-value of Friedman's test (1937) that learners are alike; NaN for fewer than three, or where all are equal."""
    rounded = np.round(means, DIGITS)
    if means.shape[1] < 3 or len(means) < 2 or (rounded == rounded[:, :1]).all():
        return math.nan
    return float(friedmanchisquare(*rounded.T).pvalue)


def nemenyi_distance(n_learners: int, n_blocks: int) -> float:
    """Return the difference of mean ranks from which on Nemenyi's test (1963) tells two learners apart."""
    quantile = float(studentized_range.ppf(1 - ALPHA, n_learners, math.inf)) / math.sqrt(2)
    return quantile * _rank_error(n_learners, n_blocks)


def nemenyi_p(ranks: Numbers, n_blocks: int) -> Numbers:
    """p-values of Nemenyi's test of all pairs, [learners, learners]; 1 on the diagonal."""
    distance = np.abs(ranks[:, None] - ranks[None, :]) / _rank_error(len(ranks), n_blocks)
    return np.asarray(studentized_range.sf(distance * math.sqrt(2), len(ranks), math.inf), dtype=np.float64)


def wilcoxon_holm_p(means: Numbers) -> Numbers:
    """p-values of Wilcoxon's signed-rank test of all pairs, with Holm's correction, [learners, learners]."""
    n = means.shape[1]
    pairs = list(combinations(range(n), 2))
    corrected = holm(np.array([test_of_models(means[:, a], means[:, b]) for a, b in pairs], dtype=np.float64))
    return symmetric(n, dict(zip(pairs, corrected.tolist(), strict=True)))


def symmetric(n: int, p_values: Mapping[tuple[int, int], float]) -> Numbers:
    """Lay the p-values of pairs out as a matrix with 1 on the diagonal."""
    matrix = np.ones((n, n))
    for (a, b), p_value in p_values.items():
        matrix[a, b] = matrix[b, a] = p_value
    return matrix


def groups_of(p_values: Numbers, ranks: Numbers) -> list[tuple[int, ...]]:
    """Return the largest sets of two learners or more of which no pair is told apart, the best ones first.

    They are the maximal cliques of the graph that joins all pairs with a p-value of at least 5%, or with none (Bron and
    Kerbosch 1973). Of Nemenyi's test they are the neighbours within the critical difference.
    """
    alike = ~(p_values < ALPHA)
    near = {a: {b for b in range(len(ranks)) if b != a and alike[a, b]} for a in range(len(ranks))}
    found: list[tuple[int, ...]] = []

    def grow(group: set[int], open_: set[int], done: set[int]) -> None:
        if not open_ and not done:
            found.append(tuple(sorted(group, key=lambda learner: (ranks[learner], learner))))
            return
        pivot = max(open_ | done, key=lambda learner: len(near[learner] & open_))
        for learner in sorted(open_ - near[pivot]):
            grow(group | {learner}, open_ & near[learner], done & near[learner])
            open_ = open_ - {learner}
            done = done | {learner}

    grow(set(), set(near), set())
    return sorted((group for group in found if len(group) > 1), key=lambda group: [ranks[learner] for learner in group])


def numbered(groups: Sequence[Sequence[int]], n: int) -> list[tuple[int, ...]]:
    """Return the numbers of the groups that each learner is in, from 1."""
    return [tuple(k for k, group in enumerate(groups, start=1) if learner in group) for learner in range(n)]


def _rank_error(n_learners: int, n_blocks: int) -> float:
    return math.sqrt(n_learners * (n_learners + 1) / (6 * n_blocks))

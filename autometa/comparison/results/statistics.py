"""Intervals and tests over tasks and seeds, paired over tasks because every learner meets the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata, wilcoxon

from autometa.contracts.seeding import derive_seed

DRAWS = 2000
"""Bootstrap samples behind an interval."""
SIGNIFICANCE = ["tasks", "learner_a", "learner_b", "difference", "ci_low", "ci_high", "p_value", "p_holm"]
RANKS = ["learner", "mean_rank", "n_distributions"]

LearnerT = TypeVar("LearnerT")
Scores = NDArray[np.float64]
"""Scores of one learner on one task distribution, [n_tasks, n_seeds]."""


def bootstrap_means(scores: Scores, seed: int, run: str = "") -> NDArray[np.float64]:
    """Means of bootstrap samples in which tasks and seeds are both drawn anew, [DRAWS].

    Tasks and seeds are crossed: every seed is judged on every task. Drawing both (the pigeonhole bootstrap of Owen
    2007, "The pigeonhole bootstrap", section 3) lets the spread of tasks and the spread of training runs count;
    drawing seeds within a task would average bad training runs away. The tasks drawn depend on ``seed`` and the
    number of tasks alone, so samples of two learners under one ``seed`` are paired over tasks; ``run`` gives each its
    own draw of training runs.
    """
    n_tasks, n_seeds = scores.shape
    task_counts = _counts(n_tasks, derive_seed(seed, "tasks"))
    seed_counts = _counts(n_seeds, derive_seed(seed, "seeds", run))
    means: NDArray[np.float64] = ((task_counts @ scores) * seed_counts).sum(axis=1) / (n_tasks * n_seeds)
    return means


def _counts(n: int, seed: int) -> NDArray[np.int64]:
    """How often each of ``n`` things is drawn when ``n`` are, [DRAWS, n]."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=DRAWS)


def interval(means: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Central interval of bootstrap means."""
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_test(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """p-value of Wilcoxon's signed-rank test on paired values [n_tasks], two-sided; 1 where all pairs are equal.

    Ties within pairs take part in the ranking (Pratt 1959), for accuracies of few queries often agree.
    """
    difference = np.round(a - b, 12)  # means over seeds differ in the last digit where scores agree
    if not difference.any():
        return 1.0
    return float(wilcoxon(difference, zero_method="pratt").pvalue)


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """p-values corrected for their number, by Holm's step-down method (1979)."""
    n = len(p_values)
    order = np.argsort(p_values)
    corrected = np.maximum.accumulate(p_values[order] * (n - np.arange(n)))
    adjusted = np.empty(n)
    adjusted[order] = np.minimum(corrected, 1.0)
    return adjusted


def significance(scores: Mapping[str, Mapping[LearnerT, Scores]], random_state: int) -> pd.DataFrame:
    """Compare all pairs of learners on every task distribution.

    Parameters
    ----------
    scores : mapping from tasks to a mapping from learner to scores [n_tasks, n_seeds]
        Learners of one distribution share their tasks; they may differ in seeds. What stands for a learner is up to
        the caller.
    random_state : int

    Returns
    -------
    pandas.DataFrame
        One row per pair: ``difference`` of the means (a minus b) with its 95% bootstrap interval, ``p_value`` of the
        paired test over tasks, and ``p_holm``, corrected over the pairs of that distribution.
    """
    rows: list[list[Any]] = []
    for tasks, of_learner in scores.items():
        family = []
        for a, b in combinations(of_learner, 2):
            seed = derive_seed(random_state, tasks, "bootstrap")
            low, high = interval(bootstrap_means(of_learner[a], seed, "a") - bootstrap_means(of_learner[b], seed, "b"))
            mean_a, mean_b = of_learner[a].mean(axis=1), of_learner[b].mean(axis=1)
            difference = float(mean_a.mean() - mean_b.mean())
            family.append([tasks, a, b, difference, low, high, paired_test(mean_a, mean_b)])
        corrected = holm(np.array([row[-1] for row in family]))
        rows.extend([*row, p] for row, p in zip(family, corrected, strict=True))
    return pd.DataFrame(rows, columns=SIGNIFICANCE)


def mean_ranks(means: Mapping[str, Mapping[str, float]], higher_is_better: Mapping[str, bool]) -> pd.DataFrame:
    """Average rank of the learners that were judged on every distribution, 1 being best; empty for one distribution.

    Parameters
    ----------
    means : mapping from tasks to a mapping from learner to mean score
    higher_is_better : mapping from tasks to bool
    """
    if len(means) < 2:
        return pd.DataFrame(columns=RANKS)
    common = [learner for learner in next(iter(means.values())) if all(learner in of for of in means.values())]
    if not common:
        return pd.DataFrame(columns=RANKS)
    ranks = [
        rankdata([(-1 if higher_is_better[tasks] else 1) * of_learner[learner] for learner in common])
        for tasks, of_learner in means.items()
    ]
    table = pd.DataFrame({"learner": common, "mean_rank": np.mean(ranks, axis=0), "n_distributions": len(means)})
    return table.sort_values("mean_rank", kind="stable", ignore_index=True)

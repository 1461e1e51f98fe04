"""Mean ranks with the groups that are not told apart: what a critical-difference diagram shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autometa.checks import check_choice
from autometa.comparison.results.critical_difference import (
    friedman_p,
    groups_of,
    mean_ranks_of,
    nemenyi_distance,
    nemenyi_p,
    numbered,
    symmetric,
    wilcoxon_holm_p,
)
from autometa.comparison.results.equivalence import ALL, settings_of
from autometa.comparison.results.score_frame import TRAINED_ON, Key, ReadScores, read_scores
from autometa.comparison.results.statistics import significance_of
from autometa.errors import InvalidData, InvalidParameter

RANK_GROUPS = ["tasks", "learner", "mean_rank", "n", "groups", "critical_difference", "p_friedman"]
Numbers = NDArray[np.float64]


def critical_difference(
    scores: pd.DataFrame,
    *,
    over: Literal["tasks", "distributions"] = "tasks",
    test: Literal["learners", "nemenyi", "wilcoxon"] | None = None,
    higher_is_better: bool | Mapping[str, bool] | None = None,
) -> pd.DataFrame:
    """Rank learners on every task or task distribution, and group those that a test does not tell apart.

    This is what a critical-difference diagram draws (Demšar 2006, section 3.2); ``Comparison.report`` has one.

    Parameters
    ----------
    scores : pandas.DataFrame
        As for :func:`autometa.significance`.
    over : {"tasks", "distributions"}, default="tasks"
        What is ranked on: the tasks of each distribution by itself, by the mean over training runs; or all
        distributions, by the mean over tasks and runs, of the learners that were judged on all of them.
    test : {"learners", "nemenyi", "wilcoxon"}, optional
        What tells two learners apart, at 5%. ``"learners"``, the default over tasks: the test of
        :func:`autometa.significance`, to which training runs are random. ``"nemenyi"``, the default over
        distributions: the distance of mean ranks (Nemenyi 1963). ``"wilcoxon"``: Wilcoxon's signed-rank test with
        Holm's correction. Over tasks, the latter two are of the trained models at hand, and not of the learners.
    higher_is_better : bool or mapping from tasks to bool, optional
        Left out: by the column ``metric``, which names one of autometa's.

    Returns
    -------
    pandas.DataFrame
        One row per distribution and learner, best first: ``tasks`` (or "all"), ``learner``, ``mean_rank`` (1 is best),
        ``n`` (tasks or distributions ranked on), ``groups`` (numbers, from 1, of the groups that it is in; learners
        that share one are not told apart), ``critical_difference`` (of mean ranks; NaN but for Nemenyi's test),
        ``p_friedman`` (that all are alike, over the same; NaN for fewer than three learners); with ``trained_on`` and
        over tasks also ``trained_on``.

    Raises
    ------
    InvalidParameter
        An argument is none of those above, the direction is not known, or over distributions ``test`` is "learners",
        which is of each by itself.
    InvalidData
        As for :func:`autometa.significance`; or over distributions, fewer than two have learners in common.

    Examples
    --------
    >>> import autometa as am, numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> rows = [("digits", learner, seed, task, skill + rng.normal(0, 0.001) + rng.normal(0, 0.02))
    ...         for learner, skill in (("a", 0.7), ("b", 0.701), ("c", 0.8)) for seed in range(4) for task in range(50)]
    >>> scores = pd.DataFrame(rows, columns=["tasks", "learner", "seed", "task", "score"])
    >>> am.critical_difference(scores, higher_is_better=True)[["learner", "groups"]].values.tolist()
    [['c', ()], ['b', (1,)], ['a', (1,)]]
    """
    check_choice("over", over, ("tasks", "distributions"))
    check_choice("test", test, ("learners", "nemenyi", "wilcoxon", None))
    read = read_scores(scores, higher_is_better=higher_is_better)
    if over == "tasks":
        rows = [row for tasks in read.scores for row in _on(read, tasks, test or "learners")]
    else:
        rows = _across(read, test or "nemenyi")
    columns = [*RANK_GROUPS, TRAINED_ON] if len(read.names) > 1 and over == "tasks" else RANK_GROUPS
    return pd.DataFrame(rows, columns=columns)


def _on(read: ReadScores, tasks: str, test: str) -> list[dict[str, Any]]:
    """Rank on the tasks of one distribution."""
    of_learner, better = read.scores[tasks], read.higher_is_better[tasks]
    means = np.stack([matrix.mean(axis=1) for matrix in of_learner.values()], axis=1)
    p_values = _of_learners(read, tasks) if test == "learners" else None
    return _rows(tasks, list(of_learner), means, test, p_values, better)


def _across(read: ReadScores, test: str) -> list[dict[str, Any]]:
    """Rank on all distributions."""
    settings = settings_of(read)
    common = [key for key in next(iter(settings.values()), {}) if all(key in of for of in settings.values())]
    if len(settings) < 2 or len(common) < 2:
        raise InvalidData(
            f"over='distributions' needs two or more of them with two or more learners in common; here are "
            f"{len(settings)} with {len(common)}."
        )
    if test == "learners":
        raise InvalidParameter("test='learners' is of each distribution by itself; give 'nemenyi' or 'wilcoxon'.")
    signed = [
        [(1 if read.higher_is_better[tasks] else -1) * float(of[key].mean()) for key in common]
        for (_, tasks), of in settings.items()
    ]
    return _rows(ALL, common, np.array(signed, dtype=np.float64), test, None, True)


def _rows(
    tasks: str, learners: list[Key], means: Numbers, test: str, p_values: Numbers | None, better: bool
) -> list[dict[str, Any]]:
    n_blocks, n = means.shape
    ranks = mean_ranks_of(means, higher_is_better=better)
    if p_values is None:
        p_values = nemenyi_p(ranks, n_blocks) if test == "nemenyi" and n > 1 else wilcoxon_holm_p(means)
    distance = nemenyi_distance(n, n_blocks) if test == "nemenyi" and n > 1 else math.nan
    groups = numbered(groups_of(p_values, ranks), n)
    p_friedman = friedman_p(means)
    return [
        {
            "tasks": tasks,
            "learner": learners[place][0],
            "mean_rank": float(ranks[place]),
            "n": n_blocks,
            "groups": groups[place],
            "critical_difference": distance,
            "p_friedman": p_friedman,
            TRAINED_ON: learners[place][-1],
        }
        for place in np.argsort(ranks, kind="stable")
    ]


def _of_learners(read: ReadScores, tasks: str) -> Numbers:
    """p-values of all pairs on one distribution, corrected for their number; NaN where not decided."""
    of_learner = read.scores[tasks]
    places = {key: place for place, key in enumerate(of_learner)}
    frame = significance_of({tasks: of_learner}, {tasks: read.higher_is_better[tasks]})
    pairs = zip(frame["learner_a"], frame["learner_b"], frame["p_holm"], strict=True)
    return symmetric(len(places), {(places[a], places[b]): p for a, b, p in pairs})

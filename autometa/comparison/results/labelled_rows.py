"""Scores by the number of labelled rows, and what they advise for each number."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from autometa.comparison.results.crossed_effects import Bounds, Scores, interval_of
from autometa.comparison.results.gaps import Gap, gaps_to
from autometa.comparison.results.judged import Judged
from autometa.comparison.results.references import References
from autometa.contracts.problems import problem_of_metric

LABELLED_ROWS = ["tasks", "learner", "seed", "rows", "task", "metric", "score"]
CALIBRATION = ["tasks", "learner", "seed", "rows", "coverage", "log_loss", "calibration_error"]
BEST_BY_ROWS = [
    "tasks", "rows", "learner", "metric", "score", "ci_low", "ci_high", "n_entities",
    "pooled", "gap_to_pooled", "pooled_low", "pooled_high", "pooled_p_holm",
    "own", "gap_to_own", "own_low", "own_high", "own_p_holm",
]  # fmt: skip
AXIS = "labelled rows"


def points_of(judged: Judged) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Go through the points of a learner's final runs as (seed, point), leaving out those that failed."""
    for seed, result in judged.results.items():
        for point in result.get("labelled", {}).get("points", ()):
            if "error" not in point:
                yield seed, point


def score_rows(judged: Judged) -> Iterator[tuple[Any, ...]]:
    """Rows of the frame of scores, see `LABELLED_ROWS`."""
    metric = judged.domain.problem.metric
    for seed, point in points_of(judged):
        for task, score in zip(judged.results[seed]["labelled"]["tasks"], point["scores"], strict=True):
            yield judged.tasks, judged.pair.learner, seed, point["rows"], task, metric, score


def calibration_rows(judged: Judged) -> Iterator[tuple[Any, ...]]:
    """Rows of the frame of calibration, see `CALIBRATION`; none of learners that tell no doubt.

    By the number of labelled rows where that varies, else with the shots of the meta-test tasks.
    """
    points = list(points_of(judged))
    if not any("labelled" in result for result in judged.results.values()):
        points = [
            (seed, {"rows": result["n_shot"], **result.get("calibration", {})})
            for seed, result in judged.results.items()
        ]
    for seed, point in points:
        measured = [point.get(name, math.nan) for name in CALIBRATION[4:]]
        if not all(map(math.isnan, measured)):
            yield judged.tasks, judged.pair.learner, seed, point["rows"], *measured


def curve_rows(judged: Judged) -> Iterator[tuple[Any, ...]]:
    """Rows of the frame of curves: the mean score over entities."""
    for seed, point in points_of(judged):
        yield judged.tasks, judged.pair.learner, seed, AXIS, float(point["rows"]), float(np.mean(point["scores"]))


def best_by_rows(
    labelled: pd.DataFrame, references: References, *, higher_is_better: bool, cannot_win: Collection[str] = ()
) -> pd.DataFrame:
    """Find the best learner for every number of labelled rows, and hold it against both references.

    Parameters
    ----------
    labelled : DataFrame
        Columns of `LABELLED_ROWS`, of one task distribution.
    references : References
    higher_is_better : bool
    cannot_win : collection of str, optional
        Learners that are not the best whatever their scores, unless nobody else is there.

    Returns
    -------
    pandas.DataFrame
        Columns of `BEST_BY_ROWS`, one row per number. p-values are corrected for the number of learners.
    """
    found = []
    for rows, of in labelled.groupby("rows"):
        scores = {str(name): _matrix(part) for name, part in of.groupby("learner", sort=False)}
        sign = 1 if higher_is_better else -1
        able = [name for name in scores if name not in cannot_win] or list(scores)
        best = max(able, key=lambda name: sign * scores[name].mean())
        metric = str(of["metric"].iloc[0])
        bounds = problem_of_metric(metric).bounds
        low, high = interval_of(scores[best], positive=not higher_is_better, bounds=bounds)
        found.append(
            {
                "tasks": of["tasks"].iloc[0],
                "rows": rows,
                "learner": best,
                "metric": metric,
                "score": float(scores[best].mean()),
                "ci_low": low,
                "ci_high": high,
                "n_entities": scores[best].shape[0],
                **_beside("pooled", references.pooled, best, scores, bounds),
                **_beside("own", references.own, best, scores, bounds),
            }
        )
    return pd.DataFrame(found, columns=BEST_BY_ROWS)


def _beside(
    what: str, reference: str | None, best: str, scores: Mapping[str, Scores], bounds: Bounds
) -> dict[str, Any]:
    there = reference is not None and reference in scores
    gap: Gap | None = gaps_to(reference, scores, bounds).get(best) if there and reference is not None else None
    return {
        what: float(scores[reference].mean()) if there and reference is not None else math.nan,
        f"gap_to_{what}": math.nan if gap is None else gap.value,
        f"{what}_low": math.nan if gap is None else gap.low,
        f"{what}_high": math.nan if gap is None else gap.high,
        f"{what}_p_holm": math.nan if gap is None else gap.p_holm,
    }


def _matrix(rows: pd.DataFrame) -> Scores:
    """Scores [n_tasks, n_runs]; runs that failed with so many rows are left out."""
    matrix: Scores = rows.pivot_table(index="task", columns="seed", values="score").to_numpy(dtype=np.float64)
    return matrix

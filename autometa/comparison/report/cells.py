"""Cells of a leaderboard as plain text, as a terminal and Markdown show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autometa.comparison.report.across import metric_beside
from autometa.comparison.report.markup import interval_text, metric_title, milliseconds_text, score_text, seconds_text
from autometa.comparison.results.statistics import LEVEL_WITH, NOT_DECIDED
from autometa.contracts.printable import printable

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("learner", "score", "95% interval", "queries", "normalization", "trained", "adapt ms", "predict ms")

MARKS = {LEVEL_WITH: "=", NOT_DECIDED: "?"}
"""What stands before a learner that is not found to differ from the best."""
OVER_LIMIT = "!"
"""What stands before one that is over a limit and cannot win."""


def columns_of(rows: pd.DataFrame) -> tuple[str, ...]:
    """Columns of a leaderboard; where the score is of another objective, also the problem's own metric."""
    metric = metric_beside(rows)
    return COLUMNS if metric is None else (*COLUMNS[:3], metric, *COLUMNS[3:])


def mark_of(row: Any, beside: Mapping[str, str]) -> str:
    """What stands before a learner: ``*`` the best, ``=`` no difference found, ``?`` not decided, ``!`` over limits."""
    if getattr(row, "over_limit", ""):
        return OVER_LIMIT
    return "*" if row.rank == 1 else MARKS.get(beside.get(row.learner, ""), "")


def title_text(tasks: str, rows: pd.DataFrame) -> str:
    """What stands above the leaderboard of a task distribution."""
    first, fewest, most = rows.iloc[0], int(rows["n_seeds"].min()), int(rows["n_seeds"].max())
    seeds = f"{most} seed{'s' * (most != 1)}" if fewest == most else f"{fewest} to {most} seeds"
    return printable(
        f"{tasks}   {metric_title(str(first['metric']))} on {int(first['n_test_tasks'])} held-out tasks, "
        f"{seeds}, {first['n_shot']} shot"
    )


def cell_text(row: Any, column: str) -> str:
    """A cell of the leaderboard, as readers write it."""
    match column:
        case "learner":
            return printable(row.learner)
        case "score":
            return score_text(row.score, row.metric)
        case "95% interval":
            return interval_text(row.ci_low, row.ci_high, row.metric)
        case "queries":
            return printable(row.n_query)
        case "normalization":
            return printable(row.normalization)
        case "trained":
            return seconds_text(row.meta_train_seconds)
        case "adapt ms":
            return milliseconds_text(row.adapt_ms)
        case "predict ms":
            return milliseconds_text(row.predict_ms)
    return score_text(getattr(row, column), column)

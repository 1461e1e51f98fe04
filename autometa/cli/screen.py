"""A comparison's leaderboard on a terminal, within 100 columns, and as JSON."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autometa.comparison.report.across import leaderboard_on
from autometa.comparison.report.markup import interval_text, metric_title, milliseconds_text, score_text, seconds_text
from autometa.comparison.report.significance import ties_with_best

if TYPE_CHECKING:
    import pandas as pd

    from autometa.comparison import Comparison

WIDTH = 100
"""Columns a leaderboard needs at most; output that is no terminal gets as many."""


def make_console() -> Console:
    """Standard output, as wide as the terminal, or as a leaderboard needs where there is none."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)


def show_leaderboard(comparison: Comparison, console: Console) -> None:
    """Print a table per task distribution, then what was left out and what failed."""
    board = comparison.leaderboard
    for tasks in dict.fromkeys(board["tasks"]):
        rows = leaderboard_on(board, tasks)
        ties = ties_with_best(board, comparison.significance, tasks)
        console.print(leaderboard_table(str(tasks), rows, ties))
        console.print()
    if len(board):
        console.print(
            Text(
                "* is the best, = does not differ significantly from it (Wilcoxon signed-rank, Holm, 5%).", style="dim"
            )
        )
    if (board["trained_on"] != board["tasks"]).any():
        console.print(Text("(in brackets): the tasks it was trained on, where it is judged on others.", style="dim"))
    for row in comparison.skipped.itertuples():
        console.print(Text(f"left out: {row.learner} on {row.tasks}: {row.reason}", style="dim"))
    for row in comparison.failures.itertuples(index=False):
        console.print(
            Text("failed: " + ", ".join(f"{key}: {value}" for key, value in row._asdict().items()), style="red")
        )


def leaderboard_table(tasks: str, rows: pd.DataFrame, ties: set[str]) -> Table:
    """The leaderboard of one task distribution.

    Parameters
    ----------
    tasks : str
    rows : DataFrame
        Its rows of the leaderboard, best first.
    ties : set of str
        Learners that do not differ significantly from the best.
    """
    first = rows.iloc[0]
    metric = str(first["metric"])
    n_seeds = int(first["n_seeds"])
    title = (
        f"{tasks}   {metric_title(metric)} on {int(first['n_test_tasks'])} held-out tasks, "
        f"{n_seeds} seed{'s' * (n_seeds != 1)}, {first['n_shot']} shot"
    )
    table = Table(title=Text(title, style="bold"), title_justify="left", box=None, pad_edge=False, padding=(0, 1))
    table.add_column("", width=1, no_wrap=True)
    table.add_column("learner", overflow="fold", min_width=12)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("95% interval", justify="right", no_wrap=True)
    table.add_column("queries", justify="right", no_wrap=True)
    table.add_column("normalization", overflow="fold", max_width=20)
    table.add_column("trained", justify="right", no_wrap=True)
    table.add_column("adapt ms", justify="right", no_wrap=True)
    table.add_column("predict ms", justify="right", no_wrap=True)
    for row in rows.itertuples():
        best = row.rank == 1
        table.add_row(
            "*" if best else "=" if row.learner in ties else "",
            str(row.learner),
            score_text(row.score, metric),
            interval_text(row.ci_low, row.ci_high, metric),
            str(row.n_query),
            str(row.normalization),
            seconds_text(row.meta_train_seconds),
            milliseconds_text(row.adapt_ms),
            milliseconds_text(row.predict_ms),
            style="bold green" if best else None,
        )
    return table


def leaderboard_json(board: pd.DataFrame) -> str:
    """Rows of the leaderboard as a JSON list; numbers that are not finite become null."""

    def plain(value: Any) -> Any:
        value = value.item() if hasattr(value, "item") else value
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps([{key: plain(value) for key, value in row.items()} for row in board.to_dict("records")], indent=2)

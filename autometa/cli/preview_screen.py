"""What a comparison would do, on a terminal and as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autometa.comparison.report.markup import milliseconds_text, seconds_text, value_text
from autometa.comparison.report.text import plain
from autometa.contracts.printable import printable

if TYPE_CHECKING:
    import pandas as pd

    from autometa.comparison.preview import Preview


def show_preview(seen: Preview, console: Console) -> None:
    """Print a table per task distribution, what is searched, what is left out, and the time."""
    for tasks, rows in seen.pairs.groupby("tasks", sort=False):
        console.print(_slots(str(tasks), rows))
        searched = seen.searched[seen.searched["tasks"] == tasks]
        if len(searched):
            console.print(_searched(searched))
        console.print()
    for row in seen.skipped.itertuples():
        console.print(Text(printable(f"left out: {row.learner} on {row.tasks}: {row.reason}", lines=True), style="dim"))
    for row in seen.pairs[seen.pairs["problem"] != ""].itertuples():
        told = f"cannot be timed: {row.learner} on {row.tasks}: {row.problem}"
        console.print(Text(printable(told, lines=True), style="red"))
    console.print(Text(total_text(seen)))


def total_text(seen: Preview) -> str:
    """Say how much is to be done, and how long it takes."""
    trials, finals = int(seen.pairs["trials"].sum()), int(seen.pairs["finals"].sum())
    workers = f"{seen.n_workers} process{'es' * (seen.n_workers != 1)}"
    train, judge = seen.pairs["train_seconds"].sum(), seen.pairs["judge_seconds"].sum()
    known = "by one timed step of each" if seen.budget is None and seen.time_budget is None else "by the budget"
    work = f"{seconds_text(train)} of meta-training ({known}), {seconds_text(judge)} of judging"
    if seen.time_budget is None:
        rest = f"about {seconds_text(seen.seconds)} on {workers}: {work}. Runs that are stopped early take less."
    else:
        rest = (
            f"{work}; of these as many as {seconds_text(seen.time_budget)} on {workers} leave time for, the best "
            "learners' first."
        )
    return f"{trials} trials and {finals} final runs, {rest} Nothing was done yet."


def _slots(tasks: str, rows: pd.DataFrame) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), title=Text(printable(tasks), style="bold"))
    table.title_justify = "left"
    table.add_column("learner", overflow="fold")
    for name in ("trials", "finals", "steps", "step ms", "task ms", "training", "judging"):
        table.add_column(name, justify="right")
    for row in rows.itertuples():
        each = map(milliseconds_text, (1000 * row.step_seconds, row.judge_ms))
        spent = map(seconds_text, (row.train_seconds, row.judge_seconds))
        cells = (row.learner, row.trials, row.finals, row.steps, *each, *spent)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _searched(rows: pd.DataFrame) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for name in ("learner", "searches", "range", "default"):
        table.add_column(name, overflow="fold")
    last = ""
    for row in rows.itertuples():
        default = "–" if row.default is None else value_text(row.default)
        cells = ("" if row.learner == last else row.learner, row.parameter, row.range, default)
        table.add_row(*(Text(printable(cell)) for cell in cells))
        last = row.learner
    return table


def preview_json(seen: Preview) -> str:
    """Tables and totals as JSON."""
    tables: dict[str, Any] = {
        name: plain(frame.to_dict("records"))
        for name, frame in (("pairs", seen.pairs), ("searched", seen.searched), ("skipped", seen.skipped))
    }
    return json.dumps({**tables, "n_slots": seen.n_slots, "seconds": plain(seen.seconds)}, indent=2, default=str)

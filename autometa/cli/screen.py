"""A comparison's leaderboard on a terminal, as wide as there is room for, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from autometa.comparison.report.across import leaderboard_on
from autometa.comparison.report.cells import COLUMNS, OVER_LIMIT, cell_text, columns_of, mark_of, title_text
from autometa.comparison.report.significance import CLAIM, runs_wanted, verdicts_beside_best
from autometa.comparison.report.text import plain
from autometa.contracts.printable import printable

if TYPE_CHECKING:
    import pandas as pd

    from autometa.comparison import Comparison

WIDTH = 100
"""Columns a leaderboard needs at most; output that is no terminal gets as many."""

LAYOUTS = [(COLUMNS, True), *((COLUMNS[:n], False) for n in (8, 7, 6, 5, 4, 3, 2))]
"""Columns of a leaderboard and whether there is room between them, the first that fits."""
LONGEST_NAME = 24
"""Width from which on a learner's name is broken where room is scarce."""


def layouts_of(rows: pd.DataFrame) -> list[tuple[tuple[str, ...], bool]]:
    """As :data:`LAYOUTS`, of these rows."""
    columns = columns_of(rows)
    return LAYOUTS if columns == COLUMNS else [(columns, True), *((columns[:n], False) for n in range(9, 1, -1))]


def make_console() -> Console:
    """Standard output, as wide as the terminal, or as a leaderboard needs where there is none."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)


def show_leaderboard(comparison: Comparison, console: Console) -> None:
    """Print a table per task distribution, then what was left out and what failed."""
    board = comparison.leaderboard
    for tasks in dict.fromkeys(board["tasks"]):
        rows = leaderboard_on(board, tasks)
        beside = verdicts_beside_best(board, comparison.significance, tasks)
        console.print(leaderboard_table(str(tasks), rows, beside, console.width))
        if (advice := comparison.advice(tasks)) is not None:
            console.print(Text(printable(advice.answer, lines=True), style="bold"))
            console.print(Text(printable(advice.sureness, lines=True)))
        console.print()
    barred = board[board["over_limit"] != ""] if "over_limit" in board.columns else board.iloc[:0]
    for row in barred.itertuples():
        text = f"{OVER_LIMIT} cannot win: {row.learner} on {row.tasks} ({row.over_limit})"
        console.print(Text(printable(text, lines=True), style="dim"))
    if len(board):
        console.print(Text(f"* best, = no difference from it found, ? not decided. {CLAIM}", style="dim"))
        if wanted := runs_wanted(comparison.significance):
            console.print(Text(wanted, style="dim"))
    if (board["trained_on"] != board["tasks"]).any():
        console.print(Text("(in brackets): the tasks it was trained on, where it is judged on others.", style="dim"))
    for row in comparison.skipped.itertuples():
        console.print(Text(printable(f"left out: {row.learner} on {row.tasks}: {row.reason}", lines=True), style="dim"))
    for row in comparison.failures.itertuples(index=False):
        told = ", ".join(f"{key}: {value}" for key, value in row._asdict().items())
        console.print(Text(printable(f"failed: {told}", lines=True), style="red"))


def leaderboard_table(tasks: str, rows: pd.DataFrame, beside: Mapping[str, str], width: int = WIDTH) -> Table:
    """The leaderboard of one task distribution.

    No learner and no number is cut: where there is no room, headings are broken, and then columns are left out.

    Parameters
    ----------
    tasks : str
    rows : DataFrame
        Its rows of the leaderboard, best first.
    beside : mapping of str to str
        Verdict against the best, for learners not found to differ from it.
    width : int
        Columns of the terminal.
    """
    table = next(
        (
            laid
            for columns, roomy in layouts_of(rows)
            if _fits(laid := _lay_out(rows, beside, columns, roomy=roomy), width)
        ),
        _lay_out(rows, beside, LAYOUTS[-1][0], roomy=False, longest=max(1, width - 15)),
    )
    table.title = Text(title_text(tasks, rows), style="bold")
    left_out = [name for name in columns_of(rows) if name not in [column.header for column in table.columns]]
    if left_out:
        table.caption = Text(f"Too narrow for: {', '.join(left_out)}; the report has them.", style="dim")
    return table


def _lay_out(
    rows: pd.DataFrame, beside: Mapping[str, str], columns: Sequence[str], *, roomy: bool, longest: int = LONGEST_NAME
) -> Table:
    """Lay a leaderboard out; if not roomy, with small gaps, and headings and long names on several lines."""
    table = Table(box=None, pad_edge=False, padding=(0, 1), collapse_padding=not roomy)
    table.title_justify = table.caption_justify = "left"
    cells = {name: [cell_text(row, name) for row in rows.itertuples()] for name in columns}
    table.add_column("", width=1, no_wrap=True)
    for name in columns:
        widest = max(map(len, cells[name]))
        if name == "learner":
            most = max(12, widest) if roomy else min(max(12, widest), longest)
            table.add_column(name, overflow="fold", min_width=most, max_width=most)
        elif name == "normalization":
            table.add_column(name, overflow="fold", max_width=20)
        else:
            needed = max(widest, len(name)) if roomy else max(widest, *map(len, name.split()))
            table.add_column(name, justify="right", overflow="fold", min_width=needed)
    for row, *texts in zip(rows.itertuples(), *cells.values(), strict=True):
        mark = mark_of(row, beside)
        best = mark == "*"
        table.add_row(mark, *map(Text, texts), style="bold green" if best else None)
    return table


def _fits(table: Table, width: int) -> bool:
    """Tell whether no word of a table is broken within a width."""
    console = Console(width=10_000)
    return Measurement.get(console, console.options, table).minimum <= width


def leaderboard_json(board: pd.DataFrame) -> str:
    """Rows of the leaderboard as a JSON list; numbers that are not finite become null."""
    return json.dumps(plain(board.to_dict("records")), indent=2)

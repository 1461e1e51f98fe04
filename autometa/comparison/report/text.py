"""A comparison's leaderboard and verdicts as Markdown, CSV and JSON, to be pasted or read by a program."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from autometa.comparison.report.across import leaderboard_on, shown_name
from autometa.comparison.report.cells import cell_text, columns_of, mark_of, title_text
from autometa.comparison.report.significance import CLAIM, runs_wanted, verdicts_beside_best
from autometa.comparison.results.record import INCOMPLETE
from autometa.comparison.results.spreadsheet import csv_text
from autometa.contracts.printable import printable

if TYPE_CHECKING:
    import pandas as pd

    from autometa.comparison import Comparison

BEST = "best"
"""The verdict of the first of a leaderboard."""
DIFFERS = "worse than the best"
"""That of a learner that is found to differ from it."""
CANNOT_WIN = "over a limit"
"""That of a learner that cannot win."""
_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>#|"})
"""Characters that mean something in Markdown."""


def as_markdown(comparison: Comparison) -> str:
    """A table for each task distribution, its verdict in words, and what was left out or failed."""
    parts = [] if comparison.complete else [f"**{INCOMPLETE} {_escaped(comparison.left)}**"]
    board = comparison.leaderboard
    for tasks in dict.fromkeys(board["tasks"]):
        rows = leaderboard_on(board, tasks)
        beside = verdicts_beside_best(board, comparison.significance, tasks)
        parts += [f"## {_escaped(title_text(str(tasks), rows))}", _table(rows, beside)]
        if (advice := comparison.advice(tasks)) is not None:
            parts.append(" ".join(filter(None, (f"**{_escaped(advice.answer)}**", _escaped(advice.sureness)))))
    if len(board):
        claims = [
            f"\\* best, = no difference from it found, ? not decided. {CLAIM}",
            runs_wanted(comparison.significance),
        ]
        parts.append(" ".join(filter(None, claims)))
    left_out = [f"- left out: {row.learner} on {row.tasks}: {row.reason}" for row in comparison.skipped.itertuples()]
    failed = [
        f"- failed: {row.learner} on {row.tasks}, {row.stage} {row.slot}: {row.reason}"
        for row in comparison.failures.itertuples()
    ]
    parts.append("\n".join(f"- {_escaped(line[2:])}" for line in [*left_out, *failed]))
    return "\n\n".join(filter(None, parts))


def _table(rows: pd.DataFrame, beside: Mapping[str, str]) -> str:
    columns = columns_of(rows)
    sides = ["", *("---:" if name not in ("learner", "normalization") else "---" for name in columns)]
    lines = [["", *columns], ["---", *sides[1:]]]
    for row in rows.itertuples():
        lines.append([_escaped(mark_of(row, beside)), *(_escaped(cell_text(row, name)) for name in columns)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _escaped(text: str) -> str:
    return printable(text).translate(_SPECIAL)


def as_csv(comparison: Comparison) -> str:
    """The leaderboard as in its folder, with the columns ``verdict`` and ``on_front``."""
    return csv_text(_with_verdicts(comparison)).rstrip("\n")


def as_json(comparison: Comparison) -> str:
    """The leaderboard with verdicts, what is said of each task distribution, and all tests."""
    board = comparison.leaderboard
    advice = {str(tasks): comparison.advice(tasks) for tasks in dict.fromkeys(board["tasks"])}
    told = {
        "name": comparison.name,
        "complete": comparison.complete,
        "left": comparison.left,
        "leaderboard": _with_verdicts(comparison).to_dict("records"),
        "verdicts": {
            tasks: {"answer": said.answer, "sureness": said.sureness} for tasks, said in advice.items() if said
        },
        "significance": comparison.significance.to_dict("records"),
        "skipped": comparison.skipped.to_dict("records"),
        "failures": comparison.failures.to_dict("records"),
    }
    return json.dumps(plain(told), indent=2)


def _with_verdicts(comparison: Comparison) -> pd.DataFrame:
    """Add to the leaderboard what the tests say of each learner beside the best, and whether it is on the front."""
    board = comparison.leaderboard
    beside = {
        tasks: verdicts_beside_best(board, comparison.significance, str(tasks))
        for tasks in dict.fromkeys(board["tasks"])
    }

    def verdict(row: Any) -> str:
        shown = shown_name(row.learner, row.trained_on, row.tasks)
        if row.over_limit:
            return CANNOT_WIN
        return BEST if row.rank == 1 else beside[row.tasks].get(shown, DIFFERS)

    verdicts = [verdict(row) for row in board.itertuples()]
    return board.assign(verdict=verdicts, on_front=comparison.pareto["on_front"].to_numpy())


def plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers that are not finite become None."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


FORMATS: dict[str, Callable[[Comparison], str]] = {"md": as_markdown, "csv": as_csv, "json": as_json}
"""Reports as text, by their kind: what a file ends in, and what ``autometa report --format`` prints."""

"""What the guards against leaks found: in a sentence where all hold, else by name."""

from __future__ import annotations

import math

import pandas as pd

from autometa.comparison.execution.guards import COPIES, OTHER_TASKS, PERMUTED, TEST_TASKS
from autometa.comparison.report.across import shown_name
from autometa.comparison.report.canvas import Style
from autometa.comparison.report.markup import escape, table
from autometa.comparison.results.guards import BROKEN, EXPLAINED, FAILED, GUARDS, HOLDS, LEFT_OUT
from autometa.comparison.results.record import Record

CLAIM = (
    f"Looked at after the first final run of each learner, on the first {TEST_TASKS} meta-test tasks. Permuted labels: "
    "with the labels of the support sets dealt out anew, answers are right as often as chance. Order of queries, other "
    "queries: no answer changes when queries come in another order, or only half of them. Copies of test examples: no "
    f"more of them than chance explains are among those of {OTHER_TASKS['train']} meta-train and "
    f"{OTHER_TASKS['valid']} meta-valid tasks."
)


def guards_section(record: Record, looks: dict[str, Style]) -> str:
    """Say which guards hold; show those that do not, and all numbers below; empty where none was looked at."""
    guards = record.frames.guards
    if guards.empty:
        return ""
    counts = {verdict: int((guards["verdict"] == verdict).sum()) for verdict in (HOLDS, BROKEN, EXPLAINED, FAILED)}
    said = f"{counts[HOLDS]} of {sum(counts.values())} guards hold"
    rest = [f"{counts[verdict]} {words}" for verdict, words in _REST.items() if counts[verdict]]
    text = f"<p>{escape(', '.join([said, *rest]))}.</p>"
    told = guards[guards["verdict"].isin((BROKEN, FAILED))]
    if len(told):
        text += f'<div class="problem">{_table(told, "What does not hold.")}</div>'
    every = _table(guards, CLAIM)
    return text + f"<details><summary>All {len(guards)} guards</summary>{every}</details>"


_REST = {
    BROKEN: "broken",
    EXPLAINED: "explained by what is told beside the score",
    FAILED: "could not be looked at",
}


def _table(guards: pd.DataFrame, caption: str) -> str:
    body = [
        [
            escape(row.tasks),
            escape(shown_name(row.learner, row.trained_on, row.tasks)),
            escape(row.guard),
            f'<span class="{_CSS.get(row.verdict, "same")}">{escape(row.verdict)}</span>',
            *(_number(value, row.guard) for value in (row.found, row.expected, row.limit)),
            escape(row.words),
        ]
        for row in guards[GUARDS].itertuples()
    ]
    columns = [
        ("tasks", ""), ("learner", ""), ("guard", ""), ("verdict", ""), ("found", "n"), ("expected", "n"),
        ("holds up to", "n"), ("because", "w"),
    ]  # fmt: skip
    return table(columns, body, caption=escape(caption))


_CSS = {HOLDS: "better", BROKEN: "worse", FAILED: "worse", LEFT_OUT: "same"}


def _number(value: float, guard: str) -> str:
    if math.isnan(value):
        return "–"
    return f"{100 * value:.1f}%" if guard == PERMUTED else f"{value:.1f}" if guard == COPIES else f"{value:.2g}"

"""What was left out of a comparison, and what went wrong in it."""

from __future__ import annotations

from collections.abc import Mapping

from autometa.comparison.report.canvas import Style
from autometa.comparison.report.markup import escape, table
from autometa.comparison.results.record import Record


def gaps_section(record: Record, looks: Mapping[str, Style]) -> str:
    """Pairs that do not fit together and why, and what went wrong."""
    skipped = record.frames.skipped
    if len(skipped):
        body = [[escape(row.tasks), escape(row.learner), escape(row.reason)] for row in skipped.itertuples()]
        text = table([("tasks", ""), ("learner", ""), ("reason", "w")], body, caption="Pairs that do not fit together.")
    else:
        text = "<p>Every learner fitted every task distribution.</p>"
    return text + (_failures(record) if len(record.frames.failures) else "<p>Nothing failed.</p>")


def _failures(record: Record) -> str:
    """A row for each failure, with the traceback folded away where it is known."""
    failures = record.frames.failures
    body = []
    for row in failures.itertuples(index=False):
        trace = record.tracebacks.get((row.tasks, row.learner, row.stage, row.slot))
        folded = f"<details><summary>Traceback</summary><pre>{escape(trace)}</pre></details>" if trace else ""
        *cells, reason = map(escape, row)
        body.append([*cells, reason + folded])
    columns = [(str(name), "w" if i > 1 else "") for i, name in enumerate(failures.columns)]
    return f'<div class="problem">{table(columns, body, caption="Failures.")}</div>'

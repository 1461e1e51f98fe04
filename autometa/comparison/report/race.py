"""The race among learners: who had how much of the work, and who left when."""

from __future__ import annotations

from autometa.comparison.report.canvas import Style
from autometa.comparison.report.markup import difference_text, escape, score_text, table
from autometa.comparison.results.record import Record

NAMED = 5
"""Learners that are named; more are counted."""
CLAIM = (
    "Scores are those of the best trial of each learner on the meta-valid tasks; the best of many trials is somewhat "
    "lucky. They decided who went on, and nothing else. Trials: settings that were tried, most of them to their first "
    "rung alone; complete: to the end. Runs: what it was given, in whole meta-trainings. Behind: how far, with the "
    "standard error over tasks."
)


def race_section(record: Record, looks: dict[str, Style]) -> str:
    """Return a table for each task distribution; empty without a race."""
    metrics = dict(zip(record.frames.leaderboard["tasks"], record.frames.leaderboard["metric"], strict=True))
    columns = [
        ("learner", "s"), ("rounds", "n"), ("trials", "n"), ("complete", "n"), ("runs", "n"), ("meta-valid score", "n"),
        ("behind", "n"), ("state", ""),
    ]  # fmt: skip
    parts = []
    for tasks, of in record.frames.race.groupby("tasks", sort=False) if len(record.frames.race) else ():
        metric = metrics.get(tasks)
        if metric is None:
            continue
        body = [
            [
                escape(row.learner),
                f"{row.rounds}",
                f"{row.trials}",
                f"{row.complete}",
                f"{row.runs:g}",
                score_text(row.score, metric) if row.score == row.score else "–",
                _behind(row.behind, row.behind_error, metric),
                escape(row.state),
            ]
            for row in of.itertuples()
        ]
        parts.append(f"<h3>{escape(tasks)}</h3>{table(columns, body, caption=CLAIM, sortable=True)}")
    return "".join(parts)


def tried_words(record: Record, tasks: str) -> str:
    """Say how many settings a race tried of the learners that it judged; empty without a race."""
    race, board = record.frames.race, record.frames.leaderboard
    if race.empty:
        return ""
    judged = set(board["learner"][board["tasks"] == tasks])
    rows = [row for row in race[race["tasks"] == tasks].itertuples() if row.learner in judged]
    told = [f"{row.learner} {row.trials} ({row.complete})" for row in rows[:NAMED]]
    more = f" and {len(rows) - NAMED} more" * (len(rows) > NAMED)
    return f"Settings that the race tried (to the end): {', '.join(told)}{more}." if told else ""


def _behind(gap: float, error: float, metric: str) -> str:
    if gap != gap:
        return "–"
    spread = f" ± {difference_text(error, metric).lstrip('+')}" if error == error else ""
    return f"{difference_text(gap, metric).lstrip('+')}{spread}"

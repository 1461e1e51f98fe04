"""The report of a comparison: one HTML file that loads nothing, in light and dark colours and for print."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import TypeAlias

import pandas as pd

from autometa.comparison.report.across import (
    across_section,
    domains_section,
    leaderboard_on,
    learner_cell,
    shown_name,
)
from autometa.comparison.report.advice import described_tasks
from autometa.comparison.report.canvas import Style, styles
from autometa.comparison.report.drawing import drawn_by
from autometa.comparison.report.each_task import each_task_section
from autometa.comparison.report.evidence import evidence_section
from autometa.comparison.report.failures import gaps_section
from autometa.comparison.report.guards import guards_section
from autometa.comparison.report.leaderboard import leaderboard_section
from autometa.comparison.report.markup import escape, interval_text, metric_title, score_text
from autometa.comparison.report.plots import figures_section
from autometa.comparison.report.race import race_section
from autometa.comparison.report.repeat import component_words, environment_section
from autometa.comparison.report.sentence import lead_section
from autometa.comparison.report.shown import shown_section
from autometa.comparison.report.significance import significance_section, verdicts_beside_best
from autometa.comparison.report.tables import advice_section, calibration_section, table_sections
from autometa.comparison.report.tuning import tuning_section
from autometa.comparison.report.worst import worst_section
from autometa.comparison.results.record import INCOMPLETE, Record
from autometa.contracts.problems import problem_of_metric
from autometa.files.atomic import write_whole

Looks: TypeAlias = dict[str, Style]
"""How learners look, by name."""


def write_report(record: Record, path: str | os.PathLike[str], n_processes: int = 1) -> Path:
    """Write the report of a comparison.

    Parameters
    ----------
    record : Record
    path : path-like
        The HTML file. An existing one is replaced whole or not at all.
    n_processes : int, optional
        That draw the figures.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    path = Path(path)
    text = drawn_by(n_processes, lambda: render(record))
    write_whole(path, text, make_folders=True)
    return path


def render(record: Record) -> str:
    """Return the report as HTML; see :func:`write_report`."""
    board = record.frames.leaderboard
    looks = styles(board["learner"], board.loc[board["family"] == "baseline", "learner"])
    looks |= {
        shown_name(row.learner, row.trained_on, row.tasks): looks[row.learner] for row in board.itertuples()
    }  # the same look wherever a learner was trained
    own = board[board["trained_on"] == board["tasks"]]
    trained = len(set(own["tasks"]))
    parts = [("winners", "Winners", winners_section(record, looks))]
    if len(own) < len(board):
        parts.append(("domains", "Across domains", domains_section(board, looks)))
    for i, name in enumerate(dict.fromkeys(board["tasks"])):
        parts.append((f"tasks-{i}", name, "".join(section(record, name, looks) for section in OF_TASKS)))
    parts += [(key, heading, html) for key, heading, section in OF_ALL if (html := section(record, looks))]
    template, script = map(_file, ("report.html", "report.js"))
    learners = board["learner"].nunique()
    subtitle = (
        f"{learners} learner{'s' * (learners != 1)} on {trained} task distribution{'s' * (trained != 1)}, "
        f"{_TUNED[record.plan['settings'].get('search', 'separate')]}, meta-trained again and judged on the same "
        "held-out meta-test tasks."
    )
    if len(own) < len(board):
        subtitle += " What was trained on one distribution is judged on others too: in brackets stands which one."
    title = f"Comparison of {kind_words(board)}: {record.name}"
    return Template(template).substitute(
        title=escape(title),
        lead=lead_section(record),
        script=script,
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
        subtitle=escape(subtitle) + ("" if record.complete else f" <b>{INCOMPLETE} {escape(record.left)}</b>"),
        navigation="".join(f'<a href="#{key}">{escape(heading)}</a>' for key, heading, _ in parts),
        body="\n".join(
            f'<section id="{key}"><h2>{escape(heading)}</h2>{html}</section>' for key, heading, html in parts
        ),
    )


def _file(name: str) -> str:
    return resources.files("autometa.comparison.report").joinpath(name).read_text(encoding="utf-8")


def kind_words(board: pd.DataFrame) -> str:
    """Say what was compared: few-shot learners, or agents where they act."""
    acts = {problem_of_metric(metric).acts for metric in board["metric"]}
    if acts == {True}:
        return "agents"
    return "few-shot learners and agents" if True in acts else "few-shot learners"


def winners_section(record: Record, looks: Looks) -> str:
    """A card per task distribution with its best learner, and a table over several distributions."""
    board, cards = record.frames.leaderboard, []
    for tasks in dict.fromkeys(board["tasks"]):
        row = next(leaderboard_on(board, tasks).itertuples())
        beside = verdicts_beside_best(board, record.frames.significance, row.tasks)
        tied = " ".join(
            f"{verdict.capitalize()}: {', '.join(sorted(name for name in beside if beside[name] == verdict))}."
            for verdict in sorted(set(beside.values()))
        )
        cards.append(
            f'<div class="card"><h4>{escape(row.tasks)}</h4><div class="big">{learner_cell(row.learner, looks)}</div>'
            f"<div>{score_text(row.score, row.metric)} {escape(metric_title(row.metric))}, 95% interval "
            f'{interval_text(row.ci_low, row.ci_high, row.metric)}</div><div class="note">{escape(tied)}</div></div>'
        )
    if not cards:
        return "<p>No learner finished on any task distribution yet.</p>"
    own = board[board["trained_on"] == board["tasks"]]
    across = across_section(own, looks) if len(set(own["tasks"])) > 1 else ""
    return f'<div class="cards">{"".join(cards)}</div>{across}'


def described_section(record: Record, tasks: str, looks: Looks) -> str:
    """The sampler and its parameters."""
    return f'<p class="note">{escape(component_words(described_tasks(record)[tasks]))}</p>'


OF_TASKS: Sequence[Callable[[Record, str, Looks], str]] = (
    advice_section,
    described_section,
    leaderboard_section,
    figures_section,
    shown_section,
    worst_section,
    each_task_section,
    table_sections,
    calibration_section,
)
"""What is said of one task distribution, in this order: each returns HTML, empty where there is nothing to say."""
_TUNED = {
    "separate": "each tuned on meta-valid tasks with the same budget",
    "race": "tuned on meta-valid tasks in a race, in which the better ones had more trials",
    "joint": "chosen by one search on meta-valid tasks",
}
OF_ALL: Sequence[tuple[str, str, Callable[[Record, Looks], str]]] = (
    ("significance", "Significance", significance_section),
    ("evidence", "Ranks and practical equivalence", evidence_section),
    ("tuning", "Tuning", tuning_section),
    ("race", "The race", race_section),
    ("gaps", "Left out and failed", gaps_section),
    ("guards", "Guards against leaks", guards_section),
    ("environment", "Repeat it", environment_section),
)
"""What is said of all of them together: key of the section, heading, and what returns its HTML, empty where there is
nothing to say."""

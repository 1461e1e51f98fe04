"""The report of a comparison: one HTML file that loads nothing, in light and dark colours and for print."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd

from autometa.comparison.report.across import (
    across_section,
    domains_section,
    leaderboard_on,
    learner_cell,
    metric_beside,
    over_limit,
    shown_name,
)
from autometa.comparison.report.advice import described_tasks
from autometa.comparison.report.canvas import Style, styles
from autometa.comparison.report.evidence import evidence_section
from autometa.comparison.report.figures import cost_figure, curve_figure, interval_figure
from autometa.comparison.report.guards import guards_section
from autometa.comparison.report.markup import (
    difference_text,
    escape,
    figure,
    interval_text,
    metric_title,
    milliseconds_text,
    p_text,
    score_text,
    seconds_text,
    table,
)
from autometa.comparison.report.repeat import component_words, environment_section
from autometa.comparison.report.shown import shown_section
from autometa.comparison.report.significance import CLAIM, significance_section, verdicts_beside_best
from autometa.comparison.report.tables import DRAWN, advice_section, curves_to_draw, table_sections
from autometa.comparison.report.tuning import tuning_section
from autometa.comparison.results.labelled_rows import AXIS
from autometa.comparison.results.record import Record
from autometa.contracts.problems import problem_of_metric
from autometa.files.atomic import write_whole

GAP = (
    "Gap to pooled: score minus that of the pooled baseline on the same entities, with its standard error; "
    '<span class="better">better</span> and <span class="worse">worse</span> where the difference is significant '
    "(Holm's correction for the number of learners)."
)
SHARE = "Normalised: 0 is what acting at random gets in these worlds, 1 the best of who knows them."
_NOTHING: Mapping[str, float] = {}
INCOMPLETE = "Not complete: this is what was done so far."
_DOTTED = {"best": "the best of who knows the world", "random": "what acting at random gets"}
EPISODES = "episodes"
"""Axis of the curves of learners that act."""
_AXES = {
    "outer steps": "on meta-valid tasks",
    "seconds": "of meta-training, on meta-valid tasks",
    "adaptation steps": "on meta-test tasks",
    "shots": "on meta-test tasks",
    EPISODES: "of a trial in meta-test worlds, those to adapt in first",
    AXIS: f"on meta-test entities: the best {DRAWN} learners, and the baselines; what lies far above is cut off",
}


def write_report(record: Record, path: str | os.PathLike[str]) -> Path:
    """Write the report of a comparison.

    Parameters
    ----------
    record : Record
    path : path-like
        The HTML file. An existing one is replaced whole or not at all.

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
    text = render(record)
    write_whole(path, text, make_folders=True)
    return path


def render(record: Record) -> str:
    """Return the report as HTML; see :func:`write_report`."""
    board = record.frames.leaderboard
    looks = styles(board["learner"], board.loc[board["family"] == "baseline", "learner"])
    looks |= {
        shown_name(row.learner, row.trained_on, row.tasks): looks[row.learner] for row in board.itertuples()
    }  # the same look wherever a learner was trained
    names = list(dict.fromkeys(board["tasks"]))
    own = board[board["trained_on"] == board["tasks"]]
    trained = list(dict.fromkeys(own["tasks"]))
    parts = [("winners", "Winners", winners_section(board, record.frames.significance, looks))]
    if len(trained) > 1:
        parts[0] = (*parts[0][:2], parts[0][2] + across_section(own, looks))
    if len(own) < len(board):
        parts.append(("domains", "Across domains", domains_section(board, looks)))
    for i, name in enumerate(names):
        parts.append((f"tasks-{i}", name, tasks_section(record, name, looks)))
    parts.append(("significance", "Significance", significance_section(record, names, looks)))
    if evidence := evidence_section(record, names, looks):
        parts.append(("evidence", "Ranks and practical equivalence", evidence))
    parts.append(("tuning", "Tuning", tuning_section(record, trained, looks)))
    parts.append(("gaps", "Left out and failed", gaps_section(record)))
    if guards := guards_section(record.frames.guards):
        parts.append(("guards", "Guards against leaks", guards))
    parts.append(("environment", "Repeat it", environment_section(record)))
    template = resources.files("autometa.comparison.report").joinpath("report.html").read_text(encoding="utf-8")
    learners = board["learner"].nunique()
    subtitle = (
        f"{learners} learner{'s' * (learners != 1)} on {len(trained)} task distribution{'s' * (len(trained) != 1)}, "
        "each tuned on meta-valid tasks with the same budget, meta-trained again and judged on the same "
        "held-out meta-test tasks."
    )
    if len(own) < len(board):
        subtitle += " What was trained on one distribution is judged on others too: in brackets stands which one."
    title = f"Comparison of few-shot learners: {record.name}"
    return Template(template).substitute(
        title=escape(title),
        subtitle=escape(subtitle) + ("" if record.complete else f" <b>{INCOMPLETE}</b>"),
        navigation="".join(f'<a href="#{key}">{escape(heading)}</a>' for key, heading, _ in parts),
        body="\n".join(
            f'<section id="{key}"><h2>{escape(heading)}</h2>{html}</section>' for key, heading, html in parts
        ),
    )


def winners_section(board: pd.DataFrame, significance: pd.DataFrame, looks: dict[str, Style]) -> str:
    """A card per task distribution with its best learner."""
    cards = []
    for tasks in dict.fromkeys(board["tasks"]):
        row = next(leaderboard_on(board, tasks).itertuples())
        beside = verdicts_beside_best(board, significance, row.tasks)
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
    return f'<div class="cards">{"".join(cards)}</div>'


def tasks_section(record: Record, tasks: str, looks: dict[str, Style]) -> str:
    """Leaderboard and figures of one task distribution."""
    board = record.frames.leaderboard
    rows = leaderboard_on(board, tasks)
    metric = str(rows["metric"].iloc[0])
    here = {name: looks[name] for name in rows["learner"]}
    better = "higher is better" if problem_of_metric(metric).higher_is_better else "lower is better"
    legend = "".join(f"<span>{learner_cell(name, looks)}</span>" for name in rows["learner"])
    plots = [figure(interval_figure(rows, here), f"<b>Score and 95% interval</b> over tasks and seeds ({better})")]
    curves = record.frames.curves[record.frames.curves["tasks"] == tasks]
    for axis, where in _AXES.items():
        found = curves[curves["axis"] == axis].dropna(subset=["score"])
        found = curves_to_draw(record, tasks, found) if axis == AXIS else found
        if len(found) and found["value"].min() < found["value"].max():
            known = record.curve_returns.get(tasks, {}) if axis == EPISODES else {}
            where += f"; dotted: {' and '.join(_DOTTED[name] for name in known)}" * bool(known)
            drawn = curve_figure(found, metric, here, axis, known=tuple(known.values()))
            plots.append(figure(drawn, f"<b>Score over {axis}</b> {where}"))
    costs = {
        "seconds to meta-train": rows["meta_train_seconds"],
        "milliseconds to adapt and predict one task": rows["adapt_ms"] + rows["predict_ms"],
    }
    for label, cost in costs.items():
        if cost.notna().all():
            plots.append(figure(cost_figure(rows, cost, label, here), f"<b>Score against {label}</b>"))
    return (
        advice_section(record, tasks)
        + f'<p class="note">{escape(component_words(described_tasks(record)[tasks]))}</p>'
        + leaderboard_table(
            rows,
            verdicts_beside_best(board, record.frames.significance, tasks),
            looks,
            record.known_returns.get(tasks, {}),
        )
        + f'<div class="legend">{legend}</div><div class="figures">{"".join(plots)}</div>'
        + shown_section(record, tasks, looks)
        + table_sections(record, tasks, looks)
    )


def leaderboard_table(
    rows: pd.DataFrame, beside: Mapping[str, str], looks: dict[str, Style], known: Mapping[str, float] = _NOTHING
) -> str:
    """The leaderboard of one task distribution, with marks on the best and on those not found to differ from it.

    Where the returns of acting at random and of the best are known, scores are told as shares of the way between.
    """
    metric = str(rows["metric"].iloc[0])
    acts = problem_of_metric(metric).acts
    body, marks = [], []
    has_gaps = "gap_to_pooled" in rows.columns and bool(rows["gap_to_pooled"].notna().any())
    low, high = known.get("random", math.nan), known.get("best", math.nan)
    has_shares = low < high
    barred, beside_score = over_limit(rows), metric_beside(rows)
    for row in rows.itertuples():
        badge = '<span class="badge">best</span>' if row.rank == 1 else ""
        badge = f'<span class="badge tie">{escape(beside[row.learner])}</span>' if row.learner in beside else badge
        if row.learner in barred:
            badge = f'<span class="badge tie">{escape(barred[row.learner])}</span>'
        marks.append("win" if row.rank == 1 and row.learner not in barred else "")
        body.append(
            [
                f"{int(row.rank)}",
                learner_cell(row.learner, looks) + badge,
                escape(row.family),
                f"<b>{score_text(row.score, metric)}</b>",
                interval_text(row.ci_low, row.ci_high, metric),
                *((score_text(getattr(row, beside_score), beside_score),) if beside_score else ()),
                *((f"{(row.score - low) / (high - low):.3f}",) if has_shares else ()),
                *(_gap_cells(row, metric) if has_gaps else ()),
                f"{int(row.n_test_tasks)}",
                f"{int(row.n_seeds)}",
                escape(row.n_shot),
                escape(row.n_query),
                escape(row.normalization),
                seconds_text(row.meta_train_seconds),
                milliseconds_text(row.adapt_ms),
                milliseconds_text(row.predict_ms),
            ]
        )
    columns = [
        ("rank", "c"),
        ("learner", "s"),
        ("family", ""),
        (metric_title(metric), "n"),
        ("95% interval", "n"),
        *(((metric_title(beside_score), "n"),) if beside_score else ()),
        *((("normalised", "n"),) if has_shares else ()),
        *((("gap to pooled", "n"), ("p of the gap", "n")) if has_gaps else ()),
        ("test tasks", "n"),
        ("seeds", "n"),
        ("episodes to adapt" if acts else "shots", "n"),
        ("episodes judged" if acts else "queries", "n"),
        ("normalization", ""),
        ("meta-training", "n"),
        ("adapt, ms per task", "n"),
        ("predict, ms per task", "n"),
    ]
    caption = " ".join([CLAIM, *((GAP,) if has_gaps else ()), *((SHARE,) if has_shares else ())])
    return table(columns, body, marks=marks, caption=caption)


def _gap_cells(row: Any, metric: str) -> list[str]:
    """Score minus that of the pooled baseline with its standard error, marked where the difference is significant."""
    if math.isnan(row.gap_to_pooled):
        return ["–", "–"]
    error = "" if math.isnan(row.gap_error) else f" ± {difference_text(row.gap_error, metric).lstrip('+')}"
    text = f"{difference_text(row.gap_to_pooled, metric)}{error}"
    return [f'<span class="{row.gap_verdict or "same"}">{text}</span>', p_text(row.gap_p_holm)]


def gaps_section(record: Record) -> str:
    """Pairs that do not fit together and why, and what went wrong."""
    skipped, failures = record.frames.skipped, record.frames.failures
    if len(skipped):
        body = [[escape(row.tasks), escape(row.learner), escape(row.reason)] for row in skipped.itertuples()]
        text = table([("tasks", ""), ("learner", ""), ("reason", "w")], body, caption="Pairs that do not fit together.")
    else:
        text = "<p>Every learner fitted every task distribution.</p>"
    if len(failures):
        columns = [(str(name), "w" if i > 1 else "") for i, name in enumerate(failures.columns)]
        body = [[escape(cell) for cell in row] for row in failures.itertuples(index=False)]
        text += f'<div class="problem">{table(columns, body, caption="Failures.")}</div>'
    else:
        text += "<p>Nothing failed.</p>"
    return text

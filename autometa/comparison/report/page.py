"""The report of a comparison: one HTML file that needs nothing else, on screen, in the dark and on paper."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
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
    shown_name,
    tests_on,
)
from autometa.comparison.report.canvas import Style, styles
from autometa.comparison.report.figures import METRICS, cost_figure, curve_figure, interval_figure
from autometa.comparison.report.markup import (
    difference_text,
    escape,
    figure,
    flatten,
    interval_text,
    milliseconds_text,
    p_text,
    score_text,
    seconds_text,
    table,
    value_text,
)
from autometa.comparison.report.tuning import tuning_section
from autometa.comparison.results.record import Record
from autometa.files.atomic import write_whole

ALPHA = 0.05
"""Level of significance, after Holm's correction."""
INCOMPLETE = "Not complete: this is what was done so far."
_AXES = {
    "outer steps": "on meta-valid tasks",
    "seconds": "of meta-training, on meta-valid tasks",
    "adaptation steps": "on meta-test tasks",
    "shots": "on meta-test tasks",
}


def write_report(record: Record, path: str | os.PathLike[str]) -> Path:
    """Write the report of a comparison.

    Parameters
    ----------
    record : Record
    path : path-like
        The HTML file; an existing one is replaced at once or not at all.

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
    parts.append(("tuning", "Tuning", tuning_section(record, trained, looks)))
    parts.append(("gaps", "Left out and failed", gaps_section(record)))
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


def ties_with_best(board: pd.DataFrame, significance: pd.DataFrame, tasks: str) -> set[str]:
    """Shown names of those whose scores on ``tasks`` do not differ significantly from the best (Holm, 5%)."""
    best = leaderboard_on(board, tasks)["learner"].iloc[0]
    rows = tests_on(significance, tasks)
    rows = rows[rows["p_holm"] >= ALPHA]
    first, second = rows["learner_a"], rows["learner_b"]
    return {*second[first == best], *first[second == best]}


def winners_section(board: pd.DataFrame, significance: pd.DataFrame, looks: dict[str, Style]) -> str:
    """A card per task distribution with its best learner."""
    cards = []
    for tasks in dict.fromkeys(board["tasks"]):
        row = next(leaderboard_on(board, tasks).itertuples())
        ties = sorted(ties_with_best(board, significance, row.tasks))
        tied = f"Not significantly different: {', '.join(ties)}." if ties else ""
        cards.append(
            f'<div class="card"><h4>{escape(row.tasks)}</h4><div class="big">{learner_cell(row.learner, looks)}</div>'
            f"<div>{score_text(row.score, row.metric)} {escape(METRICS.get(row.metric, row.metric))}, 95% interval "
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
    better = "lower is better" if metric == "mse" else "higher is better"
    legend = "".join(f"<span>{learner_cell(name, looks)}</span>" for name in rows["learner"])
    plots = [figure(interval_figure(rows, here), f"<b>Score and 95% interval</b> over tasks and seeds ({better})")]
    curves = record.frames.curves[record.frames.curves["tasks"] == tasks]
    for axis, where in _AXES.items():
        found = curves[curves["axis"] == axis].dropna(subset=["score"])
        if len(found) and found["value"].min() < found["value"].max():
            plots.append(figure(curve_figure(found, metric, here, axis), f"<b>Score over {axis}</b> {where}"))
    costs = {
        "seconds to meta-train": rows["meta_train_seconds"],
        "milliseconds to adapt and predict one task": rows["adapt_ms"] + rows["predict_ms"],
    }
    for label, cost in costs.items():
        if cost.notna().all():
            plots.append(figure(cost_figure(rows, cost, label, here), f"<b>Score against {label}</b>"))
    return (
        f'<p class="note">{escape(component_words(described_tasks(record)[tasks]))}</p>'
        + leaderboard_table(rows, ties_with_best(board, record.frames.significance, tasks), looks)
        + f'<div class="legend">{legend}</div><div class="figures">{"".join(plots)}</div>'
    )


def leaderboard_table(rows: pd.DataFrame, ties: Iterable[str], looks: dict[str, Style]) -> str:
    """The leaderboard of one task distribution, the best learner and those level with it marked."""
    ties = set(ties)
    metric = str(rows["metric"].iloc[0])
    body, marks = [], []
    for row in rows.itertuples():
        badge = '<span class="badge">best</span>' if row.rank == 1 else ""
        badge = '<span class="badge tie">level</span>' if row.learner in ties else badge
        marks.append("win" if row.rank == 1 else "")
        body.append(
            [
                f"{int(row.rank)}",
                learner_cell(row.learner, looks) + badge,
                escape(row.family),
                f"<b>{score_text(row.score, metric)}</b>",
                interval_text(row.ci_low, row.ci_high, metric),
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
        (METRICS.get(metric, metric), "n"),
        ("95% interval", "n"),
        ("test tasks", "n"),
        ("seeds", "n"),
        ("shots", "n"),
        ("queries", "n"),
        ("normalization", ""),
        ("meta-training", "n"),
        ("adapt, ms per task", "n"),
        ("predict, ms per task", "n"),
    ]
    caption = f"“Level”: not significantly different from the best learner (Holm-corrected p ≥ {ALPHA})."
    return table(columns, body, marks=marks, caption=caption if ties else "")


def significance_section(record: Record, names: list[str], looks: dict[str, Style]) -> str:
    """Every pair of learners: a matrix of differences, and all numbers below it."""
    said = (
        "<p>Wilcoxon signed-rank tests, paired over the same held-out tasks, with Holm's correction for the number of "
        "pairs of a task distribution. Read along a row: "
        '<span class="better">better</span> or <span class="worse">worse</span> than the learner of the column '
        f'(p &lt; {ALPHA}), or <span class="same">no significant difference</span>.</p>'
    )
    parts = []
    for tasks in names:
        pairs = tests_on(record.frames.significance, tasks)
        if not len(pairs):
            parts.append(f"<h3>{escape(tasks)}</h3><p>Only one learner finished: there is nothing to compare.</p>")
            continue
        rows = leaderboard_on(record.frames.leaderboard, tasks)
        metric = str(rows["metric"].iloc[0])
        unit = " in percentage points" if metric == "accuracy" else ""
        parts.append(f"<h3>{escape(tasks)}</h3>")
        parts.append(
            difference_matrix(
                pairs, list(rows["learner"]), metric, looks, f"Difference of {METRICS.get(metric, metric)}{unit}"
            )
        )
        parts.append(pairs_table(pairs, metric))
    return said + "".join(parts)


def difference_matrix(
    pairs: pd.DataFrame, learners: list[str], metric: str, looks: dict[str, Style], caption: str
) -> str:
    """Row minus column for every pair of learners."""
    cells: dict[tuple[str, str], str] = {}
    for pair in pairs.itertuples():
        for a, b, sign in ((pair.learner_a, pair.learner_b, 1), (pair.learner_b, pair.learner_a, -1)):
            difference = sign * pair.difference
            good = difference < 0 if metric == "mse" else difference > 0
            css = "same" if not pair.p_holm < ALPHA else "better" if good else "worse"
            cells[a, b] = f'<span class="{css}">{difference_text(difference, metric)}</span>'
    columns = [("", ""), *((name, "n") for name in learners)]
    body = [
        [learner_cell(a, looks), *("" if a == b else cells.get((a, b), "–") for b in learners)]
        for a in learners
    ]  # fmt: skip
    return table(columns, body, caption=caption)


def pairs_table(pairs: pd.DataFrame, metric: str) -> str:
    """All numbers of the significance tests, folded away on screen."""
    body = [
        [
            f"{escape(pair.learner_a)} − {escape(pair.learner_b)}",
            difference_text(pair.difference, metric),
            f"{difference_text(pair.ci_low, metric)} … {difference_text(pair.ci_high, metric)}",
            p_text(pair.p_value),
            p_text(pair.p_holm),
            "yes" if pair.p_holm < ALPHA else "no",
        ]
        for pair in pairs.sort_values("p_holm").itertuples()
    ]
    columns = [
        ("pair", ""),
        ("difference", "n"),
        ("95% interval", "n"),
        ("p", "n"),
        ("p (Holm)", "n"),
        ("significant", "c"),
    ]
    return (
        f"<details><summary>Intervals and p-values of all {len(pairs)} pairs</summary>{table(columns, body)}</details>"
    )


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


def environment_section(record: Record) -> str:
    """The command and everything needed to repeat the comparison."""
    facts = dict(record.environment)
    command = facts.pop("command", None)
    text = f"<pre>{escape(command_text(command))}</pre>" if command else ""
    if "seconds" in facts:
        facts["duration of the last call"] = seconds_text(facts.pop("seconds"))
    entrants = {f"learner {label}": entrant_words(entry) for label, entry in record.plan["learners"].items()}
    facts = {**record.plan["settings"], **entrants, **facts}
    body = [[escape(name), f"<code>{escape(value)}</code>"] for name, value in flatten(facts)]
    return text + table([("setting", ""), ("value", "w")], body)


def described_tasks(record: Record) -> dict[str, Any]:
    """All task distributions of a plan, those judged on alone included."""
    return {**record.plan.get("test_tasks", {}), **record.plan["tasks"]}


def component_words(described: Any) -> str:
    """A component of a plan as one writes it: ``maml(steps=3)``."""
    if not isinstance(described, Mapping) or "params" not in described:
        return value_text(described)
    params = ", ".join(f"{name}={component_words(value)}" for name, value in described["params"].items())
    return f"{described['name'] or described['class'].rpartition(':')[2]}({params})"


def entrant_words(described: Mapping[str, Any]) -> str:
    """A learner of a plan, and its meta-optimizer where it is not the learner's own."""
    meta = described["meta_optimizer"]
    return component_words(described["learner"]) + ("" if meta == "auto" else f" by {component_words(meta)}")


def command_text(command: str | Sequence[str]) -> str:
    """What to type to run a process again, from its ``sys.argv``."""
    if isinstance(command, str):
        return command
    program = Path(command[0])
    if program.name == "__main__.py":
        start = ["python", "-m", program.parent.name]
    elif program.suffix == ".py":
        start = ["python", program.name]
    else:
        start = [program.name or "python"]
    return shlex.join([*start, *command[1:]])

"""The figures of one task distribution: scores, curves, costs."""

from __future__ import annotations

from autometa.comparison.report.across import leaderboard_on, learner_cell
from autometa.comparison.report.canvas import Style
from autometa.comparison.report.figures import cost_figure, curve_figure, interval_figure
from autometa.comparison.report.markup import figure
from autometa.comparison.report.tables import DRAWN, curves_to_draw
from autometa.comparison.results.labelled_rows import AXIS
from autometa.comparison.results.pareto import milliseconds_per_task
from autometa.comparison.results.record import Record
from autometa.contracts.problems import problem_of_metric

FRONT = "; the line joins those that none beats at no higher cost of this kind"
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


def figures_section(record: Record, tasks: str, looks: dict[str, Style]) -> str:
    """Scores, curves and costs of one task distribution."""
    rows = leaderboard_on(record.frames.leaderboard, tasks)
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
        "milliseconds to adapt and predict one task": milliseconds_per_task(rows),
    }
    for label, cost in costs.items():
        if cost.notna().all():
            plots.append(figure(cost_figure(rows, cost, label, here), f"<b>Score against {label}</b>{FRONT}"))
    return f'<div class="legend">{legend}</div><div class="figures">{"".join(plots)}</div>'

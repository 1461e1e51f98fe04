"""The meta-test tasks that the winner does worst on: what they are, and what it answered."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from autometa.comparison.report.across import leaderboard_on, learner_cell, shown_name
from autometa.comparison.report.canvas import Style
from autometa.comparison.report.each_task import scores_by_task, task_name
from autometa.comparison.report.markup import escape, metric_title, score_text
from autometa.comparison.report.shown import world_row
from autometa.comparison.report.task_drawing import draw_answers
from autometa.comparison.results.hardest import HardestTasks, HardTask
from autometa.comparison.results.record import Record
from autometa.contracts.examples import TaskBatch
from autometa.contracts.plugin_code import one_line, plugin_code
from autometa.contracts.problems import problem_of_metric
from autometa.sampling.views import view_of


def worst_section(record: Record, tasks: str, looks: Mapping[str, Style]) -> str:
    """Pictures of the few tasks that the winner does worst on; empty where nothing was kept of them."""
    hardest = record.hardest.get(tasks)
    if hardest is None:
        return ""
    metric = str(leaderboard_on(record.frames.leaderboard, tasks)["metric"].iloc[0])
    name = shown_name(hardest.who.learner, hardest.who.trained_on, tasks)
    means, drawn, css = scores_by_task(record, tasks), [], "hard"
    for task in hardest.tasks:
        try:
            batch = None if task.episodes else _drawn(hardest, task)
        except Exception as error:  # of a sampler, whose files may be gone
            drawn.append(f'<p class="problem">These tasks cannot be drawn again: {escape(one_line(error))}</p>')
            break
        if batch is None:
            said = _said(record, tasks, task.place, task.score, name, means, metric)
            drawn.append(f"<div>{said}{world_row(task.episodes, f'World {task.place}', name, metric)}</div>")
            continue
        css = "figures" if view_of(batch) == "function" else css
        number = task.place if batch.ids is None else int(batch.ids[0])
        said = _said(record, tasks, number, task.score, name, means, metric)
        drawn.append(f"<div>{said}{draw_answers(record, hardest, task, batch, looks[name])}</div>")
    return (
        f"<h3>{escape(tasks)}: where {learner_cell(name, dict(looks))} does worst</h3>"
        '<p class="note">The meta-test tasks with its worst scores after the first of its meta-trainings.</p>'
        f'<div class="{css}">{"".join(drawn)}</div>'
    )


def _drawn(hardest: HardestTasks, task: HardTask) -> TaskBatch:
    with plugin_code("the task sampler"):
        return hardest.drawn(task)


def _said(record: Record, tasks: str, number: int, score: float, name: str, means: pd.DataFrame, metric: str) -> str:
    """What the task is called, its score, and who does best on it."""
    names = record.task_names.get(tasks, ())
    what = "World " if problem_of_metric(metric).acts else "" if names else "Task "
    of_all = means.loc[number]
    best = of_all.idxmax() if problem_of_metric(metric).higher_is_better else of_all.idxmin()
    said = f"<b>{what}{escape(task_name(number, names))}</b>: {metric_title(metric)} {score_text(score, metric)}"
    said += f", in the mean of all runs {score_text(float(of_all[name]), metric)}"
    if best != name:
        said += f"; the best is {escape(best)} with {score_text(float(of_all[best]), metric)}"
    return f"<p>{said}.</p>"

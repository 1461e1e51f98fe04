"""The meta-test tasks that the winner does worst on: what they are, and what it answered."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from autometa.comparison.report.across import learner_cell, shown_name
from autometa.comparison.report.canvas import Style
from autometa.comparison.report.each_task import scores_by_task, task_name
from autometa.comparison.report.markup import escape, metric_title, score_text
from autometa.comparison.report.shown import world_row
from autometa.comparison.report.task_drawing import draw_answers
from autometa.comparison.results.hardest import HardestTasks, HardTask
from autometa.comparison.results.judged import TrainedLearner
from autometa.comparison.results.record import Record
from autometa.contracts.examples import TaskBatch
from autometa.contracts.plugin_code import one_line, plugin_code
from autometa.contracts.problems import problem_of_metric
from autometa.sampling.views import view_of


def worst_section(record: Record, tasks: str, looks: Mapping[str, Style]) -> str:
    """Pictures of the few tasks that the winner does worst on; empty where nothing was kept of them."""
    rows = record.frames.leaderboard
    winner = rows[(rows["tasks"] == tasks) & (rows["rank"] == 1)].iloc[0]
    who = TrainedLearner(winner["learner"], winner["trained_on"])
    hardest = record.hardest.get(tasks, {}).get(who)
    if hardest is None:
        return ""
    metric, name = str(winner["metric"]), shown_name(*who, tasks)
    means, drawn, css = scores_by_task(record, tasks), [], "hard"
    for task in hardest.tasks:
        try:
            batch = None if task.episodes else _drawn(hardest, task)
        except Exception as error:  # of a sampler, whose files may be gone
            drawn.append(f'<p class="problem">These tasks cannot be drawn again: {escape(one_line(error))}</p>')
            break
        said = _said(record, hardest, task, name, means, metric)
        if batch is None:
            drawn.append(f"<div>{said}{world_row(task.episodes, f'Task {task.number}', name, metric)}</div>")
            continue
        css = "figures" if view_of(batch) == "function" else css
        drawn.append(f"<div>{said}{draw_answers(record, hardest, task, batch, looks[name])}</div>")
    return (
        f"<h3>{escape(tasks)}: where {learner_cell(name, dict(looks))} does worst</h3>"
        '<p class="note">The meta-test tasks with its worst scores after the first of its meta-trainings.</p>'
        f'<div class="{css}">{"".join(drawn)}</div>'
    )


def _drawn(hardest: HardestTasks, task: HardTask) -> TaskBatch:
    with plugin_code("the task sampler"):
        return hardest.drawn(task)


def _said(record: Record, hardest: HardestTasks, task: HardTask, name: str, means: pd.DataFrame, metric: str) -> str:
    """What the task is called, its score, and who does best on it."""
    domain = hardest.domain
    names = record.task_names.get(domain.label, ())
    own_metric = domain.info.metric
    of_all = means.loc[task.number]
    best = of_all.idxmax() if problem_of_metric(metric).higher_is_better else of_all.idxmin()
    said = f"<b>{'' if names else 'Task '}{escape(task_name(task.number, names))}</b>: {metric_title(own_metric)} "
    said += f"{score_text(task.score, own_metric)}, in the mean of all runs "
    said += f"{'' if metric == own_metric else f'{metric_title(metric)} '}{score_text(float(of_all[name]), metric)}"
    if of_all[best] != of_all[name]:
        said += f"; the best is {escape(best)} with {score_text(float(of_all[best]), metric)}"
    return f"<p>{said}.</p>"

"""Scores of the best learners on every meta-test task, those that are hardest for the winner first."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from autometa.comparison.report.across import leaderboard_on, shown_name
from autometa.comparison.report.canvas import Style
from autometa.comparison.report.markup import escape, long_table, metric_title, score_text
from autometa.comparison.results.record import Record
from autometa.contracts.problems import problem_of_metric

COLUMNS = 8
"""Learners shown, the best baseline among them; all are in ``scores.csv``."""
MOST_ROWS = 3000
"""Tasks shown, the hardest ones; a page with more would be slow to open."""


def each_task_section(record: Record, tasks: str, looks: Mapping[str, Style]) -> str:
    """A table with a row for each meta-test task, folded away; empty where no scores are known."""
    means = scores_by_task(record, tasks)
    if means.empty:
        return ""
    rows = leaderboard_on(record.frames.leaderboard, tasks)
    metric = str(rows["metric"].iloc[0])
    higher = problem_of_metric(metric).higher_is_better
    best = means.idxmax(axis=1) if higher else means.idxmin(axis=1)
    names = _columns(rows, means)
    means = means.sort_values(names[0], ascending=higher, kind="stable")
    shown = means.iloc[:MOST_ROWS]
    called = record.task_names.get(tasks, ())
    body = (
        [
            escape(task_name(int(task), called)),
            *(score_text(float(score), metric) for score in scores),
            escape(best.loc[task]),
        ]
        for task, scores in zip(shown.index, shown[names].to_numpy(dtype=float), strict=True)
    )
    columns = [("task", ""), *((name, "n") for name in names), ("best of all", "t")]
    caption = (
        f"{metric_title(metric).capitalize()}, mean over training runs. The hardest for {escape(names[0])} come first."
    )
    if len(names) < means.shape[1]:
        caption += f" Shown are {len(names)} of {means.shape[1]} learners; scores.csv has all of them."
    if len(shown) < len(means):
        caption += f" Shown are {len(shown)} of {len(means)} tasks; scores.csv has all of them."
    return (
        f'<details class="every"><summary>Scores on each of the {len(means)} meta-test tasks</summary>'
        f"{long_table(columns, body, caption=caption)}</details>"
    )


def scores_by_task(record: Record, tasks: str) -> pd.DataFrame:
    """Mean score over runs, a row for each meta-test task and a column for each learner by its shown name."""
    scores = record.frames.scores
    if scores.empty:
        return pd.DataFrame()
    scores = scores[scores["tasks"] == tasks]
    names = list(map(shown_name, scores["learner"], scores["trained_on"], scores["tasks"]))
    return scores.assign(learner=names).pivot_table(index="task", columns="learner", values="score", aggfunc="mean")


def task_name(number: int, names: tuple[str, ...]) -> str:
    """What a task is called: the name of its entity, else its number."""
    return names[number] if number < len(names) else str(number)


def _columns(rows: pd.DataFrame, means: pd.DataFrame) -> list[str]:
    """The best learners in the order of the leaderboard; the last one gives way to the best baseline."""
    ranked = [name for name in rows["learner"] if name in means.columns]
    shown = ranked[:COLUMNS]
    baselines = [name for name in rows.loc[rows["family"] == "baseline", "learner"] if name in ranked]
    if baselines and baselines[0] not in shown:
        shown[-1] = baselines[0]
    return shown

"""One sentence for who decides: which learner, by how much, how sure, and what it costs."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from autometa.comparison.report.across import leaderboard_on, tests_on
from autometa.comparison.report.advice import Beside, advised, entity_word, labelled_words, step_words
from autometa.comparison.report.markup import (
    escape,
    metric_title,
    milliseconds_text,
    p_words,
    score_text,
    seconds_text,
)
from autometa.comparison.report.members import members_words
from autometa.comparison.report.significance import SAYS_NOTHING
from autometa.comparison.results.crossed_effects import ALPHA
from autometa.comparison.results.record import Record
from autometa.contracts.problems import problem_of_metric


def lead_section(record: Record) -> str:
    """The sentence of every task distribution, before anything else; empty where no learner was judged."""
    names = dict.fromkeys(record.frames.leaderboard["tasks"])
    sentences = "".join(f"<li>{escape(sentence_on(record, str(tasks)))}</li>" for tasks in names)
    return f'<ul class="lead">{sentences}</ul>' if sentences else ""


def sentence_on(record: Record, tasks: str) -> str:
    """Return the sentence on a task distribution that learners were judged on."""
    rows = leaderboard_on(record.frames.leaderboard, tasks)
    best, metric = rows.iloc[0], str(rows["metric"].iloc[0])
    held = advised(record, tasks)
    if held is not None:
        best = rows[rows["learner"] == held.learner].iloc[0]
        entity = f"a new {entity_word(record, tasks)} with {labelled_words(record, tasks, held.n_rows)}"
        score = f"{metric_title(metric)} {score_text(held.score, metric)}"
        beside = " and".join(f" {_beside_reference(held.score, one, metric)}" for one in held.beside)
        return f"For {entity}, {held.choice}: {score}{',' * bool(beside)}{beside}{_costs(best, metric)}."
    score = f"{metric_title(metric)} {score_text(best['score'], metric)}"
    return (
        f"On {tasks}, {_who(record, best)}: {score}{_beside_others(record, tasks, rows, metric)}{_costs(best, metric)}."
    )


def _who(record: Record, best: Any) -> str:
    kind = ", a baseline," if best["family"] == "baseline" else ""
    members = members_words(record, best)
    return f"{best['learner']}{kind}{f' ({members})' * bool(members)} does best"


def _beside_reference(score: float, one: Beside, metric: str) -> str:
    return f"{step_words(score, one.score, metric)} {one.words} ({one.learner}; {_sure(one.p_value)})"


def _beside_others(record: Record, tasks: str, rows: pd.DataFrame, metric: str) -> str:
    """Hold the best against the best baseline, or a baseline that is best against the best of the others."""
    best = rows.iloc[0]
    wins = best["family"] == "baseline"
    others = rows[(rows["family"] == "baseline") != wins]
    if others.empty:
        return ""
    other = others.iloc[0]
    what = "the best that is meta-trained" if wins else "the best baseline"
    p_value = _p_beside(record, tasks, str(other["learner"]))
    step = step_words(best["score"], other["score"], metric)
    return f", {step} {what} ({other['learner']}; {_sure(p_value)})"


def _p_beside(record: Record, tasks: str, learner: str) -> float:
    """The p-value of the best against another one, corrected for the number of others; NaN where not decided."""
    for pair in tests_on(record.frames.significance, tasks).itertuples():
        if learner in (pair.learner_a, pair.learner_b) and not math.isnan(pair.p_beside_best):
            return float(pair.p_beside_best)
    return math.nan


def _sure(p_value: float) -> str:
    """Say how sure a difference is."""
    if math.isnan(p_value):
        return f"not decided: {SAYS_NOTHING}"
    return f"{'beyond' if p_value < ALPHA else 'may be'} chance, {p_words(p_value)}"


def _costs(best: Any, metric: str) -> str:
    """Say what a task costs, and the meta-training before the first one."""
    trained, each = float(best["meta_train_seconds"]), float(best["adapt_ms"] + best["predict_ms"])
    if not (math.isfinite(trained) and math.isfinite(each)):
        return ""
    what = "trial in a new world" if problem_of_metric(metric).acts else "task"
    before = f"after {seconds_text(trained)} of meta-training" if trained else "without meta-training"
    return f"; a {what} takes {milliseconds_text(each)} ms, {before}"

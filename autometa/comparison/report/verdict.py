"""The first sentence of a task distribution: which learner, by how much, how sure, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from autometa.comparison.report.across import leaderboard_on, over_limit, tests_on
from autometa.comparison.report.advice import Advice, advice_on, spread_words, step_words
from autometa.comparison.report.markup import (
    interval_text,
    metric_title,
    milliseconds_text,
    p_words,
    score_text,
    seconds_text,
)
from autometa.comparison.report.members import members_words
from autometa.comparison.report.race import tried_words
from autometa.comparison.report.significance import SAYS_NOTHING, verdicts_beside_best
from autometa.comparison.results.crossed_effects import ALPHA
from autometa.comparison.results.record import Record
from autometa.comparison.results.statistics import LEVEL_WITH
from autometa.contracts.problems import problem_of_metric

NAMED = 4
"""Learners level with the best that are named; more are counted."""


def verdict_on(record: Record, tasks: str) -> Advice | None:
    """Say which learner is best on a task distribution; None where none was judged yet."""
    rows = leaderboard_on(record.frames.leaderboard, tasks)
    if rows.empty:
        return None
    barred, best = over_limit(rows), rows.iloc[0]
    found = advice_on(record, tasks) or _advice(record, tasks, rows)
    if members := members_words(record, best):
        found = replace(found, sureness=f"{found.sureness} Votes of the ensemble's members: {members}.".strip())
    if tried := tried_words(record, tasks):
        found = replace(found, sureness=f"{found.sureness} {tried}".strip())
    if not barred:
        return found
    begins = "" if best["learner"] not in barred else "No learner keeps to the limits; these are over them. "
    told = " ".join(filter(None, (found.sureness, _barred(barred, str(best["learner"])))))
    return Advice(answer=begins + found.answer, sureness=told)


def _advice(record: Record, tasks: str, rows: pd.DataFrame) -> Advice:
    """Say which learner is best where tasks are no table."""
    best, metric, barred = rows.iloc[0], str(rows["metric"].iloc[0]), over_limit(rows)
    answer = f"{best['learner']} did best: {metric_title(metric)} {score_text(best['score'], metric)}"
    if not math.isnan(best["ci_low"]):
        answer += f" ({interval_text(best['ci_low'], best['ci_high'], metric)})"
    answer += _share(record, tasks, float(best["score"]))
    baselines = rows[rows["family"] == "baseline"]
    baselines = baselines[~baselines["learner"].isin(barred)] if best["learner"] not in barred else baselines
    sureness = []
    if best["family"] == "baseline":
        answer += ". No meta-learner is better here" if len(rows) > len(baselines) else ""
    elif len(baselines):
        other = baselines.iloc[0]
        answer += f", {step_words(best['score'], other['score'], metric)} the best baseline, {other['learner']}"
        names = str(best["learner"]), str(other["learner"])
        varies = spread_words(record.frames.significance, tasks, names, float(other["score"]), metric)
        sureness.append(_gain(record, tasks, str(other["learner"]), varies))
    sureness += [_level(record, tasks, str(best["learner"])), _cost(best), _untrained(record, tasks, metric)]
    return Advice(answer=f"{answer}.", sureness=" ".join(filter(None, sureness)))


def _barred(barred: Mapping[str, str], best: str) -> str:
    """Name those that cannot win."""
    told = [name for name in barred if name != best]
    if not told:
        return ""
    named = ", ".join(told) if len(told) <= NAMED else f"{len(told)} learners"
    return f"Over a limit, so that {'they' if len(told) > 1 else 'it'} cannot win: {named}."


def _share(record: Record, tasks: str, score: float) -> str:
    """Say how far a return is on the way from acting at random to the best; empty where these are not known."""
    known = record.known_returns.get(tasks, {})
    low, high = known.get("random", math.nan), known.get("best", math.nan)
    if not low < high:
        return ""
    return f", {(score - low) / (high - low):.0%} of the way from acting at random to the best of who knows the world"


def _gain(record: Record, tasks: str, baseline: str, varies: str) -> str:
    """Say whether the best is better than a baseline beyond chance, and how much that varies from run to run."""
    for pair in tests_on(record.frames.significance, tasks).itertuples():
        if baseline not in (pair.learner_a, pair.learner_b) or math.isnan(pair.p_beside_best):
            continue
        sure = "is beyond" if pair.p_beside_best < ALPHA else "may be"
        return f"The gain {sure} chance ({'; '.join(filter(None, (p_words(pair.p_beside_best), varies)))})."
    return f"Whether the gain is beyond chance is not decided: {SAYS_NOTHING}."


def _level(record: Record, tasks: str, best: str) -> str:
    """Name those that may be as good."""
    beside = verdicts_beside_best(record.frames.leaderboard, record.frames.significance, tasks)
    level = [name for name, verdict in beside.items() if verdict == LEVEL_WITH]
    if not level:
        return ""
    named = ", ".join(level) if len(level) <= NAMED else f"{len(level)} others"
    return f"Not found to differ from {best}: {named}."


def _untrained(record: Record, tasks: str, metric: str) -> str:
    """Name the learners whose meta-training did not help: runs of theirs kept the weights that they began with."""
    curves = record.frames.curves
    curves = curves[(curves["tasks"] == tasks) & (curves["axis"] == "outer steps")].dropna(subset=["score"])
    higher = problem_of_metric(metric).higher_is_better
    names = []
    for learner, of in curves.groupby("learner", sort=False):
        runs = [run.sort_values("value") for _, run in of.groupby("seed")]
        trained = [run for run in runs if len(run) > 1]
        signed = [run["score"] if higher else -run["score"] for run in trained]
        # Of equal scores the later one is kept.
        if trained and all(scores.iloc[0] > scores.iloc[1:].max() for scores in signed):
            names.append(str(learner))
    if not names:
        return ""
    return f"Meta-training helped none of the runs of {', '.join(names)}: they kept the weights that they began with."


def _cost(best: Any) -> str:
    """Say what the best takes."""
    trained, each = float(best["meta_train_seconds"]), float(best["adapt_ms"] + best["predict_ms"])
    if not (math.isfinite(trained) and math.isfinite(each)):
        return ""
    trains = f"Meta-training took {seconds_text(trained)}; a" if trained else "It is not meta-trained; a"
    what = "trial in a new world" if problem_of_metric(str(best["metric"])).acts else "new task"
    return f"{trains} {what} takes {milliseconds_text(each)} ms."

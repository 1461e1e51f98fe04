"""What a comparison on a table advises, in words: which learner for a new entity, by how much, and how sure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from autometa.comparison.report.across import leaderboard_on
from autometa.comparison.report.markup import metric_title, p_text, score_text
from autometa.comparison.report.significance import verdicts_beside_best
from autometa.comparison.results.record import Record
from autometa.comparison.results.references import references_in
from autometa.comparison.results.statistics import DIFFERENT, LEVEL_WITH, NOT_DECIDED
from autometa.contracts.problems import problem_of_metric

OWN, POOLED = "a model of its own rows alone", "one model for all"
FEW_ENTITIES = 10
"""Entities to judge on, below which little can be decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The first thing to read about a table."""

    answer: str
    """Which learner, its score, and how it stands beside the pooled model and one of each entity alone."""
    sureness: str
    """How far to believe it."""


def entity_word(record: Record, tasks: str) -> str:
    """What the entities of a table are called: the name of their column."""
    params: Mapping[str, Any] = described_tasks(record)[tasks].get("params", {})
    return str(params.get("task") or "entity")


def described_tasks(record: Record) -> dict[str, Any]:
    """All task distributions of a plan, those judged on alone included."""
    return {**record.plan.get("test_tasks", {}), **record.plan["tasks"]}


def advice_on(record: Record, tasks: str) -> Advice | None:
    """Say what to use for a new entity of a table; None where tasks are no table."""
    if tasks not in record.facts:
        return None
    board = record.frames.leaderboard
    rows = leaderboard_on(board[board["trained_on"] == board["tasks"]], tasks)
    if rows.empty:
        return None
    best = rows.iloc[0]
    references = references_in(record.plan, rows["learner"])
    metric = str(best["metric"])
    known = {references.own: OWN, references.pooled: POOLED}
    said = f" ({known[best['learner']]})" if best["learner"] in known else ""
    entity, shots = entity_word(record, tasks), labelled_words(record, tasks, int(best["n_shot"]))
    beside = [
        (reference, words)
        for reference, words in ((references.pooled, POOLED), (references.own, OWN))
        if reference is not None and reference != best["learner"]
    ]
    tests = [_test(record.frames.significance, tasks, best["learner"], reference) for reference, _ in beside]
    is_sure = all(test is not None and test["verdict"] == DIFFERENT for test in tests)
    choice = f"use {best['learner']}{said}" if is_sure else f"{best['learner']}{said} did best"
    answer = f"For a new {entity} with {shots}, {choice}: {metric_title(metric)} {score_text(best['score'], metric)}"
    answer += "".join(
        f"{', ' if place == 0 else ' and '}{_step(best, _row_of(rows, reference))} {words} ({reference})"
        for place, (reference, words) in enumerate(beside)
    )
    verdicts = [_sure(test, words) for test, (_, words) in zip(tests, beside, strict=True) if test is not None]
    level = _level(record, tasks, best["learner"], [reference for reference, _ in beside])
    sureness = " ".join(filter(None, [*verdicts, level, _few(int(best["n_test_tasks"]), entity)]))
    return Advice(answer=f"{answer}.", sureness=sureness)


def labelled_words(record: Record, tasks: str, n_shot: int) -> str:
    """Say how many labelled rows an entity was judged with, such as ``"5 labelled rows of each class"``."""
    params: Mapping[str, Any] = described_tasks(record)[tasks].get("params", {})
    has_classes = "classes" in record.facts.get(tasks, {})
    each = " of each class" if has_classes and params.get("stratified", True) else ""
    return f"{n_shot} labelled row{'s' * (n_shot != 1)}{each}"


def step_words(score: float, other: float, metric: str) -> str:
    """How a score stands beside another: ``"12% below"``, or of shares ``"3.1 points above"``."""
    if problem_of_metric(metric).is_share:
        size = f"{100 * abs(score - other):.1f} points"
    elif other == 0 or not math.isfinite(other):
        size = score_text(abs(score - other), metric)
    else:
        size = f"{100 * abs(score - other) / abs(other):.0f}%"
    return f"{size} {'above' if score > other else 'below'}"


def _step(best: pd.Series, other: pd.Series) -> str:
    return step_words(float(best["score"]), float(other["score"]), str(best["metric"]))


def _row_of(rows: pd.DataFrame, learner: str) -> pd.Series:
    return rows[rows["learner"] == learner].iloc[0]


def _test(significance: pd.DataFrame, tasks: str, a: str, b: str) -> pd.Series | None:
    """The test of two learners trained and judged on these tasks."""
    if significance.empty:
        return None
    here = significance["tasks"] == tasks
    for side in "ab":
        here &= significance[f"trained_on_{side}"] == tasks
    first, second = significance["learner_a"], significance["learner_b"]
    found = significance[here & (((first == a) & (second == b)) | ((first == b) & (second == a)))]
    return None if found.empty else found.iloc[0]


def _sure(test: pd.Series, words: str) -> str:
    p = p_text(float(test["p_holm"]))
    p = f"p {p}" if p.startswith("<") else f"p = {p}"
    if test["verdict"] == DIFFERENT:
        return f"The gain over {words} is beyond chance ({p})."
    if test["verdict"] == NOT_DECIDED:
        return f"Whether it is better than {words} is not decided: one training run says nothing of a learner."
    return f"The gain over {words} may be chance ({p})."


def _level(record: Record, tasks: str, best: str, told: Sequence[str]) -> str:
    """Count the learners that no test tells from the best, beside those that are told of already."""
    significance = record.frames.significance
    if significance.empty:
        return ""
    beside = verdicts_beside_best(record.frames.leaderboard, significance, tasks)
    n = sum(verdict == LEVEL_WITH and name not in told for name, verdict in beside.items())
    return "" if n == 0 else f"{n} other learner{'s are' if n > 1 else ' is'} level with {best}."


def _few(n_entities: int, entity: str) -> str:
    if n_entities >= FEW_ENTITIES:
        return ""
    return (
        f"Judged on {n_entities} held-out entit{'y' if n_entities == 1 else 'ies'} of column {entity!r} only, which "
        "decide little; --test-fraction holds out more."
    )

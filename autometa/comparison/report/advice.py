"""What a comparison on a table advises, in words: which learner for a new entity, by how much, and how sure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from autometa.comparison.report.across import tests_on
from autometa.comparison.report.markup import metric_title, p_words, score_text
from autometa.comparison.report.significance import SAYS_NOTHING, verdicts_beside_best
from autometa.comparison.results.crossed_effects import ALPHA
from autometa.comparison.results.record import Record
from autometa.comparison.results.references import references_in
from autometa.comparison.results.statistics import LEVEL_WITH
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
    held = advised(record, tasks)
    if held is None:
        return None
    learner, metric, beside, entity = held.learner, held.metric, held.beside, entity_word(record, tasks)
    answer = f"For a new {entity} with {labelled_words(record, tasks, held.n_rows)}, {held.choice}: "
    answer += f"{metric_title(metric)} {score_text(held.score, metric)}"
    answer += "".join(
        f"{' and' if place else ','} {step_words(held.score, one.score, metric)} {one.words} ({one.learner})"
        for place, one in enumerate(beside)
    )
    level = _level(record, tasks, learner, [one.learner for one in beside])
    sureness = [*(one.sureness for one in beside), level, _few(held.n_entities, entity)]
    return Advice(answer=f"{answer}.", sureness=" ".join(filter(None, sureness)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A reference that the best learner is held against."""

    learner: str
    words: str
    score: float
    p_value: float
    """Of the difference, corrected for the number of learners; NaN where it is not decided."""
    varies: str
    """How much the gap varies from run to run, in words."""

    @property
    def sureness(self) -> str:
        """Say how sure the difference is."""
        if math.isnan(self.p_value):
            return f"Whether it is better than {self.words} is not decided: {SAYS_NOTHING}."
        sure = "is beyond" if self.p_value < ALPHA else "may be"
        why = "; ".join(filter(None, (p_words(self.p_value), self.varies)))
        return f"The gain over {self.words} {sure} chance ({why})."


@dataclass(frozen=True, slots=True, kw_only=True)
class Advised:
    """The best learner on a table, and the references that it is held against."""

    learner: str
    metric: str
    score: float
    n_rows: int
    """Labelled rows of an entity."""
    n_entities: int
    is_reference: str
    """What it is called where it is a reference itself, else empty."""
    beside: tuple[Beside, ...]

    @property
    def choice(self) -> str:
        """Say to use it where it is better than both references, else that it did best."""
        who = self.learner + (f" ({self.is_reference})" if self.is_reference else "")
        is_better = bool(self.beside) and all(one.p_value < ALPHA for one in self.beside)
        return f"use {who}" if is_better else f"{who} did best"


def advised(record: Record, tasks: str) -> Advised | None:
    """Find the best learner on a table; None where tasks are no table."""
    found = record.frames.best
    found = found if found.empty else found[found["tasks"] == tasks]
    if found.empty:
        return None
    best = found.iloc[0]
    learner = str(best["learner"])
    references = references_in(record.plan, record.frames.leaderboard["learner"])
    metric = str(best["metric"])
    beside = (
        Beside(
            learner=name,
            words=words,
            score=float(best[key]),
            p_value=float(best[f"{key}_p_holm"]),
            varies=spread_words(record.frames.significance, tasks, (learner, name), float(best[key]), metric),
        )
        for key, name, words in (("pooled", references.pooled, POOLED), ("own", references.own, OWN))
        if name is not None and name != learner
    )
    return Advised(
        learner=learner,
        metric=metric,
        score=float(best["score"]),
        n_rows=int(best["rows"]),
        n_entities=int(best["n_entities"]),
        is_reference={references.own: OWN, references.pooled: POOLED}.get(learner, ""),
        beside=tuple(beside),
    )


def labelled_words(record: Record, tasks: str, n_shot: int) -> str:
    """Say how many labelled rows an entity was judged with, such as ``"5 labelled rows of each class"``."""
    params: Mapping[str, Any] = described_tasks(record)[tasks].get("params", {})
    has_classes = "classes" in record.facts.get(tasks, {})
    each = " of each class" if has_classes and params.get("stratified", True) else ""
    return f"{n_shot} labelled row{'s' * (n_shot != 1)}{each}"


def step_words(score: float, other: float, metric: str) -> str:
    """How a score stands beside another: ``"12% below"``, of shares ``"3.1 points above"``, else ``"0.12 above"``.

    A part of R² or of a log-likelihood, which may be of either sign, would mean nothing.
    """
    problem = problem_of_metric(metric)
    has_zero = problem.acts or not problem.higher_is_better
    if problem.is_share:
        size = f"{100 * abs(score - other):.1f} points"
    elif other == 0 or not math.isfinite(other) or not has_zero:
        size = score_text(abs(score - other), metric)
    else:
        size = f"{100 * abs(score - other) / abs(other):.0f}%"
    return f"{size} {'above' if score > other else 'below'}"


def spread_words(significance: pd.DataFrame, tasks: str, pair: tuple[str, str], other: float, metric: str) -> str:
    """How much the gap of two learners varies from run to run, as :func:`step_words` tells gaps; empty if not known.

    Parameters
    ----------
    significance : DataFrame
    tasks : str
    pair : (str, str)
        Names as shown, in any order.
    other : float
        Score that the gap is told as a share of, where it is one.
    metric : str
    """
    for row in tests_on(significance, tasks).itertuples() if len(significance) else ():
        if {row.learner_a, row.learner_b} == set(pair) and math.isfinite(row.run_spread):
            if problem_of_metric(metric).is_share:
                return f"from run to run it varies by {100 * row.run_spread:.1f} points"
            if other == 0 or not math.isfinite(other):
                return f"from run to run it varies by {score_text(row.run_spread, metric)}"
            return f"from run to run it varies by {_percent(100 * row.run_spread / abs(other))}"
    return ""


def _percent(value: float) -> str:
    return f"{value:.0f}%" if value >= 10 else f"{value:#.2g}%"


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

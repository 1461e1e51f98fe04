"""Ranks and practical equivalence: how far the differences of a leaderboard matter."""

from __future__ import annotations

import math

import pandas as pd

from autometa.comparison.report.across import learner_cell, shown_name
from autometa.comparison.report.canvas import Style
from autometa.comparison.report.markup import difference_text, escape, figure, table
from autometa.comparison.report.rank_figure import rank_figure
from autometa.comparison.results.equivalence import EQUIVALENT, practical_equivalence
from autometa.comparison.results.rank_groups import critical_difference
from autometa.comparison.results.record import Record
from autometa.comparison.results.references import references_in
from autometa.comparison.results.statistics import DIFFERENT
from autometa.contracts.problems import problem_of_metric

DRAWS = 2000
"""Draws from the posterior: a probability of 0.95 has a standard error of 0.005."""


def evidence_section(record: Record, looks: dict[str, Style]) -> str:
    """Of every task distribution: a diagram of ranks, and the best beside each other learner; empty without scores."""
    scores = record.frames.scores
    if scores.empty:
        return ""
    ranks = critical_difference(scores)
    baseline = references_in(record.plan, record.frames.leaderboard["learner"]).own
    equivalence = practical_equivalence(scores, pairs="best", baseline=baseline, n_samples=DRAWS)
    means = practical_equivalence(scores, pairs="best", method="mean", baseline=baseline)
    parts = []
    for tasks in dict.fromkeys(record.frames.leaderboard["tasks"]):
        here = _named(ranks[ranks["tasks"] == tasks], tasks)
        if len(here) < 2:
            continue
        drawn = rank_figure(here, looks, f"Mean ranks of the learners on {tasks}")
        caption = (
            f"<b>Mean rank over {int(here['n'].iloc[0])} tasks</b>, 1 is best. A bar joins learners that the test of "
            "learners does not tell apart; ticks on it are its members."
        )
        parts.append(f"<h3>{escape(tasks)}</h3>{figure(drawn, caption)}")
        pairs = equivalence["tasks"] == tasks
        parts.append(_beside_best(equivalence[pairs], means[pairs], tasks, _metric(record, tasks), looks))
    return "".join(parts)


def _metric(record: Record, tasks: str) -> str:
    board = record.frames.leaderboard
    return str(board.loc[board["tasks"] == tasks, "metric"].iloc[0])


def _named(ranks: pd.DataFrame, tasks: str) -> pd.DataFrame:
    names = [shown_name(row.learner, row.trained_on, tasks) for row in ranks.itertuples()]
    return ranks.assign(learner=names)


def _beside_best(
    pairs: pd.DataFrame, means: pd.DataFrame, tasks: str, metric: str, looks: dict[str, Style]
) -> str:  # fmt: skip
    """How probable it is that the best is practically better than each other learner."""
    best = shown_name(pairs["learner_a"].iloc[0], pairs["trained_on_a"].iloc[0], tasks)
    rope, words = float(pairs["rope"].iloc[0]), str(pairs["rope_words"].iloc[0])
    body = []
    for pair, mean in zip(pairs.itertuples(), means.itertuples(), strict=True):
        css = "better" if pair.verdict == DIFFERENT else "same"
        body.append(
            [
                learner_cell(shown_name(pair.learner_b, pair.trained_on_b, tasks), looks),
                difference_text(pair.difference, metric),
                *map(_probability, (pair.p_a, pair.p_equivalent, pair.p_b)),
                f'<span class="{css}">{escape(pair.verdict)}</span>',
                *map(_probability, (mean.p_a, mean.p_equivalent, mean.p_b)),
                escape(mean.verdict),
            ]
        )
    columns = [
        ("learner", ""),
        (f"{best} minus it", "n"),
        ("best practically better", "n"),
        (EQUIVALENT, "n"),
        ("it practically better", "n"),
        ("verdict on tasks", ""),
        ("best: of means", "n"),
        ("equivalent: of means", "n"),
        ("it: of means", "n"),
        ("verdict on means", ""),
    ]
    unit = " in percentage points" if problem_of_metric(metric).is_share else ""
    caption = (
        f"{escape(best)} beside each other learner; differences{unit}. Differences of up to {rope:.3g}, "
        f"{escape(words)}, count as none. Probabilities by the Bayesian signed-rank test (Benavoli et al. 2017), which "
        "asks about most tasks, and of the means that the leaderboard tells; training runs are random in both. A "
        "verdict needs 95%."
    )
    return f"<details><summary>Practical equivalence</summary>{table(columns, body, caption=caption)}</details>"


def _probability(p: float) -> str:
    return "–" if math.isnan(p) else "&lt; 0.001" if p < 0.001 else "&gt; 0.999" if p > 0.999 else f"{p:.3f}"

"""The leaderboard of one task distribution."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from autometa.comparison.report.across import leaderboard_on, learner_cell, metric_beside, on_front, over_limit
from autometa.comparison.report.canvas import Style
from autometa.comparison.report.markup import (
    difference_text,
    escape,
    interval_text,
    metric_title,
    milliseconds_text,
    p_text,
    score_text,
    seconds_text,
    table,
)
from autometa.comparison.report.significance import CLAIM, verdicts_beside_best
from autometa.comparison.results.record import Record
from autometa.contracts.problems import problem_of_metric

GAP = (
    "Gap to pooled: score minus that of the pooled baseline on the same entities, with its standard error; "
    '<span class="better">better</span> and <span class="worse">worse</span> where the difference is significant '
    "(Holm's correction for the number of learners)."
)
SHARE = "Normalised: 0 is what acting at random gets in these worlds, 1 the best of who knows them."
FRONT = '<span class="badge tie" title="no other has as good a score at no more time and memory">front</span>'
_NOTHING: Mapping[str, float] = {}


def leaderboard_section(record: Record, tasks: str, looks: dict[str, Style]) -> str:
    """Leaderboard of one task distribution."""
    board = record.frames.leaderboard
    beside = verdicts_beside_best(board, record.frames.significance, tasks)
    known, front = record.known_returns.get(tasks, {}), on_front(record.frames.pareto, tasks)
    return leaderboard_table(leaderboard_on(board, tasks), beside, looks, known, front)


def leaderboard_table(
    rows: pd.DataFrame,
    beside: Mapping[str, str],
    looks: dict[str, Style],
    known: Mapping[str, float] = _NOTHING,
    front: Collection[str] = (),
) -> str:
    """The leaderboard of one task distribution, with marks on the best and on those not found to differ from it.

    Those in ``front`` have a mark too: no other beats them in score, time and memory.
    Where the returns of acting at random and of the best are known, scores are told as shares of the way between.
    """
    metric = str(rows["metric"].iloc[0])
    acts = problem_of_metric(metric).acts
    body, marks = [], []
    has_gaps = "gap_to_pooled" in rows.columns and bool(rows["gap_to_pooled"].notna().any())
    low, high = known.get("random", math.nan), known.get("best", math.nan)
    has_shares = low < high
    barred, beside_score = over_limit(rows), metric_beside(rows)
    for row in rows.itertuples():
        badge = '<span class="badge">best</span>' if row.rank == 1 else ""
        badge = f'<span class="badge tie">{escape(beside[row.learner])}</span>' if row.learner in beside else badge
        if row.learner in barred:
            badge = f'<span class="badge tie">{escape(barred[row.learner])}</span>'
        badge += FRONT if row.learner in front else ""
        marks.append("win" if row.rank == 1 and row.learner not in barred else "")
        body.append(
            [
                f"{int(row.rank)}",
                learner_cell(row.learner, looks) + badge,
                f"<b>{score_text(row.score, metric)}</b>",
                interval_text(row.ci_low, row.ci_high, metric),
                difference_text(row.run_spread, metric).lstrip("+"),
                *((score_text(getattr(row, beside_score), beside_score),) if beside_score else ()),
                *((f"{(row.score - low) / (high - low):.3f}",) if has_shares else ()),
                *(_gap_cells(row, metric) if has_gaps else ()),
                f"{int(row.n_test_tasks)}",
                f"{int(row.n_seeds)}",
                escape(row.n_shot),
                escape(row.n_query),
                escape(row.family),
                escape(row.normalization),
                seconds_text(row.meta_train_seconds),
                milliseconds_text(row.adapt_ms),
                milliseconds_text(row.predict_ms),
            ]
        )
    columns = [
        ("rank", "c"),
        ("learner", "s"),
        (metric_title(metric), "n"),
        ("95% interval", "n"),
        ("varies from run to run by", "n"),
        *(((metric_title(beside_score), "n"),) if beside_score else ()),
        *((("normalised", "n"),) if has_shares else ()),
        *((("gap to pooled", "n"), ("p of the gap", "n")) if has_gaps else ()),
        ("test tasks", "n"),
        ("seeds", "n"),
        ("episodes to adapt" if acts else "shots", "n"),
        ("episodes judged" if acts else "queries", "n"),
        ("family", ""),
        ("normalization", ""),
        ("meta-training", "n"),
        ("adapt, ms per task", "n"),
        ("predict, ms per task", "n"),
    ]
    caption = " ".join([CLAIM, *((GAP,) if has_gaps else ()), *((SHARE,) if has_shares else ())])
    return table(columns, body, marks=marks, caption=caption, sortable=True)


def _gap_cells(row: Any, metric: str) -> list[str]:
    """Score minus that of the pooled baseline with its standard error, marked where the difference is significant."""
    if math.isnan(row.gap_to_pooled):
        return ["–", "–"]
    error = "" if math.isnan(row.gap_error) else f" ± {difference_text(row.gap_error, metric).lstrip('+')}"
    text = f"{difference_text(row.gap_to_pooled, metric)}{error}"
    return [f'<span class="{row.gap_verdict or "same"}">{text}</span>', p_text(row.gap_p_holm)]

"""Which learners differ significantly: ties, matrices of differences, and all numbers of the tests."""

from __future__ import annotations

import math

import pandas as pd

from autometa.comparison.report.across import leaderboard_on, learner_cell, over_limit, tests_on
from autometa.comparison.report.canvas import Style
from autometa.comparison.report.markup import difference_text, escape, metric_title, p_text, table
from autometa.comparison.results.crossed_effects import ALPHA, LEVEL
from autometa.comparison.results.record import Record
from autometa.comparison.results.statistics import DIFFERENT, LEVEL_WITH, NOT_DECIDED
from autometa.contracts.problems import problem_of_metric

CLAIM = (
    f"{LEVEL:.0%} interval and tests are of the learner: they count tasks and training runs as random "
    f"(crossed random effects). In {LEVEL:.0%} of comparisons the best of all is among those not found to differ from "
    "the best."
)
"""What a leaderboard claims."""
SAYS_NOTHING = "one training run, or one task, says nothing of a learner"
"""Why something is not decided."""


def verdicts_beside_best(board: pd.DataFrame, significance: pd.DataFrame, tasks: str) -> dict[str, str]:
    """Verdict of the test against the best on ``tasks``, by shown name, for those not found to differ from it.

    Learners over a limit are not among them: they cannot win.
    """
    rows = leaderboard_on(board, tasks)
    best, barred = rows["learner"].iloc[0], over_limit(rows)
    found: dict[str, str] = {}
    for pair in tests_on(significance, tasks).itertuples():
        if best not in (pair.learner_a, pair.learner_b) or pair.p_beside_best < ALPHA:
            continue
        other = pair.learner_b if pair.learner_a == best else pair.learner_a
        if other in barred:
            continue
        found[other] = NOT_DECIDED if math.isnan(pair.p_value) else LEVEL_WITH
    return found


def runs_wanted(significance: pd.DataFrame) -> str:
    """Say what would decide what is not decided; empty where all is."""
    undecided = significance[significance["verdict"] == NOT_DECIDED]
    runs = undecided["runs_needed"].dropna()
    said = []
    if len(runs):
        said.append(
            "One training run says nothing about a learner, only about the model that it gave: not decided. "
            f"{int(runs.max())} runs (--seeds) usually decide."
        )
    if len(runs) < len(undecided):
        said.append("One task says nothing about others: not decided. Judge on more (--n-test-tasks).")
    return " ".join(said)


def significance_section(record: Record, looks: dict[str, Style]) -> str:
    """Every pair of learners: a matrix of differences, and all numbers below it."""
    said = (
        "<p>Tests of learners, on the same held-out tasks: tasks and training runs are both random, so a difference "
        "counts if other runs on other tasks would show it too (crossed random effects, Satterthwaite's degrees of "
        "freedom), with Holm's correction for the number of pairs of a task distribution; the leaderboard asks less, "
        "which of them may be the best, one-sided and corrected for the number of the others. Read along a row: "
        '<span class="better">better</span> or <span class="worse">worse</span> than the learner of the column '
        f'(p &lt; {ALPHA}), or <span class="same">no difference found or not decided</span>. '
        f"{runs_wanted(record.frames.significance)}</p>"
    )
    parts = []
    for tasks in dict.fromkeys(record.frames.leaderboard["tasks"]):
        pairs = tests_on(record.frames.significance, tasks)
        if not len(pairs):
            parts.append(f"<h3>{escape(tasks)}</h3><p>Only one learner finished: there is nothing to compare.</p>")
            continue
        rows = leaderboard_on(record.frames.leaderboard, tasks)
        metric = str(rows["metric"].iloc[0])
        unit = " in percentage points" if problem_of_metric(metric).is_share else ""
        parts.append(f"<h3>{escape(tasks)}</h3>")
        parts.append(
            difference_matrix(
                pairs,
                list(rows["learner"]),
                metric,
                looks,
                f"Difference of {metric_title(metric)}{unit}",
            )
        )
        parts.append(pairs_table(pairs, metric))
    return said + "".join(parts)


def difference_matrix(
    pairs: pd.DataFrame, learners: list[str], metric: str, looks: dict[str, Style], caption: str
) -> str:
    """Row minus column for every pair of learners."""
    cells: dict[tuple[str, str], str] = {}
    for pair in pairs.itertuples():
        for a, b, sign in ((pair.learner_a, pair.learner_b, 1), (pair.learner_b, pair.learner_a, -1)):
            difference = sign * pair.difference
            good = (difference > 0) if problem_of_metric(metric).higher_is_better else (difference < 0)
            css = "same" if pair.verdict != DIFFERENT else "better" if good else "worse"
            cells[a, b] = f'<span class="{css}">{difference_text(difference, metric)}</span>'
    columns = [("", ""), *((name, "n") for name in learners)]
    body = [
        [learner_cell(a, looks), *("" if a == b else cells.get((a, b), "–") for b in learners)]
        for a in learners
    ]  # fmt: skip
    return table(columns, body, caption=caption)


def pairs_table(pairs: pd.DataFrame, metric: str) -> str:
    """All numbers of the significance tests, folded away on screen."""
    body = [
        [
            f"{escape(pair.learner_a)} − {escape(pair.learner_b)}",
            difference_text(pair.difference, metric),
            f"{difference_text(pair.ci_low, metric)} … {difference_text(pair.ci_high, metric)}",
            difference_text(pair.run_spread, metric).lstrip("+"),
            p_text(pair.p_value),
            p_text(pair.p_holm),
            "" if math.isnan(pair.p_beside_best) else p_text(pair.p_beside_best),
            escape(pair.verdict),
            "" if math.isnan(pair.runs_needed) else str(int(pair.runs_needed)),
            p_text(pair.p_models),
        ]
        for pair in pairs.sort_values("p_holm").itertuples()
    ]
    columns = [
        ("pair", ""),
        ("difference", "n"),
        ("95% interval", "n"),
        ("varies from run to run by", "n"),
        ("p", "n"),
        ("p (Holm)", "n"),
        ("p beside the best", "n"),
        ("verdict", ""),
        ("runs that decide", "n"),
        ("p of these models over tasks", "n"),
    ]
    numbers = table(columns, body, sortable=True)
    return f"<details><summary>Intervals and p-values of all {len(pairs)} pairs</summary>{numbers}</details>"

"""Which learners differ significantly: ties, matrices of differences, and all numbers of the tests."""

from __future__ import annotations

import pandas as pd

from autometa.comparison.report.across import leaderboard_on, learner_cell, tests_on
from autometa.comparison.report.canvas import Style
from autometa.comparison.report.markup import difference_text, escape, metric_title, p_text, table
from autometa.comparison.results.record import Record
from autometa.contracts.problems import problem_of_metric

ALPHA = 0.05
"""Level of significance, after Holm's correction."""


def ties_with_best(board: pd.DataFrame, significance: pd.DataFrame, tasks: str) -> set[str]:
    """Shown names of those whose scores on ``tasks`` do not differ significantly from the best (Holm, 5%)."""
    best = leaderboard_on(board, tasks)["learner"].iloc[0]
    rows = tests_on(significance, tasks)
    rows = rows[rows["p_holm"] >= ALPHA]
    first, second = rows["learner_a"], rows["learner_b"]
    return {*second[first == best], *first[second == best]}


def significance_section(record: Record, names: list[str], looks: dict[str, Style]) -> str:
    """Every pair of learners: a matrix of differences, and all numbers below it."""
    said = (
        "<p>Wilcoxon signed-rank tests, paired over the same held-out tasks, with Holm's correction for the number of "
        "pairs of a task distribution. Read along a row: "
        '<span class="better">better</span> or <span class="worse">worse</span> than the learner of the column '
        f'(p &lt; {ALPHA}), or <span class="same">no significant difference</span>.</p>'
    )
    parts = []
    for tasks in names:
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
            css = "same" if not pair.p_holm < ALPHA else "better" if good else "worse"
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
            p_text(pair.p_value),
            p_text(pair.p_holm),
            "yes" if pair.p_holm < ALPHA else "no",
        ]
        for pair in pairs.sort_values("p_holm").itertuples()
    ]
    columns = [
        ("pair", ""),
        ("difference", "n"),
        ("95% interval", "n"),
        ("p", "n"),
        ("p (Holm)", "n"),
        ("significant", "c"),
    ]
    return (
        f"<details><summary>Intervals and p-values of all {len(pairs)} pairs</summary>{table(columns, body)}</details>"
    )

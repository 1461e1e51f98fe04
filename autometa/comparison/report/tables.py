"""What the report says of a table: advice, scores by labelled rows, who gains by sharing, calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from autometa.comparison.execution.calibration import LEVEL
from autometa.comparison.report.across import leaderboard_on, learner_cell
from autometa.comparison.report.advice import OWN, POOLED, advice_on, entity_word, labelled_words, step_words
from autometa.comparison.report.canvas import Style
from autometa.comparison.report.markup import (
    difference_text,
    escape,
    interval_text,
    metric_title,
    p_text,
    score_text,
    table,
)
from autometa.comparison.report.verdict import verdict_on
from autometa.comparison.results.crossed_effects import ALPHA
from autometa.comparison.results.record import Record
from autometa.comparison.results.references import references_in
from autometa.contracts.problems import problem_of_metric

WORST, BEST = 5, 5
"""Entities shown that are hurt most, and that gain most."""
DRAWN = 8
"""Learners drawn over labelled rows, beside the baselines."""
TOLERANCE = (0.85, 0.95)
"""Coverage of 90% intervals that counts as calibrated."""


def advice_section(record: Record, tasks: str, looks: Mapping[str, Style]) -> str:
    """The first sentence: which learner, by how much, and how sure; of a table also how it is divided."""
    verdict = verdict_on(record, tasks)
    if verdict is None:
        return ""
    text = f'<p class="advice"><b>{escape(verdict.answer)}</b> {escape(verdict.sureness)}</p>'
    if advice_on(record, tasks) is not None:
        text += f'<p class="note">{escape(split_words(record, tasks))}</p>'
    return text


def split_words(record: Record, tasks: str) -> str:
    """How the entities of a table are divided, and how many are left out."""
    facts = record.facts[tasks]
    sizes, rows = facts["tasks"], facts["rows per task"]
    left_out = facts.get("tasks left out", 0)
    text = (
        f"Entities (column {entity_word(record, tasks)!r}): {sizes['train']} to meta-train on, {sizes['valid']} to "
        f"tune on, {sizes['test']} to judge on; {rows['fewest']} to {rows['most']} rows each, the median "
        f"{rows['median']:g}."
    )
    return text + (f" {left_out} with too few rows are left out." if left_out else "")


def curves_to_draw(record: Record, tasks: str, curves: pd.DataFrame) -> pd.DataFrame:
    """Curves over labelled rows of the best learners and of the baselines; more would be a tangle."""
    rows = leaderboard_on(record.frames.leaderboard, tasks)
    baselines = rows.loc[rows["family"] == "baseline", "learner"]
    shown = {*rows["learner"].iloc[:DRAWN], *baselines}
    return curves[curves["learner"].isin(shown)]


def table_sections(record: Record, tasks: str, looks: dict[str, Style]) -> str:
    """All that is said of a table after its leaderboard; empty where tasks are no table."""
    if tasks not in record.facts:
        return ""
    return labelled_section(record, tasks, looks) + entities_section(record, tasks, looks)


def labelled_section(record: Record, tasks: str, looks: dict[str, Style]) -> str:
    """The best learner for every number of labelled rows, and the scores of all."""
    best, labelled = (_of(frame, tasks) for frame in (record.frames.best_by_rows, record.frames.labelled_rows))
    if best.empty:
        return ""
    metric = str(best["metric"].iloc[0])
    body = [
        [
            f"{int(row.rows)}",
            learner_cell(row.learner, looks),
            f"<b>{score_text(row.score, metric)}</b>",
            interval_text(row.ci_low, row.ci_high, metric),
            *_beside(row.score, row.pooled, row.pooled_p_holm, row.gap_to_pooled, metric),
            *_beside(row.score, row.own, row.own_p_holm, row.gap_to_own, metric),
        ]
        for row in best.itertuples()
    ]
    columns = [("labelled rows", "c"), ("best learner", "s"), (metric_title(metric), "n"), ("95% interval", "n")]
    columns += [(title, css) for name in (POOLED, OWN) for title, css in ((f"beside {name}", ""), ("p (Holm)", "n"))]
    caption = (
        f"Every learner judged on the same {int(best['n_entities'].iloc[0])} held-out entities and query rows, "
        "whatever the number of labelled rows; an entity with fewer gives those it has. These rows are not those of "
        "the leaderboard. Learners that cannot answer without a labelled row have no score at 0. The best of many is "
        "chosen by the scores shown, which are a little too good for it; p counts the learners, not the numbers of "
        "rows."
    )
    return (
        f"<h3>{escape(tasks)}: by the number of labelled rows</h3>{table(columns, body, caption=caption)}"
        + _all_scores(record, tasks, labelled, metric, looks)
    )


def _beside(score: float, other: float, p_holm: float, gap: float, metric: str) -> list[str]:
    """Cells that hold a score against a reference; where it is the reference itself, or there is none, dashes."""
    if math.isnan(gap):
        return ["–", "–"]
    good = (gap > 0) == problem_of_metric(metric).higher_is_better
    css = "same" if not p_holm < ALPHA else "better" if good else "worse"
    return [f'<span class="{css}">{escape(step_words(score, other, metric))}</span>', p_text(p_holm)]


def _all_scores(
    record: Record, tasks: str, labelled: pd.DataFrame, metric: str, looks: dict[str, Style]
) -> str:  # fmt: skip
    means = labelled.pivot_table(index="learner", columns="rows", values="score", aggfunc="mean")
    names = [name for name in leaderboard_on(record.frames.leaderboard, tasks)["learner"] if name in means.index]
    higher = problem_of_metric(metric).higher_is_better
    best = means.max() if higher else means.min()
    body = [
        [
            learner_cell(name, looks),
            *(
                f"<b>{score_text(value, metric)}</b>" if value == best[rows] else score_text(value, metric)
                for rows, value in means.loc[name].items()
            ),
        ]
        for name in names
    ]
    columns = [("learner", ""), *((f"{rows} row{'s' * (rows != 1)}", "n") for rows in means.columns)]
    found = table(columns, body, caption=f"{metric_title(metric).capitalize()} by labelled rows, mean over entities.")
    return f"<details><summary>Scores of all {len(names)} learners</summary>{found}</details>"


def entities_section(record: Record, tasks: str, looks: dict[str, Style]) -> str:
    """How many entities gain by what is shared and how many are hurt; those hurt most, and those that gain most."""
    entities = _of(record.frames.entities, tasks)
    if entities.empty:
        return ""
    rows = leaderboard_on(record.frames.leaderboard, tasks)
    metric, learner = str(rows["metric"].iloc[0]), str(entities["learner"].iloc[0])
    word = entity_word(record, tasks)
    shots = labelled_words(record, tasks, int(rows["n_shot"].iloc[0]))
    columns = {"gain_over_own": OWN, "gain_over_pooled": POOLED}
    if learner == references_in(record.plan, rows["learner"]).pooled or entities["gain_over_pooled"].isna().all():
        del columns["gain_over_pooled"]
    said = " ".join(gains_words(entities, learner, words, column) for column, words in columns.items())
    parts = [f"<h3>{escape(tasks)}: which gain and which are hurt by sharing</h3><p>{escape(said)}</p>"]
    for column, words in columns.items():
        hurt = entities[entities[column] < 0].sort_values(column).head(WORST)
        if len(hurt):
            parts.append(_entity_table(hurt, word, metric, f"Hurt most beside {words}, with {shots}."))
    gaining = entities[entities["gain_over_own"] > 0].iloc[::-1].head(BEST)
    if len(gaining):
        parts.append(_entity_table(gaining, word, metric, f"Gain most beside {OWN}, with {shots}."))
    every = _entity_table(entities, word, metric, f"Those hurt most beside {OWN} first.")
    parts.append(f"<details><summary>All {len(entities)} entities</summary>{every}</details>")
    return "".join(parts)


def gains_words(entities: pd.DataFrame, learner: str, reference: str, column: str) -> str:
    """Count who gains and who is hurt beside a reference."""
    gains = entities[column]
    n, n_gain, n_hurt = len(gains), int((gains > 0).sum()), int((gains < 0).sum())
    rest = n - n_gain - n_hurt
    text = f"Beside {reference}, {n_gain} of {n} entities gain with {learner}, {_are(n_hurt)} hurt"
    return text + (f", {_are(rest)} level." if rest else ".")


def _are(n: int) -> str:
    return f"{n} {'is' if n == 1 else 'are'}"


def _entity_table(entities: pd.DataFrame, word: str, metric: str, caption: str) -> str:
    body = [
        [
            escape(row.entity),
            score_text(row.score, metric),
            score_text(row.own, metric),
            _gain(row.gain_over_own, metric),
            score_text(row.pooled, metric),
            _gain(row.gain_over_pooled, metric),
        ]
        for row in entities.itertuples()
    ]
    learner = str(entities["learner"].iloc[0])
    columns = [(word, ""), (learner, "n"), (OWN, "n"), ("gain", "n"), (POOLED, "n"), ("gain", "n")]
    return table(columns, body, caption=f"{escape(caption)} {escape(metric_title(metric).capitalize())}; + is a gain.")


def _gain(gain: float, metric: str) -> str:
    css = "better" if gain > 0 else "worse" if gain < 0 else "same"
    return f'<span class="{css}">{difference_text(gain, metric)}</span>'


MEASURES = {
    "coverage": f"Share of queries within {LEVEL:.0%} intervals. Bold: {TOLERANCE[0]:.0%} to {TOLERANCE[1]:.0%}, as it "
    "should be. Intervals are as learners tell them; an estimator scales them to meta-valid tasks. Learners that "
    "predict no distribution are not here.",
    "log_loss": "Log loss of the probabilities: lower is better. Bold: the lowest.",
    "calibration_error": "Expected calibration error: how far the probability of the answer is from the share of right "
    "answers, in the mean. Bold: the lowest.",
}
"""What is measured of a learner's doubt, and how to read it."""


def calibration_section(record: Record, tasks: str, looks: dict[str, Style]) -> str:
    """How far learners' own doubt can be believed; of tables, by the number of labelled rows."""
    calibration = _of(record.frames.calibration, tasks)
    ranked = list(leaderboard_on(record.frames.leaderboard, tasks)["learner"])
    measures = [name for name in MEASURES if len(calibration) and calibration[name].notna().any()]
    if not measures:
        return ""
    parts = [f"<h3>{escape(tasks)}: calibration, or can its own doubt be believed?</h3>"]
    if len(set(calibration["rows"])) > 1:
        for name in measures:
            means = calibration.pivot_table(index="learner", columns="rows", values=name, aggfunc="mean")
            body = _measure_rows(means, dict.fromkeys(means.columns, name), ranked, looks)
            columns = [("learner", ""), *((f"{rows} row{'s' * (rows != 1)}", "n") for rows in means.columns)]
            parts.append(table(columns, body, caption=MEASURES[name]))
    else:
        means = calibration.groupby("learner")[measures].mean()
        columns = [("learner", ""), *((name.replace("_", " "), "n") for name in measures)]
        body = _measure_rows(means, {name: name for name in measures}, ranked, looks)
        parts.append(table(columns, body, caption=" ".join(MEASURES[name] for name in measures)))
    return "".join(parts)


def _measure_rows(
    means: pd.DataFrame, measured: Mapping[Any, str], ranked: list[str], looks: dict[str, Style]
) -> list[list[str]]:
    """A row for each learner, a cell for each column of ``means``, whose measures are known."""
    least = means.min()
    return [
        [learner_cell(name, looks), *(_measure_cell(means.loc[name, key], measured[key], least[key]) for key in means)]
        for name in ranked
        if name in means.index
    ]


def _measure_cell(value: float, measure: str, least: float) -> str:
    if math.isnan(value):
        return "–"
    text = (
        f"{value:.3f}"
        if measure == "log_loss"
        else f"{100 * value:.0f}%"
        if measure == "coverage"
        else f"{100 * value:.1f}%"
    )
    stands_out = TOLERANCE[0] <= value <= TOLERANCE[1] if measure == "coverage" else value == least
    return f"<b>{text}</b>" if stands_out else text


def _of(frame: pd.DataFrame, tasks: str) -> pd.DataFrame:
    return frame if frame.empty else frame[frame["tasks"] == tasks]

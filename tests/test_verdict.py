"""The first sentence of a report: which learner, by how much, how sure, and what it costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from autometa.comparison.report.markup import p_text, p_words
from autometa.comparison.report.page import render
from autometa.comparison.report.sentence import sentence_on
from autometa.comparison.report.verdict import verdict_on
from autometa.comparison.results.record import Record
from test_report import made_up

pytestmark = pytest.mark.pictures


def with_board(record: Record, **changes: object) -> Record:
    """The record with other values in the first row of its leaderboard."""
    board = record.frames.leaderboard.copy()
    for name, value in changes.items():
        board.loc[0, name] = value
    return replace(record, frames=replace(record.frames, leaderboard=board))


def test_the_best_is_held_against_the_best_baseline() -> None:
    record = made_up(("glyphs",))
    verdict = verdict_on(record, "glyphs")
    board = record.frames.leaderboard.set_index("learner")["score"]
    assert verdict is not None
    gain = 100 * (board["prototypical"] - board["sklearn"])
    assert verdict.answer.startswith(f"prototypical did best: accuracy {100 * board['prototypical']:.1f}% (")
    assert verdict.answer.endswith(f"{gain:.1f} points above the best baseline, sklearn.")
    assert "The gain is beyond chance (p < 0.001; from run to run it varies by 1.0 points)." in verdict.sureness
    assert "Not found to differ from prototypical: ridge." in verdict.sureness
    assert "Meta-training took " in verdict.sureness


def test_of_errors_the_gain_is_a_share() -> None:
    verdict = verdict_on(made_up(("sinusoid",)), "sinusoid")
    assert verdict is not None
    assert verdict.answer.endswith("% below the best baseline, sklearn.")
    other = made_up(("sinusoid",)).frames.leaderboard.set_index("learner").loc["sklearn", "score"]
    assert f"; from run to run it varies by {1 / other:#.2g}%)." in verdict.sureness


def test_a_gain_that_is_not_sure_is_not_called_so() -> None:
    record = made_up(("glyphs",))
    pairs = record.frames.significance.assign(p_beside_best=lambda of: of["p_beside_best"] + 0.2)
    verdict = verdict_on(replace(record, frames=replace(record.frames, significance=pairs)), "glyphs")
    assert verdict is not None
    assert "The gain may be chance (p = 0.200; from run to run it varies by 1.0 points)." in verdict.sureness
    nothing = pairs.assign(p_beside_best=np.nan)
    verdict = verdict_on(replace(record, frames=replace(record.frames, significance=nothing)), "glyphs")
    assert verdict is not None
    assert "not decided: one training run, or one task, says nothing of a learner" in verdict.sureness


def test_a_baseline_that_wins_says_that_no_meta_learner_is_better() -> None:
    verdict = verdict_on(with_board(made_up(("glyphs",)), learner="plain", family="baseline"), "glyphs")
    assert verdict is not None
    assert verdict.answer.startswith("plain did best: ")
    assert verdict.answer.endswith("No meta-learner is better here.")


def test_a_return_is_told_as_a_share_of_the_way_to_the_best() -> None:
    record = replace(made_up(("glyphs",)), known_returns={"glyphs": {"random": 0.0, "best": 1.0}})
    score = record.frames.leaderboard["score"].iloc[0]
    verdict = verdict_on(record, "glyphs")
    assert verdict is not None
    assert f"{score:.0%} of the way from acting at random to the best" in verdict.answer


def test_learners_that_meta_training_did_not_help_are_named() -> None:
    record = made_up(("glyphs",))
    assert "kept the weights" not in getattr(verdict_on(record, "glyphs"), "sureness", "")
    curves = record.frames.curves.copy()
    begins = (curves["learner"] == "maml") & (curves["axis"] == "outer steps") & (curves["value"] == 0)
    curves.loc[begins, "score"] = 0.999
    verdict = verdict_on(replace(record, frames=replace(record.frames, curves=curves)), "glyphs")
    assert verdict is not None
    assert (
        "Meta-training helped none of the runs of maml: they kept the weights that they began with." in verdict.sureness
    )


def test_nothing_is_said_where_nothing_was_judged() -> None:
    record = made_up(("glyphs",))
    empty = record.frames.leaderboard.iloc[:0]
    assert verdict_on(replace(record, frames=replace(record.frames, leaderboard=empty)), "glyphs") is None


@pytest.mark.thorough
def test_every_section_of_the_report_begins_with_it() -> None:
    record = made_up()
    page = render(record)
    for tasks in ("glyphs", "digits", "sinusoid"):
        verdict = verdict_on(record, tasks)
        assert verdict is not None
        assert f"<b>{verdict.answer}</b>" in page


@pytest.mark.parametrize(
    ("p", "text", "words"),
    [
        (0.0123, "0.012", "p = 0.012"),
        (1e-5, "< 0.001", "p < 0.001"),
        (1.0, "> 0.999", "p > 0.999"),
        (np.nan, "–", "p = –"),
    ],
)
def test_p_values_are_told_as_far_as_they_mean_something(p: float, text: str, words: str) -> None:
    assert (p_text(p), p_words(p)) == (text, words)


def test_an_ensemble_that_wins_is_told_with_its_members() -> None:
    record = with_board(made_up(("glyphs",)), learner="ensemble", family="ensemble")
    rows = [(0, "ridge", 0.75), (0, "maml", 0.25), (1, "ridge", 1.0), (1, "maml", 0.0), (1, "anil", np.nan)]
    members = pd.DataFrame(rows, columns=["seed", "learner", "share"]).assign(tasks="glyphs", reason="")
    record = replace(record, frames=replace(record.frames, members=members))
    verdict = verdict_on(record, "glyphs")
    assert verdict is not None
    assert verdict.answer.startswith("ensemble did best")
    assert verdict.sureness.endswith("Votes of the ensemble's members: ridge 88%, maml 12%.")
    assert sentence_on(record, "glyphs").startswith("On glyphs, ensemble (ridge 88%, maml 12%) does best")
    seven = pd.DataFrame({"learner": list("abcdefg"), "share": 1 / 7}).assign(tasks="glyphs", seed=0, reason="")
    verdict = verdict_on(replace(record, frames=replace(record.frames, members=seven)), "glyphs")
    assert verdict is not None
    assert verdict.sureness.endswith(": a 14%, b 14%, c 14%, d 14% and 3 more.")
    verdict = verdict_on(with_board(record, learner="ridge", family="metric"), "glyphs")
    assert verdict is not None
    assert "Votes" not in verdict.sureness

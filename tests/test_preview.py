"""``am.preview`` and ``autometa compare --dry-run``: what would be done, and for how long."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Self

import optuna
import pytest

import autometa as am
from autometa.cli import main
from test_comparison import Mean

FEW: dict[str, Any] = {
    "n_trials": 4,
    "n_seeds": 2,
    "n_test_tasks": 20,
    "n_valid_tasks": 5,
    "max_steps": 10,
    "tasks_per_step": 2,
    "baselines": False,
    "device": "cpu",
}


class Breaks(Mean):
    """Can be built and never adapts."""

    def adapt(self, module: Any, support: am.Examples) -> Any:
        raise ValueError("no luck")


class Fixed(Mean):
    """Has nothing to tune."""

    @classmethod
    def suggest(cls, trial: optuna.Trial, info: am.TaskInfo) -> Self:
        return cls()


@pytest.mark.thorough
def test_it_counts_what_the_comparison_does() -> None:
    learners = {"ridge": "ridge", "mean": Mean(), "fixed": Fixed()}
    seen = am.preview("sinusoid", learners, **FEW)
    done = am.compare("sinusoid", learners, **FEW, verbose=0)
    tried = done.trials.groupby("learner").size().to_dict()
    assert dict(zip(seen.pairs["learner"], seen.pairs["trials"], strict=True)) == tried
    assert seen.n_slots == len(done.trials) + 3 * 2
    assert seen.pairs.set_index("learner")["steps"].to_dict() == {"ridge": 10, "mean": 0, "fixed": 0}
    ranges = {(row.learner, row.parameter): (row.range, row.default) for row in seen.searched.itertuples()}
    assert ranges["mean", "learner__scale"] == ("0.5 – 5", 3.0)
    assert ranges["ridge", "learner__regularization"] == ("0.01 – 100 (log)", 1.0)
    assert not any(learner == "fixed" for learner, _ in ranges)


def test_the_time_is_that_of_a_step_and_a_judged_task_times_their_numbers() -> None:
    seen = am.preview("sinusoid", ["ridge", Mean()], **FEW)
    ridge, mean = (row for row in seen.pairs.itertuples())
    assert ridge.step_seconds > 0
    assert ridge.train_seconds == pytest.approx(6 * 10 * ridge.step_seconds)
    assert mean.train_seconds == 0.0
    judged = 4 * 4 * 5 + 2 * (5 * 5 + 20 + 10 + 20)  # four looks of a trial, five of a final, test tasks, times, curve
    assert ridge.judge_seconds == pytest.approx(judged * ridge.judge_ms / 1000)
    assert seen.seconds == pytest.approx(ridge.seconds + mean.seconds)
    assert am.preview("sinusoid", [Mean()], **FEW, n_workers=2).pairs["judge_ms"].gt(0).all()


def test_with_a_budget_the_time_to_train_is_arithmetic() -> None:
    seen = am.preview(["sinusoid", "harmonics"], ["ridge", Mean()], **FEW, budget=30)
    assert seen.pairs["train_seconds"].tolist() == [30.0, 0.0, 30.0, 0.0]
    assert seen.pairs["step_seconds"].isna().all()


def test_a_joint_search_has_first_trials_and_what_it_chooses() -> None:
    seen = am.preview("sinusoid", ["ridge", Mean()], **FEW, budget=6, search="joint")
    assert seen.pairs[["learner", "trials", "finals"]].to_numpy().tolist() == [
        ["ridge", 1, 0],
        ["Mean", 1, 0],
        ["joint", 2, 2],
    ]
    assert seen.n_slots == 6
    assert seen.pairs["train_seconds"].tolist() == [1.0, 0.0, 2.0]


@pytest.mark.thorough
def test_what_cannot_be_timed_or_cannot_work_says_why() -> None:
    seen = am.preview("sinusoid", ["ridge", Breaks()], **FEW)
    _, breaks = (row for row in seen.pairs.itertuples())
    assert breaks.problem == "ValueError: no luck"
    assert math.isnan(breaks.seconds)
    assert seen.seconds > 0
    both = am.preview(["sinusoid", "glyphs"], ["ridge", "prototypical"], **{**FEW, "budget": 1})
    assert both.skipped[["tasks", "learner"]].to_numpy().tolist() == [["sinusoid", "prototypical"]]
    with pytest.raises(am.InvalidParameter, match="n_trials=0"):
        am.preview("sinusoid", ["ridge"], **{**FEW, "n_trials": 0})


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("autometa.comparison.call.Call.go", lambda call: 1 / 0)
    typed = ["compare", "--tasks", "sinusoid,glyphs:size=8", "--learners", "prototypical,ridge", "--trials", "4"]
    typed += ["--seeds", "2", "--budget", "60", "--output", "run", "--valid-tasks", "4", "--dry-run"]
    assert main(typed) == 0
    said = capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert "left out: prototypical on sinusoid" in said
    assert "learner__temperature" in said
    assert "0.1 – 10 (log)" in said
    # Of 60 seconds for 6 runs each: ridge twice, prototypical; scikit-learn has nothing to meta-train.
    assert "20 trials and 10 final runs" in said
    assert "3 min 00 s of meta-training (by the budget)" in " ".join(said.split())
    assert main([*typed, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["n_slots"] == 30
    assert {row["learner"] for row in told["pairs"]} == {"ridge", "prototypical", "sklearn"}
    assert told["skipped"][0]["learner"] == "prototypical"
    limited = ["compare", "--tasks", "sinusoid", "--learners", "ridge", "--search", "race", "--time-budget", "40s"]
    assert main([*limited, "--trials", "2", "--dry-run"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "of these as many as 40.0 s on 1 process leave time for" in said
    assert "about 40.0 s" not in said

"""Limits of latency and memory: who is over one stays in the tables and cannot win."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import autometa as am
from autometa.cli import main
from autometa.comparison.execution import finals, trial
from autometa.comparison.plan.settings import Settings
from autometa.comparison.report.significance import verdicts_beside_best
from autometa.comparison.report.text import as_csv, as_markdown
from autometa.comparison.results.entities import entities_of
from autometa.comparison.results.labelled_rows import best_by_rows
from autometa.comparison.results.references import References
from autometa.comparison.results.statistics import significance_of
from autometa.engine.size import MEBIBYTE
from autometa.training import MetaTraining
from test_comparison import FAST, Mean, Trained
from test_growth import Counted
from test_kept_best import Spoils
from tiers import first_by_default

FEW: dict[str, Any] = {**FAST, "n_trials": 1, "n_seeds": 2}
SLOW = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times that do not depend on the machine: learners with a scale of 1 are slow, and all others quick."""

    def told(training: MetaTraining, domain: Any, split: str = "test") -> dict[str, float]:
        slow = getattr(training.learner, "scale", 0) == 1
        return {"adapt_ms": SLOW if slow else 1.0, "predict_ms": 1.0}

    monkeypatch.setattr(finals, "milliseconds_per_task", told)
    monkeypatch.setattr(trial, "milliseconds_per_task", told)


class Sized(Mean):
    """A mean with a linear map of ``width`` numbers that changes no answer; counts the steps that it is trained."""

    default_meta_optimizer: ClassVar[str | None] = "gradient"
    provides: ClassVar[frozenset[str]] = frozenset({"gradient"})
    trained: ClassVar[list[int]] = []

    def __init__(self, width: int = 10_000) -> None:
        super().__init__(1.0)
        self.width = width

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.Linear(self.width, 1, bias=False)

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        assert isinstance(module, nn.Linear)
        return super().adapt(module, support) + 0.0 * module.weight.sum()

    def meta_loss(self, module: nn.Module, batch: am.TaskBatch, progress: float) -> Tensor:
        self.trained.append(self.width)
        return super().meta_loss(module, batch, progress)

    @classmethod
    def suggest(cls, trial: optuna.Trial, info: am.TaskInfo) -> Self:
        return cls(width=trial.suggest_categorical("width", [10_000, 20_000, 10]))


class Remembers(Mean):
    """Keeps what it is trained on, and answers as the mean does."""

    default_meta_optimizer: ClassVar[str | None] = "baselines/collect"
    provides: ClassVar[frozenset[str]] = frozenset({"memory"})

    def build(self, info: am.TaskInfo) -> nn.Module:
        module = nn.Module()
        module.register_buffer("kept", torch.zeros(0))
        return module

    def remember(self, module: Any, batch: am.TaskBatch) -> int:
        module.kept = torch.cat([module.kept, batch.support.y.flatten().repeat(10_000)])
        return batch.support.y.numel()


def test_a_trial_that_needs_too_much_ends_before_its_meta_training() -> None:
    Sized.trained.clear()
    settings = {**FEW, "n_trials": 3, "n_seeds": 1}
    found = am.compare("sinusoid", {"sized": (Sized(), Spoils())}, max_memory=1000 / MEBIBYTE, **settings)
    assert set(Sized.trained) == {10}, "θ of the others is too large, which is known at once"
    trials = found.trials.set_index("slot")
    assert trials["state"].tolist() == ["pruned", "pruned", "complete"]
    assert trials["value"].isna().tolist() == [True, True, False]
    (row,) = found.leaderboard.itertuples()
    assert (row.params, row.mebibytes * MEBIBYTE, row.over_limit) == ({"learner__width": 10}, 44, "")
    assert found.complete
    assert found.failures.empty
    assert found.skipped.empty


def test_a_learner_of_which_no_trial_keeps_to_the_limit_is_left_out_with_the_reason() -> None:
    Sized.trained.clear()
    found = am.compare("sinusoid", {"sized": Sized(), "mean": Mean()}, max_memory=30 / MEBIBYTE, **FEW)
    assert Sized.trained == []
    assert list(found.leaderboard["learner"]) == ["mean"]
    (row,) = found.skipped.itertuples()
    assert (row.tasks, row.learner, row.trained_on) == ("sinusoid", "sized", "sinusoid")
    assert row.reason == "no trial keeps to the limits; the first: 0.0382 MiB, over max_memory=2.86102e-05."
    assert found.complete


def test_what_grows_over_the_limit_while_it_trains_is_marked_and_cannot_win() -> None:
    learners = {"remembers": Remembers(scale=1.0), "mean": Mean(scale=3.0)}
    found = am.compare("sinusoid", learners, max_memory=0.1, **FEW)
    assert list(found.leaderboard["learner"]) == ["mean", "remembers"]
    marked = found.leaderboard.set_index("learner")["over_limit"]
    assert marked["mean"] == ""
    assert re.fullmatch(r"[\d.]+ MiB, over max_memory=0\.1", marked["remembers"])
    score = found.leaderboard.set_index("learner")["score"]
    assert score["remembers"] < score["mean"], "it would have won"
    assert found.best_estimator().learner_.scale == 3.0


LEARNERS = {"good": Mean(scale=1.0), "fair": Mean(scale=2.0), "poor": Mean(scale=4.0)}


@pytest.mark.reports
def test_a_slow_learner_stays_in_the_tables_and_cannot_win(tmp_path: Path, clock: None) -> None:
    free = am.compare("sinusoid", LEARNERS, **FEW)
    assert list(free.leaderboard["learner"]) == ["good", "fair", "poor"]
    found = am.compare("sinusoid", LEARNERS, max_latency=50, output=tmp_path / "run", **FEW)
    board = found.leaderboard
    assert list(board["learner"]) == ["fair", "poor", "good"]
    assert list(board["rank"]) == [1, 2, 3]
    assert list(board["over_limit"]) == ["", "", "101 ms a task, over max_latency=50"]
    assert found.best_estimator().learner_.scale == 2.0
    pairs = found.significance.dropna(subset=["p_beside_best"])
    assert all("fair" in pair for pair in zip(pairs["learner_a"], pairs["learner_b"], strict=True))
    assert "good" not in verdicts_beside_best(board, found.significance, "sinusoid")
    told = found.advice("sinusoid")
    assert told is not None
    assert told.answer.startswith("fair did best")
    assert "Over a limit, so that it cannot win: good." in told.sureness
    assert "| ! | good |" in as_markdown(found)
    assert "over a limit" in as_csv(found)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "101 ms a task, over max_latency=50" in page
    front = found.pareto.set_index("learner")["on_front"]
    assert front.to_dict() == {"good": True, "fair": True, "poor": False}
    assert page.count(">front</span>") == 2
    assert as_csv(found).splitlines()[0].endswith(",verdict,on_front")


def test_where_all_are_over_a_limit_nobody_wins(tmp_path: Path, clock: None) -> None:
    learners = {"good": Mean(scale=1.0)}
    with pytest.warns(UserWarning, match="winner on 'sinusoid' is not saved: no learner on 'sinusoid' keeps to the"):
        found = am.compare("sinusoid", learners, max_latency=50, output=tmp_path / "run", **FEW)
    assert not (tmp_path / "run" / "best.autometa").exists()
    with pytest.raises(am.Incompatible, match="the best of all, 'good', does not: 101 ms a task, over max_latency=50"):
        found.best_estimator()
    told = found.advice("sinusoid")
    assert told is not None
    assert told.answer.startswith("No learner keeps to the limits; these are over them. good did best: mean squared")


def test_another_limit_of_latency_changes_no_run(tmp_path: Path, clock: None, monkeypatch: pytest.MonkeyPatch) -> None:
    counted, learners = Counted(monkeypatch), {"good": Mean(scale=1.0), "fair": Mean(scale=2.0)}
    first = am.compare("sinusoid", learners, output=tmp_path / "run", **FEW)
    counted.clear()
    found = am.compare("sinusoid", learners, max_latency=50, output=tmp_path / "run", **FEW)
    assert (counted.trials, counted.finals) == ([], [])
    assert list(first.leaderboard["learner"]) == ["good", "fair"] == list(found.leaderboard["learner"])[::-1]
    with pytest.raises(am.InvalidParameter, match=r"max_memory=None there and 5\.0 here"):
        am.compare("sinusoid", learners, max_memory=5, output=tmp_path / "run", **FEW)


class Choosy(Mean):
    """Good where it is slow."""

    @classmethod
    def suggest(cls, trial: optuna.Trial, info: am.TaskInfo) -> Self:
        return cls(scale=trial.suggest_categorical("scale", [1.0, 2.0, 4.0]))


@pytest.mark.parametrize("search", first_by_default(1, ["separate", "race"]))
def test_of_the_trials_the_best_within_the_limit_is_taken(
    search: Any, tmp_path: Path, clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, numbers = Counted(monkeypatch), {**FEW, "n_trials": 3, "search": search, "output": tmp_path / "run"}

    def winner(**limit: float) -> tuple[float, str]:
        counted.clear()
        (row,) = am.compare("sinusoid", {"choosy": Choosy(scale=4.0)}, **limit, **numbers).leaderboard.itertuples()
        (scale,) = row.params.values()
        return scale, row.over_limit

    assert winner(max_latency=50) == (2.0, ""), "the best is too slow"
    assert len(counted.trials) > 0
    assert winner() == (1.0, "")
    assert counted.trials == []
    assert len(counted.finals) == FEW["n_seeds"], "of what is the best trial now"
    with pytest.warns(UserWarning, match="winner on 'sinusoid' is not saved: no learner"):
        assert winner(max_latency=1.5) == (1.0, "101 ms a task, over max_latency=1.5"), "no trial is within this limit"
    assert (counted.trials, counted.finals) == ([], [])


class ChoosyInTraining(Trained):
    """Likewise, and its trials pause."""

    @classmethod
    def suggest(cls, trial: optuna.Trial, info: am.TaskInfo) -> Self:
        return cls(scale=trial.suggest_categorical("scale", [1.0, 2.0]))


@pytest.mark.thorough
def test_slots_of_a_race_stay_as_they_were_opened_under_another_limit(
    tmp_path: Path, clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes on is the best within the limit; without a limit it would be another one."""
    counted, learners = Counted(monkeypatch), {"choosy": ChoosyInTraining(scale=2.0)}
    numbers = {**FEW, "n_trials": 3, "n_seeds": 1, "search": "race"}
    limited = am.compare("sinusoid", learners, max_latency=50, output=tmp_path / "run", **numbers)
    without = am.compare("sinusoid", learners, output=tmp_path / "other", **numbers)
    assert _gone_on(limited) != _gone_on(without)
    counted.clear()
    on = am.compare("sinusoid", learners, output=tmp_path / "run", **numbers)
    assert counted.trials == []
    assert on.complete
    assert _gone_on(on) == _gone_on(limited)
    pd.testing.assert_frame_equal(on.trials, limited.trials)


def _gone_on(found: am.Comparison) -> dict[int, int]:
    """Return which slots of a race go on with which, as its trials tell, and nobody says otherwise."""
    (arm,) = found._arms
    told = {trial.user_attrs["slot"]: trial.user_attrs.get("begun_in") for trial in arm.tuning.trials()}
    assert arm.tuning.goes_on == {slot: begun_in for slot, begun_in in told.items() if begun_in is not None}
    return dict(arm.tuning.goes_on)


@pytest.mark.parametrize("name", ["max_latency", "max_memory"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "5", True])
def test_limits_that_mean_nothing_are_refused(name: str, value: Any) -> None:
    with pytest.raises(am.InvalidParameter, match=f"{name}="):
        am.compare("sinusoid", "ridge", **{name: value})


def test_a_limit_says_what_is_over_it() -> None:
    settings = Settings(max_latency=5, max_memory=1)
    assert settings.over_limit(milliseconds=5, mebibytes=1) == ""
    assert settings.over_limit() == "", "nothing is known"
    assert settings.over_limit(milliseconds=12.345, mebibytes=2) == (
        "12.3 ms a task, over max_latency=5; 2 MiB, over max_memory=1"
    )
    assert Settings().over_limit(milliseconds=1e9, mebibytes=1e9) == ""


def normal(mean: float, seed: int) -> np.ndarray[Any, Any]:
    """Scores [tasks, runs]."""
    return mean + 0.1 * np.random.default_rng(seed).normal(size=(20, 3))


def test_tests_are_beside_the_best_of_those_that_can_win() -> None:
    scores = {"t": {"a": normal(3.0, 0), "b": normal(2.0, 1), "c": normal(1.0, 2)}}
    free = significance_of(scores, {"t": True}).set_index(["learner_a", "learner_b"])["p_beside_best"]
    barred = significance_of(scores, {"t": True}, {"t": {"a"}}).set_index(["learner_a", "learner_b"])
    assert free.notna().to_dict() == {("a", "b"): True, ("a", "c"): True, ("b", "c"): False}
    assert barred["p_beside_best"].notna().to_dict() == {("a", "b"): True, ("a", "c"): False, ("b", "c"): True}
    assert barred.loc[("b", "c"), "p_beside_best"] == pytest.approx(barred.loc[("b", "c"), "p_value"] / 2)
    nobody = significance_of(scores, {"t": True}, {"t": {"a", "b", "c"}})
    pd.testing.assert_frame_equal(nobody, significance_of(scores, {"t": True}))


def test_advice_on_tables_passes_over_those_that_cannot_win() -> None:
    values = {"own": 4.0, "pooled": 3.0, "best": 1.0, "next": 2.0}
    rows = [
        ("t", learner, seed, 5, task, "mse", value + 0.01 * task + 0.001 * seed)
        for learner, value in values.items()
        for seed in range(2)
        for task in range(6)
    ]
    frame = pd.DataFrame(rows, columns=["tasks", "learner", "seed", "rows", "task", "metric", "score"])
    references = References(own="own", pooled="pooled")
    for barred, best in ((set(), "best"), ({"best"}, "next"), (set(values), "best")):
        found = best_by_rows(frame, references, higher_is_better=False, cannot_win=barred)
        assert found["learner"].tolist() == [best]
        gains = entities_of("t", frame, references, None, higher_is_better=False, cannot_win=barred)
        assert set(gains["learner"]) == {best}


# ---------------------------------------------------------------- where they are asked for

SMALL = ["--trials", "2", "--steps", "2", "--tasks-per-step", "2", "--valid-tasks", "4", "--seeds", "2", "--quiet"]


@pytest.mark.thorough
@pytest.mark.filterwarnings("default")
def test_the_command_line_takes_an_objective_and_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    what = ["compare", "--tasks", "digits", "--learners", "prototypical,sklearn", *SMALL, "--n-test-tasks", "12"]
    out = ["--output", str(tmp_path / "run")]
    assert main([*what, "--objective", "log_loss", "--max-latency", "1e-9", *out]) == 0
    said, warned = capsys.readouterr()
    assert "the winner on 'digits' is not saved: no learner on 'digits' keeps to the limits" in warned
    assert "digits   log loss on 12 held-out tasks" in said
    assert re.search(r"learner +score +95% interval +accuracy", said)
    assert re.search(r"^! +(prototypical|sklearn) ", said, re.MULTILINE)
    assert "cannot win: sklearn on digits (" in said
    assert "No learner keeps to the limits; these are over them." in said


def test_where_no_learner_is_small_enough_the_reason_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    what = ["compare", "--tasks", "sinusoid", "--learners", "ridge,sklearn", *SMALL, "--output", str(tmp_path / "run")]
    assert main([*what, "--max-memory", "0.00001"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(r"nothing was judged; 'sklearn' on 'sinusoid': no trial keeps to the limits", said)


@pytest.mark.thorough
def test_a_study_file_takes_them_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "study.toml"
    lines = ["trials = 1", "steps = 2", "tasks_per_step = 2", "valid_tasks = 4", "n_test_tasks = 6", "seeds = 1"]
    lines += ['tasks = "sinusoid"', 'learners = "ridge"', 'objective = "mae"', "max_latency = 1e6", "max_memory = 64"]
    file.write_text("\n".join([*lines, "quiet = true", f'output = "{(tmp_path / "run").as_posix()}"']))
    assert main(["compare", str(file)]) == 0
    assert "mean absolute error on 6 held-out tasks" in capsys.readouterr().out
    settings = am.Comparison.load(tmp_path / "run").plan["settings"]
    assert (settings["objective"], settings["max_latency"], settings["max_memory"]) == ("mae", 1e6, 64.0)
    file.write_text('objective = "speed"')
    assert main(["compare", str(file)]) == 2
    assert "objective='speed' of study file" in capsys.readouterr().err


def test_the_wrong_objective_is_named_by_its_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--tasks", "sinusoid", "--objective", "log_loss", "--dry-run"]) == 2
    assert "none of regression" in capsys.readouterr().err


@pytest.mark.thorough
def test_an_estimator_that_chooses_by_log_loss(tmp_path: Path) -> None:
    few = {"n_trials": 1, "n_test_tasks": 10, "n_valid_tasks": 10, "max_steps": 1, "max_memory": 64.0}
    chosen = am.AutoFewShotClassifier("prototypical", objective="log_loss", random_state=0, **few)
    chosen.meta_fit(am.make_tasks("digits"))
    assert set(chosen.leaderboard_["metric"]) == {"log_loss"}
    assert "accuracy" in chosen.leaderboard_.columns
    with pytest.raises(am.Incompatible, match="keeps to the limits"):
        am.AutoFewShotClassifier("prototypical", max_latency=1e-9, **few).meta_fit(am.make_tasks("digits"))

"""A comparison that asks for more goes on from what is done, and one that asks for less is refused."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import torch

import autometa as am
from autometa.cli import main
from autometa.comparison import work
from autometa.comparison.execution import arm
from autometa.comparison.execution.arm import open_arms
from autometa.comparison.execution.storage import open_storage
from autometa.comparison.execution.stored_plan import register_plan
from autometa.comparison.plan.backbones import offered_backbones
from autometa.comparison.plan.plan import Plan, make_plan
from autometa.comparison.plan.settings import Settings
from test_comparison import FAST, Mean

FEW = {**FAST, "n_trials": 2, "n_seeds": 1, "n_test_tasks": 12}
LEARNERS = {"mean": Mean(), "ridge": "ridge"}
TIMED = ["meta_train_seconds", "adapt_ms", "predict_ms"]


class Counted:
    """How many trials and final runs are done, and of which learners."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trials: list[tuple[str, int]] = []
        self.finals: list[tuple[str, int]] = []
        run_trial, run_final = arm.run_trial, arm.run_final

        def trial(pair: Any, components: Any, trial: Any, device: Any, *leg: Any) -> float:
            self.trials.append((pair.learner, trial.user_attrs["slot"]))
            return run_trial(pair, components, trial, device, *leg)

        def final(pair: Any, params: Any, trial: Any, device: Any, models: Any) -> float:
            self.finals.append((pair.learner, trial.user_attrs["slot"]))
            return run_final(pair, params, trial, device, models)

        monkeypatch.setattr(arm, "run_trial", trial)
        monkeypatch.setattr(arm, "run_final", final)

    def clear(self) -> None:
        self.trials.clear()
        self.finals.clear()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a comparison of two learners that asks for little."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    am.compare("sinusoid", LEARNERS, output=folder, **FEW)
    return folder


@pytest.fixture
def run(begun: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(begun, tmp_path / "run")


def same(one: am.Comparison, two: am.Comparison) -> None:
    pd.testing.assert_frame_equal(one.scores, two.scores)
    pd.testing.assert_frame_equal(one.leaderboard.drop(columns=TIMED), two.leaderboard.drop(columns=TIMED))


@pytest.mark.thorough
def test_more_trials_run_what_is_missing_and_repeat_final_runs_where_the_best_changed(
    tmp_path: Path, counted: Counted
) -> None:
    first = am.compare("sinusoid", LEARNERS, output=tmp_path / "run", **FEW)
    before = first.leaderboard.set_index("learner")["params"]
    counted.clear()
    grown = am.compare("sinusoid", LEARNERS, output=tmp_path / "run", **{**FEW, "n_trials": 8})
    assert sorted(counted.trials) == [(name, slot) for name in ("mean", "ridge") for slot in range(2, 8)]
    params = grown.leaderboard.set_index("learner")["params"]
    assert sorted(counted.finals) == [(name, 0) for name in ("mean", "ridge") if params[name] != before[name]]
    assert params["mean"] != before["mean"]  # the defaults are far from the best
    assert grown.complete
    best = grown.trials.sort_values("value").groupby("learner").first()["params"]
    assert params.to_dict() == best.to_dict()
    pd.testing.assert_frame_equal(
        grown.trials[grown.trials["slot"] < 2].reset_index(drop=True)[["learner", "params"]],
        first.trials[["learner", "params"]],
    )
    counted.clear()
    same(grown, am.compare("sinusoid", LEARNERS, output=tmp_path / "run", **{**FEW, "n_trials": 8}))
    assert (counted.trials, counted.finals) == ([], [])
    # A fresh comparison of as many trials draws the same ones here, and so ends in the same scores.
    same(grown, am.compare("sinusoid", LEARNERS, **{**FEW, "n_trials": 8}))


def test_more_seeds_run_those_that_are_missing(run: Path, counted: Counted) -> None:
    grown = am.compare("sinusoid", LEARNERS, output=run, **{**FEW, "n_seeds": 3})
    assert counted.trials == []
    assert sorted(counted.finals) == [("mean", 1), ("mean", 2), ("ridge", 1), ("ridge", 2)]
    same(grown, am.compare("sinusoid", LEARNERS, **{**FEW, "n_seeds": 3}))


def test_more_test_tasks_repeat_the_final_runs_alone(run: Path, counted: Counted) -> None:
    more = {**FEW, "n_test_tasks": 30}
    grown = am.compare("sinusoid", LEARNERS, output=run, **more)
    assert (counted.trials, sorted(counted.finals)) == ([], [("mean", 0), ("ridge", 0)])
    assert set(grown.leaderboard["n_test_tasks"]) == {30}
    same(grown, am.compare("sinusoid", LEARNERS, **more))


def test_more_distributions_to_judge_on_repeat_the_final_runs_alone(run: Path, counted: Counted) -> None:
    waves = {"waves": am.make_tasks("sinusoid", n_shot=4)}
    grown = am.compare("sinusoid", LEARNERS, test_tasks=waves, output=run, **FEW)
    assert (counted.trials, sorted(counted.finals)) == ([], [("mean", 0), ("ridge", 0)])
    same(grown, am.compare("sinusoid", LEARNERS, test_tasks=waves, **FEW))


def test_while_it_grows_tables_hold_only_what_was_judged_alike(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_final, begun = arm.run_final, []

    def interrupted_in_the_second(*arguments: Any) -> float:
        begun.append(arguments)
        if len(begun) == 2:
            signal.raise_signal(signal.SIGINT)
        return run_final(*arguments)

    monkeypatch.setattr(arm, "run_final", interrupted_in_the_second)
    more = {**FEW, "n_test_tasks": 30}
    with pytest.warns(UserWarning, match="interrupted"):
        cut = am.compare("sinusoid", LEARNERS, output=run, **more)
    assert not cut.complete
    assert cut.leaderboard["n_test_tasks"].tolist() == [30]
    monkeypatch.setattr(arm, "run_final", run_final)
    same(am.compare("sinusoid", LEARNERS, output=run, **more), am.compare("sinusoid", LEARNERS, **more))


def test_less_of_anything_is_refused_and_nothing_is_lost(run: Path) -> None:
    for name, text in (("n_trials", "n_trials=2 there and 1"), ("n_test_tasks", "n_test_tasks=12 there and 1")):
        with pytest.raises(am.InvalidParameter, match=f"{text} here .which can grow, not shrink"):
            am.compare("sinusoid", LEARNERS, output=run, **{**FEW, name: 1})
    assert am.compare("sinusoid", LEARNERS, output=run, **FEW).complete


def plan(**changed: Any) -> Plan:
    numbers = {name: value for name, value in (FEW | changed).items() if name not in ("baselines", "verbose")}
    return make_plan("sinusoid", ["ridge"], Settings(**numbers), name="run", baselines=False)


@pytest.mark.thorough
def test_a_worker_does_what_a_grown_plan_lacks_from_its_storage_alone(tmp_path: Path, counted: Counted) -> None:
    am.compare("sinusoid", ["ridge"], output=tmp_path / "run", **FEW)
    counted.clear()
    storage = str(tmp_path / "run" / "journal.log")
    more = {"n_trials": 3, "n_seeds": 2, "n_test_tasks": 30}
    register_plan(open_storage(storage), plan(**more), "here")
    assert not am.Comparison.load(tmp_path / "run").complete
    grown = work(storage, "run")
    assert grown.complete
    assert counted.trials == [("ridge", 2)]
    assert counted.finals == [("ridge", 0), ("ridge", 1)]
    same(grown, am.compare("sinusoid", ["ridge"], **{**FEW, **more}))


@pytest.mark.thorough
def test_whoever_still_works_on_the_plan_before_undoes_nothing(tmp_path: Path) -> None:
    more = {"n_trials": 6, "n_seeds": 2, "n_test_tasks": 30}
    for settings in (FEW, {**FEW, **more}):
        am.compare("sinusoid", ["ridge"], output=tmp_path / "run", **settings)
    storage = open_storage(str(tmp_path / "run" / "journal.log"))
    before, now = (open_arms(one, storage)[0] for one in (plan(), plan(**more)))
    assert (before.n_done, now.n_done) == (before.n_slots, now.n_slots)
    assert not before.step(torch.device("cpu"), None)
    assert before.finals() == []  # they were judged on other tasks than its own
    assert len(now.finals()) == 2


@pytest.mark.thorough
def test_a_joint_search_that_grows_may_find_another_winner(tmp_path: Path, counted: Counted) -> None:
    joint: dict[str, Any] = {**FEW, "search": "joint", "n_trials": 2}
    am.compare("sinusoid", LEARNERS, output=tmp_path / "run", **joint)
    grown = am.compare("sinusoid", LEARNERS, output=tmp_path / "run", **{**joint, "n_trials": 6})
    assert len(grown.trials) == 6
    best = grown.trials.sort_values("value").iloc[0]
    assert grown.leaderboard[["learner", "params"]].to_numpy().tolist() == [[best["learner"], best["params"]]]


class Three(Mean):
    """Three choices: with three trials or more each is tried once."""

    @classmethod
    def suggest(cls, trial: optuna.Trial, info: am.TaskInfo) -> Three:
        return cls(scale=trial.suggest_categorical("scale", [3.0, 1.0, 0.5]))


def test_choices_that_become_few_enough_are_each_tried_once(tmp_path: Path) -> None:
    for n_trials in (2, 5):
        found = am.compare("sinusoid", [Three()], output=tmp_path / "run", **{**FEW, "n_trials": n_trials})
    drawn = [params["learner__scale"] for params in found.trials["params"]]
    assert len(drawn) == 3
    assert drawn[2] not in drawn[:2]  # whatever the second was, which was drawn


@pytest.mark.thorough
@pytest.mark.reports
def test_a_learner_is_left_out_as_if_it_had_never_taken_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**FEW, "n_seeds": 2}
    whole = am.compare("sinusoid", ["ridge", "sklearn", "maml"], output=tmp_path / "run", **settings)
    narrow, never = whole.without("maml"), am.compare("sinusoid", ["ridge", "sklearn"], **settings)
    same(narrow, never)
    pd.testing.assert_frame_equal(narrow.significance, never.significance)
    assert list(narrow.plan["learners"]) == ["ridge", "sklearn"]
    assert set(narrow.trials["learner"]) == {"ridge", "sklearn"}
    assert len(whole.leaderboard) == 3
    with pytest.raises(am.UnknownName, match="learner 'mamll' takes no part here; did you mean 'maml'"):
        whole.without("mamll")
    with pytest.raises(am.InvalidParameter, match="no learner is left"):
        whole.without("maml", "ridge", "sklearn")

    assert main(["report", str(tmp_path / "run"), "--without", "maml, ridge"]) == 0
    said = capsys.readouterr().out
    assert "sklearn" in said
    assert "ridge" not in said
    assert "ridge" not in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert main(["report", str(tmp_path / "run")]) == 0
    assert "maml" in capsys.readouterr().out
    assert am.Comparison.load(tmp_path / "run").complete


def test_a_joint_search_cannot_be_narrowed() -> None:
    found = am.compare("sinusoid", ["ridge", Mean()], **{**FEW, "search": "joint"})
    with pytest.raises(am.InvalidParameter, match="search='joint' judges its winner alone"):
        found.without("ridge")


@pytest.mark.thorough
@pytest.mark.parametrize("begins", ["cuda", "cpu"])
def test_a_comparison_goes_on_where_other_networks_would_be_on_offer(
    begins: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was planned counts, not the device of who goes on with it."""

    def on(device: str) -> None:
        compare = sys.modules["autometa.comparison.compare"]
        monkeypatch.setattr(compare, "pick_device", lambda asked: torch.device(device))

    elsewhere = {"cuda": "cpu", "cpu": "cuda"}[begins]
    assert offered_backbones(accelerator=True) != offered_backbones(accelerator=False)
    on(begins)
    begun = am.compare("sinusoid", ["ridge", "sklearn"], output=tmp_path, **FEW)
    assert begun.plan["settings"]["backbones"] == offered_backbones(accelerator=begins == "cuda")
    on(elsewhere)
    again = am.compare("sinusoid", ["ridge", "sklearn"], output=tmp_path, **FEW)
    same(again, begun)
    grown = am.compare("sinusoid", ["ridge", "sklearn", "maml"], output=tmp_path, **{**FEW, "n_trials": 3})
    for found in (again, grown, am.Comparison.load(tmp_path)):
        assert found.plan["settings"]["backbones"] == begun.plan["settings"]["backbones"]
    assert set(grown.leaderboard["learner"]) == {"ridge", "sklearn", "maml"}
    assert (grown.trials["learner"] == "ridge").sum() == 3

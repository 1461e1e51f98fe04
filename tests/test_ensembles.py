"""``ensemble=True``: members chosen on meta-valid tasks, judged like any learner, done once, resumed, grown, saved."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import autometa as am
from autometa.cli import main
from autometa.comparison import work
from autometa.comparison.execution import arm, ensemble_arm, ensembles
from autometa.comparison.execution.ensemble_selection import MetaValidError, Votes, select
from autometa.contracts.objectives import OBJECTIVES
from learning import STANDARD_ERRORS
from test_comparison import FAST, Fragile, Hopeless, Mean

FEW = {**FAST, "n_trials": 2, "n_test_tasks": 12, "ensemble": True}
LEARNERS = {"ridge": "ridge", "stiff": am.make_learner("ridge", regularization=50.0), "experts": "kernel_experts"}
TIMED = ["meta_train_seconds", "adapt_ms", "predict_ms"]


def same(one: am.Comparison, two: am.Comparison) -> None:
    pd.testing.assert_frame_equal(one.scores, two.scores)
    pd.testing.assert_frame_equal(one.members, two.members)
    pd.testing.assert_frame_equal(one.leaderboard.drop(columns=TIMED), two.leaderboard.drop(columns=TIMED))


def squared_error(y: Tensor) -> Callable[[Votes], tuple[float, ...]]:
    return lambda votes: (float((votes[0] - y).square().mean()),)


# Greedy selection.


def test_selection_finds_the_known_optimum() -> None:
    y = torch.tensor([1.0, 2.0, 3.0, 4.0])
    # Errors +1 and -1 cancel; of errors +3 and -1 the best shares are 1/4 and 3/4.
    assert select([[y + 1], [y - 1], [y + 5]], squared_error(y)) == [1, 1, 0]
    three = select([[y + 3], [y - 1]], squared_error(y))
    assert three == [1, 3]
    assert select([[y], [y + 1], [y - 1]], squared_error(y)) == [1, 0, 0]
    assert select([[y + 2]], squared_error(y)) == [1]


@pytest.mark.parametrize("seed", range(8))
def test_selection_lies_between_the_best_single_one_and_the_best_of_all_bags(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(40, generator=generator, dtype=torch.float64)
    noise = torch.randn(4, 40, generator=generator, dtype=torch.float64) * torch.tensor([[0.7], [0.8], [1.0], [1.5]])
    votes = [[y + one] for one in noise]
    error = squared_error(y)
    counts = select(votes, error, rounds=6)
    mean = sum(n * v[0] for n, v in zip(counts, votes, strict=True)) / sum(counts)
    bags = itertools.chain(*(itertools.combinations_with_replacement(range(4), n) for n in range(1, 7)))
    best = min(error([sum(votes[i][0] for i in bag) / len(bag)])[0] for bag in bags)
    found = error([mean])[0]
    assert best - 1e-12 <= found < min(error(one)[0] for one in votes)
    assert found < 1.05 * best
    assert 1 <= sum(counts) <= 6


def test_between_equal_accuracies_the_smaller_loss_decides_and_a_task_drawn_twice_counts_once() -> None:
    learner = am.make_learner("ensemble", members=["sklearn"])
    query = am.Examples(x=torch.zeros(3, 1, 1), y=torch.tensor([[0], [1], [1]]), n_classes=2)
    sure, unsure, wrong = (
        [torch.tensor([[[p, 1 - p]], [[1 - p, p]], [[1 - q, q]]], dtype=torch.float64)]
        for p, q in ((0.9, 0.9), (0.6, 0.6), (0.9, 0.1))
    )
    error = MetaValidError([query], np.array([0, 1, 1]), learner)
    assert error(sure) == pytest.approx((0.0, -np.log(0.9)))
    assert error(unsure) > error(sure)
    assert error(wrong)[0] == pytest.approx(0.25)  # task 0 is right, of task 1 one half is
    assert select([unsure, sure], error) == [0, 1]


def test_what_the_comparison_is_about_chooses_the_members() -> None:
    query = am.Examples(
        x=torch.zeros(3, 1, 1), y=torch.zeros(3, 1, dtype=torch.long), mask=torch.ones(3, 1, dtype=torch.bool)
    )
    learner = am.make_learner("prototypical")
    careful, bold = (
        [torch.tensor([[[p, 1 - p]] for p in of], dtype=torch.float64)]
        for of in ((0.55, 0.55, 0.45), (0.99, 0.99, 1e-9))  # equally often right
    )
    accuracy = MetaValidError([query], np.arange(3), learner)
    assert accuracy(careful)[0] == accuracy(bold)[0] == pytest.approx(1 / 3)
    log_loss = MetaValidError([query], np.arange(3), learner, OBJECTIVES["log_loss"])
    assert log_loss(careful)[0] == pytest.approx(-np.log([0.55, 0.55, 0.45]).mean())
    assert log_loss(careful)[0] < log_loss(bold)[0]

    values = am.Examples(
        x=torch.zeros(1, 2, 1), y=torch.tensor([[1.0, 3.0]]), mask=torch.ones(1, 2, dtype=torch.bool)
    ).to("cpu", torch.float64)
    r2 = MetaValidError([values], np.arange(1), am.make_learner("ridge"), OBJECTIVES["r2"])
    near, far = ([torch.tensor([[[1.0 + e], [3.0 - e]]], dtype=torch.float64)] for e in (0.1, 0.9))
    assert r2(near)[0] == pytest.approx(-(1 - 0.02 / 2)), "more is better, and less bad"
    assert r2(near) < r2(far)


# In a comparison.


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[am.Comparison, Path]:
    output = tmp_path_factory.mktemp("runs") / "first"
    return am.compare({"waves": "sinusoid"}, LEARNERS, output=output, **FEW), output


def test_the_ensemble_is_a_learner_among_others(first: tuple[am.Comparison, Path]) -> None:
    found, output = first
    assert found.complete
    board = found.leaderboard.set_index("learner")
    assert set(board.index) == {"ensemble", *LEARNERS}
    assert board.loc["ensemble", "n_seeds"] == 2
    assert board.loc["ensemble", "n_trials"] == 0
    assert board.loc["ensemble", "family"] == "ensemble"
    assert sum(board.loc["ensemble", "params"].values()) == pytest.approx(1.0)
    assert len(set(found.scores.groupby(["learner", "seed"])["task"].apply(tuple))) == 1
    assert {"ensemble"} < set(found.significance["learner_a"]) | set(found.significance["learner_b"])
    assert "waves/ensemble" not in " ".join(found.studies)  # it has no trials
    assert (output / "members.csv").exists()
    assert "ensemble" in (output / "report.html").read_text()


def test_its_predictions_are_the_mean_of_its_members(first: tuple[am.Comparison, Path]) -> None:
    members, folder = first[0].members, first[1] / "models" / "waves"
    batch = am.make_tasks("sinusoid").sample(5, split="test", seed=3)

    def predicted(name: str, seed: object) -> Tensor:
        model = am.load(folder / f"{name}-{seed}.autometa")
        return am.judge(model.learner_, model.module_, batch).outputs

    for seed, of in members[members["share"] > 0].groupby("seed"):
        mean = sum(share * predicted(name, seed) for name, share in zip(of["learner"], of["share"], strict=True))
        torch.testing.assert_close(predicted("ensemble", seed), mean)


def test_seeds_are_apart_and_all_that_could_take_part_are_told(first: tuple[am.Comparison, Path]) -> None:
    members = first[0].members
    assert list(members.columns) == ["tasks", "seed", "learner", "share", "reason"]
    for _, of in members.groupby("seed"):
        assert set(of["learner"]) == set(LEARNERS)
        assert of["share"].sum() == pytest.approx(1.0)


def test_the_winner_may_be_the_ensemble_and_is_saved_and_made_again_alike(tmp_path: Path) -> None:
    learners = {"low": Shifted(shift=-10.0), "high": Shifted(shift=10.0)}
    found = am.compare("sinusoid", learners, output=tmp_path / "run", **FEW)
    assert next(iter(found.leaderboard["learner"])) == "ensemble"
    assert len(found.significance.query("better == 'ensemble'")) == 2
    low, high = found.members["share"][:2]
    assert low == pytest.approx(0.5, abs=0.1)
    X, y = np.linspace(-3, 3, 8).reshape(-1, 1), np.sin(np.linspace(-3, 3, 8))
    saved = found.best_estimator().fit(X, y).predict(X)
    np.testing.assert_allclose(saved, y.mean() + 10 * (high - low), atol=1e-5)
    best = am.load(tmp_path / "run" / "best.autometa", trusted=[f"{__name__}:Shifted"])
    np.testing.assert_array_equal(best.fit(X, y).predict(X), saved)
    for file in (tmp_path / "run" / "models" / "sinusoid").iterdir():
        file.unlink()
    np.testing.assert_array_equal(found.best_estimator().fit(X, y).predict(X), saved)


class Shifted(Mean):
    """The mean of the support targets and a constant."""

    def __init__(self, shift: float = 0.0) -> None:
        self.shift = shift

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        return support.targets().mean(1) + self.shift

    @classmethod
    def suggest(cls, trial: Any, info: am.TaskInfo) -> Shifted:
        return cls()


@pytest.mark.thorough
def test_equal_calls_have_equal_results_with_and_without_a_folder(tmp_path: Path) -> None:
    one = am.compare({"waves": "sinusoid"}, LEARNERS, output=tmp_path / "one", **FEW)
    same(one, am.compare({"waves": "sinusoid"}, LEARNERS, **FEW))
    same(one, am.Comparison.load(tmp_path / "one"))


def test_one_learner_alone_is_the_ensemble() -> None:
    found = am.compare("sinusoid", ["ridge"], **FEW)
    scores = found.scores.set_index(["learner", "seed", "task"])["score"]
    np.testing.assert_allclose(scores["ensemble"], scores["ridge"], rtol=1e-6)
    assert found.members["share"].tolist() == [1.0, 1.0]
    (verdict,) = found.significance.itertuples()
    assert verdict.better is None


class Seldom(Mean):
    """Cannot be asked again once it was judged."""

    asked = 0

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        if Seldom.asked < 0:
            raise RuntimeError("not again")
        return super().adapt(module, support)


@pytest.mark.thorough
def test_who_cannot_take_part_is_left_out_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(UserWarning, match="failed"):
        found = am.compare("sinusoid", {"ridge": "ridge", "never": Hopeless(), "at times": Fragile()}, **FEW)
    assert set(found.members["learner"]) == {"ridge", "at times"}  # which works with the defaults
    assert "never" in set(found.failures["learner"])
    built = ensemble_arm.run_ensemble

    def asked_again(*arguments: Any) -> float:
        monkeypatch.setattr(Seldom, "asked", -1)
        return built(*arguments)

    monkeypatch.setattr(ensemble_arm, "run_ensemble", asked_again)
    with pytest.warns(UserWarning, match=r"final runs failed \(seldom on sinusoid\)"):
        found = am.compare("sinusoid", {"ridge": "ridge", "seldom": Seldom()}, **FEW)
    left_out = found.members.query("learner == 'seldom'")
    assert left_out["share"].isna().all()
    assert set(left_out["reason"]) == {"RuntimeError: not again"}
    assert set(found.failures["stage"]) == {"taking part in the ensemble"}
    assert found.members.query("learner == 'ridge'")["share"].tolist() == [1.0, 1.0]


class Counted:
    """Which final runs and ensembles are done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.finals: list[tuple[str, int]] = []
        self.trained: list[str] = []
        run_final, run_ensemble, train_final = arm.run_final, ensemble_arm.run_ensemble, ensembles.train_final

        def final(pair: Any, params: Any, trial: Any, device: Any, models: Any) -> float:
            self.finals.append((pair.learner, trial.user_attrs["slot"]))
            return run_final(pair, params, trial, device, models)

        def ensemble(pair: Any, candidates: Any, trial: Any, device: Any, models: Any) -> float:
            self.finals.append((pair.learner, trial.user_attrs["slot"]))
            return run_ensemble(pair, candidates, trial, device, models)

        def again(pair: Any, *arguments: Any) -> Any:
            self.trained.append(pair.learner)
            return train_final(pair, *arguments)

        monkeypatch.setattr(arm, "run_final", final)
        monkeypatch.setattr(ensemble_arm, "run_ensemble", ensemble)
        monkeypatch.setattr(ensembles, "train_final", again)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


PLAIN = {"mean": Mean(), "ridge": "ridge"}
ONE = {**FEW, "n_seeds": 1}


@pytest.mark.thorough
def test_it_grows_by_what_is_missing(tmp_path: Path, counted: Counted) -> None:
    def grown(**more: Any) -> tuple[am.Comparison, list[tuple[str, int]]]:
        counted.finals.clear()
        found = am.compare("sinusoid", **{"learners": PLAIN, "output": tmp_path / "run", **ONE, **more})
        return found, sorted(counted.finals)

    assert grown(ensemble=False)[1] == [("mean", 0), ("ridge", 0)]
    first, done = grown()
    assert done == [("ensemble", 0)]
    assert grown()[1] == []
    two = {"n_seeds": 2}
    found, done = grown(**two)
    assert done == [("ensemble", 1), ("mean", 1), ("ridge", 1)]
    pd.testing.assert_frame_equal(found.members.query("seed == 0"), first.members)
    more = {**two, "n_test_tasks": 20}
    found, done = grown(**more)
    assert done == [(name, seed) for name in ("ensemble", "mean", "ridge") for seed in (0, 1)]
    same(found, am.compare("sinusoid", PLAIN, **{**ONE, **more}))
    everyone = {**PLAIN, "other": Shifted(shift=0.1)}
    found, done = grown(**more, learners=everyone)
    assert done == [("ensemble", 0), ("ensemble", 1), ("other", 0), ("other", 1)]
    same(found, am.compare("sinusoid", everyone, **{**ONE, **more}))
    assert counted.trained == []  # every model was at hand
    with pytest.raises(am.InvalidParameter, match="ensemble=True there and False here"):
        grown(**more, learners=everyone, ensemble=False)


@pytest.mark.thorough
def test_it_is_built_again_where_more_trials_found_better_members(tmp_path: Path, counted: Counted) -> None:
    am.compare("sinusoid", PLAIN, output=tmp_path / "run", **ONE)
    counted.finals.clear()
    found = am.compare("sinusoid", PLAIN, output=tmp_path / "run", **{**ONE, "n_trials": 8})
    assert ("mean", 0) in counted.finals  # whose defaults are far from the best
    assert counted.finals.count(("ensemble", 0)) == 1
    assert counted.finals[-1] == ("ensemble", 0)
    same(found, am.compare("sinusoid", PLAIN, **{**ONE, "n_trials": 8}))


@pytest.mark.thorough
def test_models_that_are_gone_or_another_runs_are_meta_trained_again(tmp_path: Path, counted: Counted) -> None:
    learners = {"one": "ridge", "two": "kernel_experts"}
    whole = am.compare("sinusoid", learners, output=tmp_path / "run", **FEW)
    folder = tmp_path / "run" / "models" / "sinusoid"
    (folder / "one-0.autometa").unlink()
    (folder / "one-1.autometa").write_bytes((folder / "two-1.autometa").read_bytes())
    counted.finals.clear()
    study = whole._arms[-1].final
    study.set_aside(study.trials())
    again = am.compare("sinusoid", learners, output=tmp_path / "run", **FEW)
    assert counted.finals == [("ensemble", 0), ("ensemble", 1)]
    assert counted.trained == ["one", "one"]
    same(whole, again)


KILLED = """
import os, signal
import autometa as am
from autometa.comparison.execution import ensemble_arm

real = ensemble_arm.run_ensemble

def killed_in_the_second(pair, candidates, trial, *rest):
    if trial.user_attrs["slot"] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(pair, candidates, trial, *rest)

ensemble_arm.run_ensemble = killed_in_the_second
am.compare("sinusoid", ["ridge", "kernel_experts"], output={output!r}, **{settings!r})
"""


@pytest.mark.slow
def test_after_kill_9_the_same_call_builds_what_is_missing(tmp_path: Path) -> None:
    learners, settings = ["ridge", "kernel_experts"], {**FEW, "n_trials": 1}
    code = KILLED.format(output=str(tmp_path / "run"), settings=settings)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert len(am.Comparison.load(tmp_path / "run").members["seed"].unique()) == 1
    with pytest.warns(UserWarning, match="sinusoid/ensemble: a process ended or hung in the midst of it"):
        again = am.compare("sinusoid", learners, output=tmp_path / "run", **settings)
    assert again.complete
    same(again, am.compare("sinusoid", learners, **settings))
    assert [trial.user_attrs["slot"] for trial in again._arms[-1].final.study.get_trials()] == [0, 1, 1]


@pytest.mark.thorough
@pytest.mark.parametrize("what", ["finals", "ensemble"])
def test_a_comparison_that_was_interrupted_goes_on_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    whole = am.compare("sinusoid", PLAIN, **FEW)
    module, name = (arm, "run_final") if what == "finals" else (ensemble_arm, "run_ensemble")
    real, begun = getattr(module, name), []

    def interrupted_in_the_second(*arguments: Any) -> float:
        begun.append(arguments)
        if len(begun) == 2:
            signal.raise_signal(signal.SIGINT)
        return float(real(*arguments))

    with monkeypatch.context() as patch:
        patch.setattr(module, name, interrupted_in_the_second)
        with pytest.warns(UserWarning, match="interrupted"):
            cut = am.compare("sinusoid", PLAIN, output=tmp_path / "run", **FEW)
    assert not cut.complete
    built = len(cut.members["seed"].unique())
    assert built == (0 if what == "finals" else 1)
    same(whole, am.compare("sinusoid", PLAIN, output=tmp_path / "run", **FEW))


@pytest.mark.thorough
def test_any_worker_builds_it(tmp_path: Path) -> None:
    storage = str(tmp_path / "journal.log")
    learners = ["ridge", "kernel_experts"]
    am.compare("sinusoid", learners, storage=storage, name="x", **{**FEW, "n_trials": 1, "ensemble": False})
    whole = am.compare("sinusoid", learners, storage=storage, name="x", **{**FEW, "n_trials": 1})
    study = whole._arms[-1].final
    study.set_aside(study.trials())
    again = work(storage, "x")  # which has no models at hand
    same(whole, again)
    assert len(study.study.get_trials()) == 4


@pytest.mark.slow
def test_several_processes_build_each_ensemble_once(tmp_path: Path) -> None:
    settings = {**FEW, "n_trials": 1, "n_seeds": 3}
    found = am.compare("sinusoid", ["ridge", "kernel_experts"], output=tmp_path / "run", n_workers=2, **settings)
    assert found.complete
    same(found, am.compare("sinusoid", ["ridge", "kernel_experts"], **settings))
    assert len(found._arms[-1].final.study.get_trials()) == 3


def test_without_one_of_its_members_the_ensemble_is_left_out_too() -> None:
    learners = {"low": Shifted(shift=-1.0), "high": Shifted(shift=1.0), "far": Shifted(shift=50.0)}
    found = am.compare("sinusoid", learners, **FEW)
    assert set(found.without("far").leaderboard["learner"]) == {"low", "high", "ensemble"}
    assert set(found.without("low").leaderboard["learner"]) == {"high", "far"}
    assert set(found.without("ensemble").leaderboard["learner"]) == set(learners)
    with pytest.raises(am.UnknownName, match="did you mean 'ensemble'"):
        found.without("ensembel")


def test_it_is_judged_on_other_tasks_where_all_can_be() -> None:
    waves = {"waves": am.make_tasks("sinusoid", n_shot=4)}
    found = am.compare("sinusoid", PLAIN, test_tasks=waves, **ONE)
    judged = found.leaderboard.query("learner == 'ensemble'")
    assert set(judged["tasks"]) == {"sinusoid", "waves"}


@pytest.mark.thorough
def test_classes_of_several_distributions_and_what_cannot_have_an_ensemble(tmp_path: Path) -> None:
    tasks = {"glyphs": am.make_tasks("glyphs", size=8, n_way=3), "doors": am.make_tasks("gridnavi", size=3, steps=3)}
    found = am.compare(tasks, ["prototypical", "sklearn", "control/random"], **ONE)
    assert found.complete
    assert set(found.members["tasks"]) == {"glyphs"}
    (skip,) = found.skipped.query("learner == 'ensemble'").itertuples()
    assert skip.tasks == "doors"
    assert "cannot answer together" in skip.reason
    with pytest.raises(am.InvalidParameter, match="ensemble=True needs final runs of several learners"):
        am.compare("sinusoid", PLAIN, search="joint", **ONE)
    with pytest.raises(am.InvalidParameter, match="a learner is called 'ensemble'"):
        am.compare("sinusoid", {"ensemble": "ridge"}, **ONE)
    both = am.make_learner("ensemble", members=["ridge", "kernel_experts"])
    assert am.compare("sinusoid", {"both": both}, **{**ONE, "ensemble": False}).complete


@pytest.mark.thorough
def test_the_estimator_and_the_command_line_ask_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = {"n_trials": 1, "n_test_tasks": 10, "n_valid_tasks": 5, "max_steps": 3, "tasks_per_step": 2}
    model = am.AutoFewShotRegressor(["ridge", "sklearn"], ensemble=True, device="cpu", **few).meta_fit("sinusoid")
    assert set(model.leaderboard_["learner"]) == {"ridge", "sklearn", "ensemble"}
    study = tmp_path / "study.toml"
    study.write_text('tasks = ["sinusoid"]\nlearners = ["ridge"]\nensemble = true\nquiet = true\n')
    typed = ["--trials", "1", "--seeds", "1", "--steps", "2", "--n-test-tasks", "5", "--valid-tasks", "5"]
    assert main(["compare", str(study), *typed, "--output", str(tmp_path / "run"), "--json"]) == 0
    assert '"ensemble"' in capsys.readouterr().out
    assert main(["compare", str(study), *typed, "--no-ensemble", "--output", str(tmp_path / "other"), "--json"]) == 0
    assert '"ensemble"' not in capsys.readouterr().out
    assert main(["compare", str(study), *typed, "--output", str(tmp_path / "third"), "--dry-run"]) == 0
    assert "ensemble" in capsys.readouterr().out
    study.write_text("ensemble = 1\n")
    assert main(["compare", str(study)]) == 2
    assert "must be true or false" in capsys.readouterr().err


def test_a_plan_counts_its_runs_and_its_time() -> None:
    settings = {name: value for name, value in FEW.items() if name != "verbose"}
    seen = am.preview("sinusoid", ["ridge", "sklearn"], **settings)
    rows = seen.pairs.set_index("learner")
    assert rows.loc["ensemble", ["trials", "finals", "steps"]].tolist() == [0, 2, 0]
    task = rows.loc[["ridge", "sklearn"], "judge_ms"].sum() / 1000
    assert rows.loc["ensemble", "judge_seconds"] == pytest.approx(2 * (2 * 10 + 12 + 10 + 12) * task)


# What was chosen on the meta-valid tasks does not leak into the verdict.


class Noise(am.Learner):
    """Answers at random, always the same to the same question."""

    default_meta_optimizer = None
    provides = frozenset()

    def __init__(self, stream: int = 0) -> None:
        self.stream = stream

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.ParameterList([torch.randn(())])  # each run has its own answers

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        return support.one_hot().sum(1)

    def predict(self, module: nn.Module, adapted: Tensor, x: Tensor) -> Tensor:
        (own,) = module.parameters()
        place = torch.arange(1, adapted.shape[-1] + 1) * 12.9898 + 78.233 * self.stream + 37.719 * own
        return 3 * torch.sin(1e3 * torch.sin(x.flatten(2).sum(-1, keepdim=True) * 91.7 + place))


@pytest.mark.thorough
@pytest.mark.parametrize("random_state", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_an_ensemble_of_noise_is_at_chance_and_nobody_is_called_better(random_state: int) -> None:
    tasks = am.make_tasks("glyphs", size=8, n_way=4, n_shot=1, n_query=5)
    noise = {f"noise {i}": Noise(i) for i in range(10)}
    few = {"n_trials": 1, "n_valid_tasks": 30, "n_test_tasks": 100, "n_seeds": 3, "baselines": False, "verbose": 0}
    found = am.compare(tasks, noise, ensemble=True, random_state=random_state, **few)
    own = found.scores.query("learner == 'ensemble'").groupby("task")["score"].mean()
    assert abs(own.mean() - 0.25) < STANDARD_ERRORS * own.std() / len(own) ** 0.5
    assert found.significance["better"].isna().all()
    # Where they were chosen it looks as if they knew something, which is what must not be told.
    curves = found.curves.query("axis == 'outer steps'").groupby("learner")["score"].mean()
    assert curves["ensemble"] > 0.25 + 0.02
    assert curves["ensemble"] > curves.drop("ensemble").max()

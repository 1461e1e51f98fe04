"""am.compare(test_tasks=...): meta-trained on one task distribution, judged on others."""

from __future__ import annotations

import doctest
import importlib
import json
import runpy
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from optuna.trial import TrialState
from torch import Tensor, nn

import autometa as am
import autometa.comparison.execution.finals as finals
from autometa.cli import main
from autometa.cli.study_file import NamedComponent, others_from_texts, read_study_file, tasks_from_texts
from autometa.comparison import work
from autometa.comparison.execution.storage import open_storage
from autometa.comparison.report.significance import verdicts_beside_best
from autometa.testing.toys import Blobs, Lines, Shifts
from learning import assert_better, chance
from tiers import first_by_default

FAST: dict[str, Any] = {
    "n_trials": 2,
    "n_test_tasks": 12,
    "n_valid_tasks": 5,
    "n_seeds": 2,
    "max_steps": 3,
    "tasks_per_step": 2,
    "baselines": False,
    "verbose": 0,
}

pytestmark = pytest.mark.reports

SHORT = am.make_tasks("sinusoid", n_shot=3, n_query=4)
TIMED = ["meta_train_seconds", "adapt_ms", "predict_ms"]


class Told(Blobs):
    """Writes down which parts are drawn from."""

    splits: ClassVar[list[str]] = []

    def sample(self, n_tasks: int, *, split: am.Split = "train", seed: int) -> am.TaskBatch:
        self.splits.append(split)
        return super().sample(n_tasks, split=split, seed=seed)


class TwoWaves(am.TaskSampler):
    """As sinusoid, with two targets."""

    @property
    def info(self) -> am.TaskInfo:
        return am.TaskInfo(problem="regression", input_shape=(1,), n_outputs=2, n_shot=5, n_query=5)

    def sample(self, n_tasks: int, *, split: am.Split = "train", seed: int) -> am.TaskBatch:
        one = am.make_tasks("sinusoid", n_shot=5, n_query=5).sample(n_tasks, split=split, seed=seed)
        both = [am.Examples(part.x, torch.cat([part.y, -part.y], dim=-1)) for part in (one.support, one.query)]
        return am.TaskBatch(support=both[0], query=both[1])


class Breaks(am.Learner):
    """The mean of the support targets, unless there are four."""

    default_meta_optimizer: ClassVar[str | None] = None
    provides: ClassVar[frozenset[str]] = frozenset()

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.Identity()

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        if support.y.shape[1] == 4:
            raise RuntimeError("four again")
        return support.targets().mean(1, keepdim=True)

    def predict(self, module: nn.Module, adapted: Tensor, x: Tensor) -> Tensor:
        return adapted.expand(-1, x.shape[1], -1)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[am.Comparison, Path]:
    """Two distributions trained on; one of them and a third judged on."""
    output = tmp_path_factory.mktemp("runs") / "first"
    tasks = {"waves": "sinusoid", "short": SHORT}
    others = {"waves": "sinusoid", "long": am.make_tasks("sinusoid", n_shot=20)}
    return am.compare(tasks, ["ridge", "sklearn"], test_tasks=others, output=output, **FAST), output


def test_every_learner_is_judged_on_the_same_tasks_wherever_it_was_trained(first: tuple[am.Comparison, Path]) -> None:
    scores = first[0].scores
    assert list(scores.columns)[:6] == ["tasks", "learner", "seed", "task", "metric", "score"]
    sets = scores.groupby(["tasks", "trained_on", "learner", "seed"])["task"].apply(tuple)
    settings = {("waves", "waves"), ("short", "short"), ("waves", "short"), ("long", "waves"), ("long", "short")}
    assert set(sets.index.droplevel([2, 3])) == settings
    assert len(sets) == len(settings) * 2 * 2
    assert all(len(set(same)) == 1 for _, same in sets.groupby("tasks"))
    assert (scores.groupby(["tasks", "trained_on", "learner", "seed"]).size() == 12).all()


def test_the_scores_are_those_of_the_saved_models_on_those_tasks(first: tuple[am.Comparison, Path]) -> None:
    from autometa.contracts.seeding import derive_seed
    from autometa.training import evaluate

    comparison, output = first
    model = am.load(output / "models" / "short" / "ridge-1.autometa")
    long = am.make_tasks("sinusoid", n_shot=20)
    seed = derive_seed(0, "long", "test")
    again = evaluate(model.learner_, model.module_, long, split="test", n_tasks=12, seed=seed)
    of = comparison.scores.query("tasks == 'long' and trained_on == 'short' and learner == 'ridge' and seed == 1")
    np.testing.assert_allclose(of["score"], again.per_task()[1], rtol=1e-4)


def test_the_leaderboard_ranks_all_that_was_judged_on_the_same_tasks(first: tuple[am.Comparison, Path]) -> None:
    comparison = first[0]
    board = comparison.leaderboard
    for tasks, n in (("waves", 4), ("short", 2), ("long", 4)):
        rows = board[board["tasks"] == tasks]
        assert list(rows["rank"]) == list(range(1, n + 1))
        assert rows["score"].is_monotonic_increasing
        assert (rows["ci_low"] <= rows["score"]).all()
        assert (rows["adapt_ms"] > 0).all()
        assert len(comparison.significance[comparison.significance["tasks"] == tasks]) == n * (n - 1) // 2
    for _, row in board.iterrows():
        own = comparison.scores.query(
            f"tasks == '{row['tasks']}' and trained_on == '{row['trained_on']}' and learner == '{row['learner']}'"
        )
        assert row["score"] == pytest.approx(own["score"].mean())
    assert set(board[board["tasks"] == "long"]["n_shot"]) == {20}
    pairs = comparison.significance
    assert set(pairs[pairs["tasks"] == "long"]["trained_on_a"]) <= {"waves", "short"}
    assert list(comparison.ranks["n_distributions"]) == [5, 5]
    assert comparison.ranks["mean_rank"].sum() == pytest.approx(3)


@pytest.mark.thorough
def test_own_tasks_are_judged_as_they_are_without_test_tasks(first: tuple[am.Comparison, Path]) -> None:
    plain = am.compare({"waves": "sinusoid", "short": SHORT}, ["ridge", "sklearn"], name="first", **FAST)
    here = first[0].scores.query("tasks == trained_on").reset_index(drop=True)
    pd.testing.assert_frame_equal(plain.scores, here)
    for name in ("trials", "history"):
        one, other = (getattr(comparison, name).drop(columns="seconds") for comparison in (plain, first[0]))
        pd.testing.assert_frame_equal(one, other)


def test_tuning_and_meta_training_see_nothing_of_the_test_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Told, "splits", [])
    other = Told(n_way=4)
    comparison = am.compare({"blobs": Blobs()}, ["prototypical"], test_tasks={"told": other}, **FAST)
    assert set(Told.splits) == {"test"}
    assert set(comparison.leaderboard["tasks"]) == {"blobs", "told"}


def test_a_final_run_is_meta_trained_once_for_all_it_is_judged_on(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []
    train_final = finals.train_final

    def counted(pair: Any, *args: Any) -> Any:
        trained.append(pair.learner)
        return train_final(pair, *args)

    monkeypatch.setattr(finals, "train_final", counted)
    comparison = am.compare("sinusoid", ["ridge"], test_tasks={"short": SHORT, "two": SHORT}, **FAST)
    assert trained == ["ridge"] * FAST["n_seeds"]
    assert len(comparison.leaderboard) == 3


@pytest.mark.thorough
def test_what_was_learned_on_tasks_of_three_classes_serves_tasks_of_five() -> None:
    few = {**FAST, "n_trials": 1, "n_seeds": 1, "n_test_tasks": 100}
    near, target = Blobs(n_shot=1), Blobs(n_shot=1, n_way=5)
    comparison = am.compare({"near": near}, "prototypical", test_tasks={"target": target}, **few | {"max_steps": 60})
    scores = comparison.scores.query("tasks == 'target' and learner == 'prototypical'")["score"]
    assert_better(scores.to_numpy(), chance(target.info), target.info)


# ---------------------------------------------------------------- what does not fit


def test_what_cannot_be_judged_is_left_out_with_the_reason() -> None:
    tasks: dict[str, Any] = {"blobs": Blobs(), "waves": "sinusoid"}
    comparison = am.compare(
        tasks, ["prototypical", "ridge"], test_tasks={"shifts": Shifts(), "short": SHORT}, **{**FAST, "n_trials": 1}
    )
    judged = set(zip(comparison.leaderboard["trained_on"], comparison.leaderboard["tasks"], strict=True))
    assert judged == {("blobs", "blobs"), ("waves", "waves"), ("blobs", "shifts"), ("waves", "short")}
    left_out = comparison.skipped[comparison.skipped["tasks"] != comparison.skipped["trained_on"]]
    assert set(zip(left_out["trained_on"], left_out["tasks"], left_out["learner"], strict=True)) == {
        ("waves", "shifts", "every learner"),
        ("blobs", "short", "every learner"),
    }
    assert "problem is regression in 'waves', which is trained on, and classification in 'shifts'" in set(
        left_out["reason"].str.rstrip(".")
    )


@pytest.mark.thorough
def test_a_learner_whose_parameters_depend_on_the_outputs_is_refused_where_there_are_others() -> None:
    few = {**FAST, "n_trials": 1, "n_seeds": 1}
    comparison = am.compare("sinusoid", ["maml", "sklearn"], test_tasks={"two": TwoWaves()}, **few)
    assert list(comparison.leaderboard.query("tasks == 'two'")["learner"]) == ["sklearn"]
    (row,) = comparison.skipped.itertuples()
    assert (row.tasks, row.learner, row.trained_on) == ("two", "maml", "sinusoid")
    assert "learner 'maml' meta-trained on 'sinusoid' (1 real target) cannot do 'two' (2 real targets)" in row.reason
    with pytest.raises(am.Incompatible, match=r"can be judged on test_tasks 'two'.*'maml' meta-trained on 'sinusoid'"):
        am.compare("sinusoid", ["maml"], test_tasks={"two": TwoWaves()}, **few)


def test_an_estimator_meta_trained_for_one_target_refuses_two() -> None:
    estimator = am.FewShotRegressor("maml", max_steps=2, tasks_per_step=2, random_state=0).meta_fit("sinusoid")
    x = np.linspace(-1, 1, 6).reshape(-1, 1)
    with pytest.raises(ValueError, match="target|output"):
        estimator.fit(x, np.stack([x[:, 0], -x[:, 0]], axis=1))


@pytest.mark.parametrize("learner", ["fine_tune", "multitask", "sklearn_pooled"])
def test_an_estimator_that_knows_two_classes_refuses_four(learner: str) -> None:
    estimator = am.FewShotClassifier(learner, max_steps=2, tasks_per_step=2, random_state=0).meta_fit(Shifts())
    x = np.random.default_rng(0).normal(size=(12, 6))
    with pytest.raises(am.Incompatible, match=r"2 outputs.* this task has 4"):
        estimator.fit(x, np.arange(12) % 4)
    assert estimator.fit(x, np.arange(12) % 2).predict(x).shape == (12,)


def test_what_fails_on_other_tasks_is_told_and_its_own_scores_stay() -> None:
    with pytest.warns(UserWarning, match=r"2 trials or final runs failed \(Breaks on sinusoid\)"):
        comparison = am.compare(
            "sinusoid", [Breaks()], test_tasks={"four": am.make_tasks("sinusoid", n_shot=4)}, **FAST
        )
    assert list(comparison.leaderboard["tasks"]) == ["sinusoid"]
    assert list(comparison.failures["stage"]) == ["judging on four"] * 2
    assert set(comparison.failures["reason"]) == {"RuntimeError: four again"}
    assert comparison.complete


@pytest.mark.parametrize(
    ("test_tasks", "error", "text"),
    [
        ("digits", am.Incompatible, "nothing that is meta-trained can be judged on test_tasks 'digits'.*problem is"),
        ({"lines": Lines()}, am.Incompatible, r"input_shape is \(1,\) in 'sinusoid', .* and \(6,\) in 'lines'"),
        ({"sinusoid": SHORT}, am.InvalidParameter, "test_tasks 'sinusoid' has other parameters than tasks 'sinusoid'"),
        ("sinusoidd", am.UnknownName, "did you mean 'sinusoid'"),
        ([], am.InvalidParameter, "test_tasks is empty"),
        ("omniglot", am.InvalidParameter, "needs root"),
        ({"a/b": SHORT}, am.InvalidParameter, "'a/b' must be a non-empty text"),
    ],
)
def test_bad_test_tasks_are_one_clear_error_before_any_work(
    test_tasks: Any, error: type[Exception], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autometa.comparison.execution.arm.Arm.step", lambda *args: pytest.fail("work was begun"))
    with pytest.raises(error, match=text):
        am.compare("sinusoid", ["ridge"], test_tasks=test_tasks, **FAST)


@pytest.mark.parametrize(
    "given", first_by_default(1, ["sinusoid", ["sinusoid"], {"sinusoid": "sinusoid"}, am.make_tasks("sinusoid")])
)
def test_tasks_that_are_trained_on_are_not_judged_on_twice(given: Any) -> None:
    comparison = am.compare("sinusoid", ["sklearn"], test_tasks=given, **{**FAST, "n_trials": 1, "n_seeds": 1})
    assert len(comparison.leaderboard) == 1
    assert comparison.skipped.empty


# ---------------------------------------------------------------- winners, report, files


def test_the_winner_on_other_tasks_is_the_first_of_their_leaderboard(first: tuple[am.Comparison, Path]) -> None:
    comparison, output = first
    best = comparison.leaderboard.query("tasks == 'long'").iloc[0]
    x = np.linspace(-2, 2, 8).reshape(-1, 1)
    y = np.sin(x[:, 0])
    winner = comparison.best_estimator("long").fit(x, y).predict(x)
    kept = am.load(output / "best-long.autometa").fit(x, y).predict(x)
    np.testing.assert_array_equal(winner, kept)
    same = comparison.best_estimator("long", trained_on=best["trained_on"]).fit(x, y).predict(x)
    np.testing.assert_array_equal(winner, same)
    first_of_short = comparison.leaderboard.query("tasks == 'long' and trained_on == 'short'").iloc[0]
    estimator = comparison.best_estimator("long", trained_on="short")
    assert type(estimator.learner_) is type(am.make_learner(first_of_short["learner"]))
    with pytest.raises(am.InvalidParameter, match="tasks=None is ambiguous"):
        comparison.best_estimator()
    with pytest.raises(am.InvalidParameter, match="trained_on='waves' has no learner judged on 'short'"):
        comparison.best_estimator("short", trained_on="waves")


@pytest.mark.thorough
def test_the_report_has_a_matrix_of_what_was_trained_where_and_judged_where(
    first: tuple[am.Comparison, Path], tmp_path: Path
) -> None:
    comparison, output = first
    text = (output / "report.html").read_text()
    assert text == comparison.report(tmp_path / "again.html").read_text()
    section = text.partition('<section id="domains">')[2].partition("</section>")[0]
    for heading in ("trained on", "on waves", "on short", "on long"):
        assert f">{heading}</th>" in section
    body = section.partition("<tbody>")[2]
    assert body.count("<tr") == 2 * 2
    assert body.count("–") == 2  # what was trained on waves is not judged on short
    assert body.count("<u>") == 2 * 2
    assert "ridge (short)" in text.partition('<section id="significance">')[2]
    names = {"ridge (short)", "ridge (waves)", "sklearn (short)", "sklearn (waves)"}
    assert verdicts_beside_best(comparison.leaderboard, comparison.significance, "long").keys() <= names


def test_tables_plan_and_winners_are_read_back(first: tuple[am.Comparison, Path]) -> None:
    comparison, output = first
    pd.testing.assert_frame_equal(pd.read_csv(output / "scores.csv"), comparison.scores, check_dtype=False)
    read = am.Comparison.load(output)
    pd.testing.assert_frame_equal(read.leaderboard, comparison.leaderboard)
    pd.testing.assert_frame_equal(read.significance, comparison.significance)
    assert list(read.plan["test_tasks"]) == ["waves", "long"]
    assert list(json.loads((output / "run.json").read_text())["plan"]["test_tasks"]) == ["waves", "long"]
    assert {path.name for path in output.glob("best-*")} == {
        f"best-{name}.autometa" for name in ("waves", "short", "long")
    }


# ---------------------------------------------------------------- going on, and other processes


@pytest.mark.parametrize(
    ("later", "text"),
    first_by_default(
        1,
        [
            (None, "test_tasks 'short' is there and not here"),
            ({"short": am.make_tasks("sinusoid", n_shot=4)}, "test_tasks 'short' has other parameters there"),
        ],
    ),
)
def test_other_test_tasks_in_the_same_output_are_a_clear_error(tmp_path: Path, later: Any, text: str) -> None:
    few = {**FAST, "n_trials": 1, "n_seeds": 1}
    am.compare("sinusoid", ["sklearn"], test_tasks={"short": SHORT}, storage=tmp_path / "s.log", **few)
    with pytest.raises(am.InvalidParameter, match=text):
        am.compare("sinusoid", ["sklearn"], test_tasks=later, storage=tmp_path / "s.log", **few)


@pytest.mark.thorough
def test_learners_and_tasks_may_join_a_comparison_with_test_tasks(tmp_path: Path) -> None:
    few = {**FAST, "n_trials": 1, "n_seeds": 1, "storage": tmp_path / "s.log", "test_tasks": {"short": SHORT}}
    am.compare("sinusoid", ["sklearn"], **few)
    both = am.compare(
        {"sinusoid": "sinusoid", "four": am.make_tasks("sinusoid", n_shot=4)}, ["sklearn", "ridge"], **few
    )
    judged = both.leaderboard.query("tasks == 'short'")
    assert set(zip(judged["learner"], judged["trained_on"], strict=True)) == {
        (learner, tasks) for learner in ("sklearn", "ridge") for tasks in ("sinusoid", "four")
    }


CALL = """
import sys
import torch
import autometa as am

torch.set_num_threads(1)


def run(output, max_steps, n_workers=1):
    return am.compare(
        "sinusoid", ["ridge"], test_tasks={"short": am.make_tasks("sinusoid", n_shot=3)}, n_trials=2, n_test_tasks=10,
        n_valid_tasks=5, n_seeds=3, max_steps=max_steps, tasks_per_step=2, output=output, verbose=0,
        n_workers=n_workers, baselines=False,
    )


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
"""


def n_finals(output: Path) -> int:
    if not (output / "journal.log").exists():
        return 0
    storage = open_storage(str(output / "journal.log"))
    if "run/sinusoid/ridge/final" not in optuna.get_all_study_names(storage):
        return 0
    study = optuna.load_study(storage=storage, study_name="run/sinusoid/ridge/final")
    return [trial.state for trial in study.trials].count(TrialState.COMPLETE)


@pytest.mark.slow
def test_after_kill_9_between_finals_two_processes_complete_it_as_if_nothing_had_been(tmp_path: Path) -> None:
    script = tmp_path / "run_it.py"
    script.write_text(CALL)
    cut, whole = tmp_path / "cut" / "run", tmp_path / "whole" / "run"
    process = subprocess.Popen([sys.executable, str(script), str(cut), "60", "1"])
    end = time.monotonic() + 120
    while n_finals(cut) < 1:
        assert process.poll() is None, "the comparison ended before it was to be cut"
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run([sys.executable, str(script), str(cut), "60", "2"], check=True)
    two, one = am.Comparison.load(cut), runpy.run_path(str(script))["run"](whole, 60)
    assert two.complete
    pd.testing.assert_frame_equal(one.leaderboard.drop(columns=TIMED), two.leaderboard.drop(columns=TIMED))
    pd.testing.assert_frame_equal(one.scores, two.scores)
    assert set(two.scores["tasks"]) == {"sinusoid", "short"}
    assert (two.leaderboard["n_seeds"] == 3).all()


@pytest.mark.thorough
def test_another_worker_takes_the_test_tasks_from_the_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import autometa.comparison.execution.arm as arm

    def stop_at_once(*args: Any, **kwargs: Any) -> float:
        signal.raise_signal(signal.SIGINT)
        return 0.0

    url = f"sqlite:///{tmp_path}/studies.db"
    few = {**FAST, "n_trials": 1, "n_seeds": 1}
    with monkeypatch.context() as context:
        context.setattr(arm, "run_trial", stop_at_once)
        with pytest.warns(UserWarning, match="interrupted"):
            am.compare("sinusoid", ["ridge"], test_tasks={"short": SHORT}, storage=url, name="far", **few)
    comparison = work(url, "far")
    assert comparison.complete
    assert list(comparison.leaderboard["tasks"]) == ["sinusoid", "short"]


def test_the_winner_of_a_joint_search_is_judged_on_other_tasks() -> None:
    comparison = am.compare(
        "sinusoid", ["ridge", "sklearn"], test_tasks={"short": SHORT}, search="joint", **{**FAST, "n_seeds": 1}
    )
    assert list(comparison.leaderboard["tasks"]) == ["sinusoid", "short"]
    assert len(set(comparison.leaderboard["learner"])) == 1
    assert isinstance(comparison.best_estimator("short"), am.FewShotRegressor)


# ---------------------------------------------------------------- command line and study files

SMALL = [
    *("--trials", "1", "--steps", "2", "--tasks-per-step", "2", "--valid-tasks", "4", "--seeds", "1"),
    *("--device", "cpu", "--quiet"),
]


@pytest.mark.thorough
def test_the_command_line_names_test_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = str(tmp_path / "out")
    typed = ["--tasks", "sinusoid", "--test-tasks", "sinusoid:n_shot=3", "--learners", "ridge,sklearn", *SMALL]
    assert main(["compare", *typed, "--n-test-tasks", "12", "--output", output]) == 0
    said = capsys.readouterr().out
    assert "sinusoid n_shot=3   mean squared error on 12 held-out tasks" in said
    assert "ridge (sinusoid)" in said
    assert "(in brackets): the tasks it was trained on" in said
    assert main(["report", output, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {(row["tasks"], row["trained_on"]) for row in rows} == {
        ("sinusoid", "sinusoid"),
        ("sinusoid n_shot=3", "sinusoid"),
    }


@pytest.mark.slow
def test_a_study_file_has_tables_of_test_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "study.toml"
    file.write_text(
        f"""
        tasks = ["sinusoid"]
        learners = ["ridge", "sklearn"]
        n_test_tasks = 10
        output = "{(tmp_path / "out").as_posix()}"

        [test_tasks.few]
        sampler = "sinusoid"
        n_shot = 3
        """
    )
    assert main(["compare", str(file), *SMALL, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {(row["tasks"], row["n_test_tasks"], row["n_shot"]) for row in rows} == {
        ("sinusoid", 10, 10),
        ("few", 10, 3),
    }


def test_a_number_of_test_tasks_is_told_from_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "study.toml"
    file.write_text("test_tasks = 30")
    assert read_study_file(file).options == {"n_test_tasks": 30}
    file.write_text('test_tasks = ["digits"]\nn_test_tasks = 30')
    assert read_study_file(file).test_tasks == ["digits"]
    assert read_study_file(file).options == {"n_test_tasks": 30}
    for text in ("test_tasks = 30\nn_test_tasks = 20", "test_tasks = true", "test_tasks = 2.5"):
        file.write_text(text)
        with pytest.raises(am.InvalidParameter, match="test_tasks"):
            read_study_file(file)
    assert main(["compare", "--tasks", "sinusoid", "--test-tasks", "30", "--n-test-tasks", "20"]) == 2
    assert "several numbers of tasks: [20, 30]" in " ".join(capsys.readouterr().err.split())


def test_test_tasks_share_the_label_of_equal_tasks_and_no_other() -> None:
    tasks = tasks_from_texts(["glyphs", "sinusoid:n_shot=3"])
    assert others_from_texts(["glyphs"], tasks) == {"glyphs": NamedComponent(name="glyphs")}
    assert list(others_from_texts(["glyphs:n_way=20,digits"], tasks)) == ["glyphs n_way=20", "digits"]
    assert list(others_from_texts(["sinusoid"], tasks_from_texts(["sinusoid:n_shot=3"]))) == ["sinusoid#2"]


def test_help_shows_an_example_with_test_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "--test-tasks digits" in said
    assert "--n-test-tasks" in said


@pytest.mark.slow
def test_the_example_of_compare_runs() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = doctest.testmod(importlib.import_module("autometa.comparison.compare"))
    assert outcome.attempted == 4
    assert outcome.failed == 0

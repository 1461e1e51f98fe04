"""am.compare: what it does with learners, tasks and bad input."""

from __future__ import annotations

import itertools
import json
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import autometa as am
from autometa.comparison.execution.adaptation_curve import with_fewer_shots
from autometa.comparison.execution.storage import portable_address
from autometa.comparison.execution.stored_plan import PLAN
from autometa.comparison.results.tables import _shared_ranks
from learning import STANDARD_ERRORS

FAST: dict[str, Any] = {
    "n_trials": 3,
    "n_test_tasks": 20,
    "n_valid_tasks": 10,
    "n_seeds": 2,
    "max_steps": 4,
    "tasks_per_step": 2,
    "baselines": False,
    "verbose": 0,
}

pytestmark = pytest.mark.reports


class Mean(am.Learner):
    """Predicts ``scale`` times the mean of the support targets: best near 1, so that tuning shows."""

    default_meta_optimizer: ClassVar[str | None] = None
    provides: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, scale: float = 3.0) -> None:
        self.scale = scale

    def build(self, info: am.TaskInfo) -> nn.Module:
        if info.problem != "regression":
            raise am.Incompatible(f"Mean is for regression, not for {info.problem}.")
        return nn.Identity()

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        return self.scale * support.targets().sum(1) / support.mask.sum(1, keepdim=True)

    def predict(self, module: nn.Module, adapted: Tensor, x: Tensor) -> Tensor:
        return adapted.unsqueeze(1).expand(-1, x.shape[1], -1)

    @classmethod
    def suggest(cls, trial: optuna.Trial, info: am.TaskInfo) -> Self:
        return cls(scale=trial.suggest_float("scale", 0.5, 5.0))


class Trained(Mean):
    """The same with a meta-learned offset, so that there are outer steps."""

    default_meta_optimizer: ClassVar[str | None] = "gradient"
    provides: ClassVar[frozenset[str]] = frozenset({"gradient"})

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.Linear(1, 1)

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        assert isinstance(module, nn.Linear)
        return super().adapt(module, support) + module.bias


class Choosy(Trained):
    """Chooses the scale from a list, most of which is hopeless."""

    @classmethod
    def suggest(cls, trial: optuna.Trial, info: am.TaskInfo) -> Self:
        return cls(scale=trial.suggest_categorical("scale", [3.0, 0.5, 1.0, 1.5, 5.0, 8.0, 12.0, 20.0]))


class Fragile(Mean):
    """Raises for some hyperparameters."""

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        if self.scale != 3.0:
            raise RuntimeError("too fragile")
        return super().adapt(module, support)


class Hopeless(Mean):
    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        raise RuntimeError("never works")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[am.Comparison, Path]:
    """One finished comparison that several tests look at."""
    output = tmp_path_factory.mktemp("runs") / "first"
    tasks = {"waves": "sinusoid", "short": am.make_tasks("sinusoid", n_shot=3, n_query=4)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a learner of no plugin cannot be saved: tested below
        comparison = am.compare(tasks, ["ridge", Trained(), "sklearn"], output=output, **FAST)
    return comparison, output


def test_every_learner_is_judged_on_the_same_tasks_with_every_seed(first: tuple[am.Comparison, Path]) -> None:
    scores = first[0].scores
    assert list(scores.columns) == ["tasks", "learner", "seed", "task", "metric", "score", "trained_on"]
    assert (scores["trained_on"] == scores["tasks"]).all()
    counts = scores.groupby(["tasks", "learner", "seed"])["task"].nunique()
    assert len(counts) == 2 * 3 * 2
    assert (counts == 20).all()
    sets = scores.groupby(["tasks", "learner", "seed"])["task"].apply(tuple).groupby("tasks").nunique()
    assert (sets == 1).all()


def test_the_leaderboard_ranks_the_means_of_the_scores(first: tuple[am.Comparison, Path]) -> None:
    board, scores = first[0].leaderboard, first[0].scores
    for _, row in board.iterrows():
        own = scores[(scores["tasks"] == row["tasks"]) & (scores["learner"] == row["learner"])]["score"]
        assert row["score"] == pytest.approx(own.mean())
        assert row["ci_low"] <= row["score"] <= row["ci_high"]
        assert row["adapt_ms"] > 0
        assert row["normalization"] == "none"
    for _, part in board.groupby("tasks"):
        assert part["score"].is_monotonic_increasing  # a squared error: less is better
        assert list(part["rank"]) == [1, 2, 3]
    assert set(board[board["tasks"] == "short"]["n_query"]) == {4}
    assert set(first[0].ranks["learner"]) == {"ridge", "Trained", "sklearn"}


def test_trial_zero_has_the_defaults_and_tuning_beats_them(first: tuple[am.Comparison, Path]) -> None:
    comparison = first[0]
    trials = comparison.trials[(comparison.trials["learner"] == "Trained") & (comparison.trials["tasks"] == "waves")]
    assert trials.set_index("slot").loc[0, "params"]["learner__scale"] == 3.0
    best = comparison.leaderboard.query("tasks == 'waves' and learner == 'Trained'")["params"].iloc[0]
    assert best == trials.sort_values("value")["params"].iloc[0]
    assert best["learner__scale"] < 3.0


def test_curves_and_history_cover_outer_steps_and_adaptation(first: tuple[am.Comparison, Path]) -> None:
    comparison = first[0]
    of = comparison.curves.query("tasks == 'waves' and learner == 'Trained' and seed == 0")
    assert list(of[of["axis"] == "outer steps"]["value"]) == [0, 1, 2, 3, 4]
    assert list(of[of["axis"] == "shots"]["value"]) == [1, 2, 3, 5, 10]
    assert list(comparison.history.query("tasks == 'waves' and learner == 'Trained' and seed == 1")["step"]) == [
        1,
        2,
        3,
        4,
    ]


def test_the_output_folder_holds_tables_report_winners_and_the_environment(first: tuple[am.Comparison, Path]) -> None:
    comparison, output = first
    pd.testing.assert_frame_equal(pd.read_csv(output / "scores.csv"), comparison.scores, check_dtype=False)
    assert len(pd.read_csv(output / "leaderboard.csv")) == 6
    assert len(pd.read_csv(output / "significance.csv")) == 2 * 3
    assert "<html" in (output / "report.html").read_text()[:2000].lower()
    assert isinstance(am.load(output / "best-waves.autometa"), am.FewShotRegressor)
    run = json.loads((output / "run.json").read_text())
    assert run["environment"]["packages"]["optuna"] == optuna.__version__
    assert run["environment"]["random_state"] == 0
    assert not [path for path in output.rglob("*") if path.name.endswith(".part")]


def test_the_winner_is_meta_trained_and_scores_what_the_leaderboard_says(first: tuple[am.Comparison, Path]) -> None:
    comparison, _ = first
    estimator = comparison.best_estimator("waves")
    batch = am.make_tasks("sinusoid").sample(40, split="test", seed=5)
    errors = []
    for i in range(40):
        support, query = batch.support[i : i + 1], batch.query[i : i + 1]
        estimator.fit(support.x[0].numpy(), support.y[0, :, 0].numpy())
        errors.append(np.mean((estimator.predict(query.x[0].numpy()) - query.y[0, :, 0].numpy()) ** 2))
    winner = comparison.leaderboard.query("tasks == 'waves'").iloc[0]["learner"]
    scores = comparison.scores.query(f"tasks == 'waves' and learner == {winner!r}")["score"]
    difference, variances = np.mean(errors) - scores.mean(), [np.var(part) / len(part) for part in (errors, scores)]
    assert abs(difference) < STANDARD_ERRORS * np.sqrt(np.sum(variances))
    with pytest.raises(am.InvalidParameter, match="ambiguous"):
        comparison.best_estimator()
    with pytest.raises(am.InvalidParameter, match="tasks='wave' has no judged learner"):
        comparison.best_estimator("wave")


def test_optuna_opens_the_storage_and_finds_one_study_per_pair(first: tuple[am.Comparison, Path]) -> None:
    from optuna.storages.journal import JournalFileBackend

    storage = optuna.storages.JournalStorage(JournalFileBackend(str(first[1] / "journal.log")))
    names = set(optuna.get_all_study_names(storage))
    assert {"first/waves/ridge", "first/waves/ridge/final", "first/short/sklearn"} <= names
    study = optuna.load_study(study_name="first/waves/ridge", storage=storage)
    assert len([t for t in study.trials if t.state.is_finished()]) == 3
    assert study.best_trial.value is not None


def test_the_same_call_finds_everything_done(first: tuple[am.Comparison, Path]) -> None:
    comparison, output = first
    tasks = {"waves": "sinusoid", "short": am.make_tasks("sinusoid", n_shot=3, n_query=4)}
    before = (output / "journal.log").read_text().count('"op_code": 4')  # trials created
    again = am.compare(tasks, ["ridge", Trained(), "sklearn"], output=output, **FAST)
    assert (output / "journal.log").read_text().count('"op_code": 4') == before
    pd.testing.assert_frame_equal(again.leaderboard, comparison.leaderboard)


@pytest.mark.thorough
def test_equal_calls_have_equal_results_and_another_seed_another() -> None:
    one, two = (am.compare("sinusoid", [Trained(), "ridge"], **FAST) for _ in range(2))
    timed = ["meta_train_seconds", "adapt_ms", "predict_ms"]
    pd.testing.assert_frame_equal(one.leaderboard.drop(columns=timed), two.leaderboard.drop(columns=timed))
    pd.testing.assert_frame_equal(one.scores, two.scores)
    other = am.compare("sinusoid", [Trained(), "ridge"], random_state=1, **FAST)
    assert not np.allclose(one.scores["score"], other.scores["score"])


def test_numbers_of_numpy_are_stored_like_any_others(tmp_path: Path) -> None:
    few = {**FAST, "n_trials": np.int64(1), "n_seeds": np.int32(1), "budget": np.float32(60.0)}
    am.compare("sinusoid", [Mean()], storage=tmp_path / "s.log", **few)
    again = am.compare(
        "sinusoid", [Mean()], storage=tmp_path / "s.log", **FAST | {"n_trials": 1, "n_seeds": 1, "budget": 60}
    )
    assert again.plan["settings"]["budget"] == 60


def test_a_learner_may_join_a_finished_comparison_later(tmp_path: Path) -> None:
    am.compare("sinusoid", [Trained()], storage=tmp_path / "s.log", name="n", **FAST)
    both = am.compare("sinusoid", [Trained(), Mean()], storage=tmp_path / "s.log", name="n", **FAST)
    assert set(both.leaderboard["learner"]) == {"Trained", "Mean"}
    assert len(both.studies["n/sinusoid/Trained"].trials) == 3


@pytest.mark.thorough
def test_all_learners_take_part_and_those_that_cannot_say_why() -> None:
    comparison = am.compare(
        "sinusoid", **{**FAST, "n_trials": 1, "n_seeds": 1, "max_steps": 1, "n_test_tasks": 4, "n_valid_tasks": 2}
    )
    assert {"ridge", "maml", "in_context", "sklearn"} <= set(comparison.leaderboard["learner"])
    reasons = dict(zip(comparison.skipped["learner"], comparison.skipped["reason"], strict=True))
    assert all(reasons.values())
    assert not set(reasons) & set(comparison.leaderboard["learner"])
    assert comparison.failures.empty


def test_a_named_learner_that_fits_only_one_of_the_tasks_is_skipped_on_the_other() -> None:
    digits = am.make_tasks("digits", n_way=2, n_shot=2, n_query=3)
    comparison = am.compare({"d": digits, "s": "sinusoid"}, ["prototypical", Mean()], **{**FAST, "n_trials": 1})
    assert list(comparison.leaderboard["learner"]) == ["prototypical", "Mean"]
    assert set(zip(comparison.skipped["tasks"], comparison.skipped["learner"], strict=True)) == {
        ("d", "Mean"),
        ("s", "prototypical"),
    }


def test_the_baseline_joins_a_list_that_lacks_it() -> None:
    comparison = am.compare("sinusoid", [Mean()], **{**FAST, "baselines": True})
    assert set(comparison.leaderboard["learner"]) == {"Mean", "sklearn"}


def test_objects_of_one_class_are_told_apart_and_pairs_with_a_meta_optimizer_named() -> None:
    comparison = am.compare("sinusoid", [Mean(2.0), Mean(1.0), "ridge:gradient"], **{**FAST, "n_trials": 1})
    assert set(comparison.leaderboard["learner"]) == {"Mean", "Mean#2", "ridge:gradient"}
    zero = comparison.trials[comparison.trials["slot"] == 0].set_index("learner")["params"]
    assert zero["Mean"]["learner__scale"] == 2.0
    assert zero["Mean#2"]["learner__scale"] == 1.0


def test_a_trial_that_raises_is_kept_with_its_reason_and_the_others_go_on() -> None:
    with pytest.warns(UserWarning, match="2 trials or final runs failed"):
        comparison = am.compare("sinusoid", [Fragile(), Mean()], **FAST)
    assert list(comparison.failures["reason"]) == ["RuntimeError: too fragile"] * 2
    assert list(comparison.failures["slot"]) == [1, 2]
    assert set(comparison.leaderboard["learner"]) == {"Fragile", "Mean"}
    assert comparison.complete


def test_when_everything_fails_the_first_reason_is_raised() -> None:
    with pytest.raises(am.AutometaError, match="all 3 trials failed.*never works"):
        am.compare("sinusoid", [Hopeless()], **FAST)
    with pytest.raises(am.AutometaError, match="^the only trial failed, 'Hopeless' on 'sinusoid': .*never works"):
        am.compare("sinusoid", [Hopeless()], **{**FAST, "n_trials": 1})


def test_hopeless_trials_are_pruned_and_keep_their_score() -> None:
    comparison = am.compare("sinusoid", [Choosy()], **{**FAST, "n_trials": 20, "n_seeds": 1})
    trials = comparison.trials
    pruned, complete = (trials[trials["state"] == state] for state in ("pruned", "complete"))
    assert len(pruned) >= 1
    assert len(complete) >= 4
    assert pruned["value"].min() > complete["value"].median()
    assert (pruned["seconds"] > 0).all()


def test_a_budget_in_seconds_is_shared_by_trials_and_finals(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    clock = SimpleNamespace(
        perf_counter=lambda: next(ticks) / 64
    )  # by this clock a step takes 1/64 s, and so does waiting
    monkeypatch.setattr("autometa.training.outer_loop.time", clock)
    comparison = am.compare("sinusoid", ["ridge"], budget=5 * 0.25, **{**FAST, "max_steps": 100_000})
    assert list(comparison.trials["seconds"]) == [0.25 + 1 / 64] * 3
    assert list(comparison.history.groupby("seed")["seconds"].max()) == [0.25] * 2
    # Between the points of its learning curve a final looks at its losses, three times before the end.
    assert list(comparison.history.groupby("seed")["step"].max()) == [16 - 3] * 2


def test_one_joint_study_chooses_the_learner_and_only_the_winner_is_judged() -> None:
    comparison = am.compare("sinusoid", [Mean(), Trained(), "ridge"], search="joint", **{**FAST, "n_trials": 6})
    assert list(comparison.studies) == ["comparison/sinusoid/joint"]
    assert set(comparison.trials["learner"]) == {"Mean", "Trained", "ridge"}
    stored = {name for trial in comparison.studies["comparison/sinusoid/joint"].trials for name in trial.params}
    assert {"learner", "Mean.learner__scale", "Trained.learner__scale"} <= stored
    assert len(comparison.leaderboard) == 1
    winner = comparison.leaderboard.iloc[0]
    assert winner["learner"] == comparison.trials.sort_values("value")["learner"].iloc[0]
    assert winner["n_trials"] == (comparison.trials["learner"] == winner["learner"]).sum()
    assert isinstance(comparison.best_estimator(), am.FewShotRegressor)


def test_a_learner_of_no_plugin_wins_and_is_saved_by_its_import_path(tmp_path: Path) -> None:
    comparison = am.compare("sinusoid", [Trained()], output=tmp_path, **FAST)
    x, y = torch.randn(5, 1).numpy(), torch.randn(5).numpy()
    expected = comparison.best_estimator().fit(x, y).predict(x)
    path = f"{__name__}:Trained"
    with pytest.raises(am.InvalidFile, match=f"names '{path}'"):
        am.load(tmp_path / "best.autometa")
    found = am.load(tmp_path / "best.autometa", trusted=[path]).fit(x, y).predict(x)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.thorough
def test_a_function_that_the_callers_own_learner_names_is_trusted_in_that_call_alone(tmp_path: Path) -> None:
    learner = am.make_learner("frozen_features", encoder="numpy:asarray")
    comparison = am.compare("digits", [learner], output=tmp_path, **FAST)
    assert comparison.best_estimator() is not None
    assert (tmp_path / "best.autometa").exists()
    for _ in ("with its models", "without"):
        with pytest.raises(am.InvalidFile, match=r"names 'numpy:asarray'.*Comparison.load\(..., trusted="):
            am.Comparison.load(tmp_path).best_estimator()
        assert am.Comparison.load(tmp_path, trusted=["numpy:asarray"]).best_estimator() is not None
        shutil.rmtree(tmp_path / "models", ignore_errors=True)


@pytest.mark.thorough
def test_a_learner_that_cannot_be_saved_wins_and_is_trained_again(tmp_path: Path) -> None:
    class Inside(Trained):
        """A class that no other process can import."""

    with pytest.warns(UserWarning, match="is not saved"):
        comparison = am.compare("sinusoid", [Inside()], output=tmp_path, **FAST)
    one, two = comparison.best_estimator(), comparison.best_estimator()
    x, y = torch.randn(5, 1).numpy(), torch.randn(5).numpy()
    np.testing.assert_array_equal(one.fit(x, y).predict(x), two.fit(x, y).predict(x))
    assert not (tmp_path / "best.autometa").exists()


@pytest.mark.thorough
def test_a_database_is_as_good_a_storage(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    comparison = am.compare("sinusoid", [Mean()], storage=url, **FAST)
    memory = am.compare("sinusoid", [Mean()], **FAST)
    pd.testing.assert_series_equal(comparison.scores["score"], memory.scores["score"])


def test_fewer_shots_keep_the_first_examples_of_every_class() -> None:
    y = torch.tensor([[0, 0, 1, 1, 2, 2], [2, 1, 0, 0, 1, 0]])
    mask = torch.tensor([[True] * 6, [True] * 5 + [False]])
    x = torch.arange(12.0).reshape(2, 6, 1)
    examples = am.Examples(x, y, mask, 3)
    one = with_fewer_shots(am.TaskBatch(support=examples, query=examples), 1).support
    assert one.x.squeeze(-1).tolist() == [[0, 2, 4], [6, 7, 8]]
    assert one.y.tolist() == [[0, 1, 2], [2, 1, 0]]
    assert one.mask.all()
    two = with_fewer_shots(am.TaskBatch(support=examples, query=examples), 2).support
    assert two.mask.sum(1).tolist() == [6, 5]


# ---------------------------------------------------------------- bad input: refused before any work


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail when a trial is run."""

    def refuse(*args: Any, **kwargs: Any) -> float:
        raise AssertionError("work was begun")

    monkeypatch.setattr("autometa.comparison.execution.arm.Arm.step", refuse)


@pytest.mark.parametrize(
    ("tasks", "learners", "change", "error", "text"),
    [
        ("sinusoidd", "all", {}, am.UnknownName, "did you mean 'sinusoid'"),
        ("sinusoid", ["rigde"], {}, am.UnknownName, "did you mean 'ridge'"),
        ("sinusoid", ["ridge:gradien"], {}, am.UnknownName, "did you mean 'gradient'"),
        ("sinusoid", ["ridge:reptile"], {}, am.Incompatible, "inner_gradient"),
        ("sinusoid", ["prototypical"], {}, am.Incompatible, "'prototypical' fits none of the tasks"),
        ([], "all", {}, am.InvalidParameter, "tasks is empty"),
        ("sinusoid", [], {}, am.InvalidParameter, "learners is empty"),
        (3, "all", {}, am.InvalidParameter, "tasks=3"),
        ({"a/b": "sinusoid"}, "all", {}, am.InvalidParameter, "'a/b' must be a non-empty text without '/'"),
        ("sinusoid", [3], {}, am.InvalidParameter, "3 is neither a name nor a component"),
        ("omniglot", "all", {}, am.InvalidParameter, "needs root"),
        (am.make_tasks("digits", n_way=50), "all", {}, (am.InvalidParameter, am.InvalidData), "n_way=50"),
        ("sinusoid", ["ridge"], {"n_trials": 0}, am.InvalidParameter, "n_trials=0 must be an integer from 1 to 100000"),
        ("sinusoid", ["ridge"], {"n_seeds": 0}, am.InvalidParameter, "n_seeds=0"),
        ("sinusoid", ["ridge"], {"n_test_tasks": 2.5}, am.InvalidParameter, "n_test_tasks=2.5"),
        ("sinusoid", ["ridge"], {"max_steps": -1}, am.InvalidParameter, "max_steps=-1"),
        ("sinusoid", ["ridge"], {"n_workers": 0}, am.InvalidParameter, "n_workers=0"),
        ("sinusoid", ["ridge"], {"random_state": None}, am.InvalidParameter, "random_state=None"),
        ("sinusoid", ["ridge"], {"budget": 0}, am.InvalidParameter, "budget=0"),
        ("sinusoid", ["ridge"], {"search": "best"}, am.InvalidParameter, "search='best'"),
        ("sinusoid", ["ridge"], {"device": "gpu7"}, am.InvalidParameter, "device='gpu7'"),
        ("sinusoid", ["ridge"], {"device": None}, am.InvalidParameter, "device=None is not a device"),
        ("sinusoid", ["ridge"], {"name": "a/b"}, am.InvalidParameter, "name='a/b'"),
        ("sinusoid", ["ridge"], {"name": ""}, am.InvalidParameter, "name='' must be a non-empty text"),
        ("sinusoid", ["ridge"], {"output": 1}, am.InvalidParameter, "output=1 must be a path"),
        ("sinusoid", ["ridge"], {"output": b"runs"}, am.InvalidParameter, "output=b'runs' must be a path"),
        ("sinusoid", ["ridge"], {"storage": 1}, am.InvalidParameter, "storage=1 must be a database URL"),
        ("sinusoid", ["ridge"], {"storage": b"s.log"}, am.InvalidParameter, "storage=b's.log' must be a database URL"),
        ("sinusoid", ["ridge"], {"baselines": "no"}, am.InvalidParameter, "baselines='no' must be True or False"),
        ("sinusoid", ["ridge"], {"storage": "nodb://here"}, am.StorageError, "storage='nodb://here' cannot be used"),
        ("sinusoid", ["ridge"], {"storage": "journal.txt"}, am.StorageError, "must end in .log or .journal"),
    ],
)
def test_bad_input_is_one_clear_error(
    no_work: None, tasks: Any, learners: Any, change: dict[str, Any], error: Any, text: str
) -> None:
    with pytest.raises(error, match=text):
        am.compare(tasks, learners, **{**FAST, **change})


def test_an_unwritable_output_is_refused(no_work: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(am.StorageError, match=r"output='.*file.inside' cannot be written to"):
        am.compare("sinusoid", ["ridge"], output=tmp_path / "file" / "inside", **FAST)
    for n_workers in (1, 2):
        with pytest.raises(am.InvalidParameter, match="begins with the home folder of an unknown user"):
            am.compare("sinusoid", ["ridge"], output="~nobody of that name/x", **{**FAST, "n_workers": n_workers})


def test_an_open_storage_cannot_be_shared_by_processes(no_work: None) -> None:
    with pytest.raises(am.InvalidParameter, match="cannot be shared by n_workers=2"):
        am.compare("sinusoid", ["ridge"], storage=optuna.storages.InMemoryStorage(), n_workers=2, **FAST)


@pytest.mark.parametrize(
    ("learners", "change", "text"),
    [
        ([Mean()], {"max_steps": 2}, "max_steps=4 there and 2 here"),
        ([Mean()], {"n_valid_tasks": 11}, "n_valid_tasks=10 there and 11 here"),
        ([Mean()], {"random_state": 5}, "random_state=0 there and 5 here"),
        (
            ["ridge"],
            {},
            "learners 'Mean' is there and not here.* use Comparison.without or 'autometa report --without'",
        ),
        ([Mean(1.5)], {}, "learners 'Mean' has other parameters there"),
    ],
)
def test_another_plan_in_the_same_output_names_what_differs(
    tmp_path: Path, learners: Any, change: dict[str, Any], text: str
) -> None:
    few = {**FAST, "n_trials": 1, "n_seeds": 1}
    am.compare("sinusoid", [Mean()], storage=tmp_path / "s.log", **few)
    with pytest.raises(am.InvalidParameter, match=text):
        am.compare("sinusoid", learners, storage=tmp_path / "s.log", **{**few, **change})


def test_a_password_is_neither_told_nor_kept(tmp_path: Path) -> None:
    url = "sqlite+nodriver://me:secret@host/db"
    with pytest.raises(am.StorageError, match="storage='sqlite.nodriver://me:\\*\\*\\*@host/db'"):
        am.compare("sinusoid", ["ridge"], storage=url, output=tmp_path, **FAST)
    assert portable_address(url, tmp_path) == "sqlite+nodriver://me:***@host/db"
    assert portable_address(str(tmp_path / "s.log"), tmp_path) == "s.log"


def test_a_study_of_another_version_or_of_somebody_else_is_refused(no_work: None) -> None:
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, study_name="comparison")
    study.set_user_attr(PLAN, {"format": 0, "version": "0.3.0", "settings": {}, "tasks": {}, "learners": {}})
    with pytest.raises(am.InvalidParameter, match=r"made by autometa 0\.3\.0 \(format 0\) and this is"):
        am.compare("sinusoid", [Mean()], storage=storage, **FAST)
    optuna.create_study(storage=storage, study_name="mine").add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(am.InvalidParameter, match="'mine' that is no comparison"):
        am.compare("sinusoid", [Mean()], storage=storage, name="mine", **FAST)


@pytest.mark.parametrize(("value", "same"), [(0.0, True), (0.3, False)])
def test_a_parameter_that_its_plugin_no_longer_has_does_not_make_another_plan(value: float, same: bool) -> None:
    storage = optuna.storages.InMemoryStorage()
    few = {**FAST, "n_trials": 1, "n_seeds": 1, "max_steps": 1, "n_test_tasks": 2}
    am.compare("sinusoid", ["maml"], storage=storage, **few)
    study = optuna.load_study(study_name="comparison", storage=storage)
    plan = study.user_attrs[PLAN]
    plan["learners"]["maml"]["learner"]["params"]["first_order_until"] = value  # 0.0: never, as maml is now
    study.set_user_attr(PLAN, plan)
    if same:
        assert am.compare("sinusoid", ["maml"], storage=storage, **few).complete
    else:
        with pytest.raises(am.InvalidParameter, match="learners 'maml' has other parameters there"):
            am.compare("sinusoid", ["maml"], storage=storage, **few)


def test_loading_from_a_folder_without_a_comparison_says_so(tmp_path: Path) -> None:
    with pytest.raises(am.MissingData, match="holds no comparison"):
        am.Comparison.load(tmp_path)
    with pytest.raises(am.InvalidParameter, match="output=None must be a path"):
        am.Comparison.load(None)  # type: ignore[arg-type]


def test_a_comparison_is_read_back_from_its_folder(tmp_path: Path) -> None:
    made = am.compare("sinusoid", ["ridge"], output=tmp_path / "run", **FAST)
    read = am.Comparison.load(tmp_path / "run")
    pd.testing.assert_frame_equal(read.leaderboard, made.leaderboard)
    pd.testing.assert_frame_equal(read.significance, made.significance)
    assert read.complete
    x = np.zeros((3, 1), dtype=np.float32)
    y = np.arange(3.0)
    np.testing.assert_allclose(read.best_estimator().fit(x, y).predict(x), made.best_estimator().fit(x, y).predict(x))


@pytest.mark.thorough
def test_the_leaderboard_tells_how_many_queries_the_test_tasks_have() -> None:
    rng = np.random.default_rng(0)

    def table(*sizes: int, labels: int = 0) -> am.TaskSampler:
        task = np.concatenate([np.full(size, i) for i, size in enumerate(sizes)])
        target = (
            np.array(["no", "yes", "so"])[rng.integers(0, labels, len(task))] if labels else rng.normal(size=len(task))
        )
        frame = pd.DataFrame({"task": task, "x": rng.normal(size=len(task)), "y": target})
        return am.make_tasks("table", data=frame, task="task", target="y", n_shot=4, n_query=20)

    small = {"n_trials": 1, "max_steps": 1, "n_test_tasks": 30, "n_valid_tasks": 4, "n_seeds": 1, "tasks_per_step": 2}
    few, uneven, many = table(*[11] * 10), table(*range(9, 29)), table(*[40] * 10)
    compared = am.compare({"few": few, "uneven": uneven, "many": many}, "ridge", baselines=False, **small)
    shown = dict(zip(compared.leaderboard["tasks"], compared.leaderboard["n_query"], strict=True))
    drawn = uneven.sample(200, split="test", seed=0).query.mask.sum(1)
    assert (shown["few"], shown["many"]) == (7, 20)
    assert shown["uneven"] == f"{int(drawn.min())}–{int(drawn.max())}"
    classes = {"own": am.make_tasks("glyphs", n_way=3, n_query=4, size=8), "same": table(*[14] * 12, labels=2)}
    compared = am.compare(classes, "prototypical", baselines=False, **small)
    shown = dict(zip(compared.leaderboard["tasks"], compared.leaderboard["n_query"], strict=True))
    assert shown["own"] == 4
    assert str(shown["same"]).split("–")[-1] == "6"


def test_equal_scores_share_a_rank() -> None:
    learners = {"near": Mean(1.0), "far": Mean(9.0), "also near": Mean(1.0), "further": Mean(12.0)}
    board = am.compare("sinusoid", learners, **{**FAST, "n_trials": 1}).leaderboard
    assert board["learner"].tolist() == ["near", "also near", "far", "further"]
    assert board["rank"].tolist() == [1, 1, 3, 4]


def test_scores_that_rounding_alone_tells_apart_are_equal() -> None:
    scores = [(0.3, ""), (0.1 + 0.2, ""), (0.3 + 1e-9, ""), (0.3 + 1e-9, "over"), (0.3 + 1e-9, "over")]
    assert _shared_ranks([{"score": score, "over_limit": over} for score, over in scores]) == [1, 1, 3, 4, 4]
    assert _shared_ranks([]) == []

"""A meta-training in a file: the call that was cut short goes on from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import autometa as am
from autometa.testing.toys import Lines
from autometa.training import MetaTraining
from autometa.training import checkpoint as checkpoints
from tiers import first_by_default


class Interrupted(Lines):
    """Is interrupted by the user when one more batch than ``after`` is drawn."""

    drawn = 0
    after = 10**9

    def sample(self, n_tasks: int, *, split: Any = "train", seed: int) -> am.TaskBatch:
        if type(self).drawn >= type(self).after:
            raise KeyboardInterrupt
        type(self).drawn += 1
        return super().sample(n_tasks, split=split, seed=seed)


@pytest.fixture(autouse=True)
def written_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(Interrupted, "after", 10**9)
    monkeypatch.setattr(Interrupted, "drawn", 0)


def regressor(**changes: Any) -> am.FewShotRegressor:
    options = {"max_steps": 12, "tasks_per_step": 2, "device": "cpu", "random_state": 5} | changes
    return am.FewShotRegressor(**({"learner": "ridge"} | options))


def same(a: am.FewShotRegressor, b: am.FewShotRegressor) -> bool:
    first, second = a.module_.state_dict(), b.module_.state_dict()
    return a.history_["loss"].tolist() == b.history_["loss"].tolist() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


@pytest.mark.parametrize("meta_optimizer", ["auto", am.make_meta_optimizer("gradient", optimizer="sgd")])
def test_an_interrupted_call_goes_on_and_ends_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meta_optimizer: Any
) -> None:
    whole = regressor(meta_optimizer=meta_optimizer).meta_fit(Interrupted())
    file = tmp_path / "run.autometa"
    Interrupted.drawn = 0
    monkeypatch.setattr(Interrupted, "after", 7)
    first = regressor(meta_optimizer=meta_optimizer)
    with pytest.raises(KeyboardInterrupt):
        first.meta_fit(Interrupted(), checkpoint=file)
    assert not hasattr(first, "module_")
    assert [path.name for path in tmp_path.iterdir()] == ["run.autometa"]
    monkeypatch.setattr(Interrupted, "after", 12)
    again = regressor(meta_optimizer=meta_optimizer).meta_fit(Interrupted(), checkpoint=str(file))
    assert same(again, whole)
    monkeypatch.setattr(Interrupted, "after", 0)  # it is done: nothing is drawn
    assert same(regressor(meta_optimizer=meta_optimizer).meta_fit(Interrupted(), checkpoint=file), whole)


def test_a_home_folder_is_meant_by_its_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    first = regressor().meta_fit(Lines(), checkpoint="~/run.ckpt")
    first.save("~/model.autometa")
    assert {"run.ckpt", "model.autometa"} <= {path.name for path in tmp_path.iterdir()}
    assert same(am.load("~/model.autometa"), first)
    assert am.content_of("~/run.ckpt") == am.content_of(tmp_path / "run.ckpt")


def test_without_a_random_state_it_goes_on_with_the_seed_it_was_begun_with(tmp_path: Path) -> None:
    file = tmp_path / "run"
    first = regressor(random_state=None).meta_fit(Lines(), checkpoint=file)
    assert same(regressor(random_state=None).meta_fit(Lines(), checkpoint=file), first)


@pytest.mark.parametrize(("switch", "goes_on"), [(0.0, True), (0.3, False)])
def test_a_parameter_that_is_retired_does_not_end_a_run_that_left_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, switch: float, goes_on: bool
) -> None:
    file = tmp_path / "run"
    model = am.FewShotRegressor("maml", max_steps=4, tasks_per_step=2, device="cpu", random_state=0)
    described = checkpoints.plan_of

    def as_before(training: MetaTraining) -> dict[str, Any]:
        plan = described(training)
        plan["learner"] = plan["learner"] | {"class": "earlier.path:MAML"}
        plan["learner"]["params"] = plan["learner"]["params"] | {"first_order_until": switch}
        return plan

    with monkeypatch.context() as earlier:
        earlier.setattr(checkpoints, "plan_of", as_before)
        model.meta_fit(Lines(), checkpoint=file)
    if goes_on:
        assert len(model.meta_fit(Lines(), checkpoint=file).history_) == 4
    else:
        with pytest.raises(am.InvalidParameter, match="holds another meta-training"):
            model.meta_fit(Lines(), checkpoint=file)


@pytest.mark.parametrize(
    ("changes", "tasks", "told"),
    first_by_default(
        3,
        [
            ({"max_steps": 13}, Lines(), "max_steps: 12 there, 13 here"),
            ({"tasks_per_step": 3}, Lines(), "tasks_per_step: 2 there, 3 here"),
            ({"random_state": 6}, Lines(), "random_state: "),
            ({"precision": "64"}, Lines(), "precision: torch.float32 there, torch.float64 here"),
            (
                {"backbone": "identity"},
                Lines(),
                r"learner: Ridge\(.*backbone=auto.* there, Ridge\(.*backbone=Identity\(\)",
            ),
            ({"meta_optimizer": am.make_meta_optimizer("gradient", lr=0.5)}, Lines(), "meta_optimizer: .*lr=0.5"),
            ({}, Lines(n_shot=3), "tasks: "),
        ],
    ),
)
def test_another_plan_in_the_same_file_is_an_error_that_says_what_differs(
    tmp_path: Path, changes: dict[str, Any], tasks: am.TaskSampler, told: str
) -> None:
    file = tmp_path / "run"
    regressor().meta_fit(Lines(), checkpoint=file)
    before = file.read_bytes()
    with pytest.raises(am.InvalidParameter, match=rf"holds another meta-training \(.*{told}.*name another file"):
        regressor(**changes).meta_fit(tasks, checkpoint=file)
    assert file.read_bytes() == before


def table(seed: int = 0, **columns: float) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    values = {name: random.normal(size=400) for name in ("a", "b", "y")}
    return pd.DataFrame({"task": np.repeat(np.arange(20), 20), **values}).assign(**columns)


@pytest.mark.parametrize(
    ("data", "n_shot", "told"),
    first_by_default(
        2,
        [
            (table(1), 5, r"\(tasks: the DataFrame given as data has other content\)"),
            (table(c=1.0), 5, r"\(tasks: the DataFrame given as data has other content\)"),
            (table(), 6, r"\(tasks: Table\(n_shot=5\) there, Table\(n_shot=6\) here\)"),
            (
                table(1),
                6,
                r"\(tasks: Table\(data=<DataFrame \w+>, n_shot=5\) there, Table\(data=<DataFrame \w+>, n_shot=6\)",
            ),
            (None, 10, r"\(tasks: Table\(.* there, Sinusoid\(n_query=10, n_shot=10\) here\)"),
        ],
    ),
)
def test_other_tasks_are_told_in_words(tmp_path: Path, data: pd.DataFrame | None, n_shot: int, told: str) -> None:
    def tasks(data: pd.DataFrame, n_shot: int) -> am.TaskSampler:
        return am.make_tasks("table", data=data, task="task", target="y", n_shot=n_shot)

    regressor().meta_fit(tasks(table(), 5), checkpoint=tmp_path / "run")
    other = am.make_tasks("sinusoid") if data is None else tasks(data, n_shot)
    with pytest.raises(am.InvalidParameter, match=told) as error:
        regressor().meta_fit(other, checkpoint=tmp_path / "run")
    assert "{'" not in str(error.value)


def test_a_changed_shape_of_the_same_sampler_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    regressor().meta_fit(Lines(), checkpoint=tmp_path / "run")
    info = Lines().info
    monkeypatch.setattr(Lines, "info", property(lambda self: replace(info, n_base_tasks=info.n_base_tasks + 1)))
    told = (
        rf"\(tasks: TaskInfo\(n_base_tasks={info.n_base_tasks}\) there, TaskInfo\(n_base_tasks={info.n_base_tasks + 1}"
    )
    with pytest.raises(am.InvalidParameter, match=told):
        regressor().meta_fit(Lines(), checkpoint=tmp_path / "run")


def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path) -> None:
    model, damaged, run = tmp_path / "model", tmp_path / "damaged", tmp_path / "run"
    done = regressor().meta_fit(Lines(), checkpoint=run)
    done.save(model)
    damaged.write_bytes(run.read_bytes()[:-9])
    with pytest.raises(am.InvalidFile, match="holds a FewShotRegressor, no meta-training"):
        regressor().meta_fit(Lines(), checkpoint=model)
    with pytest.raises(am.InvalidFile, match="is truncated or not a file of autometa"):
        regressor().meta_fit(Lines(), checkpoint=damaged)
    with pytest.raises(am.MissingData, match="cannot be read"):
        regressor().meta_fit(Lines(), checkpoint=tmp_path)
    with pytest.raises(am.InvalidFile, match="the file holds a 'meta-training'"):
        am.load(run)


def test_a_file_that_cannot_be_written_is_refused_before_a_task_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(am.StorageError, match=r"checkpoint='.*nowhere/run' cannot be written: No such file"):
        regressor().meta_fit(Interrupted(), checkpoint=tmp_path / "nowhere" / "run")
    assert Interrupted.drawn == 0
    assert list(tmp_path.iterdir()) == []


def test_it_shows_its_progress_and_writes_only_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 1e9)
    written: list[int] = []
    write = checkpoints.Checkpoint.write
    monkeypatch.setattr(
        checkpoints.Checkpoint, "write", lambda self, run: written.append(run.step_count) or write(self, run)
    )
    regressor(verbose=1).meta_fit(Lines(), checkpoint=tmp_path / "run")
    assert written == [12]

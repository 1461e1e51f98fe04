"""Tasks that have an end are shown whole, once, to learners that remember them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from autometa_plugins.tasks import table as table_module
from autometa_plugins.tasks.table import Table

import autometa as am
from autometa.testing.sampler_checks import check_whole_tasks
from autometa.training import MetaTraining


def frame(classes: bool = False, n: int = 12) -> pd.DataFrame:
    """Entities of 4 to 15 rows; some rows are equal."""
    rng = np.random.default_rng(0)
    names = np.repeat([f"e{i:02}" for i in range(n)], np.arange(n) % 12 + 4)
    rows = pd.DataFrame({"entity": names, "x": rng.integers(0, 4, len(names)).astype(float)})
    return rows.assign(y=rng.choice(["a", "b"], len(names)) if classes else rng.integers(0, 3, len(names)) * 0.5)


def make(kind: type[Table] = Table, classes: bool = False) -> Table:
    return kind(data=frame(classes), task="entity", target="y", n_shot=2, n_query=4)


@pytest.mark.parametrize("classes", [False, True])
def test_every_row_of_every_entity_comes_once(classes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "_MOST_PLACES", 40)  # several batches
    tasks = make(classes=classes)
    batches = list(tasks.whole_tasks("train"))
    assert len(batches) > 1
    assert all(part.support.mask.numel() <= 40 for part in batches)
    ids = torch.cat([part.ids for part in batches])
    assert ids.tolist() == list(range(tasks.info.n_base_tasks))
    held_out = tasks.describe()["held out"]
    own = tasks.data[~tasks.data["entity"].isin([*held_out["valid"], *held_out["test"]])]
    assert sum(int(part.support.mask.sum()) for part in batches) == len(own)
    check_whole_tasks(tasks)


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("classes", [False, True])
def test_entities_that_cannot_be_split_are_shown_though_never_drawn(classes: bool, stratified: bool) -> None:
    one = pd.DataFrame({"entity": ["one", "two", "two"], "x": [9.0, 8.0, 7.0], "y": ["c", "a", "d"]})
    one = one if classes else one.assign(y=[5.0, 6.0, 7.0])
    rows = pd.concat([frame(classes), one], ignore_index=True)
    given = {"data": rows, "task": "entity", "target": "y", "n_shot": 2, "n_query": 4, "every_entity": True}
    tasks = am.make_tasks("table", **given, stratified=stratified, valid_fraction=0, test_fraction=0)
    check_whole_tasks(tasks)
    assert sum(int(part.support.mask.sum()) for part in tasks.whole_tasks("train")) == len(rows)
    never = 1 + (classes and stratified)
    facts = tasks.describe()
    assert (facts["tasks"]["train"], facts["tasks left out"], facts["tasks never drawn"]) == (14, 0, never)
    assert set(tasks.sample(100, seed=0).ids.tolist()) == set(range(14 - never))
    if classes:
        assert tasks.encoder.classes_.tolist() == ["a", "b", "c", "d"]
    split = am.make_tasks("table", **given, stratified=stratified).describe()
    assert (split["tasks left out"], split["tasks never drawn"]) == (never, 0)


class TellsTasksTwice(Table):
    def whole_tasks(self, split: str = "train") -> Iterator[am.TaskBatch]:
        yield from super().whole_tasks(split)
        yield from super().whole_tasks(split)


class TellsRowsTwice(Table):
    def whole_tasks(self, split: str = "train") -> Iterator[am.TaskBatch]:
        for batch in super().whole_tasks(split):
            yield replace(batch, support=batch.support.join(batch.support))


class LeavesRowsOut(Table):
    def whole_tasks(self, split: str = "train") -> Iterator[am.TaskBatch]:
        for batch in super().whole_tasks(split):
            yield replace(batch, support=batch.support.select(slice(1, None)))


class HasQueries(Table):
    def whole_tasks(self, split: str = "train") -> Iterator[am.TaskBatch]:
        for batch in super().whole_tasks(split):
            yield replace(batch, query=batch.support)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (TellsTasksTwice, "gives task 0 twice"),
        (TellsRowsTwice, "or some twice"),
        (LeavesRowsOut, "lacks"),
        (HasQueries, "query sets"),
    ],
)
def test_the_kit_catches_what_is_not_whole(kind: type[Table], text: str) -> None:
    with pytest.raises(AssertionError, match=text):
        check_whole_tasks(make(kind))


class Remembers(am.Learner):
    """Counts what it is shown, and how often it settles."""

    provides = frozenset({"memory"})
    default_meta_optimizer = "baselines/collect"

    def __init__(self, room: int = 10**6) -> None:
        self.room = room

    def build(self, info: am.TaskInfo) -> torch.nn.Module:
        module = torch.nn.Module()
        module.register_buffer("rows", torch.zeros((), dtype=torch.int64))
        module.register_buffer("settled", torch.zeros((), dtype=torch.int64))
        return module

    def remember(self, module: torch.nn.Module, batch: am.TaskBatch) -> int:
        new = min(self.room - int(module.rows), int(batch.support.mask.sum() + batch.query.mask.sum()))
        module.rows += new
        return new

    def settle(self, module: torch.nn.Module) -> None:
        module.settled += 1

    def adapt(self, module: torch.nn.Module, support: am.Examples) -> torch.Tensor:
        return support.y

    def predict(self, module: torch.nn.Module, adapted: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return x.new_zeros(*x.shape[:2], 1)


def test_one_step_shows_all_and_the_learner_settles_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "_MOST_PLACES", 40)
    tasks = make()
    optimizer = am.make_meta_optimizer("collect")
    run = MetaTraining(Remembers(), optimizer, tasks, n_steps=50, tasks_per_step=2, seed=0)
    run.run_to()
    shown = sum(int(part.support.mask.sum()) for part in tasks.whole_tasks("train"))
    assert (run.step_count, int(run.module.rows), int(run.module.settled)) == (1, shown, 1)


def test_where_tasks_have_no_end_the_learner_settles_when_it_is_full() -> None:
    tasks = am.make_tasks("sinusoid")
    assert tasks.whole_tasks("train") is None
    optimizer = am.make_meta_optimizer("collect")
    run = MetaTraining(Remembers(room=100), optimizer, tasks, n_steps=50, tasks_per_step=2, seed=0)
    run.run_to()
    assert (int(run.module.rows), int(run.module.settled)) == (100, 1)
    assert run.step_count < 50

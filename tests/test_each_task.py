"""Each entity of a table once, with rows in the order they get their labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import autometa as am
from autometa.comparison.execution.adaptation_curve import with_first_rows
from autometa.errors import InvalidParameter
from autometa.testing.sampler_checks import check_each_task

SIZES = (2, 3, 7, 12, 25, 40)


def table(classes: bool = False) -> pd.DataFrame:
    """Thirty entities; column x numbers the rows, and later rows come first."""
    sizes = np.tile(SIZES, 5)
    names = np.repeat([f"e{i:02}" for i in range(30)], sizes)
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"entity": names, "x": np.arange(len(names), dtype=float)})
    rows["day"] = -rows["x"]
    return rows.assign(y=rng.choice(["a", "b"], len(names)) if classes else rng.normal(size=len(names)))


def make(classes: bool = False, **given: object) -> am.TaskSampler:
    rows = table(classes) if "order" in given else table(classes).drop(columns="day")
    given = {"n_shot": 2, "n_query": 8, "every_entity": True, **given}
    return am.make_tasks("table", data=rows, task="entity", target="y", **given)


def numbers_of(tasks: am.TaskSampler, examples: am.Examples, i: int) -> list[int]:
    """Numbers of the rows of a task, in the order they stand there."""
    column = tasks.encoder.columns_[0]
    scaled = examples.x[i, examples.mask[i], 0].double().numpy()
    known = tasks.encoder.transform(table()[["x"]])[:, 0]
    assert column.name == "x"
    return [int(np.abs(known - value).argmin()) for value in scaled]


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("classes", [False, True])
def test_every_entity_comes_once_with_a_fifth_of_its_rows_or_more_left_to_ask_for(
    classes: bool, stratified: bool
) -> None:
    tasks = make(classes, stratified=stratified)
    check_each_task(tasks)
    (batch,) = tasks.each_task(20, split="test", seed=3)
    names = tasks.task_names()
    assert [names[i] for i in batch.ids] == tasks.describe()["held out"]["test"]
    own = table().groupby("entity")["x"].apply(lambda x: {int(value) for value in x})
    for i, task in enumerate(batch.ids.tolist()):
        known, asked = numbers_of(tasks, batch.support, i), numbers_of(tasks, batch.query, i)
        size = len(own[names[task]])
        n_asked = min(8, max(size - 20, -(-size // 5)))
        assert (len(known), len(asked)) == (min(20, size - n_asked), n_asked)
        assert len({*known, *asked}) == len(known) + len(asked)
        assert {*known, *asked} <= own[names[task]]


@pytest.mark.parametrize("classes", [False, True])
def test_by_order_the_earliest_rows_are_labelled_and_later_ones_asked_for(classes: bool) -> None:
    tasks = make(classes, order="day")
    (batch,) = tasks.each_task(20, split="train", seed=0)
    for i in range(len(batch)):
        known, asked = numbers_of(tasks, batch.support, i), numbers_of(tasks, batch.query, i)
        assert known == sorted(known, reverse=True), "the last row of the table is the earliest day"
        assert not known or max(asked) < min(known)


def test_the_first_rows_are_those_labelled_first_and_the_query_stays() -> None:
    (batch,) = make().each_task(20, seed=0)
    for rows in (0, 1, 5):
        fewer = with_first_rows(batch, rows)
        assert fewer.support.mask.sum(1).tolist() == [min(rows, n) for n in batch.support.mask.sum(1).tolist()]
        assert torch.equal(fewer.support.x[:, :rows], batch.support.x[:, :rows])
        assert not fewer.support.x[~fewer.support.mask].any()
        assert fewer.query is batch.query


def test_another_seed_labels_other_rows() -> None:
    (first,), (other,) = make().each_task(5, seed=0), make().each_task(5, seed=1)
    assert torch.equal(first.ids, other.ids)
    assert not torch.equal(first.support.x, other.support.x)


def test_a_sampler_without_an_end_of_tasks_gives_nothing() -> None:
    tasks = am.make_tasks("sinusoid")
    assert tasks.each_task(5, seed=0) is None
    assert tasks.task_names() is None


@pytest.mark.parametrize(("wrong", "named"), [({"n_rows": 0}, "n_rows"), ({"n_rows": 2, "split": "x"}, "split")])
def test_what_cannot_be_drawn_is_refused(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidParameter, match=named):
        next(make().each_task(**wrong, seed=0))


def test_n_shot_may_follow_from_the_table() -> None:
    assert make(n_shot="auto").info.n_shot == 4, "half of the median, of 7 and 12 rows"
    assert make(classes=True, n_shot="auto", stratified=False).info.n_shot == 4
    assert make(classes=True, n_shot="auto", stratified=True).info.n_shot == 2
    assert make(n_shot="auto").sample(3, seed=0).support.x.shape[1] == 4
    with pytest.raises(InvalidParameter, match="n_shot='half'"):
        _ = make(n_shot="half").info

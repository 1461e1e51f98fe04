"""What every task sampler must do."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from unittest import SkipTest

import numpy as np
import torch
from sklearn.base import clone

from autometa.contracts.examples import Examples, TaskBatch
from autometa.contracts.tasks import SPLITS, TaskInfo, TaskSampler
from autometa.errors import InvalidParameter
from autometa.testing.elsewhere import drawn_elsewhere, drawn_here
from autometa.testing.expectations import copied, examples_of, expect, same_task, same_tasks, untouched_random_state
from autometa.testing.search_checks import drawn_from

MANY = 30
"""Tasks drawn by checks of what only some tasks show."""


def check_info(tasks: TaskSampler) -> None:
    """``info`` says what is drawn, without drawing."""
    info = tasks.info
    expect(isinstance(info, TaskInfo), f"info is a {type(info).__name__}, not an autometa.TaskInfo.")
    for name in ("n_outputs", "n_shot", "n_query"):
        value = getattr(info, name)
        expect(isinstance(value, int) and value > 0, f"info.{name}={value!r} must be a positive integer.")
    shape = info.input_shape
    expect(
        isinstance(shape, tuple) and shape and all(isinstance(n, int) and n > 0 for n in shape),
        f"info.input_shape={shape!r} must be a tuple of positive integers.",
    )
    expect(tasks.info == info, "info changes from one look to the next.")


def check_shapes(tasks: TaskSampler) -> None:
    """Tensors have the shapes, types and ranges that ``info`` and the contract promise, in every split."""
    for split in SPLITS:
        batch = tasks.sample(3, split=split, seed=0)
        expect(isinstance(batch, TaskBatch), f"sample() returned a {type(batch).__name__}, not an autometa.TaskBatch.")
        expect(len(batch) == 3, f"sample(3) returned {len(batch)} tasks.")
        for part, examples in (("support", batch.support), ("query", batch.query)):
            _check_examples(f"{part} of split {split!r}", examples, tasks.info)
        _check_ids(batch, tasks.info, split)


def _check_examples(where: str, examples: Examples, info: TaskInfo) -> None:
    x, y, mask = examples.x, examples.y, examples.mask
    assert isinstance(x, torch.Tensor)
    expect(
        tuple(x.shape[2:]) == info.input_shape,
        f"{where}: inputs have the shape {tuple(x.shape[2:])}, info says {info.input_shape}.",
    )
    expect(x.dtype == torch.float32, f"{where}: inputs are {x.dtype}; samplers hand out float32.")
    expect(x.isfinite().all(), f"{where}: inputs are not finite.")
    expect(mask.dtype == torch.bool and mask.any(1).all(), f"{where}: mask must be bool with an example in every task.")
    expect(not x[~mask].any() and not y[~mask].any(), f"{where}: padded places must hold zeros.")
    if info.problem_record.has_classes:
        expect(
            y.dtype == torch.int64 and y.dim() == 2,
            f"{where}: classes must be int64 [tasks, n]; they are {y.dtype} {tuple(y.shape)}.",
        )
        expect(int(y.min()) >= 0 and int(y.max()) < info.n_outputs, f"{where}: classes must lie in 0 .. n_outputs - 1.")
        expect(
            examples.n_classes <= info.n_outputs,
            f"{where}: n_classes={examples.n_classes} is more than info.n_outputs.",
        )
    else:
        wanted = (*mask.shape, info.n_outputs)
        expect(y.dtype == torch.float32, f"{where}: targets are {y.dtype}; samplers hand out float32.")
        expect(
            y.shape == wanted or (y.dim() == 2 and info.n_outputs == 1),
            f"{where}: targets are {tuple(y.shape)}, not {wanted}.",
        )
        expect(y.isfinite().all(), f"{where}: targets are not finite.")


def _check_ids(batch: TaskBatch, info: TaskInfo, split: str) -> None:
    if batch.classes is not None:
        expect(batch.classes.dtype == torch.int64, f"TaskBatch.classes must be int64; it is {batch.classes.dtype}.")
        expect(
            batch.classes.shape == (len(batch), info.n_outputs),
            f"TaskBatch.classes has the shape {tuple(batch.classes.shape)}, not [tasks, n_outputs].",
        )
        if split == "train" and info.n_base_classes is not None:
            highest = int(batch.classes.max())
            expect(
                highest < info.n_base_classes,
                f"meta-train class {highest} is not below n_base_classes={info.n_base_classes}.",
            )
    if batch.ids is not None:
        expect(batch.ids.shape == (len(batch),), f"TaskBatch.ids has the shape {tuple(batch.ids.shape)}, not [tasks].")
        if split == "train" and info.n_base_tasks is not None:
            highest = int(batch.ids.max())
            expect(
                highest < info.n_base_tasks, f"meta-train task {highest} is not below n_base_tasks={info.n_base_tasks}."
            )


def check_seeded(tasks: TaskSampler) -> None:
    """A seed decides everything: the same one gives the same tasks, another one others; nothing global is used."""
    with untouched_random_state("sample()"):
        first = tasks.sample(5, seed=7)
    expect(same_tasks(first, tasks.sample(5, seed=7)), "the same seed gives other tasks the second time.")
    expect(not same_tasks(first, tasks.sample(5, seed=8)), "another seed gives the same tasks.")


def check_prefix(tasks: TaskSampler) -> None:
    """Task ``i`` does not depend on how many are drawn."""
    few, many = tasks.sample(3, seed=5), tasks.sample(11, seed=5)
    for i in range(3):
        expect(same_task(few, i, many, i), f"task {i} of sample(3) is not task {i} of sample(11) with the same seed.")
        for name in ("classes", "ids"):
            a, b = getattr(few, name), getattr(many, name)
            expect(a is None or torch.equal(a[i], b[i]), f"{name} of task {i} depend on how many tasks are drawn.")


def check_draws_are_independent(tasks: TaskSampler) -> None:
    """Tasks do not depend on earlier draws, nor on which of two equal samplers draws them."""
    fresh = clone(tasks)
    first = {seed: tasks.sample(3, split="valid", seed=seed) for seed in (1, 2, 3)}
    again = {seed: fresh.sample(3, split="valid", seed=seed) for seed in (3, 1, 2)}
    for seed, batch in first.items():
        expect(same_tasks(batch, again[seed]), "what a seed gives depends on the draws before it.")
    sent = pickle.loads(pickle.dumps(tasks))
    expect(same_tasks(first[1], sent.sample(3, split="valid", seed=1)), "after pickling, a seed gives other tasks.")


def check_same_in_another_process(tasks: TaskSampler) -> None:
    """Another process, whose sets have another order, draws the same tasks."""
    if "<locals>" in type(tasks).__qualname__ or type(tasks).__module__ == "__main__":
        raise SkipTest("a class defined inside a function or a script cannot be sent to another process")
    expect(drawn_elsewhere(tasks) == drawn_here(tasks), "another process draws other tasks for the same seed.")


def _rows(examples: Examples, task: int) -> list[bytes]:
    x, y = examples_of(examples, task)
    x, y = x.flatten(1).cpu(), y.flatten(1) if y.dim() > 1 else y
    targets = y.cpu().numpy()
    return [row.tobytes() + target.tobytes() for row, target in zip(x.numpy(), np.asarray(targets), strict=True)]


def _inputs(batch: TaskBatch) -> set[bytes]:
    """Return every input of a batch."""
    parts = [examples_of(part, i)[0] for part in (batch.support, batch.query) for i in range(len(batch))]
    return {row.tobytes() for part in parts for row in part.flatten(1).cpu().numpy()}


def check_splits_are_disjoint(tasks: TaskSampler) -> None:
    """Meta-train, meta-valid and meta-test tasks share no class, no entity and no example."""
    drawn = {split: tasks.sample(MANY, split=split, seed=0) for split in SPLITS}
    reads: dict[str, Callable[[TaskBatch], set[object]]] = {
        "classes": lambda batch: set() if batch.classes is None else set(batch.classes.flatten().tolist()) - {-1},
        "task ids": lambda batch: set() if batch.ids is None else set(batch.ids.tolist()),
        # Rows of a table may be equal by nature; its tasks are told apart by their ids.
        "inputs": lambda batch: set(_inputs(batch)) if batch.ids is None else set(),
    }
    for what, read in reads.items():
        for a, b in combinations(SPLITS, 2):
            shared = read(drawn[a]) & read(drawn[b])
            expect(not shared, f"splits {a!r} and {b!r} share {len(shared)} {what}.")


def check_whole_tasks(tasks: TaskSampler) -> None:
    """Whole tasks, where there is an end of them, are what a draw of as many queries as there are takes, row by row."""
    if tasks.whole_tasks("train") is None:
        return
    for split in SPLITS:
        whole: dict[int, Counter[bytes]] = {}
        for batch in tasks.whole_tasks(split) or ():
            expect(batch.ids is not None, "whole_tasks() must tell tasks apart by their ids.")
            assert batch.ids is not None
            _check_examples(f"whole tasks of split {split!r}", batch.support, tasks.info)
            expect(not batch.query.mask.any(), "whole_tasks() has examples in query sets; all belong in support sets.")
            for i, task in enumerate(batch.ids.tolist()):
                expect(task not in whole, f"whole_tasks() gives task {task} twice.")
                whole[task] = Counter(_rows(batch.support, i))
        if not whole:
            continue
        most = max(map(Counter.total, whole.values()))
        drawn = clone(tasks).set_params(**({"n_query": most} if "n_query" in tasks.get_params() else {}))
        batch = drawn.sample(MANY, split=split, seed=0)
        assert batch.ids is not None
        for i, task in enumerate(batch.ids.tolist()):
            rows = Counter([*_rows(batch.support, i), *_rows(batch.query, i)])
            expect(rows <= whole.get(task, Counter()), f"examples are drawn of task {task} that whole_tasks() lacks.")
            all_drawn = "n_query" not in tasks.get_params() or rows == whole[task]
            expect(all_drawn, f"whole_tasks() gives examples of task {task} that are never drawn, or some twice.")


def check_each_task(tasks: TaskSampler) -> None:
    """Each task, where there is an end of them, comes once, always split the same way, and has a name if any has."""
    if tasks.each_task(1, seed=0) is None:
        return
    names = tasks.task_names()
    for split in SPLITS:
        found: set[int] = set()
        again = iter(tasks.each_task(MANY, split=split, seed=7) or ())
        for batch in tasks.each_task(MANY, split=split, seed=7) or ():
            expect(same_tasks(batch, next(again)), "each_task() splits tasks otherwise the second time.")
            expect(batch.ids is not None, "each_task() must tell tasks apart by their ids.")
            assert batch.ids is not None
            _check_examples(f"query of each task of split {split!r}", batch.query, tasks.info)
            expect(int(batch.support.mask.sum(1).max()) <= MANY, "each_task() labels more rows than were asked for.")
            for task in batch.ids.tolist():
                expect(task not in found, f"each_task() gives task {task} twice.")
                found.add(task)
                expect(names is None or task < len(names), f"task_names() has no name for task {task}.")
        drawn = tasks.sample(MANY, split=split, seed=0).ids
        assert drawn is not None
        expect(set(drawn.tolist()) <= found, f"each_task() lacks tasks that are drawn of split {split!r}.")


def check_support_and_query_are_disjoint(tasks: TaskSampler) -> None:
    """No query example is also in the support of its task."""
    batch = tasks.sample(MANY, seed=0)
    shared = [len(set(_rows(batch.support, i)) & set(_rows(batch.query, i))) for i in range(len(batch))]
    expect(not any(shared), f"{sum(shared)} query examples of {MANY} tasks stand in their support too.")


def check_order_tells_nothing(tasks: TaskSampler) -> None:
    """The place of a query example does not tell its class, and every class of a drawn-anew task is in its support."""
    if not tasks.info.problem_record.has_classes:
        raise SkipTest("there are no classes")
    batch = tasks.sample(MANY, seed=0)
    expect(
        len(torch.unique(batch.query.y, dim=0)) > 1,
        "the classes of the query come in the same order in every task; shuffle it.",
    )
    for i in range(len(batch) if batch.classes is not None else 0):
        unseen = set(examples_of(batch.query, i)[1].tolist()) - set(examples_of(batch.support, i)[1].tolist())
        expect(not unseen, f"classes {sorted(unseen)} of task {i} have query examples and none in its support.")


def check_sizes_follow_parameters(tasks: TaskSampler) -> None:
    """``n_way``, ``n_shot`` and ``n_query`` change what is drawn."""
    names = tasks.get_params()
    for name, field in (("n_way", "n_outputs"), ("n_shot", "n_shot"), ("n_query", "n_query")):
        if name in names and names[name] is not None:
            value = 2 if name == "n_way" else 1
            smaller = clone(tasks).set_params(**{name: value})
            expect(
                getattr(smaller.info, field) == value,
                f"{name}={value} leaves info.{field} at {getattr(smaller.info, field)}.",
            )
            check_shapes(smaller)


def check_refuses_bad_arguments(tasks: TaskSampler) -> None:
    """``sample`` refuses impossible arguments and names them."""
    bad: list[tuple[str, dict[str, object]]] = [
        ("n_tasks", {"n_tasks": 0, "seed": 0}),
        ("split", {"n_tasks": 1, "seed": 0, "split": "training"}),
        ("seed", {"n_tasks": 1, "seed": -1}),
    ]
    for name, arguments in bad:
        try:
            tasks.sample(**arguments)  # type: ignore[arg-type]
        except InvalidParameter as error:
            expect(name in str(error), f"the error about {arguments} does not name {name!r}: {error}")
        else:
            raise AssertionError(f"sample() takes {arguments} without complaint; call autometa.check_draw first.")


def check_sampling_changes_nothing(tasks: TaskSampler) -> None:
    """Sampling leaves parameters as they are, and writing into a batch changes no later batch."""
    before = repr(tasks)
    batch = tasks.sample(2, seed=0)
    kept = copied(batch)
    assert isinstance(batch.support.x, torch.Tensor)
    batch.support.x.add_(1)
    expect(same_tasks(kept, tasks.sample(2, seed=0)), "changing a drawn task changes later draws; hand out copies.")
    expect(repr(tasks) == before, "sample() changes the sampler's parameters.")


def check_search_space(tasks: TaskSampler) -> None:
    """What ``suggest()`` draws are parameters, which change meta-training alone."""
    if type(tasks).suggest is TaskSampler.suggest:
        raise SkipTest("nothing of how meta-training draws its tasks is searched")
    kept = {split: tasks.sample(3, split=split, seed=0) for split in SPLITS[1:]}
    before = repr(tasks)
    for trial, suggested in drawn_from(tasks.suggest):
        expect(type(suggested) is type(tasks), f"suggest() returned a {type(suggested).__name__}.")
        got = suggested.get_params(deep=False)
        wrong = [name for name, value in trial.params.items() if name not in got or got[name] != value]
        expect(not wrong, f"suggest() draws {wrong}, which are no parameters of the sampler that it returns.")
        check_shapes(suggested)
        for split, batch in kept.items():
            expect(
                _same_examples(batch, suggested.sample(3, split=split, seed=0)),
                f"what suggest() draws, {trial.params}, changes the tasks of split {split!r}.",
            )
    expect(repr(tasks) == before, "suggest() changes the sampler's own parameters.")


def _same_examples(a: TaskBatch, b: TaskBatch) -> bool:
    """Tell whether two batches have equal examples; their classes may be counted among more."""
    return same_tasks(replace(a, classes=None), replace(b, classes=None))


def check_describe(tasks: TaskSampler) -> None:
    """``describe()`` is a dict that a report can hold."""
    facts = tasks.describe()
    expect(isinstance(facts, dict), f"describe() returned a {type(facts).__name__}.")
    try:
        json.dumps(facts)
    except TypeError as error:
        raise AssertionError(f"describe() holds something that JSON cannot: {error}") from error


SAMPLER_CHECKS = (
    check_info,
    check_shapes,
    check_seeded,
    check_prefix,
    check_draws_are_independent,
    check_same_in_another_process,
    check_splits_are_disjoint,
    check_whole_tasks,
    check_each_task,
    check_support_and_query_are_disjoint,
    check_order_tells_nothing,
    check_sizes_follow_parameters,
    check_refuses_bad_arguments,
    check_sampling_changes_nothing,
    check_search_space,
    check_describe,
)

"""Conditions that checks assert, and how they compare tensors and tasks."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from autometa.contracts.examples import Examples, TaskBatch
from autometa.contracts.tasks import TaskSampler

T = TypeVar("T")


def expect(condition: object, otherwise: str) -> None:
    """Fail a check with a sentence that says what is wrong.

    Raises
    ------
    AssertionError
        The condition does not hold.
    """
    if not condition:
        raise AssertionError(otherwise)


def expect_close(a: Tensor, b: Tensor, otherwise: str, tolerance: float = 1e-5) -> None:
    """Fail a check unless two tensors agree up to rounding, relative to their size."""
    expect(a.shape == b.shape, f"{otherwise}: shapes {tuple(a.shape)} and {tuple(b.shape)}.")
    a, b = a.detach().double().cpu(), b.detach().double().cpu()
    difference = float((a - b).abs().max()) if a.numel() else 0.0
    scale = 1.0 + float(b.abs().clamp(max=1e6).mean()) if b.numel() else 1.0
    expect(difference <= tolerance * scale, f"{otherwise}: the largest difference is {difference:.3g}.")


def clearly_positive(gains: Tensor) -> bool:
    """Return whether the mean of gains, one per task, lies four standard errors above zero.

    Without any true gain one such look succeeds by chance once in 30,000 times with many tasks, and more often with
    few: about once in 10,000 times with 50.
    """
    return bool(gains.mean() > 4 * gains.std() / len(gains) ** 0.5)


def tensors_of(value: Any) -> list[Any]:
    """Return all leaves of nested lists, tuples and dicts."""
    return pytree.tree_leaves(value)


def same_state(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Tell whether two state dicts are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def examples_of(examples: Examples, task: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets of one task without padding."""
    assert isinstance(examples.x, Tensor)
    mask = examples.mask[task]
    return examples.x[task][mask], examples.y[task][mask]


def same_task(a: TaskBatch, i: int, b: TaskBatch, j: int) -> bool:
    """Tell whether task ``i`` of one batch is task ``j`` of another, whatever they are padded to."""
    for one, other in ((a.support, b.support), (a.query, b.query)):
        for left, right in zip(examples_of(one, i), examples_of(other, j), strict=True):
            if not torch.equal(left, right):
                return False
    return True


def same_tasks(a: TaskBatch, b: TaskBatch) -> bool:
    """Tell whether two batches hold the same tasks in the same order."""
    return len(a) == len(b) and all(same_task(a, i, b, i) for i in range(len(a)))


@contextmanager
def untouched_random_state(who: str) -> Iterator[None]:
    """Fail a check if a block draws from, or seeds, a global random generator of numpy or torch."""
    before = _global_states()
    yield
    expect(
        before == _global_states(),
        f"{who} uses or seeds a global random generator; draw from one made from the seed given.",
    )


def _global_states() -> tuple[Any, ...]:
    # Python's own generator is left out: runtime type checkers draw from it whenever a checked function is called.
    legacy = np.random.get_state()  # noqa: NPY002
    return [np.asarray(part).tolist() for part in legacy], torch.get_rng_state().tolist()


def copied(value: T) -> T:
    """A deep copy, so that a check cannot spoil what the next one uses."""
    return copy.deepcopy(value)


def draw(tasks: TaskSampler, n_tasks: int, seed: int = 0, split: str = "valid") -> TaskBatch:
    """Tasks in double precision, in which rounding hides no difference."""
    batch: TaskBatch = tasks.sample(n_tasks, split=split, seed=seed)  # type: ignore[arg-type]
    return batch.to(dtype=torch.float64)

"""Small task distributions on which any sound learner learns within seconds."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from autometa.contracts.examples import Examples, TaskBatch
from autometa.contracts.seeding import derive_seed
from autometa.contracts.tasks import SPLITS, Split, TaskInfo, TaskSampler, check_draw
from autometa.testing.toy_worlds import Coins, Doors, Stairs

N_FEATURES = 6
N_BASE = {"train": 24, "valid": 12, "test": 12}
"""Classes, or entities, of each split."""


def _generator(seed: int, *labels: str) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, *labels))


def _pick(n_tasks: int, split: Split, seed: int, k: int) -> NDArray[np.int64]:
    """Return k distinct classes or entities of a split for each task, [n_tasks, k]."""
    return _generator(seed, split, "pick").random((n_tasks, N_BASE[split])).argsort(axis=1)[:, :k]


def _first(split: Split) -> int:
    return sum(N_BASE[s] for s in SPLITS[: SPLITS.index(split)])


class Blobs(TaskSampler):
    """Classes are Gaussian clouds around centres of their own; every task draws classes anew.

    Parameters
    ----------
    n_way, n_shot, n_query : int
        Classes of a task, and support and query examples of each.
    """

    def __init__(self, *, n_way: int = 3, n_shot: int = 5, n_query: int = 6) -> None:
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query

    @property
    def info(self) -> TaskInfo:
        """Six features; the class of a label is told by ``TaskBatch.classes``."""
        return TaskInfo(
            problem="classification",
            input_shape=(N_FEATURES,),
            n_outputs=self.n_way,
            n_shot=self.n_shot,
            n_query=self.n_query,
            n_base_classes=N_BASE["train"],
        )

    def sample(self, n_tasks: int, *, split: Split = "train", seed: int) -> TaskBatch:
        """Draw tasks, see :meth:`TaskSampler.sample`."""
        check_draw(n_tasks, split, seed)
        picked = _pick(n_tasks, split, seed, self.n_way)
        centres = 1.5 * _generator(0, "centres", split).standard_normal((N_BASE[split], N_FEATURES))

        def examples(part: str, n: int) -> Examples:
            noise = 0.7 * _generator(seed, split, part).standard_normal((n_tasks, n * self.n_way, N_FEATURES))
            order = _generator(seed, split, part, "order").random((n_tasks, n * self.n_way)).argsort(axis=1)
            y = order % self.n_way
            x = centres[np.take_along_axis(picked, y, axis=1)] + noise
            return Examples(torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y), n_classes=self.n_way)

        return TaskBatch(
            support=examples("support", self.n_shot),
            query=examples("query", self.n_query),
            classes=torch.from_numpy(picked + _first(split)),
        )


class _Entities(TaskSampler):
    """Tasks about entities that have an offset of their own."""

    _spread: ClassVar[float]
    """Standard deviation of the offsets; that of the slope's part is about 1.4."""

    def __init__(self, *, n_shot: int = 8, n_query: int = 8) -> None:
        self.n_shot = n_shot
        self.n_query = n_query

    def _draw(
        self, n_tasks: int, split: Split, seed: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], torch.Tensor]:
        """Return inputs [n_tasks, n_shot + n_query, features], targets [n_tasks, n] and ids of entities."""
        check_draw(n_tasks, split, seed)
        entity = _pick(n_tasks, split, seed, 1)
        n = self.n_shot + self.n_query
        x = _generator(seed, split, "x").uniform(-1, 1, (n_tasks, n, N_FEATURES))
        offset = self._spread * _generator(0, "offset", split).standard_normal(N_BASE[split])
        slope = _generator(0, "slope").standard_normal(N_FEATURES)
        return x, x @ slope + offset[entity], torch.from_numpy(entity[:, 0] + _first(split))

    def _batch(self, x: NDArray[np.float64], y: torch.Tensor, ids: torch.Tensor, n_classes: int = 0) -> TaskBatch:
        examples = Examples(torch.from_numpy(x.astype(np.float32)), y, n_classes=n_classes)
        return TaskBatch(
            support=examples.select(slice(self.n_shot)), query=examples.select(slice(self.n_shot, None)), ids=ids
        )


class Lines(_Entities):
    """Linear functions with one common slope and an offset for each entity.

    Parameters
    ----------
    n_shot, n_query : int
        Support and query examples of a task.
    """

    _spread = 1.5

    @property
    def info(self) -> TaskInfo:
        """Six features and one real target."""
        return TaskInfo(
            problem="regression",
            input_shape=(N_FEATURES,),
            n_outputs=1,
            n_shot=self.n_shot,
            n_query=self.n_query,
            n_base_tasks=N_BASE["train"],
        )

    def sample(self, n_tasks: int, *, split: Split = "train", seed: int) -> TaskBatch:
        """Draw tasks, see :meth:`TaskSampler.sample`."""
        x, line, ids = self._draw(n_tasks, split, seed)
        return self._batch(x, torch.from_numpy(line.astype(np.float32)).unsqueeze(-1), ids)


class Shifts(_Entities):
    """Two classes that mean the same in every task, parted by a plane that every entity shifts.

    Parameters
    ----------
    n_shot, n_query : int
        Support and query examples of a task.
    """

    _spread = 0.6

    @property
    def info(self) -> TaskInfo:
        """Six features and two classes."""
        return TaskInfo(
            problem="classification",
            input_shape=(N_FEATURES,),
            n_outputs=2,
            n_shot=self.n_shot,
            n_query=self.n_query,
            n_base_tasks=N_BASE["train"],
            shared_classes=True,
        )

    def sample(self, n_tasks: int, *, split: Split = "train", seed: int) -> TaskBatch:
        """Draw tasks, see :meth:`TaskSampler.sample`."""
        x, line, ids = self._draw(n_tasks, split, seed)
        return self._batch(x, torch.from_numpy((line > 0).astype(np.int64)), ids, n_classes=2)


TOYS: dict[str, tuple[TaskSampler, ...]] = {
    "classification": (Blobs(), Shifts()),
    "regression": (Lines(),),
    "control": (Doors(), Coins(), Stairs()),
}
"""Distributions by problem; a learner is checked on the first that it does not refuse."""

SHARED: tuple[TaskSampler, ...] = (Shifts(), Lines())
"""Those whose labels mean the same in every task."""

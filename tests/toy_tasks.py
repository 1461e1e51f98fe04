"""Small tasks that several test modules share; :mod:`autometa.testing.toys` has those of the shipped checks."""

from __future__ import annotations

import torch
from torch import Tensor

import autometa as am

SINES = am.TaskInfo(problem="regression", input_shape=(2,), n_outputs=1, n_shot=6, n_query=5)
BLOBS = am.TaskInfo(problem="classification", input_shape=(2,), n_outputs=3, n_shot=2, n_query=4)


def sines(n_tasks: int = 4, seed: int = 2) -> am.TaskBatch:
    """Sines of the sum of two inputs, each task with an amplitude of its own; see ``SINES``."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n_tasks, 11, 2, dtype=torch.float64, generator=generator)
    y = torch.sin(x.sum(-1)) * torch.rand(n_tasks, 1, dtype=torch.float64, generator=generator)
    return am.TaskBatch(support=am.Examples(x[:, :6], y[:, :6]), query=am.Examples(x[:, 6:], y[:, 6:]))


def blobs(n_tasks: int = 3, n_way: int = 3, seed: int = 3) -> am.TaskBatch:
    """Classes around centres that lie far apart; see ``BLOBS``."""
    generator = torch.Generator().manual_seed(seed)
    every = _clouds(4 * torch.randn(n_tasks, n_way, 2, dtype=torch.float64, generator=generator), 6, generator)
    return am.TaskBatch(support=every.select(slice(2 * n_way)), query=every.select(slice(2 * n_way, None)))


def clouds(
    n_tasks: int = 3,
    n_way: int = 3,
    n_shot: int = 4,
    n_features: int = 5,
    *,
    spread: float = 1.0,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> am.Examples:
    """Support sets of Gaussian classes, whose centres lie as far apart as ``spread`` says; labels go 0, 1, 2, 0, …"""
    generator = torch.Generator().manual_seed(seed)
    centres = spread * torch.randn(n_tasks, n_way, n_features, dtype=dtype, generator=generator)
    return _clouds(centres, n_shot, generator)


def _clouds(centres: Tensor, n: int, generator: torch.Generator) -> am.Examples:
    """``n`` examples of each class around centres [tasks, way, features]."""
    n_tasks, n_way, n_features = centres.shape
    y = torch.arange(n_way).repeat(n_tasks, n)
    noise = torch.randn(*y.shape, n_features, dtype=centres.dtype, generator=generator)
    return am.Examples(centres.gather(1, y.unsqueeze(-1).expand_as(noise)) + noise, y, n_classes=n_way)


def support_of(problem: str, n_tasks: int = 3, n: int = 9, n_features: int = 4, n_outputs: int = 3) -> am.Examples:
    """Random support sets in which nothing is to be learned: classes in turn, or random targets."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n_tasks, n, n_features, generator=generator, dtype=torch.float64)
    if problem == "classification":
        return am.Examples(x, torch.arange(n).remainder(n_outputs).repeat(n_tasks, 1), n_classes=n_outputs)
    return am.Examples(x, torch.randn(n_tasks, n, n_outputs, generator=generator, dtype=torch.float64))


def queries(n: int = 5, n_tasks: int = 3, n_features: int = 4) -> Tensor:
    """Random inputs that go with :func:`support_of`."""
    return torch.randn(n_tasks, n, n_features, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def cut(support: am.Examples) -> tuple[am.Examples, list[am.Examples]]:
    """Support sets cut to different lengths: all padded in one batch, and each alone."""
    lengths = [support.y.shape[1] - i for i in range(len(support))]
    mask = torch.arange(support.y.shape[1]) < torch.tensor(lengths).unsqueeze(1)
    y = support.y * (mask if support.is_classification else mask.unsqueeze(-1))
    assert isinstance(support.x, Tensor)
    together = am.Examples(support.x * mask.unsqueeze(-1), y, mask, support.n_classes)
    return together, [support[i : i + 1].select(slice(0, n)) for i, n in enumerate(lengths)]


class Haystack(am.TaskSampler):
    """Classes differ in a few of many features; the others are noise. Every split has classes of its own.

    A learner of distances without meta-training drowns in the noise, and one that has learned which features count
    does not: so meta-training pays on new classes.

    Parameters
    ----------
    n_shot, n_query : int
        Support and query examples of each of the three classes of a task.
    n_features, n_telling : int
        All features, and those of them that tell classes apart (the first ones).
    n_base : int
        Classes of each split.
    noise : float
        Standard deviation of the features that tell nothing; centres have 2 and the noise around them 0.5.
    dtype : torch.dtype
        Type of the inputs.
    """

    n_way = 3

    def __init__(
        self,
        *,
        n_shot: int = 1,
        n_query: int = 5,
        n_features: int = 30,
        n_telling: int = 3,
        n_base: int = 200,
        noise: float = 1.5,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.n_shot = n_shot
        self.n_query = n_query
        self.n_features = n_features
        self.n_telling = n_telling
        self.n_base = n_base
        self.noise = noise
        self.dtype = dtype

    @property
    def info(self) -> am.TaskInfo:
        return am.TaskInfo(
            problem="classification",
            input_shape=(self.n_features,),
            n_outputs=self.n_way,
            n_shot=self.n_shot,
            n_query=self.n_query,
            n_base_classes=self.n_base,
        )

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        tells = torch.arange(self.n_features) < self.n_telling
        of_split = torch.Generator().manual_seed(am.derive_seed(0, split))
        centres = 2 * tells * torch.randn(self.n_base, self.n_features, generator=of_split)
        generator = torch.Generator().manual_seed(am.derive_seed(seed, split))
        classes = torch.rand(n_tasks, self.n_base, generator=generator).argsort(dim=1)[:, : self.n_way]
        y = torch.arange(self.n_way).repeat(n_tasks, self.n_shot + self.n_query)
        noise = torch.randn(*y.shape, self.n_features, generator=generator) * torch.where(tells, 0.5, self.noise)
        every = am.Examples((centres[classes.gather(1, y)] + noise).to(self.dtype), y)
        shots = self.n_way * self.n_shot
        of_task = classes + am.SPLITS.index(split) * self.n_base
        return am.TaskBatch(support=every.select(slice(shots)), query=every.select(slice(shots, None)), classes=of_task)


class Offsets(am.TaskSampler):
    """Linear functions with one slope for all tasks and an offset for each: infinitely many tasks, six features."""

    n_shot = n_query = 8

    @property
    def info(self) -> am.TaskInfo:
        return am.TaskInfo(
            problem="regression", input_shape=(6,), n_outputs=1, n_shot=self.n_shot, n_query=self.n_query
        )

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        generator = torch.Generator().manual_seed(am.derive_seed(seed, split))
        x = 2 * torch.rand(n_tasks, self.n_shot + self.n_query, 6, generator=generator) - 1
        offset = 1.5 * torch.randn(n_tasks, 1, 1, generator=generator)
        every = am.Examples(x, x @ torch.linspace(-2, 2, 6).unsqueeze(-1) + offset)
        return am.TaskBatch(support=every.select(slice(self.n_shot)), query=every.select(slice(self.n_shot, None)))

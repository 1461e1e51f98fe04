"""Few-shot episodes from labelled images: a base class that only asks a subclass where its images are."""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from pathlib import PurePath
from types import NoneType
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autometa.contracts.drawing import draw_distinct, draw_uniform
from autometa.contracts.examples import Examples, TaskBatch
from autometa.contracts.tasks import SPLITS, Split, TaskInfo, TaskSampler, check_draw
from autometa.errors import InvalidData, InvalidParameter

_EPISODE = ("n_way", "n_shot", "n_query")
_PLAIN = (str, int, float, bool, PurePath, NoneType)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassImages:
    """Labelled images, and which classes each part of the distribution may use.

    Parameters
    ----------
    images : Tensor of shape [n_images, channels, height, width]
        uint8 in 0 .. 255 (handed out as float32 in [0, 1]), or floating point (handed out as it is).
    labels : Tensor of shape [n_images], int64
        Class of each image.
    splits : mapping of {"train", "valid", "test"} to sequence of int
        Disjoint lists of classes.
    names : sequence of str, optional
        Name of class 0, 1, ...
    """

    images: Tensor
    labels: Tensor
    splits: Mapping[Split, Sequence[int]]
    names: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        if self.images.dim() != 4 or self.labels.shape != self.images.shape[:1]:
            raise InvalidData(
                f"images {tuple(self.images.shape)} and labels {tuple(self.labels.shape)} must have the shapes "
                "[n_images, channels, height, width] and [n_images]."
            )
        if set(self.splits) != set(SPLITS):
            raise InvalidData(f"splits has the keys {sorted(self.splits)}; it needs exactly {SPLITS}.")
        classes = [c for split in SPLITS for c in self.splits[split]]
        if len(set(classes)) != len(classes):
            raise InvalidData("splits must be disjoint: a class stands in two of them or twice in one.")


@dataclass(frozen=True, slots=True)
class _Rows:
    """Where images lie: those of class ``c`` are rows ``by_class[start[c] : start[c] + count[c]]``."""

    by_class: NDArray[np.int64]
    start: NDArray[np.int64]
    count: NDArray[np.int64]
    splits: dict[Split, NDArray[np.int64]]

    @classmethod
    def of(cls, data: ClassImages) -> _Rows:
        labels = data.labels.cpu().numpy()
        n_classes = 1 + max(int(labels.max(initial=-1)), *(max(data.splits[split], default=-1) for split in SPLITS))
        count = np.bincount(labels, minlength=n_classes)
        splits = {split: np.asarray(data.splits[split], dtype=np.int64) for split in SPLITS}
        return cls(np.argsort(labels, kind="stable"), np.cumsum(count) - count, count, splits)


class ClassEpisodes(TaskSampler):
    """N-way k-shot tasks over images of classes; subclasses implement :meth:`load`.

    Every task draws ``n_way`` classes of its split and, from each, ``n_shot`` support and ``n_query`` other
    images. Support rows are sorted by class; query rows are shuffled, so that their order tells nothing.
    ``TaskBatch.classes`` counts the classes of all splits without overlap, meta-train classes first.

    A subclass has ``n_way``, ``n_shot`` and ``n_query`` among its constructor parameters. Images are loaded on
    first use and, where the other parameters are plain values, shared by all samplers of the process that
    agree in them.

    Examples
    --------
    >>> import torch
    >>> import autometa as am
    >>> class Noise(am.ClassEpisodes):
    ...     def __init__(self, *, n_way=3, n_shot=1, n_query=2):
    ...         self.n_way, self.n_shot, self.n_query = n_way, n_shot, n_query
    ...
    ...     def load(self):
    ...         labels = torch.arange(9).repeat_interleave(4)
    ...         images = torch.rand(36, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    ...         splits = {"train": range(3), "valid": range(3, 6), "test": range(6, 9)}
    ...         return am.ClassImages(images=images, labels=labels, splits=splits)
    >>> Noise().sample(2, seed=0).query.x.shape
    torch.Size([2, 6, 1, 8, 8])
    """

    n_way: int
    n_shot: int
    n_query: int

    _recent: ClassVar[OrderedDict[Hashable, tuple[ClassImages, _Rows]]] = OrderedDict()
    _n_recent: ClassVar[int] = 4

    @abstractmethod
    def load(self) -> ClassImages:
        """Return all images, labels and splits; the same for the same parameters.

        Raises
        ------
        MissingData, InvalidData
            The files are not there or cannot be used.
        """

    def fingerprint(self) -> Hashable:
        """What besides the parameters decides the outcome of :meth:`load`, such as times of files."""
        return None

    @property
    def info(self) -> TaskInfo:
        """Shapes and sizes of the tasks drawn.

        Raises
        ------
        InvalidParameter
            A split has too few classes for ``n_way``, or a class too few images for ``n_shot + n_query``.
        """
        data, _ = self._ready()
        return TaskInfo(
            problem="classification",
            input_shape=tuple(data.images.shape[1:]),
            n_outputs=self.n_way,
            n_shot=self.n_shot,
            n_query=self.n_query,
            n_base_classes=len(data.splits["train"]),
        )

    def sample(self, n_tasks: int, *, split: Split = "train", seed: int) -> TaskBatch:
        """Draw tasks, see :meth:`TaskSampler.sample`."""
        check_draw(n_tasks, split, seed)
        data, rows = self._ready()
        classes = rows.splits[split]
        per_class = self.n_shot + self.n_query
        drawn = draw_distinct(np.full(n_tasks, len(classes)), self.n_way, seed, split, "classes")
        chosen = classes[drawn]
        within = draw_distinct(rows.count[chosen], per_class, seed, split, "images")
        images = rows.by_class[rows.start[chosen][..., None] + within]
        shuffle = draw_uniform((n_tasks, self.n_way * self.n_query), seed, split, "query order")
        query_order = np.argsort(shuffle, axis=-1)
        support = images[..., : self.n_shot].reshape(n_tasks, -1)
        query = np.take_along_axis(images[..., self.n_shot :].reshape(n_tasks, -1), query_order, axis=-1)
        support_y = np.broadcast_to(np.repeat(np.arange(self.n_way), self.n_shot), support.shape)
        offset = sum(len(data.splits[s]) for s in SPLITS[: SPLITS.index(split)])
        return TaskBatch(
            support=self._examples(data, support, support_y),
            query=self._examples(data, query, query_order // self.n_query),
            classes=torch.from_numpy(drawn + offset).to(data.images.device),
        )

    def to(self, device: torch.device | str) -> Self:
        """Keep the images on ``device``, so that tasks are gathered there; returns itself."""
        data, rows = self._loaded()
        moved = replace(data, images=data.images.to(device))
        self._data = (self._parameters(), moved, rows)
        return self

    def describe(self) -> dict[str, Any]:
        """Numbers of classes and images."""
        data, _ = self._loaded()
        return {
            "images": len(data.images),
            "classes": {split: len(data.splits[split]) for split in SPLITS},
        }

    def class_names(self, split: Split) -> list[str]:
        """Names of a split's classes."""
        data, _ = self._loaded()
        return [data.names[c] if data.names else str(c) for c in data.splits[split]]

    def _examples(self, data: ClassImages, rows: NDArray[np.int64], y: NDArray[np.int64]) -> Examples:
        device = data.images.device
        index = torch.from_numpy(rows.ravel()).to(device)
        x = data.images.index_select(0, index)
        x = x.reshape(*rows.shape, *x.shape[1:])
        if not x.is_floating_point():
            x = x.to(torch.float32).div_(255)
        return Examples(x, torch.from_numpy(y.copy()).to(device), n_classes=self.n_way)

    def _parameters(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _EPISODE and name[0] != "_"}

    def _loaded(self) -> tuple[ClassImages, _Rows]:
        parameters = self._parameters()
        mine = vars(self).get("_data")
        if mine is not None and all(mine[0].get(name, mine) is value for name, value in parameters.items()):
            return mine[1], mine[2]
        key = (type(self), tuple(sorted(parameters.items())), self.fingerprint())
        plain = all(isinstance(value, _PLAIN) for value in parameters.values())
        if not plain or key not in self._recent:
            data = self.load()
            loaded = data, _Rows.of(data)
        else:
            loaded = self._recent[key]
        if plain:
            self._recent[key] = loaded
            self._recent.move_to_end(key)
            while len(self._recent) > self._n_recent:
                self._recent.popitem(last=False)
        self._data = (parameters, *loaded)
        return loaded

    def _ready(self) -> tuple[ClassImages, _Rows]:
        for name, least in (("n_way", 2), ("n_shot", 1), ("n_query", 1)):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < least:
                raise InvalidParameter(f"{name}={value!r} must be an integer of at least {least}.")
        data, rows = self._loaded()
        for split in SPLITS:
            self._check_split(split, data, rows)
        return data, rows

    def _check_split(self, split: Split, data: ClassImages, rows: _Rows) -> None:
        classes = rows.splits[split]
        if len(classes) < self.n_way:
            raise InvalidParameter(
                f"n_way={self.n_way} needs as many classes, but split {split!r} has {len(classes)}; "
                + (f"use n_way <= {len(classes)}." if len(classes) > 1 else "add classes to it.")
            )
        counts = rows.count[classes]
        fewest = int(counts.min())
        if fewest < self.n_shot + self.n_query:
            worst = int(classes[counts.argmin()])
            name = repr(data.names[worst]) if data.names else str(worst)
            advice = f"use n_shot + n_query <= {fewest}, or drop it" if fewest > 1 else "drop it or add images"
            raise InvalidParameter(
                f"n_shot={self.n_shot} + n_query={self.n_query} needs as many images of every class, but class {name} "
                f"of split {split!r} has {fewest}; {advice}."
            )

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_data", None)
        return state

"""Few-shot episodes from labelled images: a base class that only asks a subclass where its images are."""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import PurePath
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from autometa.checks import check_int
from autometa.contracts.examples import Examples, TaskBatch
from autometa.contracts.tasks import SPLITS, Split, TaskInfo, TaskSampler, check_draw
from autometa.errors import InvalidParameter
from autometa.sampling.class_images import ClassGroups, ClassImages, ImageRows
from autometa.sampling.episode_sizes import (
    MOST_QUERY,
    MOST_SUPPORT,
    VARIED,
    WAYS,
    bounds_of,
    check_size,
    draw_between,
    most_varied_shots,
    varied_queries,
    varied_shots,
)
from autometa.sampling.random_draws import draw_distinct, draw_uniform
from autometa.sampling.train_episodes import TRAINING, TrainEpisodes, suggest_training

if TYPE_CHECKING:
    from optuna import Trial

_EPISODE = ("n_way", "n_shot", "n_query", *TRAINING)
_PLAIN = (str, int, float, bool, PurePath, NoneType)


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Sizes that tasks of one split can have."""

    ways: tuple[int, int]
    """Fewest and most classes."""
    shots: int
    """Most support images of a class."""
    queries: int
    """Most queries of a class."""


class ClassEpisodes(TrainEpisodes, TaskSampler):
    """N-way k-shot tasks over images of classes; subclasses implement :meth:`load`.

    Every task draws ``n_way`` classes of its split and, from each, ``n_shot`` support and ``n_query`` other
    images. Support rows are sorted by class; query rows are shuffled, so that their order tells nothing.
    ``TaskBatch.classes`` counts the classes of all splits without overlap, meta-train classes first.

    A subclass has ``n_way``, ``n_shot`` and ``n_query`` among its constructor parameters. Images are loaded on
    first use and, where the other parameters are plain values, shared by all samplers of the process that
    agree in them.

    Parameters
    ----------
    n_way : int, (int, int) or "varied"
        Classes of a task. A pair ``(low, high)`` draws a number for each task, all equally likely. ``"varied"`` is
        Meta-Dataset's rule (Triantafillou et al. 2020, section 3.2): from 5 to 50 classes, or to all of the split or
        of the task's group where these are fewer. With groups, a task's group is drawn first, each equally likely
        that has the fewest classes asked for, and a task has no more classes than its group.
    n_shot : int, (int, int) or "varied"
        Support images per class. A pair draws one number for each task, the same for all its classes. ``"varied"``
        is Meta-Dataset's rule: a support set of up to 500 images, to whose size no class adds more than 100, divided
        among the classes in proportion to their images times a random factor from 0.5 to 2, one at least for each.
    n_query : int
        Query images per class. With ``n_shot="varied"``, that rule's limits hold beside it: at most 10, and at most
        half of the smallest class of the task.
    train_n_way, train_n_shot : int, (int, int), "varied" or None, default=None
        Other numbers for the tasks of meta-training alone: metric learners often gain from more classes than there are
        later (Snell et al. 2017, section 3.1). None: the same.
    train_shift, train_rotation : float, default=0.0
        Move every image of meta-training at random by up to this share of its width and height, and turn it by up to so
        many degrees either way. The edge goes on where nothing is left to show.
    train_flip : bool, default=False
        Mirror half of the images of meta-training, left for right.
    train_erasing : float, default=0.0
        Share of the images of meta-training that lose a rectangle to the image's mean (random erasing, Zhong et al.
        2020).

    A subclass may leave out the ``train_...`` parameters; those that its constructor has are searched in comparisons.

    Notes
    -----
    Where sizes vary, tasks are padded to the largest drawn together: ``Examples.mask`` tells what exists,
    ``Examples.n_classes`` is the number of classes of the widest task of the batch, and ``TaskBatch.classes`` is -1
    where a task has fewer than ``TaskInfo.n_outputs``. ``TaskInfo`` states the largest sizes that can be drawn.

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

    n_way: int | tuple[int, int] | str
    n_shot: int | tuple[int, int] | str
    n_query: int

    _recent: ClassVar[OrderedDict[Hashable, tuple[ClassImages, ImageRows]]] = OrderedDict()
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

    def content(self) -> dict[str, str]:
        """See :meth:`TaskSampler.content`; the fingerprint stands for data that no parameter names."""
        found = super().content()
        fingerprint = self.fingerprint()
        if not found and fingerprint is not None:
            found = {"fingerprint": sha256(repr(fingerprint).encode(errors="surrogateescape")).hexdigest()}
        return found

    @property
    def info(self) -> TaskInfo:
        """Shapes and sizes of the tasks drawn; the largest where they vary.

        Raises
        ------
        InvalidParameter
            A split has too few classes for ``n_way``, or a class too few images for ``n_shot + n_query``.
        """
        data, _, sizes = self._ready()
        return TaskInfo(
            problem="classification",
            input_shape=tuple(data.images.shape[1:]),
            n_outputs=max(size.ways[1] for size in sizes.values()),
            n_shot=max(size.shots for size in sizes.values()),
            n_query=max(size.queries for size in sizes.values()),
            n_base_classes=len(data.splits["train"]),
        )

    def sample(self, n_tasks: int, *, split: Split = "train", seed: int) -> TaskBatch:
        """Draw tasks, see :meth:`TaskSampler.sample`."""
        check_draw(n_tasks, split, seed)
        data, rows, sizes = self._ready()
        place, ways = _draw_classes(rows.groups[split], sizes[split].ways, n_tasks, seed, split)
        exists = np.arange(place.shape[1]) < ways[:, None]
        chosen = rows.splits[split][place]
        count = np.where(exists, rows.count[chosen], 0)
        shots, queries = self._draw_sizes(count, seed, split)

        # What is drawn for a task must not depend on those beside it: numbers are drawn for the largest possible task.
        most_queries = sizes[split].queries
        needed = shots + np.where(exists, queries[:, None], 0)
        n_drawn = sizes[split].shots + most_queries
        each = None if (needed == n_drawn).all() else needed
        within = draw_distinct(count, n_drawn, seed, split, "images", each=each)
        images = rows.by_class[rows.start[chosen][..., None] + within]
        label = np.broadcast_to(np.arange(place.shape[1])[:, None], images.shape)
        most_shots = int(shots.max())
        given = np.arange(most_shots) < shots[..., None]
        asked = (np.arange(most_queries) < queries[:, None, None]) & exists[..., None]
        after = np.minimum(shots[..., None] + np.arange(most_queries), images.shape[-1] - 1)
        shuffle = np.argsort(draw_uniform((n_tasks, asked[0].size), seed, split, "query order"), axis=-1)
        support = [part[..., :most_shots].reshape(n_tasks, -1) for part in (images, label)]
        query = [
            np.take_along_axis(part.reshape(n_tasks, -1), shuffle, axis=-1)
            for part in (np.take_along_axis(images, after, axis=-1), label[..., :1].repeat(most_queries, -1), asked)
        ]
        offset = sum(len(data.splits[s]) for s in SPLITS[: SPLITS.index(split)])
        classes = np.full((n_tasks, max(size.ways[1] for size in sizes.values())), -1)
        classes[:, : place.shape[1]] = np.where(exists, place + offset, -1)
        widest = int(ways.max())
        labelled = _examples(data, *_existing_first(support, given.reshape(n_tasks, -1)), widest)
        asked_for = _examples(data, *_existing_first(query[:2], query[2]), widest)
        if split == "train":
            most_support = sizes[split].ways[1] * sizes[split].shots
            labelled = self._changed(labelled, most_support, seed, "support")
            asked_for = self._changed(asked_for, asked[0].size, seed, "query")
        return TaskBatch(
            support=labelled,
            query=asked_for,
            classes=torch.from_numpy(classes).to(data.images.device),
        )

    def suggest(self, trial: Trial) -> Self:
        """Search how meta-training draws its tasks; see :meth:`TaskSampler.suggest`."""
        data, rows, sizes = self._ready()
        fewest = int(rows.count[rows.splits["train"]].min())
        params = suggest_training(
            self,
            trial,
            n_way=self.n_way,
            n_shot=self.n_shot,
            most_ways=int(rows.groups["train"].size.max()),
            most_shots=fewest - sizes["train"].queries,
            side=min(data.images.shape[2:]),
        )
        drawn = copy(self)
        drawn.set_params(**params)
        return drawn

    def to(self, device: torch.device | str) -> Self:
        """Return the same sampler with its images on ``device``, so that tasks are gathered there."""
        data, rows = self._loaded()
        there = copy(self)
        there._data = (self._parameters(), replace(data, images=data.images.to(device)), rows)
        return there

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

    def _parameters(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _EPISODE and name[0] != "_"}

    def _loaded(self) -> tuple[ClassImages, ImageRows]:
        parameters = self._parameters()
        mine = vars(self).get("_data")
        if mine is not None and all(mine[0].get(name, mine) is value for name, value in parameters.items()):
            return mine[1], mine[2]
        key = (type(self), tuple(sorted(parameters.items())), self.fingerprint())
        plain = all(isinstance(value, _PLAIN) for value in parameters.values())
        if not plain or key not in self._recent:
            data = self.load()
            loaded = data, ImageRows.of(data)
        else:
            loaded = self._recent[key]
        if plain:
            self._recent[key] = loaded
            self._recent.move_to_end(key)
            while len(self._recent) > self._n_recent:
                self._recent.popitem(last=False)
        self._data = (parameters, *loaded)
        return loaded

    def _draw_sizes(
        self, count: NDArray[np.int64], seed: int, split: Split
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Support images [tasks, way] and queries per class [tasks] of tasks whose classes have ``count`` images."""
        _, n_shot = self._asked("n_shot", split)
        if n_shot == VARIED:
            queries = varied_queries(count, self.n_query)
            return varied_shots(count, queries, seed, split), queries
        shots = draw_between(*bounds_of(n_shot), len(count), seed, split, "shots")
        return np.where(count > 0, shots[:, None], 0), np.full(len(count), self.n_query)

    def _ready(self) -> tuple[ClassImages, ImageRows, dict[Split, _Sizes]]:
        check_size("n_way", self.n_way, least=2)
        check_size("n_shot", self.n_shot, least=1)
        check_int("n_query", self.n_query)
        self._check_training()
        data, rows = self._loaded()
        return data, rows, {split: self._sizes(split, data, rows) for split in SPLITS}

    def _asked(self, name: str, split: Split) -> tuple[str, Any]:
        """Return the parameter that says the "n_way" or "n_shot" of a split, and its value."""
        own = f"train_{name}"
        chosen = own if split == "train" and getattr(self, own) is not None else name
        return chosen, getattr(self, chosen)

    def _sizes(self, split: Split, data: ClassImages, rows: ImageRows) -> _Sizes:
        way, n_way = self._asked("n_way", split)
        shot, n_shot = self._asked("n_shot", split)
        largest = int(rows.groups[split].size.max())
        low, high = (WAYS[0], min(WAYS[1], largest)) if n_way == VARIED else bounds_of(n_way)
        if largest < max(low, high):
            has = (
                f"no group of split {split!r} has more than {largest}"
                if data.groups
                else f"split {split!r} has {largest}"
            )
            wanted = f"at least {low}" if n_way == VARIED else "as many"
            advice = "add classes to it" if largest < 2 else f"use {way} <= {largest}"
            if largest > 1 and n_way == VARIED:
                advice = f"use {way}=(2, {largest})"
            if split in data.drawn:
                has, advice = f"{has} ({data.drawn[split]})", f"{advice}, a larger part, or more classes"
            raise InvalidParameter(f"{way}={n_way!r} needs {wanted} classes, but {has}; {advice}.")
        counts = rows.count[rows.splits[split]]
        if n_shot != VARIED:
            shots = bounds_of(n_shot)[1]
            self._check_images(split, data, rows, shots + self.n_query)
            return _Sizes((low, high), shots, int(self.n_query))
        if high > MOST_SUPPORT:
            raise InvalidParameter(
                f"{way}={n_way!r} is more than the {MOST_SUPPORT} support images of {shot}={VARIED!r}; "
                f"give {shot} as a number or a pair."
            )
        self._check_images(split, data, rows, 2)
        queries = min(int(self.n_query), MOST_QUERY, int(counts.max()) // 2)
        return _Sizes((low, high), most_varied_shots(counts, (low, high), queries), queries)

    def _check_images(self, split: Split, data: ClassImages, rows: ImageRows, least: int) -> None:
        classes = rows.splits[split]
        counts = rows.count[classes]
        fewest = int(counts.min())
        if fewest >= least:
            return
        worst = int(classes[counts.argmin()])
        name = repr(data.names[worst]) if data.names else str(worst)
        shot, n_shot = self._asked("n_shot", split)
        if n_shot == VARIED:
            asked, advice = f"{shot}={VARIED!r} needs {least} images", "drop it or add images"
        else:
            asked = f"{shot}={n_shot!r} + n_query={self.n_query} needs as many images"
            advice = f"use {shot} + n_query <= {fewest}, or drop it" if fewest > 1 else "drop it or add images"
        raise InvalidParameter(f"{asked} of every class, but class {name} of split {split!r} has {fewest}; {advice}.")

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_data", None)
        return state


def _draw_classes(
    groups: ClassGroups, bounds: tuple[int, int], n_tasks: int, seed: int, split: Split
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the drawn classes in their split's list [tasks, most ways], and how many of them count [tasks]."""
    low, high = bounds
    group = np.zeros(n_tasks, dtype=np.int64)
    if len(groups.size) > 1:
        large = np.flatnonzero(groups.size >= low)
        group = large[draw_between(0, len(large) - 1, n_tasks, seed, split, "group")]
    size = groups.size[group]
    ways = draw_between(low, np.minimum(high, size), n_tasks, seed, split, "ways")
    drawn = draw_distinct(np.maximum(size, high), high, seed, split, "classes")
    (drawn,), _ = _existing_first([drawn], drawn < size[:, None], trim=False)
    return groups.place[groups.start[group][:, None] + drawn], ways


def _existing_first(
    parts: Sequence[NDArray[np.int64]], exists: NDArray[np.bool_], trim: bool = True
) -> tuple[list[NDArray[np.int64]], NDArray[np.bool_]]:
    """The values that exist first, in the order they had, then zeros; as many as the longest row has."""
    if exists.all():
        return list(parts), exists
    order = np.argsort(~exists, axis=-1, kind="stable")
    if trim:
        order = order[..., : int(exists.sum(axis=-1).max())]
    exists = np.take_along_axis(exists, order, axis=-1)
    return [np.where(exists, np.take_along_axis(part, order, axis=-1), 0) for part in parts], exists


def _examples(
    data: ClassImages, parts: Sequence[NDArray[np.int64]], exists: NDArray[np.bool_], n_classes: int
) -> Examples:
    """Gather images from rows and labels [tasks, n]; zeros where nothing exists."""
    rows, y = parts
    device = data.images.device
    x = data.images.index_select(0, torch.from_numpy(rows.ravel()).to(device))
    x = x.reshape(*rows.shape, *x.shape[1:])
    mask = None if exists.all() else torch.from_numpy(np.array(exists)).to(device)
    if mask is not None:
        x.masked_fill_(~mask[..., None, None, None], 0)
    if not x.is_floating_point():
        x = x.to(torch.float32).div_(255)
    labels = torch.from_numpy(np.array(y)).to(device)
    return Examples(x, labels, n_classes=n_classes) if mask is None else Examples(x, labels, mask, n_classes)

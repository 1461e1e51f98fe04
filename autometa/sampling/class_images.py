"""Labelled images in memory, and where the images of every class lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from autometa.contracts.tasks import SPLITS, Split
from autometa.errors import InvalidData


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
    groups : sequence of str or int, optional
        Group of class 0, 1, ..., such as its alphabet. Where given, all classes of a task are of one group.
    drawn : mapping of split to str, optional
        How the classes of a split were chosen where the data name none, such as "drawn from all by
        valid_fraction=0.2"; told when they are too few.
    """

    images: Tensor
    labels: Tensor
    splits: Mapping[Split, Sequence[int]]
    names: Sequence[str] = field(default=())
    groups: Sequence[str] | Sequence[int] = field(default=())
    drawn: Mapping[str, str] = field(default_factory=dict)

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
class ClassGroups:
    """Classes of a split that may share a task: group ``g`` is ``place[start[g] : start[g] + size[g]]``."""

    place: NDArray[np.int64]
    """Places within the split's list of classes."""
    start: NDArray[np.int64]
    size: NDArray[np.int64]

    @classmethod
    def of(cls, data: ClassImages, split: Split) -> ClassGroups:
        groups = [data.groups[c] if data.groups else 0 for c in data.splits[split]]
        _, number = np.unique(np.asarray(groups, dtype=None if groups else np.int64), return_inverse=True)
        size = np.bincount(number, minlength=1)
        return cls(np.argsort(number, kind="stable"), np.cumsum(size) - size, size)


@dataclass(frozen=True, slots=True)
class ImageRows:
    """Where images lie: those of class ``c`` are rows ``by_class[start[c] : start[c] + count[c]]``."""

    by_class: NDArray[np.int64]
    start: NDArray[np.int64]
    count: NDArray[np.int64]
    splits: dict[Split, NDArray[np.int64]]
    groups: dict[Split, ClassGroups]

    @classmethod
    def of(cls, data: ClassImages) -> ImageRows:
        labels = data.labels.cpu().numpy()
        n_classes = 1 + max(int(labels.max(initial=-1)), *(max(data.splits[split], default=-1) for split in SPLITS))
        count = np.bincount(labels, minlength=n_classes)
        splits = {split: np.asarray(data.splits[split], dtype=np.int64) for split in SPLITS}
        groups = {split: ClassGroups.of(data, split) for split in SPLITS}
        return cls(np.argsort(labels, kind="stable"), np.cumsum(count) - count, count, splits, groups)

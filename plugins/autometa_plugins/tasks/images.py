"""Your own images: one folder for each class."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

import autometa as am
from autometa_plugins.tasks.image_files import ImageFile, decode_all, image_sources, list_images, stamp

_SPLIT_NAMES = {"train": "train", "val": "valid", "valid": "valid", "validation": "valid", "test": "test"}


class Images(am.ClassEpisodes):
    """Few-shot tasks over a folder of class folders, or zip archives of them.

    Where ``root`` holds ``train``, ``valid`` (or ``val``, ``validation``) and ``test``, as folders or zip
    archives, these are the splits; otherwise classes are split at random. Images (PNG, JPEG, WebP) are cropped
    to a square around their centre, resized, and loaded once.

    Parameters
    ----------
    root : path of a folder or zip archive
    n_way : int, (int, int) or "varied", default=5
        Classes of a task; a pair for any number between the two, "varied" for Meta-Dataset's rule, see
        :class:`autometa.ClassEpisodes`.
    n_shot : int, (int, int) or "varied", default=1
        Support images per class; likewise.
    n_query : int, default=15
        Query images per class.
    size : int, default=32
        Height and width in pixels.
    color : {"rgb", "gray"}, default="rgb"
        Three channels or one.
    valid_fraction, test_fraction : float, default=0.2
        Parts of the classes held out where the folders do not say.
    split_seed : int, default=0
        Decides which.
    """

    def __init__(
        self,
        *,
        root: str | Path | None = None,
        n_way: int | tuple[int, int] | str = 5,
        n_shot: int | tuple[int, int] | str = 1,
        n_query: int = 15,
        size: int = 32,
        color: str = "rgb",
        valid_fraction: float = 0.2,
        test_fraction: float = 0.2,
        split_seed: int = 0,
    ) -> None:
        self.root = root
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query
        self.size = size
        self.color = color
        self.valid_fraction = valid_fraction
        self.test_fraction = test_fraction
        self.split_seed = split_seed

    def fingerprint(self) -> Hashable:
        """Names, sizes and times of the files."""
        return stamp(self._root())

    def content(self) -> dict[str, str]:
        """Digest of the images, whatever else lies beside them."""
        return {"root": am.content_of(self._root(), image_sources(self._root()))}

    def load(self) -> am.ClassImages:
        """Decode all images, [n_images, channels, size, size], uint8.

        Raises
        ------
        MissingData
            ``root`` is not there.
        InvalidData
            A corrupt image, a class in two splits, no class folders.
        """
        self._check()
        files = list_images(self._root())
        split_of, class_of = self._classes(files)
        names = sorted(set(class_of), key=lambda name: (am.SPLITS.index(split_of[name]), name))
        number = {name: i for i, name in enumerate(names)}
        splits: dict[Any, list[int]] = {split: [] for split in am.SPLITS}
        for name in names:
            splits[split_of[name]].append(number[name])
        return am.ClassImages(
            images=decode_all(files, self._decode),
            labels=torch.tensor([number[name] for name in class_of]),
            splits=splits,
            names=names,
        )

    def describe(self) -> dict[str, Any]:
        """Numbers of images and classes, and the names of the held-out classes."""
        held_out = {split: self.class_names(split) for split in ("valid", "test")}
        return {**super().describe(), "held out": held_out}

    def _root(self) -> Path:
        if self.root is None:
            raise am.InvalidParameter("root=None: give the path of a folder of class folders, or of a zip of one.")
        return Path(self.root).expanduser()

    def _check(self) -> None:
        am.check_int("size", self.size, of="task sampler 'images'")
        am.check_choice("color", self.color, ("rgb", "gray"), of="task sampler 'images'")
        for name in ("valid_fraction", "test_fraction"):
            am.check_real(name, getattr(self, name), above=0, below=1, of="task sampler 'images'")

    def _classes(self, files: list[ImageFile]) -> tuple[dict[str, str], list[str]]:
        """Split of every class, and class of every file."""
        if {_SPLIT_NAMES.get(file.parts[0]) for file in files} == set(am.SPLITS):
            return self._given_split(files)
        folders = [file.parts[:-1] for file in files]
        if not all(folders):
            alone = next(file for file in files if len(file.parts) == 1)
            raise am.InvalidData(
                f"image {alone.location!r} lies in no class folder; root={str(self.root)!r} needs them."
            )
        class_of = ["/".join(parts) for parts in folders]
        names = sorted(set(class_of))
        n_valid, n_test = (max(1, round(f * len(names))) for f in (self.valid_fraction, self.test_fraction))
        if len(names) - n_valid - n_test < 1:
            raise am.InvalidData(
                f"root={str(self.root)!r} has {len(names)} class folders, too few to hold out {n_valid} for "
                f"meta-valid and {n_test} for meta-test."
            )
        order = np.random.default_rng(am.derive_seed(self.split_seed, "classes")).permutation(len(names))
        parts = np.split(order, [len(names) - n_valid - n_test, len(names) - n_test])
        split_of: dict[str, str] = {}
        for split, part in zip(am.SPLITS, parts, strict=True):
            split_of.update({names[i]: split for i in part})
        return split_of, class_of

    def _given_split(self, files: list[ImageFile]) -> tuple[dict[str, str], list[str]]:
        split_of: dict[str, str] = {}
        class_of = []
        for file in files:
            split, name = _SPLIT_NAMES[file.parts[0]], "/".join(file.parts[1:-1])
            if not name:
                raise am.InvalidData(f"image {file.location!r} lies in no class folder of split {split!r}.")
            if split_of.setdefault(name, split) != split:
                raise am.InvalidData(f"class {name!r} stands in both {split_of[name]!r} and {split!r}; keep one.")
            class_of.append(name)
        return split_of, class_of

    def _decode(self, image: Image.Image) -> NDArray[np.uint8]:
        image = ImageOps.exif_transpose(image)
        if "A" in image.getbands() or "transparency" in image.info:
            opaque = Image.new("RGBA", image.size, "white")
            opaque.alpha_composite(image.convert("RGBA"))
            image = opaque
        image = image.convert("RGB" if self.color == "rgb" else "L")
        image = ImageOps.fit(image, (self.size, self.size), method=Image.Resampling.BILINEAR)
        pixels = np.asarray(image, dtype=np.uint8)
        return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))

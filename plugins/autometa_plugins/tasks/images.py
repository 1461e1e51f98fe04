"""Your own images: one folder for each class."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

import autometa as am
from autometa_plugins.tasks.image_files import MAX_BYTES, MAX_PIXELS, decode_all, image_sources, list_images, stamp
from autometa_plugins.tasks.image_splits import assign_splits, split_named

_DARK = 16
"""A sixteenth of white."""


class Images(am.ClassEpisodes):
    """Few-shot tasks over a folder of class folders, or zip archives of them.

    Folders or zip archives directly in ``root`` that are named ``train``, ``valid`` (or ``val``, ``validation``,
    ``dev``) and ``test``, in capitals or not, are the splits; ``background`` or ``base`` beside ``evaluation`` or
    ``novel`` mean ``train`` and ``test``. One that is missing is drawn from the classes of ``train``, and what lies
    beside them is left out with a warning. Without any, the classes are split at random, with a warning where two to
    four folders hold all class folders.

    Images (PNG, JPEG, WebP, GIF, BMP, TIFF, PNM, JPEG 2000, AVIF, TGA; of several in a file the first) are cropped to
    a square around their centre, resized, and loaded once. Symbolic links are followed.

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
        Parts of the meta-train classes held out for a split that no folder names.
    split_seed : int, default=0
        Decides which.
    bits : int, default=16
        Bits that grey images of 16 bits use: 12 where a camera or scanner stored 12-bit values in 16-bit files.
    max_pixels, max_bytes : int, default=50_000_000, 500_000_000
        Most pixels of an image and most bytes of a file, unpacked. A file that tells more is refused before it is
        decoded, for a few kilobytes may unpack to gigabytes.
    train_n_way, train_n_shot, train_shift, train_rotation, train_flip, train_erasing
        Of meta-training alone; see :class:`autometa.ClassEpisodes`.

    Notes
    -----
    Whatever the mode of an image, black becomes 0 and white 1: grey images of 16 bits are divided by 65535, floats
    must lie in [0, 1], transparent parts are laid on white, and of 16-bit colours the upper 8 bits are read. Few
    files tell that only 12 of their 16 bits are used (some TIFF files do), and such images come out nearly black:
    a warning names the largest value found where no image exceeds a sixteenth of white. The same is told of images
    of 8 bits, such as masks of 0 and 1.

    Folders without an image, and files of other suffixes in class folders, are told in a warning.
    """

    names_files: ClassVar[frozenset[str]] = frozenset({"root"})

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
        bits: int = 16,
        max_pixels: int = MAX_PIXELS,
        max_bytes: int = MAX_BYTES,
        train_n_way: int | tuple[int, int] | str | None = None,
        train_n_shot: int | tuple[int, int] | str | None = None,
        train_shift: float = 0.0,
        train_rotation: float = 0.0,
        train_flip: bool = False,
        train_erasing: float = 0.0,
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
        self.bits = bits
        self.max_pixels = max_pixels
        self.max_bytes = max_bytes
        self.train_n_way = train_n_way
        self.train_n_shot = train_n_shot
        self.train_shift = train_shift
        self.train_rotation = train_rotation
        self.train_flip = train_flip
        self.train_erasing = train_erasing

    @property
    def pixel_bits(self) -> int:
        """``bits``."""
        return self.bits

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
        root = self._root()
        files, class_of, split_of, drawn = assign_splits(
            list_images(root, keep=lambda name: split_named(name) is not None),
            str(self.root),
            {"valid": self.valid_fraction, "test": self.test_fraction},
            self.split_seed,
        )
        names = sorted(split_of, key=lambda name: (am.SPLITS.index(split_of[name]), name))
        number = {name: i for i, name in enumerate(names)}
        splits: dict[Any, list[int]] = {split: [] for split in am.SPLITS}
        for name in names:
            splits[split_of[name]].append(number[name])
        reader = am.PixelReader(self.color, bits=self.bits, max_pixels=self.max_pixels)
        peaks: list[int] = []
        decode = partial(self._decode, reader, peaks)
        images = decode_all(files, decode, max_pixels=self.max_pixels, max_bytes=self.max_bytes)
        reader.warn_if_dark(f"root={str(self.root)!r}", "give bits=... of task sampler 'images'")
        if not reader.peaks:
            self._warn_if_dark(max(peaks))
        return am.ClassImages(
            images=images,
            labels=torch.tensor([number[name] for name in class_of]),
            splits=splits,
            names=names,
            drawn=drawn,
        )

    def describe(self) -> dict[str, Any]:
        """Numbers of images and classes, and the names of the held-out classes."""
        held_out = {split: self.class_names(split) for split in ("valid", "test")}
        return {**super().describe(), "held out": held_out}

    def _root(self) -> Path:
        if self.root is None:
            raise am.InvalidParameter("root=None: give the path of a folder of class folders, or of a zip of one.")
        am.check_path("root", self.root, of="task sampler 'images'")
        return Path(self.root).expanduser()

    def _check(self) -> None:
        am.check_int("size", self.size, of="task sampler 'images'")
        am.check_int("split_seed", self.split_seed, least=0, of="task sampler 'images'")
        am.check_choice("color", self.color, ("rgb", "gray"), of="task sampler 'images'")
        am.check_int("bits", self.bits, least=8, most=16, of="task sampler 'images'")
        am.check_int("max_pixels", self.max_pixels, of="task sampler 'images'")
        am.check_int("max_bytes", self.max_bytes, of="task sampler 'images'")
        for name in ("valid_fraction", "test_fraction"):
            am.check_real(name, getattr(self, name), above=0, below=1, of="task sampler 'images'")

    def _warn_if_dark(self, brightest: int) -> None:
        """Warn if no image of 8 bits exceeds a sixteenth of white: masks of 0 and 1, or grey in few steps."""
        if 0 < brightest <= _DARK:
            am.warn_user(
                f"the largest value in the images of root={str(self.root)!r} is {brightest}, and white is 255: they "
                f"are nearly black. If {brightest} means white, write them again with their values times "
                f"{255 // brightest}."
            )

    def _decode(self, reader: am.PixelReader, peaks: list[int], image: Image.Image) -> NDArray[np.uint8]:
        image = reader.read(image)
        ends: Any = image.getextrema()
        peaks.append(max(high for _, high in (ends if image.mode == "RGB" else [ends])))
        image = ImageOps.fit(image, (self.size, self.size), method=Image.Resampling.BILINEAR)
        pixels = np.asarray(image, dtype=np.uint8)
        return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))

"""Handwritten characters of fifty alphabets."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

import autometa as am
from autometa_plugins.tasks.image_cache import default_cache
from autometa_plugins.tasks.omniglot_files import PARTS, characters, find_root, fingerprint, omniglot_sources

_VINYALS = {"train": "train.txt", "valid": "val.txt", "test": "test.txt"}
_N_VALID_ALPHABETS, _N_VALID_CHARACTERS, _N_TEST_CHARACTERS = 5, 100, 423
_ANGLES = ("rot000", "rot090", "rot180", "rot270")


class Omniglot(am.ClassEpisodes):
    """1,623 characters, each drawn by 20 people (Lake et al. 2015), as 28 x 28 images with ink 1 on paper 0.

    Parameters
    ----------
    root : path, optional
        Folder with the official ``images_background.zip`` and ``images_evaluation.zip``, or both unpacked.
        Without it, ``omniglot`` in the folder named by the variable ``AUTOMETA_DATA``, then in ``cache``.
    n_way : int, (int, int) or "varied", default=5
        Classes of a task; a pair for any number between the two, "varied" for Meta-Dataset's rule, see
        :class:`autometa.ClassEpisodes`.
    n_shot : int, (int, int) or "varied", default=1
        Support images per class; likewise.
    n_query : int, default=15
        Query images per class; ``n_shot + n_query`` is at most 20.
    split : {"vinyals", "alphabet", "random"}, default="vinyals"
        - "vinyals": the lists of Vinyals et al. 2016 in ``splits/vinyals/{train,val,test}.txt`` under ``root``
          (1,028 / 172 / 423 characters).
        - "alphabet": meta-test on the 20 alphabets of the evaluation set, meta-valid on 5 of the other 30.
        - "random": 1,100 / 100 / 423 characters at random.
    rotations : bool, default=True
        Whether a character turned by 90, 180 and 270 degrees is three further classes (Santoro et al. 2016).
    within_alphabet : bool, default=False
        Whether all classes of a task are of one alphabet, each alphabet equally likely that has enough of them in the
        split. An alphabet turned by 90, 180 or 270 degrees is a further one. With ``n_way="varied"`` and
        ``n_shot="varied"`` these are the Omniglot tasks of Meta-Dataset.
    split_seed : int, default=0
        Decides what "alphabet" and "random" hold out.
    download : bool, default=False
        Whether to fetch what is missing from the official addresses.
    cache : path, optional
        Where decoded images are kept (27 MB); default is ``autometa`` in the user's cache folder.
    train_n_way, train_n_shot, train_shift, train_rotation, train_flip, train_erasing
        Of meta-training alone; see :class:`autometa.ClassEpisodes`.
    """

    names_files: ClassVar[frozenset[str]] = frozenset({"root"})

    def __init__(
        self,
        *,
        root: str | Path | None = None,
        n_way: int | tuple[int, int] | str = 5,
        n_shot: int | tuple[int, int] | str = 1,
        n_query: int = 15,
        split: str = "vinyals",
        rotations: bool = True,
        within_alphabet: bool = False,
        split_seed: int = 0,
        download: bool = False,
        cache: str | Path | None = None,
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
        self.split = split
        self.rotations = rotations
        self.within_alphabet = within_alphabet
        self.split_seed = split_seed
        self.download = download
        self.cache = cache
        self.train_n_way = train_n_way
        self.train_n_shot = train_n_shot
        self.train_shift = train_shift
        self.train_rotation = train_rotation
        self.train_flip = train_flip
        self.train_erasing = train_erasing

    def fingerprint(self) -> Hashable:
        """Where the data lie, and times of their files."""
        root = self._root()
        return str(root), fingerprint(root)

    def content(self) -> dict[str, str]:
        """Digest of the drawings, and of the lists of the split."""
        root = self._root()
        lists = [f"splits/vinyals/{name}" for name in _VINYALS.values()] if self.split == "vinyals" else []
        return {"root": am.content_of(root, omniglot_sources(root, lists))}

    def load(self) -> am.ClassImages:
        """All drawings, and their rotations where asked for, uint8.

        Raises
        ------
        MissingData
            Images or split files are not there.
        """
        am.check_choice("split", self.split, ("vinyals", "alphabet", "random"), of="task sampler 'omniglot'")
        images, names, parts = characters(self._root(), self._cache())
        classes = sorted(set(names))
        number = {name: i for i, name in enumerate(classes)}
        labels = torch.tensor([number[name] for name in names])
        part_of = dict(zip(names, parts, strict=True))
        split_of = self._vinyals() if self.split == "vinyals" else self._drawn(classes, part_of)
        if self.rotations:
            images, labels = _with_rotations(images, labels)
        angles = _ANGLES if self.rotations else _ANGLES[:1]
        turned = [f"{name}/{angle}" for name in classes for angle in angles]
        splits: dict[Any, list[int]] = {s: [] for s in am.SPLITS}
        for i, name in enumerate(turned):
            if name in split_of:
                splits[split_of[name]].append(i)
        groups = [_alphabet(name) for name in turned] if self.within_alphabet else ()
        return am.ClassImages(images=images, labels=labels, splits=splits, names=turned, groups=groups)

    def describe(self) -> dict[str, Any]:
        """Numbers of images and classes, and the alphabets that meta-test draws from."""
        alphabets = sorted({name.split("/")[0] for name in self.class_names("test")})
        return {**super().describe(), "split": self.split, "meta-test alphabets": alphabets}

    def _cache(self) -> Path:
        am.check_path("cache", self.cache, also=(None,), of="task sampler 'omniglot'")
        return default_cache() if self.cache is None else Path(self.cache).expanduser()

    def _root(self) -> Path:
        for name in ("rotations", "within_alphabet", "download"):
            am.check_bool(name, getattr(self, name), of="task sampler 'omniglot'")
        return find_root(self.root, self._cache(), self.download)

    def _vinyals(self) -> dict[str, str]:
        folder = self._root() / "splits" / "vinyals"
        split_of = {}
        for split, name in _VINYALS.items():
            path = folder / name
            if not path.is_file():
                raise am.MissingData(
                    f"split='vinyals' needs {str(path)!r} (from github.com/jakesnell/prototypical-networks, folder "
                    "data/omniglot/splits/vinyals); use split='alphabet' or split='random' without it."
                )
            split_of.update(dict.fromkeys(path.read_text().split(), split))
        return split_of

    def _drawn(self, classes: list[str], part_of: dict[str, str]) -> dict[str, str]:
        """Split of every class, by whole alphabets or by single characters."""
        am.check_int("split_seed", self.split_seed, least=0, of="task sampler 'omniglot'")
        generator = np.random.default_rng(am.derive_seed(self.split_seed, self.split))
        if self.split == "alphabet":
            test = {name for name in classes if part_of[name] == PARTS[1]}
            alphabets = sorted({name.split("/")[0] for name in classes if name not in test})
            held = {alphabets[i] for i in generator.permutation(len(alphabets))[:_N_VALID_ALPHABETS]}
            valid = {name for name in classes if name not in test and name.split("/")[0] in held}
        else:
            shuffled = [classes[i] for i in generator.permutation(len(classes))]
            n_test = round(len(classes) * _N_TEST_CHARACTERS / 1623)
            test = set(shuffled[:n_test])
            valid = set(shuffled[n_test : n_test + round(len(classes) * _N_VALID_CHARACTERS / 1623)])
        split_of = {name: "test" if name in test else "valid" if name in valid else "train" for name in classes}
        return {f"{name}/{angle}": split for name, split in split_of.items() for angle in _ANGLES}


def _alphabet(name: str) -> str:
    """Alphabet and angle of a class named ``Alphabet/character/angle``."""
    parts = name.split("/")
    return f"{parts[0]}/{parts[-1]}"


def _with_rotations(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Every image turned counter-clockwise by 0, 90, 180 and 270 degrees, classes 4 c, 4 c + 1, ..."""
    turned = torch.cat([torch.rot90(images, k, dims=(2, 3)) for k in range(4)])
    return turned, torch.cat([4 * labels + k for k in range(4)])

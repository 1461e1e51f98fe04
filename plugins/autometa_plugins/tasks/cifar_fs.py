"""CIFAR-FS: CIFAR-100 for few-shot learning."""

from __future__ import annotations

import os
from collections.abc import Hashable
from pathlib import Path
from typing import Any, ClassVar

import torch

import autometa as am
from autometa_plugins.tasks.image_cache import Facts, default_cache, digest, kept
from autometa_plugins.tasks.image_files import image_sources, stamp
from autometa_plugins.tasks.images import Images

SIZE = 32
_PARTS = (("train",), ("val", "valid", "validation"), ("test",))


class CifarFS(am.ClassEpisodes):
    """CIFAR-100's 60,000 colour images of 32 x 32 pixels, split by class into 64 / 16 / 20 (Bertinetto et al. 2019).

    Images are given as they are, in [0, 1]; nothing is normalized or augmented.

    Parameters
    ----------
    root : path, optional
        Folder with ``train``, ``val`` and ``test``, as zip archives or folders of class folders. Without it,
        ``cifar_fs`` in the folder named by the variable ``AUTOMETA_DATA``, then in ``cache``.
    n_way : int, (int, int) or "varied", default=5
        Classes of a task; a pair for any number between the two, "varied" for Meta-Dataset's rule, see
        :class:`autometa.ClassEpisodes`.
    n_shot : int, (int, int) or "varied", default=1
        Support images per class; likewise.
    n_query : int, default=15
        Query images per class.
    cache : path, optional
        Where decoded images are kept (184 MB); default is ``autometa`` in the user's cache folder.
    train_n_way, train_n_shot, train_shift, train_rotation, train_flip, train_erasing
        Of meta-training alone; see :class:`autometa.ClassEpisodes`.

    References
    ----------
    L. Bertinetto, J. Henriques, P. Torr, A. Vedaldi: Meta-learning with differentiable closed-form solvers. ICLR 2019,
    section 4.1.
    """

    names_files: ClassVar[frozenset[str]] = frozenset({"root"})

    def __init__(
        self,
        *,
        root: str | Path | None = None,
        n_way: int | tuple[int, int] | str = 5,
        n_shot: int | tuple[int, int] | str = 1,
        n_query: int = 15,
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
        return str(root), stamp(root)

    def content(self) -> dict[str, str]:
        """Digest of the images, whatever else lies beside them."""
        return {"root": am.content_of(self._root(), image_sources(self._root()))}

    def load(self) -> am.ClassImages:
        """All images, [n_images, 3, 32, 32], uint8.

        Raises
        ------
        MissingData
            The folder is not there.
        InvalidData
            An image is corrupt, or a class stands in two splits.
        """
        root = self._root()
        images, facts = kept(self._cache() / f"cifar-fs-{digest(stamp(root))}.safetensors", lambda: _decode(root))
        return am.ClassImages(
            images=images, labels=torch.tensor(facts["labels"]), splits=facts["splits"], names=facts["names"]
        )

    def describe(self) -> dict[str, Any]:
        """Numbers of images and classes, and the names of the held-out classes."""
        held_out = {split: self.class_names(split) for split in ("valid", "test")}
        return {**super().describe(), "held out": held_out}

    def _cache(self) -> Path:
        am.check_path("cache", self.cache, also=(None,), of="task sampler 'cifar_fs'")
        return default_cache() if self.cache is None else Path(self.cache).expanduser()

    def _root(self) -> Path:
        if self.root is not None:
            am.check_path("root", self.root, of="task sampler 'cifar_fs'")
            places = [Path(self.root).expanduser()]
        else:
            data = os.environ.get("AUTOMETA_DATA")
            places = [*([Path(data).expanduser() / "cifar_fs"] if data else []), self._cache() / "cifar_fs"]
        for place in places:
            if all(any(path.exists() for name in names for path in _forms(place, name)) for names in _PARTS):
                return place
        raise am.MissingData(
            f"CIFAR-FS is not in {', '.join(repr(str(place)) for place in places)}: give as root the folder that holds "
            "train, val and test, as zip archives or folders of class folders. The split is listed at "
            "github.com/bertinetto/r2d2; the images are those of CIFAR-100 (cs.toronto.edu/~kriz/cifar.html)."
        )


def _forms(place: Path, name: str) -> tuple[Path, Path]:
    return place / name, place / f"{name}.zip"


def _decode(root: Path) -> tuple[torch.Tensor, Facts]:
    data = Images(root=root, size=SIZE).load()
    splits = {split: list(classes) for split, classes in data.splits.items()}
    return data.images, {"labels": data.labels.tolist(), "splits": splits, "names": list(data.names)}

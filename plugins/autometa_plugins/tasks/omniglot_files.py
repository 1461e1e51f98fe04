"""Omniglot's files: where they are looked for, how they are fetched, and the tensor they become."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import autometa as am
from autometa_plugins.tasks.image_cache import Facts, digest, kept
from autometa_plugins.tasks.image_files import decode_all, image_sources, list_images, stamp

PARTS = ("images_background", "images_evaluation")
SIZE = 28
_LAKE = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
_SNELL = "https://raw.githubusercontent.com/jakesnell/prototypical-networks/master/data/omniglot/splits/vinyals"
DOWNLOADS = {
    "images_background.zip": (f"{_LAKE}/images_background.zip", "68d2efa1b9178cc56df9314c21c6e718"),
    "images_evaluation.zip": (f"{_LAKE}/images_evaluation.zip", "6b91aef0f799c5bb55b94e3f2daec811"),
    "all_runs.zip": (f"{_LAKE}/one-shot-classification/all_runs.zip", "e8996daecdf12afeeb4a53a179f06b19"),
    "splits/vinyals/train.txt": (f"{_SNELL}/train.txt", "433d1fcc2b20dcee2983ceb524586f7f"),
    "splits/vinyals/val.txt": (f"{_SNELL}/val.txt", "78c535fa427b12b6596908376a0b3f34"),
    "splits/vinyals/test.txt": (f"{_SNELL}/test.txt", "43534e6d5f9e74acbb7de1b4874abad8"),
}
"""Address and MD5 of the official archives, and of the split files that repeat Vinyals et al. 2016."""


def find_root(root: str | Path | None, cache: Path, download: bool) -> Path:
    """The folder that holds both archives, or both unpacked.

    ``root`` alone where it is given; else ``omniglot`` in the folder that the variable ``AUTOMETA_DATA`` names, or
    in ``cache``.

    Raises
    ------
    MissingData
        The data are not there; the message says how to get them.
    """
    if root is not None:
        am.check_path("root", root, of="a task sampler on Omniglot")
        places = [Path(root).expanduser()]
    else:
        data = os.environ.get("AUTOMETA_DATA")
        places = [*([Path(data).expanduser() / "omniglot"] if data else []), cache / "omniglot"]
    for place in places:
        if all(_part(place, part) for part in PARTS):
            return place
    if download:
        fetch(places[-1])
        return places[-1]
    raise am.MissingData(
        f"Omniglot is not in {', '.join(repr(str(place)) for place in places)}: give as root the folder that holds "
        "images_background.zip and images_evaluation.zip (from github.com/brendenlake/omniglot, folder python), or "
        "both unpacked; or let download=True fetch them."
    )


def fetch(folder: Path) -> None:
    """Download what is not yet in ``folder`` and check its MD5.

    Raises
    ------
    MissingData
        An address cannot be reached, or what came is not the official file.
    """
    for name, (address, md5) in DOWNLOADS.items():
        path = folder / name
        if path.exists():
            continue
        try:
            with urlopen(address, timeout=60) as response:
                content = response.read()
        except URLError as error:
            raise am.MissingData(f"{address} cannot be fetched: {error.reason}; download it to {path}.") from error
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != md5:
            raise am.MissingData(f"{address} sent a file with MD5 {found} instead of {md5}; try again.")
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, content)


def fingerprint(root: Path) -> str:
    """Changes when the archives or folders of images do."""
    return digest(*(stamp(place) for part in PARTS if (place := _part(root, part))))


def omniglot_sources(root: Path, others: Iterable[str] = ()) -> list[Path]:
    """Return the files that drawings are read from, and ``others`` of the root that exist."""
    parts = [place for part in PARTS if (place := _part(root, part)) is not None]
    images = [path for place in parts for path in image_sources(place)]
    return [*images, *(path for name in others if (path := root / name).is_file())]


def characters(root: Path, cache: Path) -> tuple[Tensor, list[str], list[str]]:
    """All drawings, decoded once and kept in ``cache``.

    Returns
    -------
    images : Tensor of shape [n, 1, 28, 28], uint8
        Ink 255 on paper 0, sorted by name.
    names : list of str
        ``Alphabet/character`` of every image.
    parts : list of str
        "images_background" or "images_evaluation" of every image.
    """
    stored = cache / f"omniglot-{SIZE}-{fingerprint(root)}.safetensors"
    images, facts = kept(stored, lambda: _decode_parts(root))
    return images, facts["names"], facts["parts"]


def _part(root: Path, part: str) -> Path | None:
    return next((path for path in (root / f"{part}.zip", root / part) if path.exists()), None)


def _decode_parts(root: Path) -> tuple[Tensor, Facts]:
    files = []
    for part in PARTS:
        place = _part(root, part)
        if place is None:
            raise am.MissingData(f"{part}.zip is not in {str(root)!r}.")
        files += [("/".join(file.parts[:-1]), part, file) for file in list_images(place)]
    files.sort(key=lambda entry: (entry[0], entry[2].parts))
    images = decode_all([file for *_, file in files], shrink)
    return images, {"names": [name for name, *_ in files], "parts": [part for _, part, _ in files]}


def shrink(image: Image.Image) -> NDArray[np.uint8]:
    """A drawing as [1, 28, 28], ink 255 on paper 0."""
    small = image.convert("L").resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    return 255 - np.asarray(small, dtype=np.uint8)[None]


def _replace(path: Path, content: bytes) -> None:
    """Write a temporary file and rename it, so that no reader finds half a file."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)

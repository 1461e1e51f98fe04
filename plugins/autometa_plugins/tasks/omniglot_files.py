"""Omniglot's files: where they are looked for, how they are fetched, and the tensor they become."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
import zlib
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import autometa as am
from autometa_plugins.tasks.image_files import decode_all, list_images, stamp

PARTS = ("images_background", "images_evaluation")
SIZE = 28
_LAKE = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
_SNELL = "https://raw.githubusercontent.com/jakesnell/prototypical-networks/master/data/omniglot/splits/vinyals"
DOWNLOADS = {
    "images_background.zip": (f"{_LAKE}/images_background.zip", "68d2efa1b9178cc56df9314c21c6e718"),
    "images_evaluation.zip": (f"{_LAKE}/images_evaluation.zip", "6b91aef0f799c5bb55b94e3f2daec811"),
    "splits/vinyals/train.txt": (f"{_SNELL}/train.txt", "433d1fcc2b20dcee2983ceb524586f7f"),
    "splits/vinyals/val.txt": (f"{_SNELL}/val.txt", "78c535fa427b12b6596908376a0b3f34"),
    "splits/vinyals/test.txt": (f"{_SNELL}/test.txt", "43534e6d5f9e74acbb7de1b4874abad8"),
}
"""Address and MD5 of the official archives, and of the split files that repeat Vinyals et al. 2016."""


def default_cache() -> Path:
    """``autometa`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autometa"


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
        places = [Path(root).expanduser()]
    else:
        data = os.environ.get("AUTOMETA_DATA")
        places = [*([Path(data) / "omniglot"] if data else []), cache / "omniglot"]
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
    stamps = [stamp(place) for part in PARTS if (place := _part(root, part))]
    return hashlib.blake2b(repr(stamps).encode(), digest_size=8).hexdigest()


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
    if stored.exists():
        try:
            return _read(stored)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            warnings.warn(f"the cached images {str(stored)!r} are corrupt ({error}) and built anew.", stacklevel=2)
    images, names, parts = _decode_parts(root)
    try:
        _write(stored, images, names, parts)
    except OSError as error:
        warnings.warn(f"images cannot be cached in {str(cache)!r}: {error}", stacklevel=2)
    return images, names, parts


def _part(root: Path, part: str) -> Path | None:
    return next((path for path in (root / f"{part}.zip", root / part) if path.exists()), None)


def _decode_parts(root: Path) -> tuple[Tensor, list[str], list[str]]:
    files = []
    for part in PARTS:
        place = _part(root, part)
        if place is None:
            raise am.MissingData(f"{part}.zip is not in {str(root)!r}.")
        files += [("/".join(file.parts[:-1]), part, file) for file in list_images(place)]
    files.sort(key=lambda entry: (entry[0], entry[2].parts))
    return decode_all([file for *_, file in files], _shrink), [f[0] for f in files], [f[1] for f in files]


def _shrink(image: Image.Image) -> NDArray[np.uint8]:
    small = image.convert("L").resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    return 255 - np.asarray(small, dtype=np.uint8)[None]


def _read(path: Path) -> tuple[Tensor, list[str], list[str]]:
    with safe_open(path, framework="pt") as file:
        images, metadata = file.get_tensor("images"), file.metadata()
    if zlib.crc32(images.numpy().tobytes()) != int(metadata["crc32"]):
        raise ValueError("checksum does not match")
    return images, json.loads(metadata["names"]), json.loads(metadata["parts"])


def _write(path: Path, images: Tensor, names: list[str], parts: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"names": json.dumps(names), "parts": json.dumps(parts)}
    metadata["crc32"] = str(zlib.crc32(images.numpy().tobytes()))
    part = path.with_name(f"{path.name}.{os.getpid()}")
    save_file({"images": images}, part, metadata)
    part.replace(path)


def _replace(path: Path, content: bytes) -> None:
    """Write a file in one step, so that no half of it is ever found."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)

"""Image files in folders and zip archives, listed without unpacking and decoded by several threads."""

from __future__ import annotations

import os
import threading
import zipfile
import zlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import autometa as am

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image.

    Parameters
    ----------
    parts : tuple of str
        Folders below the root and the file's name; an archive counts as a folder named without ``.zip``.
    location : str
        The path, for messages.
    read : callable
        Returns the file's bytes.
    """

    parts: tuple[str, ...]
    location: str
    read: Callable[[], bytes]


def list_images(root: Path) -> list[ImageFile]:
    """All images below a folder or in a zip archive, and in the archives that lie directly in the folder, sorted.

    Hidden files and folders and those of ``__MACOSX`` are left out, and so is a folder around all others.

    Raises
    ------
    MissingData
        ``root`` does not exist.
    InvalidData
        An archive cannot be read, or there is no image.
    """
    if not root.exists():
        raise am.MissingData(f"root={str(root)!r} does not exist; give a folder of class folders, or a zip of one.")
    files = list(_walk(root)) if root.is_dir() else list(_members(root, ()))
    if not files:
        raise am.InvalidData(f"root={str(root)!r} holds no image ({', '.join(sorted(SUFFIXES))}).")
    while len({file.parts[0] for file in files}) == 1 and all(len(file.parts) > 2 for file in files):
        files = [replace(file, parts=file.parts[1:]) for file in files]
    return sorted(files, key=lambda file: file.parts)


def stamp(root: Path) -> Hashable:
    """What changes when files below ``root`` do: names, sizes and times."""
    paths = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else [root]
    states = [(path, path.stat()) for path in paths if path.exists()]
    return tuple((str(path), state.st_size, state.st_mtime_ns) for path, state in states)


def image_sources(root: Path) -> Iterator[Path]:
    """Return the files below ``root`` that images are read from, archives whole; links to folders are followed."""
    if not root.is_dir():
        yield root
        return
    for folder, below, names in os.walk(root, followlinks=True):
        below[:] = [name for name in below if not _encloses(Path(folder, name), Path(folder))]
        for name in names:
            path = Path(folder, name)
            parts = path.relative_to(root).parts
            if _is_image(parts) or (len(parts) == 1 and path.suffix.lower() == ".zip"):
                yield path


def _encloses(place: Path, folder: Path) -> bool:
    """Tell whether a link leads to the folder it lies in, or to one above."""
    return place.is_symlink() and folder.resolve().is_relative_to(place.resolve())


def decode_all(files: Sequence[ImageFile], decode: Callable[[Image.Image], NDArray[np.uint8]]) -> Tensor:
    """Decode files to one uint8 tensor [n, channels, height, width].

    Parameters
    ----------
    files : sequence of ImageFile
    decode : callable
        From an open image to an array [channels, height, width], the same shape for every image.

    Raises
    ------
    InvalidData
        A file is corrupt; the message names it.
    """
    first = _decode(files[0], decode)
    images = np.empty((len(files), *first.shape), dtype=np.uint8)

    def put(index: int) -> None:
        images[index] = _decode(files[index], decode)

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as threads:
        for _ in threads.map(put, range(len(files))):
            pass  # an error in a thread is raised here
    return torch.from_numpy(images)


def _decode(file: ImageFile, decode: Callable[[Image.Image], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    try:
        with Image.open(BytesIO(file.read())) as image:
            image.load()
            return decode(image)
    except (OSError, SyntaxError, ValueError, zipfile.BadZipFile, zlib.error, Image.DecompressionBombError) as error:
        raise am.InvalidData(f"image {file.location!r} cannot be decoded: {error}; repair or remove it.") from error


def _is_image(parts: Sequence[str]) -> bool:
    visible = not any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return visible and Path(parts[-1]).suffix.lower() in SUFFIXES


def _walk(root: Path) -> Iterator[ImageFile]:
    for path in root.rglob("*"):
        parts = path.relative_to(root).parts
        if len(parts) == 1 and path.suffix.lower() == ".zip":
            yield from _members(path, (path.stem,))
        elif _is_image(parts) and path.is_file():
            yield ImageFile(parts, str(path), path.read_bytes)


def _members(archive: Path, above: tuple[str, ...]) -> Iterator[ImageFile]:
    """Images in an archive; a single folder that only repeats the archive's name is left out."""
    try:
        opened = zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, OSError) as error:
        raise am.InvalidData(f"archive {str(archive)!r} cannot be read: {error}") from error
    lock = threading.Lock()

    def read(name: str) -> bytes:
        with lock:
            return opened.read(name)

    names = [name for name in opened.namelist() if not name.endswith("/") and _is_image(name.split("/"))]
    repeats = all(name.split("/")[0] == archive.stem for name in names)
    for name in names:
        parts = tuple(name.split("/"))
        yield ImageFile((*above, *parts[repeats:]), f"{archive}:{name}", partial(read, name))

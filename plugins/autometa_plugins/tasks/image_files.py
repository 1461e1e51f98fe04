"""Image files in folders and zip archives, listed without unpacking and decoded by several threads."""

from __future__ import annotations

import os
import struct
import threading
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import autometa as am
from autometa_plugins.tasks.file_tree import COMPANIONS, walk

SUFFIXES = frozenset(
    {".apng", ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx", ".pbm", ".pfm"}
    | {".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"}
)
"""Names of files that are read; of an animation the first picture, of a TIFF file the first page."""


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


@dataclass(slots=True)
class _Found:
    """Parts of what lies below a root, hidden things left out."""

    images: list[ImageFile] = field(default_factory=list)
    unread: list[tuple[str, ...]] = field(default_factory=list)
    """Files of other suffixes."""
    folders: set[tuple[str, ...]] = field(default_factory=set)


def list_images(root: Path, keep: Callable[[str], bool] = lambda name: False) -> list[ImageFile]:
    """All images below a folder or in a zip archive, and in the archives that lie directly in the folder, sorted.

    Symbolic links are followed. Hidden files and folders and those of ``__MACOSX`` are left out, and so is a folder
    around all others. Folders without an image, and files of other suffixes, are told in one warning.

    Parameters
    ----------
    root : Path
    keep : callable, optional
        True for the name of a folder that means something even if it is around all others.

    Raises
    ------
    MissingData
        ``root`` does not exist.
    InvalidData
        An archive or folder cannot be read, a link leads nowhere or in a circle, an image is there twice, or there is
        none.
    """
    if not root.exists():
        raise am.MissingData(f"root={str(root)!r} does not exist; give a folder of class folders, or a zip of one.")
    found = _Found()
    if root.is_dir():
        _walk(root, found)
    else:
        _members(root, (), found)
    files = sorted(found.images, key=lambda file: file.parts)
    if not files:
        lost = f"; it holds {_counts(found.unread)}" if found.unread else ""
        raise am.InvalidData(f"root={str(root)!r} holds no image ({', '.join(sorted(SUFFIXES))}){lost}.")
    for one, other in pairwise(files):
        if one.parts == other.parts:
            raise am.InvalidData(
                f"{'/'.join(one.parts)!r} is there twice, as {one.location!r} and {other.location!r}; keep one."
            )
    _warn_of_unread(root, found)
    while _is_around(files) and not keep(files[0].parts[0]):
        files = [replace(file, parts=file.parts[1:]) for file in files]
    return files


def _is_around(files: Sequence[ImageFile]) -> bool:
    """True if one folder holds all others."""
    return len({file.parts[0] for file in files}) == 1 and all(len(file.parts) > 2 for file in files)


def _warn_of_unread(root: Path, found: _Found) -> None:
    """Tell in one warning which folders hold no image, and which files in class folders are not read."""
    used = {file.parts[:n] for file in found.images for n in range(len(file.parts))}
    holding = {parts[:-1] for parts in found.unread}
    parents = {folder[:-1] for folder in found.folders}
    lost = sorted(folder for folder in found.folders - used if folder in holding or folder not in parents)
    unread = [
        parts
        for parts in found.unread
        if len(parts) > 1 and (parts[:-1] not in used or _suffix(parts) not in COMPANIONS)
    ]
    told = []
    if lost:
        names = ", ".join(repr("/".join(folder)) for folder in lost[:_MOST_NAMED])
        more = f" and {len(lost) - _MOST_NAMED} more" if len(lost) > _MOST_NAMED else ""
        told.append(f"folders without an image that can be read are left out ({len(lost)}): {names}{more}")
    if unread:
        told.append(f"files that are not read: {_counts(unread)}; read are {', '.join(sorted(SUFFIXES))}")
    if told:
        warnings.warn(f"root={str(root)!r}: {'; '.join(told)}.", stacklevel=2)


_MOST_NAMED = 10
"""Folders that a warning names."""


def _counts(unread: Sequence[tuple[str, ...]]) -> str:
    """Numbers of files by suffix, such as "12 .heic, 3 without suffix"."""
    counts = Counter(map(_suffix, unread)).most_common()
    return ", ".join(f"{number} {suffix or 'without suffix'}" for suffix, number in counts)


def _suffix(parts: Sequence[str]) -> str:
    return Path(parts[-1]).suffix.lower()


def stamp(root: Path) -> Hashable:
    """What changes when files below ``root`` do: names, sizes and times."""
    paths = sorted(path for path, is_folder in walk(root) if not is_folder) if root.is_dir() else [root]
    states = [(path, path.stat()) for path in paths if path.exists()]
    return tuple((str(path), state.st_size, state.st_mtime_ns) for path, state in states)


def image_sources(root: Path) -> Iterator[Path]:
    """Return the files that :func:`list_images` reads, archives whole."""
    if not root.is_dir():
        yield root
        return
    for path, is_folder in walk(root):
        parts = path.relative_to(root).parts
        is_archive = len(parts) == 1 and _suffix(parts) == ".zip"
        if not is_folder and _is_visible(parts) and (is_archive or _suffix(parts) in SUFFIXES) and path.is_file():
            yield path


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
    except am.InvalidData as error:
        raise am.InvalidData(f"image {file.location!r} cannot be used: {error}.") from error
    except _BROKEN as error:
        raise am.InvalidData(f"image {file.location!r} cannot be decoded: {error}; repair or remove it.") from error


_BROKEN = (
    *(OSError, EOFError, SyntaxError, ValueError, IndexError, struct.error),
    *(zipfile.BadZipFile, zlib.error, Image.DecompressionBombError),
)
"""What Pillow and archives raise for damaged data."""


def _is_visible(parts: Sequence[str]) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _walk(root: Path, found: _Found) -> None:
    for path, is_folder in walk(root):
        parts = path.relative_to(root).parts
        if not _is_visible(parts):
            continue
        if is_folder:
            found.folders.add(parts)
        elif len(parts) == 1 and _suffix(parts) == ".zip":
            _members(path, (path.stem,), found)
        elif _suffix(parts) not in SUFFIXES:
            found.unread.append(parts)
        elif path.is_file():
            found.images.append(ImageFile(parts, str(path), path.read_bytes))


def _members(archive: Path, above: tuple[str, ...], found: _Found) -> None:
    """Find what is in an archive; a single folder that only repeats the archive's name is left out."""
    try:
        opened = zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, OSError) as error:
        raise am.InvalidData(f"archive {str(archive)!r} cannot be read: {error}") from error
    if above:
        found.folders.add(above)
    lock = threading.Lock()

    def read(name: str) -> bytes:
        with lock:
            return opened.read(name)

    names = [name for name in opened.namelist() if _is_visible(name.strip("/").split("/"))]
    images = [name for name in names if not name.endswith("/") and _suffix(name.split("/")) in SUFFIXES]
    stem = archive.stem.lower()
    repeats = all(name.split("/")[0].lower() == stem for name in images)
    for name in names:
        members = tuple(name.strip("/").split("/"))
        parts = (*above, *members[repeats and members[0].lower() == stem :])
        if name.endswith("/"):
            found.folders.add(parts)
            continue
        found.folders.update(parts[:n] for n in range(1, len(parts)))
        if _suffix(parts) in SUFFIXES:
            found.images.append(ImageFile(parts, f"{archive}:{name}", partial(read, name)))
        else:
            found.unread.append(parts)

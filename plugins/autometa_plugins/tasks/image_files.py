"""Image files in folders and zip archives, listed without unpacking and decoded by several threads."""

from __future__ import annotations

import lzma
import os
import struct
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

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

MAX_PIXELS = 50_000_000
MAX_BYTES = 500_000_000
_ORDINARY = 2**25
"""Bytes of a file, or pixels of an image, from which on files are decoded one at a time."""
_ENCRYPTED = 1
"""Bit of a zip member's flags."""


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
    size : callable
        Returns how many there are, without reading them.
    """

    parts: tuple[str, ...]
    location: str
    read: Callable[[], bytes]
    size: Callable[[], int]


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
    around all others. Folders without an image, and files of other suffixes in class folders, are told in one warning.

    Parameters
    ----------
    root : Path
    keep : callable, optional
        True for the name of a folder that means something even if it is around all others.

    Raises
    ------
    MissingData
        ``root`` does not exist, or something in it may not be read.
    InvalidData
        An archive or folder cannot be read, a link leads nowhere or in a circle, an image is there twice, or there is
        none.
    """
    found = _Found()
    try:
        if not root.exists():
            raise am.MissingData(f"root={str(root)!r} does not exist; give a folder of class folders, or a zip of one.")
        if root.is_dir():
            _walk(root, found)
        else:
            _members(root, (), found)
    except PermissionError as error:
        raise am.MissingData(f"{str(error.filename)!r} cannot be read: {error.strerror}.") from error
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
    classes = {file.parts[:-1] for file in found.images}
    holding = {parts[:-1] for parts in found.unread}
    parents = {folder[:-1] for folder in found.folders}
    lost = sorted(folder for folder in found.folders - used if folder in holding or folder not in parents)
    unread = sorted(
        parts
        for parts in found.unread
        if len(parts) > 1
        and parts[-1].lower() not in _OF_SYSTEMS
        and (parts[:-1] in classes or parts[:-1] not in used or _suffix(parts) not in COMPANIONS)
    )
    told = []
    if lost:
        names = ", ".join(repr("/".join(folder)) for folder in lost[:_MOST_NAMED])
        more = f" and {len(lost) - _MOST_NAMED} more" if len(lost) > _MOST_NAMED else ""
        told.append(f"folders without an image that can be read are left out ({len(lost)}): {names}{more}")
    if unread:
        first = "/".join(unread[0])
        told.append(
            f"files that are not read: {_counts(unread)}, the first of them {first!r}; read are "
            f"{', '.join(sorted(SUFFIXES))}"
        )
    if told:
        am.warn_user(f"root={str(root)!r}: {'; '.join(told)}.")


_OF_SYSTEMS = ("thumbs.db", "desktop.ini")
"""Files that Windows leaves in folders of images."""

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


def decode_all(
    files: Sequence[ImageFile],
    decode: Callable[[Image.Image], NDArray[np.uint8]],
    *,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
) -> Tensor:
    """Decode files to one uint8 tensor [n, channels, height, width].

    Parameters
    ----------
    files : sequence of ImageFile
    decode : callable
        From an open image to an array [channels, height, width], the same shape for every image.
    max_pixels, max_bytes : int
        Most pixels of an image and most bytes of a file, as their headers tell before anything is decoded.

    Raises
    ------
    InvalidData
        A file is corrupt, or larger than allowed; the message names it.
    """
    limits = _Limits(max_pixels, max_bytes)
    first = _decode(files[0], decode, limits)
    images = np.empty((len(files), *first.shape), dtype=np.uint8)

    def put(index: int) -> None:
        images[index] = _decode(files[index], decode, limits)

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as threads:
        for _ in threads.map(put, range(len(files))):
            pass  # an error in a thread is raised here
    return torch.from_numpy(images)


@dataclass(frozen=True, slots=True)
class _Limits:
    """What a file may take, and the turn of those that take much."""

    pixels: int
    bytes: int
    one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def turn(self, amount: int, ordinary: int) -> AbstractContextManager[Any]:
        """Let files that need much memory wait for one another, so that threads do not multiply it."""
        return self.one_at_a_time if amount > ordinary else nullcontext()


def _decode(file: ImageFile, decode: Callable[[Image.Image], NDArray[np.uint8]], limits: _Limits) -> NDArray[np.uint8]:
    try:
        size = file.size()
        if size > limits.bytes:
            raise am.InvalidData(
                f"it has {size} bytes, more than max_bytes={limits.bytes}; make it smaller, or give a larger max_bytes"
            )
        with limits.turn(size, _ORDINARY), Image.open(BytesIO(file.read())) as image:
            n_pixels = image.width * image.height
            if n_pixels > limits.pixels:
                raise am.InvalidData(
                    f"it has {image.width} × {image.height} pixels, more than max_pixels={limits.pixels}; make it "
                    "smaller, or give a larger max_pixels"
                )
            with nullcontext() if size > _ORDINARY else limits.turn(n_pixels, _ORDINARY):
                image.load()
                return decode(image)
    except am.InvalidData as error:
        raise am.InvalidData(f"image {file.location!r} cannot be used: {error}.") from error
    except _BROKEN as error:
        raise am.InvalidData(f"image {file.location!r} cannot be decoded: {error}; repair or remove it.") from error


_BROKEN = (
    *(OSError, EOFError, SyntaxError, ValueError, IndexError, KeyError, RuntimeError, MemoryError, OverflowError),
    *(struct.error, zipfile.BadZipFile, zlib.error, lzma.LZMAError, Image.DecompressionBombError),
)
"""What Pillow and archives raise for damaged data."""


def _size(path: Path) -> int:
    return path.stat().st_size


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
            found.images.append(ImageFile(parts, str(path), path.read_bytes, partial(_size, path)))


def _members(archive: Path, above: tuple[str, ...], found: _Found) -> None:
    """Find what is in an archive; a single folder that only repeats the archive's name is left out."""
    if not archive.is_file():  # opening a pipe waits for whoever writes to it
        raise am.InvalidData(f"{str(archive)!r} is neither a folder nor a regular file.")
    try:
        opened = zipfile.ZipFile(archive)
    except _BROKEN as error:
        raise am.InvalidData(f"archive {str(archive)!r} cannot be read: {error}") from error
    if above:
        found.folders.add(above)
    lock = threading.Lock()

    def read(name: str) -> bytes:
        with lock:
            return opened.read(name)

    size_of = {member.filename: member.file_size for member in opened.infolist()}
    locked = next((member.filename for member in opened.infolist() if member.flag_bits & _ENCRYPTED), None)
    if locked is not None:
        raise am.InvalidData(f"archive {str(archive)!r} is encrypted ({locked!r}); unpack it, and give the folder.")
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
            found.images.append(
                ImageFile(parts, f"{archive}:{name}", partial(read, name), partial(size_of.__getitem__, name))
            )
        else:
            found.unread.append(parts)

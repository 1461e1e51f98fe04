"""Digests of what lies at a path, so that what is named by its path counts by its content.

A digest is SHA-256 over names and contents; sizes, times and the place do not count. What was read once is not read
again in the same process while size, times and number of a file stay.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from autometa.errors import MissingData

_SETTLED = 2 * 10**9
"""Nanoseconds after which a change is sure to show in a file's times; a younger file is read each time."""
_read: dict[tuple[str | int, ...], str] = {}


def content_of(place: str | os.PathLike[str], files: Iterable[Path] | None = None) -> str:
    """Return the digest of a file, or of a folder's files and their names relative to it.

    Parameters
    ----------
    place : path
        A file or a folder.
    files : iterable of Path, optional
        The files of the folder that count. Left out: all but hidden ones.

    Raises
    ------
    MissingData
        A file cannot be read.

    Examples
    --------
    >>> import autometa as am
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.csv").write_text("1")
    ...     before = am.content_of(folder)
    ...     _ = Path(folder, "a.csv").write_text("2")
    ...     before == am.content_of(folder)
    False
    """
    place = Path(place)
    if not place.is_dir():
        return _digest_of(place)
    chosen = _files_in(place) if files is None else files
    names = {path.relative_to(place).as_posix(): path for path in chosen}
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(f"{name}\0{_digest_of(names[name])}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def named_content(params: Mapping[str, Any], ignore: Iterable[str] = ()) -> dict[str, str]:
    """Return the digest of what every parameter names, for those that name an existing file or folder.

    Paths count inside of lists, tuples and mappings too.
    """
    found = {}
    for name, value in params.items():
        places = [] if name in ignore else list(_places_in(value))
        if places:
            digests = [content_of(place) for place in places]
            found[name] = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return found


def _places_in(value: Any) -> Iterator[Path]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _places_in(part)
    elif isinstance(value, str | os.PathLike) and isinstance(text := os.fspath(value), str) and text.strip():
        try:
            place = Path(text).expanduser()
            exists = place.is_file() or place.is_dir()
        except (OSError, ValueError, RuntimeError):  # too long for a name, a null byte, no home: no path
            return
        if exists:
            yield place


def _files_in(folder: Path) -> Iterator[Path]:
    """Return all files below a folder that are not hidden; links are followed, each folder is entered once on a way."""

    def walk(here: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
        state = here.stat()
        key = (state.st_dev, state.st_ino)
        if key in above:
            return
        for entry in sorted(here.iterdir()):
            if entry.name.startswith(".") or entry.name == "__pycache__":
                continue
            if entry.is_dir():
                yield from walk(entry, above | {key})
            elif entry.is_file():
                yield entry

    try:
        yield from walk(folder, frozenset())
    except OSError as error:
        raise MissingData(f"{str(folder)!r} cannot be read: {error}.") from error


def _digest_of(file: Path) -> str:
    """Return the digest of one file, from memory if it was read when it was as it is now."""
    try:
        state = file.stat()
        key = (str(file), state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        if key in _read:
            return _read[key]
        with file.open("rb", buffering=0) as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise MissingData(f"{str(file)!r} cannot be read: {error}.") from error
    if time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) > _SETTLED:
        _read[key] = digest
    return digest

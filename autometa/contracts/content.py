"""Digests of what lies at a path, so that what is named by its path counts by its content.

A digest is SHA-256 over names and contents; sizes, times and the place do not count. What was read once is not read
again in the same process while size, times and number of a file stay.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from autometa.contracts.folders import walk_folder
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
    place = Path(os.path.expanduser(place))
    if not place.is_dir():
        return _digest_of(place)
    if files is None:
        files = (entry.path for entry in walk_folder(place) if entry.kind == "file")
    names = {path.relative_to(place).as_posix(): path for path in files}
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(f"{name}\0{_digest_of(names[name])}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def named_content(
    params: Mapping[str, Any], names_files: Collection[str] = (), ignore: Collection[str] = ()
) -> dict[str, str]:
    """Return the digest of what every parameter names, for those that name an existing file or folder.

    Paths count inside of lists, tuples and mappings too.

    Parameters
    ----------
    params : mapping
    names_files : collection of str
        Parameters whose text is a path. Of all others path objects count, and text never: it may equal a file's name
        by chance.
    ignore : collection of str
        Parameters that do not count.
    """
    found = {}
    for name, value in params.items():
        places = [] if name in ignore else list(_places_in(value, name in names_files))
        if places:
            digests = [content_of(place) for place in places]
            found[name] = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return found


def _places_in(value: Any, text_counts: bool) -> Iterator[Path]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _places_in(part, text_counts)
    elif isinstance(value, str) and not text_counts:
        return
    elif isinstance(value, str | os.PathLike) and isinstance(text := os.fspath(value), str) and text.strip():
        try:
            place = Path(text).expanduser()
            exists = place.is_file() or place.is_dir()
        except (OSError, ValueError, RuntimeError):  # too long for a name, a null byte, no home: no path
            return
        if exists:
            yield place


def _digest_of(file: Path) -> str:
    """Return the digest of one file, from memory if it was read when it was as it is now."""
    try:
        state = file.stat()
        key = (str(file), state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        if key in _read:
            return _read[key]
        if not stat.S_ISREG(state.st_mode):  # a pipe is read until somebody writes, a device for ever
            raise MissingData(f"{str(file)!r} is no regular file, and is not read.")
        with file.open("rb", buffering=0) as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise MissingData(f"{str(file)!r} cannot be read: {error}.") from error
    if time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) > _SETTLED:
        _read[key] = digest
    return digest

"""Writing a file whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from autometa.errors import StorageError


def check_writable(path: Path, *, name: str = "path") -> None:
    """Refuse a path that :func:`write_whole` could not write to, before the work whose result belongs there.

    Raises
    ------
    StorageError
        Names the argument ``name``.
    """
    with _named(path, name):
        part = _part_of(path)
        part.touch()
        part.unlink()


def write_whole(path: Path, content: bytes | str, *, make_folders: bool = False, name: str = "path") -> None:
    """Write a file so that no reader ever sees half of it, not even after a power cut.

    Parameters
    ----------
    path : Path
        An existing file is replaced, a device such as /dev/null is refused.
    content : bytes or str
        Text is written as UTF-8; half a character, which has none, as an escape.
    make_folders : bool, default=False
        Make the folders of the path that are missing.
    name : str, default="path"
        What the user calls the path, for the error.

    Raises
    ------
    StorageError
        The path cannot be written to; an earlier file is still there as it was.
    """
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    with _named(path, name):
        part = _part_of(path)
        if make_folders:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            with suppress(OSError):  # the first error is the one to tell
                part.unlink()
            raise


def _part_of(path: Path) -> Path:
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError("it is a device or a pipe, which a file would take the place of")
    return path.with_name(f".{path.name}.{os.getpid()}.part")


@contextmanager
def _named(path: Path, name: str) -> Iterator[None]:
    """Turn an error of the file system into one that names the argument."""
    try:
        yield
    except (OSError, ValueError) as error:  # the latter also for a path without a name, such as '.'
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise StorageError(
            f"{name}={str(path)!r} cannot be written: {reason}; name a file in a folder you may change."
        ) from error


def reason_of(error: StorageError) -> str:
    """Return why something cannot be written, without what to do about it."""
    reason, _, advice = str(error).rpartition(";")
    return reason or advice

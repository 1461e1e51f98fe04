"""Writing a file whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from autometa.errors import StorageError


def write_whole(path: Path, content: bytes | str, *, make_folders: bool = False) -> None:
    """Write a file so that no reader ever sees half of it, not even after a power cut.

    Parameters
    ----------
    path : Path
        An existing file is replaced.
    content : bytes or str
        Text is written as UTF-8.
    make_folders : bool, default=False
        Make the folders of the path that are missing.

    Raises
    ------
    StorageError
        The path cannot be written to; an earlier file is still there as it was.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
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
    except (OSError, ValueError) as error:  # the latter for a path without a name, such as '.'
        raise StorageError(
            f"path={str(path)!r} cannot be written: {error}; name a file in a folder you may change."
        ) from error

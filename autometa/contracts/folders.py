"""What lies below a folder, through symbolic links too: one walk for digests and for samplers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autometa.errors import MissingData


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderEntry:
    """One thing below a folder.

    Parameters
    ----------
    path : Path
    kind : {"file", "folder", "loop", "dead"}
        "loop": a link to a folder that holds it. "dead": a link to nothing.
    same : Path, optional
        Of a folder or loop: another path of the same folder, met before.
    """

    path: Path
    kind: Literal["file", "folder", "loop", "dead"]
    same: Path | None = None


def walk_folder(root: str | os.PathLike[str]) -> Iterator[FolderEntry]:
    """Return all that is not hidden below a folder, sorted, a folder before what it holds.

    Links are followed. Loops are not entered; a folder that several links lead to is entered by each. Left out are
    ``__pycache__``, names that begin with a dot, and what is neither file nor folder.

    Parameters
    ----------
    root : path
        The folder.

    Raises
    ------
    MissingData
        A folder cannot be read.

    Examples
    --------
    >>> import autometa as am
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Path(folder, "cats").mkdir()
    ...     _ = Path(folder, "cats", "1.png").write_text("")
    ...     [(entry.path.name, entry.kind) for entry in am.walk_folder(folder)]
    [('cats', 'folder'), ('1.png', 'file')]
    """
    root = Path(root)
    try:
        yield from _below(root, (), {_identity(root): root})
    except OSError as error:
        raise MissingData(f"folder {str(error.filename or root)!r} cannot be read: {error.strerror}.") from error


def _below(folder: Path, above: tuple[Path, ...], seen: dict[tuple[int, int], Path]) -> Iterator[FolderEntry]:
    """Walk a folder that lies in ``above``; ``seen`` holds all folders met so far."""
    above = (*above, folder)
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__pycache__":
            continue
        path = folder / entry.name
        if os.path.isdir(path) if entry.is_symlink() else entry.is_dir():
            first = seen.setdefault(_identity(path), path)
            same = None if first is path else first
            is_loop = any(same is holder for holder in above)
            yield FolderEntry(path=path, kind="loop" if is_loop else "folder", same=same)
            if not is_loop:
                yield from _below(path, above, seen)
        elif os.path.isfile(path) if entry.is_symlink() else entry.is_file():
            yield FolderEntry(path=path, kind="file")
        elif entry.is_symlink() and not os.path.exists(path):
            yield FolderEntry(path=path, kind="dead")


def _identity(folder: Path) -> tuple[int, int]:
    state = folder.stat()
    return state.st_dev, state.st_ino

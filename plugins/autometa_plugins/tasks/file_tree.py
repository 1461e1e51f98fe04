"""Everything below a folder, through symbolic links too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import autometa as am

COMPANIONS = frozenset(
    {"", ".csv", ".db", ".htm", ".html", ".ini", ".json", ".jsonl", ".log", ".md", ".pdf", ".rst", ".toml", ".tsv"}
    | {".txt", ".xml", ".yaml", ".yml"}
)
"""Suffixes of files that lie beside images and are none; "" is a name without a suffix."""


def walk(root: Path) -> Iterator[tuple[Path, bool]]:
    """Every file and folder below a folder, and whether it is a folder; links are followed, hidden ones to folders not.

    Raises
    ------
    InvalidData
        A link leads nowhere or back to a folder that holds it, or a folder cannot be read.
    """
    yield from _below(root, {_identity(root): root})


def _below(folder: Path, above: dict[tuple[int, int], Path]) -> Iterator[tuple[Path, bool]]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise am.InvalidData(f"folder {str(folder)!r} cannot be read: {error}.") from error
    for entry in entries:
        path = folder / entry.name
        if not entry.is_dir():
            if not _leads_nowhere(entry):
                yield path, False
            continue
        if entry.is_symlink() and entry.name.startswith("."):
            continue
        identity = _identity(path)
        if identity in above:
            raise am.InvalidData(
                f"the link {str(path)!r} leads back to {str(above[identity])!r}, which holds it; remove it."
            )
        yield path, True
        yield from _below(path, above | {identity: path})


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    """True for a hidden or unimportant link to nothing; any other such link is refused."""
    if not entry.is_symlink() or os.path.exists(entry.path):
        return False
    path = Path(entry.path)
    if not path.name.startswith(".") and (path.suffix == "" or path.suffix.lower() not in COMPANIONS):
        raise am.InvalidData(
            f"the link {str(path)!r} leads to {os.readlink(path)!r}, which is not there; mend or remove it."
        )
    return True


def _identity(folder: Path) -> tuple[int, int]:
    state = folder.stat()
    return state.st_dev, state.st_ino

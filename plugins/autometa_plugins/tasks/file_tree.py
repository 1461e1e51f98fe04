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
        A link leads nowhere, back to a folder that holds it or to one that is there already; a folder cannot be read.
    """
    yield from _below(root, (), {_identity(root): root})


def _below(folder: Path, above: tuple[Path, ...], seen: dict[tuple[int, int], Path]) -> Iterator[tuple[Path, bool]]:
    """Walk a folder that lies in ``above``; ``seen`` holds all folders walked so far."""
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
        same = seen.setdefault(_identity(path), path)
        if same in (*above, folder):
            raise am.InvalidData(f"the link {str(path)!r} leads back to {str(same)!r}, which holds it; remove it.")
        if same is not path:
            raise am.InvalidData(
                f"{str(same)!r} and {str(path)!r} are one folder, linked to twice: the same images would be of two "
                "classes; keep one."
            )
        yield path, True
        yield from _below(path, (*above, folder), seen)


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

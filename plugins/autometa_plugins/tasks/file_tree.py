"""What lies below a folder of images; links that cannot be meant are refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import autometa as am

COMPANIONS = frozenset(
    {"", ".csv", ".db", ".htm", ".html", ".ini", ".json", ".jsonl", ".log", ".md", ".pdf", ".rst", ".toml", ".tsv"}
    | {".txt", ".xml", ".yaml", ".yml"}
)
"""Suffixes of files that lie beside folders of images and are none; "" is a name without a suffix."""


def walk(root: Path) -> Iterator[tuple[Path, bool]]:
    """Every file and folder below a folder that is not hidden, and whether it is a folder; links are followed.

    Raises
    ------
    MissingData
        A folder cannot be read.
    InvalidData
        A link leads nowhere, back to a folder that holds it or to one that is there already.
    """
    for entry in am.walk_folder(root):
        path, same = entry.path, entry.same
        if entry.kind == "loop":
            raise am.InvalidData(f"the link {str(path)!r} leads back to {str(same)!r}, which holds it; remove it.")
        if same is not None:
            raise am.InvalidData(
                f"{str(same)!r} and {str(path)!r} are one folder, linked to twice: the same images would be of two "
                "classes; keep one."
            )
        if entry.kind != "dead":
            yield path, entry.kind == "folder"
        elif path.suffix == "" or path.suffix.lower() not in COMPANIONS:
            raise am.InvalidData(
                f"the link {str(path)!r} leads to {os.readlink(path)!r}, which is not there; mend or remove it."
            )

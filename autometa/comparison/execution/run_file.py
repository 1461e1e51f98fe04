"""The file of an output folder that says which comparison it holds and where its studies are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna import get_all_study_names
from optuna.storages import BaseStorage

from autometa.errors import InvalidParameter, StorageError
from autometa.files.atomic import write_whole

RUN_FILE = "run.json"
_KINDS: dict[str, Any] = {"name": str, "storage": str | None, "environment": dict}
"""What must be in the file, and of which kind."""


def read_run(folder: Path) -> dict[str, Any] | None:
    """Read the file of a folder; None if there is none.

    Raises
    ------
    StorageError
        It is damaged.
    """
    file = folder / RUN_FILE
    if not file.exists():
        return None
    try:
        run = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise StorageError(f"{str(file)!r} cannot be read: {error}.") from error
    except ValueError as error:
        raise _damaged(file, str(error)) from error
    wrong = [name for name, kind in _KINDS.items() if not isinstance(run, dict) or not isinstance(run.get(name), kind)]
    if wrong:
        raise _damaged(file, f"no {' and no '.join(wrong)} in it")
    return dict(run)


def write_run(folder: Path, run: Mapping[str, Any]) -> None:
    """Write the file of a folder."""
    write_whole(folder / RUN_FILE, json.dumps(run, indent=2))


def check_same_run(folder: Path, run: Mapping[str, Any], name: str, storage: BaseStorage) -> None:
    """Refuse to write over the results of another comparison.

    Parameters
    ----------
    folder : Path
    run : mapping
        What the file of the folder holds.
    name : str
        The comparison whose results are to be written.
    storage : optuna.storages.BaseStorage
        Where its studies are.

    Raises
    ------
    InvalidParameter
        The folder holds a comparison of another name, or one whose studies are not in this storage.
    """
    if run["name"] != name:
        raise InvalidParameter(
            f"name={name!r}: output={str(folder)!r} holds the results of comparison {run['name']!r}, which would be "
            f"lost; give another output, or name={run['name']!r} to go on with it."
        )
    if name not in get_all_study_names(storage):
        raise InvalidParameter(
            f"output={str(folder)!r} holds the results of a comparison {name!r} whose studies are not in this storage "
            f"(they were in {run['storage'] or 'the memory of a process'}), and which would be lost; give another "
            "output, or the storage it was begun with."
        )


def _damaged(file: Path, why: str) -> StorageError:
    return StorageError(
        f"{str(file)!r} is damaged ({why}); move it away and call compare as before, which writes it anew: all that is "
        "done is in the studies."
    )

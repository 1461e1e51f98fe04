"""The file of an output folder that says which comparison it holds and where its studies are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna import get_all_study_names
from optuna.storages import BaseStorage

from autometa.errors import InvalidParameter, StorageError, warn_user
from autometa.files.atomic import write_whole
from autometa.files.complete_run import RUN_FILE

_KINDS: dict[str, Any] = {"name": str, "storage": str | None, "environment": dict}
"""What must be in the file, and of which kind."""


class DamagedRun(StorageError):
    """The file of an output folder cannot be understood; all that is in it but times can be found in the storage."""


def read_run(folder: Path) -> dict[str, Any] | None:
    """Read the file of a folder; None if there is none.

    Raises
    ------
    DamagedRun
        It is damaged.
    StorageError
        It cannot be read.
    """
    file = folder / RUN_FILE
    if not file.exists():
        return None
    try:
        run = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise StorageError(f"{str(file)!r} cannot be read: {error}.") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(file, str(error)) from error
    wrong = [name for name, kind in _KINDS.items() if not isinstance(run, dict) or not isinstance(run.get(name), kind)]
    if wrong:
        raise _damaged(file, f"no {' and no '.join(wrong)} in it")
    return dict(run)


def folder_of(storage: str, name: str) -> Path | None:
    """Return the output folder of a comparison whose journal lies in it; None if it has none, or another's."""
    if "://" in storage:
        return None
    folder = Path(storage).expanduser().resolve().parent
    try:
        told = read_run(folder)
    except DamagedRun:
        return folder if folder.name == name else None
    return folder if told is not None and told["name"] == name else None


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
            f"(they were in {_place(run)}), and which would be lost; give another "
            "output, or the storage it was begun with."
        )


def _place(run: Mapping[str, Any]) -> str:
    if run["storage"] is not None:
        return str(run["storage"])
    opened = run.get("open_storage")
    return f"a storage that was given open, {opened}" if opened else "the memory of a process"


def find_run(folder: Path, names: Sequence[str], error: DamagedRun) -> dict[str, Any]:
    """Say what stood in a file that is damaged, from the comparisons that its storage holds.

    Raises
    ------
    DamagedRun
        There are several, and none has the name of the folder.
    """
    if folder.name not in names and len(names) != 1:
        raise error
    name = folder.name if folder.name in names else names[0]
    warn_user(f"{error} It is read as comparison {name!r}.")
    return {"name": name, "storage": None, "environment": {}}


def check_still_there(name: str, storage: BaseStorage, error: DamagedRun) -> None:
    """Warn that the file of a folder is made again, if the storage holds its comparison.

    Raises
    ------
    DamagedRun
        The storage holds none of this name, and the folder may belong to another one.
    """
    if name not in get_all_study_names(storage):
        raise error
    warn_user(f"{error} It is made again.")


def _damaged(file: Path, why: str) -> DamagedRun:
    return DamagedRun(f"{str(file)!r} is damaged ({why}); all that is done is in the studies.")

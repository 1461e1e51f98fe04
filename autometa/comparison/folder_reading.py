"""Read the comparison that an output folder holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage

from autometa.comparison.execution.arm import Arm
from autometa.comparison.execution.ensemble_arm import open_all_arms
from autometa.comparison.execution.race import Race, open_races
from autometa.comparison.execution.run_file import DamagedRun, find_run, read_run
from autometa.comparison.execution.storage import JOURNAL, open_storage
from autometa.comparison.execution.stored_plan import comparisons_in, stored_plan
from autometa.comparison.plan.foreign import Paths
from autometa.comparison.plan.plan import Plan
from autometa.errors import MissingData, StorageError
from autometa.files.complete_run import RUN_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptComparison:
    """What a folder and its storage hold of a comparison."""

    plan: Plan
    arms: Sequence[Arm]
    races: Sequence[Race]
    environment: Mapping[str, Any]
    folder: Path


def read_comparison(
    output: Path, *, storage: str | BaseStorage | None = None, allowed_paths: Paths | None = None
) -> KeptComparison:
    """Read what a folder holds; nothing is written.

    Raises
    ------
    MissingData, StorageError, Incompatible, InvalidParameter
        See :meth:`Comparison.load`.
    """
    folder = output.expanduser().resolve()
    damaged: DamagedRun | None = None
    try:
        run = read_run(folder)
    except DamagedRun as error:
        damaged, run = error, {"storage": JOURNAL}
    if run is None:
        raise MissingData(
            f"output={str(output)!r} holds no comparison: there is no {RUN_FILE} in it, which is "
            "written before the first trial."
        )
    where = storage if storage is not None else _where(folder, run)
    opened = open_storage(where, make=False)
    if damaged is not None:
        run = find_run(folder, comparisons_in(opened), damaged)
    plan = stored_plan(opened, run["name"], to_read=True, allowed_paths=allowed_paths)
    arms = open_all_arms(plan, opened, to_read=True)
    races = open_races(plan, arms, opened, to_read=True)
    return KeptComparison(plan=plan, arms=arms, races=races, environment=run["environment"], folder=folder)


def _where(folder: Path, run: Mapping[str, Any]) -> str:
    """Return the address of the storage that the file of a folder names.

    Raises
    ------
    StorageError
        It has none, or its journal is gone.
    """
    where: str | None = run["storage"]
    if where is None and run.get("open_storage"):
        raise StorageError(
            f"the studies of {str(folder)!r} are in a storage that was given open ({run['open_storage']}) and has no "
            "address here; give Comparison.load(..., storage=...), open again."
        )
    if where is None:
        raise StorageError(f"the studies of {str(folder)!r} were in the memory of the process that made it.")
    where = where if "://" in where else str(folder / Path(where).expanduser())
    if "://" not in where and not Path(where).exists():
        raise StorageError(f"the journal {where!r} of this comparison is gone.")
    return where

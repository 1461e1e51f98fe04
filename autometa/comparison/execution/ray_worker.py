"""A worker on a node of a Ray cluster: it starts a process that works there, and says how that ends."""

from __future__ import annotations

import pickle
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from autometa._version import __version__
from autometa.comparison.execution.ensemble_arm import open_all_arms
from autometa.comparison.execution.owner import Owner
from autometa.comparison.execution.progress_display import NoDisplay
from autometa.comparison.execution.race import open_races
from autometa.comparison.execution.slot_records import quiet_optuna
from autometa.comparison.execution.storage import open_storage
from autometa.comparison.execution.thread_counts import ThreadCounts
from autometa.comparison.execution.watch import Watch
from autometa.comparison.execution.workers import run_processes
from autometa.comparison.plan.plan import Plan
from autometa.engine.program import program_left_out


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a worker tells of itself before it begins."""

    owner: dict[str, Any]
    """The process that watches over the one at work."""
    node: str
    """Ray's id of its node."""
    host: str
    version: str
    sees_folder: bool
    """True if the folder of the call is the same one there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a worker is to do."""

    plan: bytes
    """A plan, pickled so that it takes along what is defined in the program's own file."""
    storage: str
    """Address at which all nodes reach it."""
    device: str
    models: Path | None
    """Where meta-trained models are kept, for workers that see the same folder."""
    threads: ThreadCounts
    limit: float | None


class PickledPlan:
    """A plan that stays as it was pickled until another process opens it."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def open(self) -> Plan:
        """Return the plan."""
        plan: Plan = pickle.loads(self.data)
        return plan

    def __reduce__(self) -> Any:
        return pickle.loads, (self.data,)


class RayWorker:
    """The class of the Ray actors."""

    def tell(self, mark: Path | None) -> Told:
        """Say where this is, and whether a file of the call's folder is here too."""
        import ray

        return Told(
            owner=Owner.here().to_json(),
            node=ray.get_runtime_context().get_node_id(),
            host=platform.node(),
            version=__version__,
            sees_folder=mark is not None and mark.exists(),
        )

    def work(self, task: Task) -> None:
        """Work until nothing is left to do anywhere."""
        plan = PickledPlan(task.plan)
        with quiet_optuna(), program_left_out():  # which is Ray's own
            opened = plan.open()
            storage = open_storage(task.storage, wait=True)
            arms = open_all_arms(opened, storage, Watch(limit=task.limit))
            races = open_races(opened, arms, storage)
            run_processes(
                cast(Plan, plan), task.storage, 1, task.device, task.models, arms, NoDisplay(), task.threads,
                races=races, limit=task.limit,
            )  # fmt: skip

"""Do the work of a plan on a Ray cluster: workers where there is room, and others for those whose node is lost."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage

from autometa._version import __version__
from autometa.comparison.execution.arm import Arm
from autometa.comparison.execution.grpc_proxy import served
from autometa.comparison.execution.patient_storage import StorageLost
from autometa.comparison.execution.progress_display import ProgressDisplay
from autometa.comparison.execution.race import Race
from autometa.comparison.execution.ray_cluster import RayCluster, described, nodes
from autometa.comparison.execution.ray_worker import RayWorker, Task, Told
from autometa.comparison.execution.slot_times import at_work
from autometa.comparison.execution.thread_counts import ThreadCounts
from autometa.comparison.execution.workers import POLL, show
from autometa.comparison.plan.plan import Plan
from autometa.contracts.plugin_code import one_line
from autometa.errors import Incompatible, ProcessFailed, warn_user

TELL_AFTER = 30.0
"""Seconds without room for any worker after which the user is told."""
MOST_FAILED_STARTS = 20
"""How many workers in a row may end before they begin."""


def run_on_ray(
    plan: Plan,
    storage: BaseStorage,
    cluster: RayCluster,
    n_workers: int,
    device: str,
    models: Path | None,
    arms: Sequence[Arm],
    display: ProgressDisplay,
    threads: ThreadCounts,
    *,
    races: Sequence[Race] = (),
    limit: float | None = None,
) -> str:
    """Let workers on the nodes of a cluster do the work; return what the cluster has.

    This process serves the storage to them, so that it may be any, a file of this machine included. What a lost node
    was at work on is given back; a worker that ends while its node lives counts against what it was at work on.

    Raises
    ------
    ProcessFailed
        The cluster cannot be used, or a worker ended before the work was done, and not by it.
    Incompatible
        The plan cannot be sent.
    """
    import ray

    with cluster.connected(), served(storage, ray.util.get_node_ip_address(), 0) as address, _marked(models) as mark:
        task = Task(
            plan=_pickled(plan), storage=address, device=device, models=models, threads=threads, limit=limit
        )  # fmt: skip
        crew = _Crew(cluster, task, mark, arms, n_workers)
        try:
            while crew.is_at_work(races):
                if display.is_due:
                    show(arms, display, at_work(arms), max(1, crew.n_placed))
                crew.wait(POLL)
                crew.look()
            if display.is_due:
                show(arms, display, at_work(arms), n_workers)
        finally:
            crew.dismiss()
        return described()


class _Crew:
    """The workers of a call."""

    def __init__(self, cluster: RayCluster, task: Task, mark: Path | None, arms: Sequence[Arm], n_workers: int) -> None:
        import ray

        self._arms = arms
        remote = ray.remote(max_restarts=0, max_task_retries=0)(RayWorker).options(**cluster.needs.options)
        sent = ray.put(task)
        alone = ray.put(replace(task, models=None))
        self._posts = [_Post(remote, sent, alone, mark) for _ in range(n_workers)]
        self._needs = cluster.needs
        self._began: float | None = None
        self._failed_starts = 0

    @property
    def n_placed(self) -> int:
        """Workers that have a place on a node."""
        return sum(post.told is not None for post in self._posts)

    def is_at_work(self, races: Sequence[Race]) -> bool:
        """Tell whether a worker works, or waits for room although work is left; start those that are to begin."""
        for race in races:
            race.update()
        if self._is_over():
            return any(post.told is not None and not post.is_done for post in self._posts)
        waiting = [post for post in self._posts if not post.is_begun]
        for post in waiting:
            post.begin()
        if self._began is None:
            self._began = time.monotonic()
        return True

    def _is_over(self) -> bool:
        """Tell whether nothing is left to do, as a worker found, or as it is from the start."""
        if self._began is None:
            return all(arm.n_done == arm.n_slots for arm in self._arms)
        return any(post.is_done for post in self._posts)

    def wait(self, seconds: float) -> None:
        """Wait for what a worker has to say, so many seconds at most."""
        import ray

        if answers := [post.awaited for post in self._posts if post.awaited is not None]:
            ray.wait(answers, timeout=seconds)
        else:
            time.sleep(seconds)

    def look(self) -> None:
        """See what became of each worker."""
        for post in self._posts:
            end = post.look()
            if post.told is not None:
                self._failed_starts, self._began = 0, float("inf")
            if end is not None:
                self._replace(post, end)
        if self._began is not None and time.monotonic() - self._began > TELL_AFTER:
            self._began = float("inf")
            warn_user(
                f"no node has room for a worker ({self._needs}) since {TELL_AFTER:.0f} seconds; the cluster has "
                f"{described()}. It is waited for.",
                RuntimeWarning,
            )

    def _replace(self, post: _Post, end: str) -> None:
        """Open again what a worker that is gone was at work on, so that another one does it."""
        told = post.told
        if told is None:
            self._failed_starts += 1
            if self._failed_starts >= MOST_FAILED_STARTS:
                raise ProcessFailed(f"no worker could begin, {self._failed_starts} times in a row; the last: {end}")
        else:
            is_lost = all(node["NodeID"] != told.node for node in nodes()) or post.is_out_of_reach
            labels = self._end(told, is_lost=is_lost)
            at = f" of {', '.join(labels)}" if labels else ""
            lost = f"the node {told.host} is lost" if is_lost else f"a worker on {told.host} died"
            _tell(f"{lost}: what was at work there{at} is done elsewhere.")
        post.leave()

    def _end(self, told: Told, *, is_lost: bool) -> list[str]:
        labels = []
        for arm in self._arms:
            for study in arm.studies:
                for trial in study.watched_by(told.owner):
                    ended = study.give_back(trial) if is_lost else study.bury(trial, "its worker") or True
                    if ended and arm.label not in labels:
                        labels.append(arm.label)
        return labels

    def dismiss(self) -> None:
        """End all workers, and give back what they were at work on."""
        placed = [post.told for post in self._posts if post.told is not None and not post.is_done]
        for post in self._posts:
            post.leave()
        with suppress(StorageLost):
            for told in placed:
                self._end(told, is_lost=True)


class _Post:
    """One worker at a time; another takes its place where it is lost.

    Attributes
    ----------
    told : Told or None
        What the worker said of itself; None while it waits for room.
    is_done : bool
        True once it found nothing left to do.
    is_out_of_reach : bool
        True if nobody knows whether it still works.
    """

    def __init__(self, remote: Any, task: Any, task_alone: Any, mark: Path | None) -> None:
        self._remote, self._task, self._task_alone, self._mark = remote, task, task_alone, mark
        self._actor: Any = None
        self.leave()

    @property
    def is_begun(self) -> bool:
        """True if there is a worker, at work or waiting for room."""
        return self._actor is not None

    @property
    def awaited(self) -> Any:
        """What the worker will say next; None if nothing."""
        return None if self.is_done else self._answer

    def begin(self) -> None:
        """Ask for a worker."""
        self._actor = self._remote.remote()
        self._answer = self._actor.tell.remote(self._mark)

    def leave(self) -> None:
        """End the worker."""
        import ray

        if self._actor is not None:
            with suppress(Exception):  # which is gone already
                ray.kill(self._actor)
        self._actor, self._answer = None, None
        self.told: Told | None = None
        self.is_done = self.is_out_of_reach = False

    def look(self) -> str | None:
        """See how far the worker is; return how it ended if it is gone.

        Raises
        ------
        ProcessFailed
            It cannot work there.
        """
        import ray
        from ray.exceptions import ActorUnavailableError, RayActorError, RaySystemError, RayTaskError

        if self.awaited is None or not ray.wait([self.awaited], timeout=0)[0]:
            return None
        try:
            answer = ray.get(self.awaited)
        except (RayActorError, RaySystemError) as error:
            self.is_out_of_reach = isinstance(error, ActorUnavailableError)
            return one_line(error)
        except RayTaskError as error:
            where = f" on {self.told.host}" if self.told is not None else ""
            raise ProcessFailed(f"a worker{where} failed: {one_line(error.cause)}") from error
        if self.told is not None:
            self.is_done = True
            return None
        self.told = answer
        if answer.version != __version__:
            raise ProcessFailed(f"node {answer.host} has autometa {answer.version}, and this process {__version__}.")
        self._answer = self._actor.work.remote(self._task if answer.sees_folder else self._task_alone)
        return None


@contextmanager
def _marked(models: Path | None) -> Iterator[Path | None]:
    """Have a file beside the models, by which workers tell that a folder is the same one."""
    if models is None:
        yield None
        return
    mark = models.parent / f".autometa-{uuid.uuid4().hex}"
    mark.touch()
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)


def _pickled(plan: Plan) -> bytes:
    from ray import cloudpickle

    try:
        return bytes(cloudpickle.dumps(plan))
    except Exception as error:  # whatever an object raises where it is pickled
        raise Incompatible(f"the plan cannot be sent to other machines: {one_line(error)}") from error


def _tell(text: str) -> None:
    warn_user(text, RuntimeWarning)

"""One call of compare: a plan, where it is kept, and what works on it."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from pickle import PicklingError
from shutil import rmtree
from typing import Any

from optuna.storages import BaseStorage, InMemoryStorage

from autometa.comparison.execution.address import without_password
from autometa.comparison.execution.arm import PAUSED, Arm
from autometa.comparison.execution.clock import Clock
from autometa.comparison.execution.ensemble_arm import open_all_arms
from autometa.comparison.execution.environment import describe_environment, usable_cores
from autometa.comparison.execution.kept_threads import counts_to_use, threads_text
from autometa.comparison.execution.monitor import monitored
from autometa.comparison.execution.own_session import why_not_imported
from autometa.comparison.execution.progress_display import ProgressDisplay
from autometa.comparison.execution.race import Race, open_races
from autometa.comparison.execution.ray_cluster import RayCluster
from autometa.comparison.execution.run_file import (
    DamagedRun,
    check_same_run,
    check_still_there,
    read_run,
    write_run,
)
from autometa.comparison.execution.storage import (
    TemporaryFolder,
    kind_of_open,
    portable_address,
)
from autometa.comparison.execution.stored_plan import register_plan
from autometa.comparison.execution.thread_counts import ThreadCounts, with_threads
from autometa.comparison.execution.watch import Watch
from autometa.comparison.execution.workers import run_processes, work_through
from autometa.comparison.plan.guarded import changes_text
from autometa.comparison.plan.plan import Plan
from autometa.comparison.result import Comparison
from autometa.comparison.results.guards import warnings_of
from autometa.contracts.plugin_code import one_line
from autometa.engine.device import pick_device
from autometa.errors import AutometaError, InvalidParameter, ProcessFailed, warn_user


def _forgive(arms: Sequence[Arm]) -> None:
    """Try again what failed by the death of a process, and what a shorter limit ended."""
    for arm in arms:
        if n := arm.forgive():
            what = "a trial or final run" if n == 1 else f"{n} trials or final runs"
            text = f"{arm.label}: {what} had failed because a process died or a limit struck; once more now."
            warn_user(text)


class Call:
    """A plan, where its studies are kept, and what works on it."""

    def __init__(
        self,
        plan: Plan,
        where: str | BaseStorage | None,
        storage: BaseStorage,
        folder: Path | None,
        keeper: TemporaryFolder | None,
        device: str,
        n_workers: int,
        display: ProgressDisplay,
        limit: float | None,
        cluster: RayCluster | None = None,
        log: str | None = None,
    ) -> None:
        self.plan, self.where, self.folder, self.keeper = plan, where, folder, keeper
        self.device, self.n_workers, self.display, self.limit = device, n_workers, display, limit
        self.cluster = cluster
        """Where the workers run; None: on this machine."""
        self.log = log
        kept = folder if folder is not None else keeper.path if keeper is not None else None
        self.models = kept / "models" if kept is not None else None
        self.device_here = device if cluster is None else "auto"
        self.environment: dict[str, Any] = describe_environment(pick_device(self.device_here))
        self.storage = storage
        self.races: Sequence[Race] = ()
        self._n_filled = 0
        """Slots that this call filled."""
        self.started = time.monotonic()
        told = self._read_run()
        self.seconds_before: float = told["environment"].get("seconds_of_all_calls", 0.0) if told is not None else 0.0

    def _read_run(self) -> dict[str, Any] | None:
        """Read what the folder says of itself, and refuse one that holds another comparison."""
        if self.folder is None:
            return None
        try:
            told = read_run(self.folder)
        except DamagedRun as error:
            check_still_there(self.plan.name, self.storage, error)
            return None
        if told is not None:
            check_same_run(self.folder, told, self.plan.name, self.storage)
        return told

    def register(self) -> None:
        """Store the plan, or check that the one that is there agrees; refuse one that no worker could be sent."""
        if self.n_workers > 1 and self.cluster is None and (why := self._why_not_sent()) is not None:
            raise InvalidParameter(
                f"n_workers={self.n_workers}: the work cannot be sent to other processes ({why}); use n_workers=1, or "
                "put what is of your own into a module that they can import."
            )
        register_plan(self.storage, self.plan, without_password(str(self.where or "memory")))

    def go(self, clock: Clock | None = None) -> Comparison:
        """Do the work of a registered plan, by a clock if there is one, and write what came of it."""
        if clock is not None:
            clock.set(self.storage, self.plan.name)
        self._write_run()
        comparison = self.work_here(again=True)
        if self.models is not None and comparison.complete:
            rmtree(self.models.parent / PAUSED, ignore_errors=True)
        if self.folder is not None:
            self._write_run(complete=comparison.complete)
            comparison.write(self.folder, n_processes=self._n_that_draw())
        if self.log is not None:
            comparison.log()
        return comparison

    def _n_that_draw(self) -> int:
        """Return how many processes draw the report: as many as worked on this machine, at most one for each core.

        Where none did, a server that forks them would import for longer than they draw.
        """
        return min(self.n_workers, usable_cores()) if self.cluster is None and self._n_filled else 1

    def work_here(self, *, again: bool = False) -> Comparison:
        """Do the work and read the result; ``again``: with what has failed before and need not fail again."""
        alone = self.n_workers == 1 and self.cluster is None and not isinstance(self.storage, InMemoryStorage)
        with monitored() if alone else nullcontext() as monitor:
            arms = open_all_arms(self.plan, self.storage, Watch(limit=self.limit, monitor=monitor))
            self.races = open_races(self.plan, arms, self.storage)
            for study in (study for arm in arms for study in arm.studies):
                study.reap()
            if again:
                _forgive(arms)
            done = sum(arm.n_done for arm in arms)
            interrupted = self._work(arms)
            self._n_filled = sum(arm.n_done for arm in arms) - done
        for study in (study for arm in arms for study in arm.studies):
            study.refresh()
        self.environment |= {
            "random_state": self.plan.settings.random_state,
            "n_workers": self.n_workers,
            "threads": threads_text(arms) or self.environment["threads"],
            "seconds": time.monotonic() - self.started,
            "seconds_of_all_calls": self.seconds_before + time.monotonic() - self.started,
        }
        comparison = Comparison(
            self.plan,
            arms,
            environment=self.environment,
            folder=self.models.parent if self.models is not None else None,
            device=self.device_here,
            keeper=self.keeper,
            trusted=None,
            races=self.races,
        )
        for arm in arms:
            if arm.changes:
                warn_user(changes_text(arm.label, arm.changes))
        clock = Clock.of(self.storage, self.plan.name)
        if clock is not None and comparison.complete:
            replace(clock, has_ended=True).set(self.storage, self.plan.name)
        self._tell(comparison, clock, interrupted)
        return comparison

    def _work(self, arms: Sequence[Arm]) -> bool:
        """Fill all slots; return True if Ctrl-C ended it."""
        self.display.start(sum(arm.n_slots for arm in arms))
        try:
            each = None if self.cluster is None else self.cluster.needs.threads
            threads = counts_to_use(arms, self.n_workers, each)
            if self.cluster is not None:
                self._run_on_ray(arms, threads, self.cluster)
            elif self.n_workers == 1:
                apart = partial(self._apart, arms, threads) if not isinstance(self.storage, InMemoryStorage) else None
                with with_threads(threads):
                    work_through(
                        arms, pick_device(self.device), self.models, self.display, apart=apart, races=self.races
                    )
            else:
                self._run_processes(arms, threads, self.n_workers)
        except KeyboardInterrupt:
            return True
        finally:
            self.display.close()
        return False

    def _run_on_ray(self, arms: Sequence[Arm], threads: ThreadCounts, cluster: RayCluster) -> None:
        from autometa.comparison.execution.ray_engine import run_on_ray

        places = (self.plan, self.storage, cluster, self.n_workers, self.device, self.models)
        has = run_on_ray(*places, arms, self.display, threads, races=self.races, limit=self.limit)
        self.environment |= {"ray": has, "device": self.device}

    def _run_processes(
        self, arms: Sequence[Arm], threads: ThreadCounts, n_workers: int, only: Collection[str] | None = None
    ) -> None:
        assert self.where is not None
        places = (self.plan, self.where, n_workers, self.device, self.models)
        run_processes(*places, arms, self.display, threads, races=self.races, limit=self.limit, only=only)

    def _apart(self, arms: Sequence[Arm], threads: ThreadCounts, dangerous: Sequence[Arm]) -> bool:
        """Let a process of its own do what has ended a process, or may have done so; False if none can be started."""
        labels = [arm.label for arm in dangerous]
        done = sum(arm.n_done for arm in dangerous)
        text = "a process ended or hung in the midst of it; what is left of it is done in a process of its own."
        warn_user(f"{', '.join(labels)}: {text}")
        why = self._why_not_sent()
        try:
            if why is None:
                self._run_processes(arms, threads, 1, labels)
                if sum(arm.n_done for arm in dangerous) > done:
                    return True
                why = "it did nothing"
        except ProcessFailed as error:
            why = one_line(error)
        text = f"no process of its own can work on it ({why}), so it runs in this one, which it may end."
        warn_user(f"{', '.join(labels)}: {text}")
        return False

    def _why_not_sent(self) -> str | None:
        """Return why the work cannot be sent to another process; None if it can."""
        try:
            sent = ForkingPickler.dumps((self.plan, self.where))
        except (PicklingError, AttributeError, TypeError) as error:
            return one_line(error)
        return why_not_imported(sent)

    def _tell(self, comparison: Comparison, clock: Clock | None, interrupted: bool) -> None:
        for text in warnings_of(comparison.guards):
            warn_user(text)
        if interrupted:
            on = "The same call goes on from here." if self.where is not None else "Give output= to be able to go on."
            warn_user(f"interrupted: the comparison holds what was done so far. {on}")
        elif comparison.leaderboard.empty and len(comparison.failures):
            n_failed, first = len(comparison.failures), comparison.failures.iloc[0]
            which = "the only trial failed," if n_failed == 1 else f"all {n_failed} trials failed; the first,"
            raise AutometaError(f"{which} {first['learner']!r} on {first['tasks']!r}: {first['reason']}")
        elif comparison.leaderboard.empty and clock is not None:
            raise AutometaError(
                f"time_budget={clock.seconds:g} seconds were over before any trial was; give more "
                "time, fewer learners or a smaller max_steps."
            )
        elif comparison.leaderboard.empty and comparison.complete and len(comparison.skipped):
            last = comparison.skipped.iloc[-1]
            raise AutometaError(f"nothing was judged; {last['learner']!r} on {last['tasks']!r}: {last['reason']}")
        elif len(comparison.failures):
            failed = f"{len(comparison.failures)} trials or final runs"
            failed = "1 trial or final run" if len(comparison.failures) == 1 else failed
            who = sorted({f"{row.learner} on {row.tasks}" for row in comparison.failures.itertuples()})
            warn_user(f"{failed} failed ({', '.join(who)}); see .failures.")
        if clock is not None and not interrupted and (few := self._with_few_seeds(comparison)):
            warn_user(
                f"time_budget={clock.seconds:g} seconds were over before {', '.join(few)} had all final runs asked for "
                f"(n_seeds={self.plan.settings.n_seeds}); n_seeds of the leaderboard tells how many each has."
            )

    def _with_few_seeds(self, comparison: Comparison) -> list[str]:
        board = comparison.leaderboard
        few = board[(board["n_seeds"] < self.plan.settings.n_seeds) & (board["tasks"] == board["trained_on"])]
        failed = {(row.learner, row.tasks) for row in comparison.failures.itertuples()}  # and were told already
        pairs = [(row.learner, row.tasks) for row in few.itertuples()]
        return [f"{learner} on {tasks}" for learner, tasks in pairs if (learner, tasks) not in failed]

    def _write_run(self, *, complete: bool = False) -> None:
        """Write what is needed to find and repeat the comparison."""
        if self.folder is None:
            return
        run = {
            "name": self.plan.name,
            "storage": portable_address(self.where, self.folder),
            "open_storage": kind_of_open(self.where),
            "plan": self.plan.described,
            "environment": self.environment,
            "complete": complete,
        }
        write_run(self.folder, run)

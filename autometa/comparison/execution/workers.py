"""Do the work of a plan, in this process or in several."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from multiprocessing import connection
from pathlib import Path

import torch
from optuna.storages import BaseStorage

from autometa.comparison.execution.arm import Arm
from autometa.comparison.execution.child import STORAGE_LOST, Child
from autometa.comparison.execution.ensemble_arm import open_all_arms
from autometa.comparison.execution.owner import Owner
from autometa.comparison.execution.patient_storage import StorageLost
from autometa.comparison.execution.progress_display import ProgressDisplay
from autometa.comparison.execution.race import Race, open_races
from autometa.comparison.execution.slot_records import quiet_optuna
from autometa.comparison.execution.slot_times import at_work, in_turn, seconds_left
from autometa.comparison.execution.storage import open_storage
from autometa.comparison.execution.thread_counts import ThreadCounts, with_threads
from autometa.comparison.execution.watch import Watch, silent_for
from autometa.comparison.plan.plan import Plan
from autometa.engine.device import pick_device
from autometa.engine.process_start import end_with_who_asked, process_context
from autometa.engine.program import BEGINS_AGAIN, unguarded
from autometa.errors import ProcessFailed, warn_user

POLL = 0.5
"""Seconds between two looks at a storage while other processes fill the last slots, at least."""
LONGEST_POLL = 10.0
"""Seconds between them at most."""
SHARE_OF_LOOKS = 0.05
"""Of the time of a process that has nothing else to do: a storage that answers slowly is asked less often."""


def work_through(
    arms: Sequence[Arm],
    device: torch.device,
    models: Path | None,
    display: ProgressDisplay | None = None,
    apart: Callable[[Sequence[Arm]], bool] | None = None,
    races: Sequence[Race] = (),
    pause: Callable[[float], object] | None = None,
) -> None:
    """Fill slots until none is left anywhere, in a good order; wait for those that other processes fill.

    What a study draws depends on its own trials alone, so that their order among studies changes no score.

    Parameters
    ----------
    apart : callable, optional
        Lets a process that this one outlives work through arms; False where that is not possible. It gets those of
        learners that have ended a process, or may have done so. None: this is such a process.
    races : sequence of Race, optional
        Those that open the slots of the arms.
    pause : callable, optional
        Waits for so many seconds, or until another look is worth while. None: :func:`time.sleep`.
    """
    pause = pause or time.sleep
    dangerous = {arm.label for arm in arms if apart is not None and arm.needs_a_process}
    over: dict[str, object] = {}  # arms that had nothing left, and what a race may have opened since
    while True:
        began = time.monotonic()
        for race in races:
            race.update()
        left = [arm for arm in arms if over.get(arm.label) != arm.opened and arm.n_done < arm.n_slots]
        waiting = {arm.label for arm in left}
        over = {arm.label: arm.opened for arm in arms if arm.label not in waiting}
        turns = in_turn(left, arms) if len(left) > 1 else left
        if display is not None and display.is_due:
            show(arms, display, turns[0] if turns else None)
        if not left:
            for race in races:  # whose round another process may have ended just now
                race.update()
            if all(arm.n_done == arm.n_slots for arm in arms):
                return
            over = {}
            continue
        apart_from = {arm.space.label for arm in arms if arm.label in dangerous}  # on all tasks
        here = (arm for arm in turns if arm.space.label not in apart_from)
        worked = next((arm for arm in here if arm.step(device, models)), None)
        if worked is not None:
            if apart is not None and any(study.has_hung for study in worked.studies):
                dangerous.add(worked.label)
            continue
        others = [arm for arm in left if arm.space.label in apart_from]
        if others and apart is not None:
            if not apart(others):
                apart = None
                dangerous.clear()
            continue
        if any(study.reap() for arm in left for study in arm.studies):
            dangerous |= {arm.label for arm in left if apart is not None and arm.needs_a_process}
        else:
            has_clock = any(race.clock is not None for race in races)  # and ends in time
            pause(POLL if has_clock else pause_after(time.monotonic() - began))


def pause_after(seconds: float) -> float:
    """Return how long to wait after a look at a storage that took so many seconds and found nothing to do."""
    return min(max(POLL, seconds / SHARE_OF_LOOKS), LONGEST_POLL)


def show(arms: Sequence[Arm], display: ProgressDisplay, current: Arm | None, n_workers: int = 1) -> None:
    """Show how many slots are done, what is worked on, and how long the rest takes."""
    status = "" if current is None else f"{current.space.label} on {current.tasks}"
    done, total = sum(arm.n_done for arm in arms), sum(arm.n_slots for arm in arms)
    display.advance(done, status, seconds_left(arms, n_workers), total)


def run_processes(
    plan: Plan,
    where: str | BaseStorage,
    n_workers: int,
    device: str,
    models: Path | None,
    arms: Sequence[Arm],
    display: ProgressDisplay,
    threads: ThreadCounts,
    *,
    races: Sequence[Race] = (),
    limit: float | None = None,
    only: Collection[str] | None = None,
) -> None:
    """Let ``n_workers`` processes do the work; replace those that are ended by what they work on.

    Parameters
    ----------
    threads : ThreadCounts
        Of each process.
    limit : float, optional
        Seconds without a finished step after which a run hangs.
    only : collection of str, optional
        Labels of the arms to work on; all by default.

    Raises
    ------
    ProcessFailed
        A process ended before the work was done, and not by it.
    """
    context = process_context()
    theirs = frozenset(arm.label for arm in arms) if only is None else frozenset(only)
    is_over, tell_over = context.Pipe(duplex=False)
    arguments = (plan, where, theirs, device, models, threads, dict(os.environ), is_over)
    watch = Watch(limit=limit, supervisor=Owner.here())
    for race in races:
        race.update()
    children = [Child(context, _worker, arguments, watch) for _ in range(n_workers if _is_left(arms, theirs) else 0)]
    told: set[str] = set()
    tells_of_orphans = False
    failed = []
    try:
        for child in children:
            child.start()
        working = list(children)
        while working:
            for race in races:
                race.update()
            if display.is_due:
                show(arms, display, at_work(arms), n_workers)
            connection.wait([child.sentinel for child in working if child.sentinel is not None], POLL)
            # All are looked at before anything is done: that a worker is an orphan shows only while it lives.
            for child, lives in [(child, child.lives()) for child in working]:
                if child.is_orphan and not tells_of_orphans:
                    tells_of_orphans = True
                    _tell("the process that starts the workers ended, and memory may be short; the workers go on.")
                if (seconds := child.hangs()) and lives:
                    for arm in child.end_hanging(arms, seconds):
                        _tell(f"{arm.label}: {silent_for(seconds)}; it has failed, and the rest goes on.")
                elif lives:
                    continue
                elif ended := child.bury(arms):
                    for arm, _ in ended:
                        if arm.label not in told:
                            told.add(arm.label)
                            _tell(f"{arm.label}: the process at work on it died with {child.end}; another goes on.")
                else:
                    working.remove(child)
                    if child.process.exitcode == BEGINS_AGAIN:
                        raise unguarded()
                    if child.process.exitcode:
                        failed.append(child.process.exitcode)
                    else:
                        tell_over.close()
                    continue
                child.begin()
                child.start()
        if display.is_due:
            show(arms, display, at_work(arms), n_workers)
    except BaseException:
        for child in children:
            child.interrupt()
        for child in children:
            child.stop()
        with suppress(StorageLost):
            for child in children:
                child.give_back(arms)
        raise
    for race in races:
        race.update()
    if failed and _is_left(arms, theirs):
        raise ProcessFailed(
            f"{len(failed)} of {n_workers} workers ended with exit codes {failed} and work is left; their own messages "
            "are above. The same call again goes on where this one was; fewer workers need less memory."
        )


def _is_left(arms: Sequence[Arm], labels: Collection[str]) -> bool:
    """Tell whether arms of these labels need more work."""
    return any(arm.n_done < arm.n_slots for arm in arms if arm.label in labels)


def _tell(text: str) -> None:
    warn_user(text, RuntimeWarning)


def _hear_ctrl_c() -> None:
    """Let the first Ctrl-C stop this process; a second one must not disturb how it ends."""

    pressed = False

    def stop(number: int, frame: object) -> None:
        nonlocal pressed
        if not pressed:
            pressed = True
            raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, stop)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # a service manager ends all processes of a command with it
        signal.signal(signal.SIGTERM, stop)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _pause_until(is_over: connection.Connection) -> Callable[[float], None]:
    """Return a pause that ends as soon as a connection is closed at its other end, which it is once."""
    is_open = True

    def pause(seconds: float) -> None:
        nonlocal is_open
        if not is_open:
            time.sleep(seconds)
            return
        try:
            is_open = not is_over.poll(seconds)
        except BrokenPipeError:  # as Windows tells it
            is_open = False

    return pause


def _worker(
    plan: Plan,
    where: str | BaseStorage,
    only: frozenset[str],
    device: str,
    models: Path | None,
    threads: ThreadCounts,
    environment: Mapping[str, str],
    is_over: connection.Connection,
    watch: Watch,
) -> None:
    """Work until all is done or the process that asked for this one is gone.

    ``is_over`` is closed at its other end once a worker has found that nothing is left.
    """
    try:
        end_with_who_asked()
        _hear_ctrl_c()
        os.environ.clear()  # a server that forks has that of its own beginning
        os.environ.update(environment)
        with with_threads(threads), quiet_optuna():
            storage = open_storage(where, wait=True)
            arms = open_all_arms(plan, storage, watch)
            races = open_races(plan, arms, storage)
            own = [arm for arm in arms if arm.label in only]
            work_through(own, pick_device(device), models, races=races, pause=_pause_until(is_over))
    except StorageLost as error:
        assert watch.memory is not None
        watch.memory[STORAGE_LOST] = 1.0
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        return  # the slot is open again, and the process that started this one tells the user
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

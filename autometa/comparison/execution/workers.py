"""Do the work of a plan, in this process or in several."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from autometa.comparison.execution.arm import Arm, open_arms
from autometa.comparison.execution.environment import usable_cores
from autometa.comparison.execution.patient_storage import StorageLost
from autometa.comparison.execution.progress_display import ProgressDisplay
from autometa.comparison.execution.slot_study import quiet_optuna
from autometa.comparison.execution.storage import open_storage
from autometa.comparison.plan.plan import Plan
from autometa.engine.device import pick_device
from autometa.errors import AutometaError

POLL = 0.5
"""Seconds between two looks at a storage while other processes fill the last slots."""


def work_through(
    arms: Sequence[Arm],
    device: torch.device,
    models: Path | None,
    display: ProgressDisplay | None = None,
    go_on: Callable[[], bool] = lambda: True,
) -> None:
    """Fill slots until none is left anywhere; wait for those that other processes fill."""
    while go_on():
        if display is not None:
            show(arms, display)
        if any(arm.step(device, models) for arm in arms if arm.n_done < arm.n_slots):
            continue
        if all(arm.n_done == arm.n_slots for arm in arms):
            return
        if not any(study.reap() for arm in arms for study in (arm.tuning, arm.final)):
            time.sleep(POLL)


def show(arms: Sequence[Arm], display: ProgressDisplay) -> None:
    """Show how many slots are done, and which arm is next."""
    done = [arm.n_done for arm in arms]
    current = next((arm.label for arm, n in zip(arms, done, strict=True) if n < arm.n_slots), "")
    display.advance(sum(done), current)


def run_processes(
    plan: Plan,
    where: str,
    n_workers: int,
    device: str,
    models: Path | None,
    arms: Sequence[Arm],
    display: ProgressDisplay,
) -> None:
    """Let ``n_workers`` processes do the work.

    Raises
    ------
    AutometaError
        A process ended before the work was done.
    """
    context = multiprocessing.get_context("spawn")
    threads = max(1, usable_cores() // n_workers)
    arguments = (plan, where, device, models, threads, os.getpid())
    processes = [context.Process(target=_worker, args=arguments, name=f"autometa-{i}") for i in range(n_workers)]
    try:
        for process in processes:
            with _ctrl_c_later():
                process.start()
        while any(process.is_alive() for process in processes):
            show(arms, display)
            time.sleep(POLL)
        show(arms, display)
    except BaseException:
        _stop(processes)
        raise
    failed = [process.exitcode for process in processes if process.exitcode]
    if failed and any(arm.n_done < arm.n_slots for arm in arms):
        raise AutometaError(
            f"{len(failed)} of {n_workers} workers ended with exit codes {failed} and work is left; their own messages "
            "are above. The same call again goes on where this one was; fewer workers need less memory."
        )


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the block, and in the processes started there until they ask for it.

    A process that is stopped while it imports, or while it is told what to do, can only print where it was.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # which lets signals through again, so it must not begin in the block
    before = signal.getsignal(signal.SIGINT)
    is_heard = threading.current_thread() is threading.main_thread() and callable(before)
    pressed = []
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    if is_heard:
        signal.signal(signal.SIGINT, lambda number, frame: pressed.append(frame))  # another thread may take it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if is_heard:
            signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def _hear_ctrl_c() -> None:
    """Let the first Ctrl-C stop this process; a second one must not disturb how it ends."""

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, stop)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # a service manager ends all processes of a command with it
        signal.signal(signal.SIGTERM, stop)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _stop(processes: Sequence[BaseProcess]) -> None:
    """Ask processes to stop as Ctrl-C does, and end those that do not."""
    for process in processes:
        if process.is_alive() and process.pid is not None:
            if os.name == "posix":
                os.kill(process.pid, signal.SIGINT)
            else:
                process.terminate()
    for process in processes:
        if process.pid is not None:
            process.join(10)
            if process.is_alive():
                process.kill()


def _worker(plan: Plan, where: str, device: str, models: Path | None, threads: int, parent: int) -> None:
    """Work until all is done or the process that started this one is gone."""
    try:
        _hear_ctrl_c()
        torch.set_num_threads(threads)
        # scikit-learn's linear algebra has threads of its own, which would take the other workers' cores.
        with threadpool_limits(threads), quiet_optuna():
            arms = open_arms(plan, open_storage(where, wait=True))
            work_through(arms, pick_device(device), models, go_on=lambda: os.getppid() == parent)
    except StorageLost as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        return  # the slot is open again, and the process that started this one tells the user
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

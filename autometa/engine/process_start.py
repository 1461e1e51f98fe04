"""Start processes that have imported already what they need. Imports nothing heavy, so a command can begin with it."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.context import ForkServerContext, SpawnContext

NEEDED = ("autometa.comparison.execution.workers", "autometa.comparison.report.figures")
"""Modules that workers and processes that draw need, and with them torch, scikit-learn, Optuna and matplotlib. They
start no thread and use no GPU when they are imported, so a process that has them can fork; what plugins import is not
known, and each worker does it."""


def process_context() -> SpawnContext | ForkServerContext:
    """Return how workers are started.

    On Linux a server imports what they need once and forks each of them; it ends with this process. Libraries of other
    systems do not survive a fork, so each worker imports everything there.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*NEEDED])
    return context


def prepare_processes() -> None:
    """Let the server, where there is one, begin to import while this process does something else."""
    if process_context().get_start_method() == "forkserver":
        from multiprocessing.forkserver import ensure_running

        with ctrl_c_later():
            ensure_running()


@contextmanager
def ctrl_c_later() -> Iterator[None]:
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

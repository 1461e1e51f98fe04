"""Start processes that have imported already what they need. Imports nothing heavy, so a command can begin with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing import resource_tracker
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING

from autometa.engine.program import importable_program

if TYPE_CHECKING:  # Windows has not all of these
    from multiprocessing.context import ForkServerContext, ForkServerProcess, SpawnContext, SpawnProcess
    from multiprocessing.forkserver import ForkServer

NEEDED = ("autometa.comparison.execution.workers", "autometa.comparison.report.figures")
"""Modules that workers and processes that draw need, and with them torch, scikit-learn, Optuna and matplotlib. They
start no thread and use no GPU when they are imported, so a process that has them can fork; what plugins import is not
known, and each worker does it."""
_SAFE_PATH = "PYTHONSAFEPATH"
AFTER_CHILDREN = -1
"""Priority of what multiprocessing does as this process ends, once the processes are joined that it started."""


def process_context() -> SpawnContext | ForkServerContext:
    """Return how workers are started.

    On Linux a server imports what they need once and forks each of them; this process ends it at its own end. Libraries
    of other systems do not survive a fork, so each worker imports everything there.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    return multiprocessing.get_context("forkserver")


def prepare_processes() -> None:
    """Let the server, where there is one, begin to import while this process does something else."""
    if process_context().get_start_method() == "forkserver":
        from multiprocessing.forkserver import ensure_running

        with ctrl_c_later(), _preloaded():
            ensure_running()


def start_process(process: SpawnProcess | ForkServerProcess) -> None:
    """Start a process of :func:`process_context`, and the server that forks it where there is none."""
    with _preloaded(), importable_program():
        process.start()


@contextmanager
def _preloaded() -> Iterator[None]:
    """Let a server that begins in the block import what workers need, beside what the user's program wants it to.

    There is one server for all of a process, so the list of the user's program is as it was afterwards. Its own file,
    which is on that list by default, is left to each process: nobody promised that it can fork once it has that.
    """
    if sys.platform != "linux":
        yield
        return
    from multiprocessing.forkserver import _forkserver, set_forkserver_preload

    with _one_at_a_time:
        if not _is_ours(_forkserver):
            os.close(_forkserver._forkserver_alive_fd)  # type: ignore[attr-defined]
            _forkserver._forkserver_pid = _forkserver._forkserver_address = None  # type: ignore[attr-defined]
        wanted = _forkserver._preload_modules  # type: ignore[attr-defined]  # nothing public tells it
        own = [name for name in wanted if name != "__main__"]
        set_forkserver_preload([*own, *NEEDED])
        before = _forkserver._forkserver_pid  # type: ignore[attr-defined]
        try:
            with nullcontext() if own or before is not None else _safe_path():
                yield
        finally:
            set_forkserver_preload(wanted)
            if (begun := _forkserver._forkserver_pid) not in (before, None):  # type: ignore[attr-defined]
                Finalize(None, _end_server, (begun,), exitpriority=AFTER_CHILDREN)


_one_at_a_time = threading.RLock()


@contextmanager
def _safe_path() -> Iterator[None]:
    """Keep a server that begins in the block from importing what lies in the folder where the program was started.

    Python takes that folder for the first to look in where it is started as the server is; programs do not. Modules of
    the user's own list may lie there.
    """
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


def _end_server(pid: int) -> None:
    """End the server that this process began, which alone would take seconds for what it has imported."""
    from multiprocessing.forkserver import _forkserver

    if _forkserver._forkserver_pid == pid and _is_ours(_forkserver):  # type: ignore[attr-defined]
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        _forkserver._forkserver_pid = None  # type: ignore[attr-defined]


def _is_ours(server: ForkServer) -> bool:
    """Return False of a server that this process took over from the one that it is a fork of, or that has ended."""
    try:
        return server._forkserver_pid is None or os.waitpid(server._forkserver_pid, os.WNOHANG)[0] == 0  # type: ignore[attr-defined]
    except ChildProcessError:
        return False


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


def end_with_who_asked() -> None:
    """End this process as soon as the one that asked for it is gone: what it is at work on may never end."""
    threading.Thread(target=_wait_for_who_asked, daemon=True).start()


def _wait_for_who_asked() -> None:
    asking = multiprocessing.parent_process()
    if asking is not None:
        asking.join()
        os._exit(1)

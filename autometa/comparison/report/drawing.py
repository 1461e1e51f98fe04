"""Figures of a report that other processes draw while this one goes on: drawing takes most of its time."""

from __future__ import annotations

import re
import secrets
import signal
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextvars import ContextVar
from functools import partial, wraps
from typing import ParamSpec

from autometa.engine.process_start import ctrl_c_later, end_with_who_asked, prepare_processes, process_context
from autometa.engine.program import program_left_out

P = ParamSpec("P")
Call = Callable[[], str]
_ENDED = (BrokenProcessPool, EOFError, ConnectionError)
"""What is raised where processes end, for want of memory for instance."""


class _Sheet:
    """Figures that are being drawn; a mark stands for each."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._figures: list[tuple[Call, Future[str] | None]] = []
        self._mark = secrets.token_hex()

    def add(self, call: Call) -> str:
        try:
            with ctrl_c_later(), program_left_out():  # a process may be started
                drawing = self._pool.submit(call)
        except _ENDED:
            drawing = None
        self._figures.append((call, drawing))
        return f"<!--{self._mark}-{len(self._figures) - 1}-->"

    def filled(self, text: str) -> str:
        return re.sub(f"<!--{self._mark}-(\\d+)-->", lambda found: self._figure(int(found[1])), text)

    def _figure(self, place: int) -> str:
        call, drawing = self._figures[place]
        try:
            return call() if drawing is None else drawing.result()
        except _ENDED:
            return call()


_sheet: ContextVar[_Sheet | None] = ContextVar("_sheet", default=None)


def drawn(function: Callable[P, str]) -> Callable[P, str]:
    """Let another process draw the figure that a function returns, within :func:`drawn_by`.

    What it is given can be pickled.
    """

    @wraps(function)
    def here_or_elsewhere(*arguments: P.args, **options: P.kwargs) -> str:
        sheet = _sheet.get()
        if sheet is None:
            return function(*arguments, **options)
        return sheet.add(partial(here_or_elsewhere, *arguments, **options))

    return here_or_elsewhere


def drawn_by(n_processes: int, render: Callable[[], str]) -> str:
    """Return what ``render`` returns, with figures drawn by so many processes.

    Processes are started where a server forks them (Linux); elsewhere they would import for longer than they draw.
    """
    context = process_context()
    if n_processes == 1 or context.get_start_method() != "forkserver":
        return render()
    prepare_processes()
    pool = ProcessPoolExecutor(n_processes, context, initializer=_depend_on_the_other)
    try:
        sheet = _Sheet(pool)
        before = _sheet.set(sheet)
        try:
            text = render()
        finally:
            _sheet.reset(before)
        return sheet.filled(text)
    finally:
        pool.shutdown(cancel_futures=True)  # after an error what is being drawn is waited for, and nothing else


def _depend_on_the_other() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_who_asked()

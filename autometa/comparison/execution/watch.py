"""A limit for silence: a run that hangs is ended, and nothing else waits for it."""

from __future__ import annotations

import _thread
import ctypes
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, MutableSequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TypeAlias

from autometa.comparison.execution.monitor import Monitor
from autometa.comparison.execution.owner import Owner
from autometa.engine.pulse import Pulse
from autometa.errors import warn_user

GRACE = 5.0
"""Seconds that code has to end after it was interrupted."""


GiveUp: TypeAlias = Callable[[str, float], None]


class Interruption(BaseException):
    """Raised in the midst of a run that hangs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How the runs of this process are watched.

    The process that started this one watches it from outside, and can end it whatever it does. A process that nobody
    watches does so from a thread: it interrupts what is written in Python, and ends itself where that does not help;
    its monitor does where not even threads run.
    """

    limit: float | None = None
    """Seconds without a finished step after which a run hangs; None: see :class:`Pulse`."""
    supervisor: Owner | None = None
    """The process that watches this one."""
    memory: MutableSequence[float] | None = None
    """Where that process reads how far this one is."""
    monitor: Monitor | None = None
    """Ends this process where no thread of it can."""

    @contextmanager
    def over(self, give_up: GiveUp | None, *, seconds: float = math.inf) -> Iterator[Hang]:
        """Watch a block.

        Parameters
        ----------
        give_up : callable, optional
            Records the reason given, and the limit, before this process is ended. None: what it has done is in its
            memory alone, so it is never ended.
        seconds : float, default=infinity
            How long it may take: the first step that is finished later raises :class:`OutOfTime`.
        """
        pulse = Pulse(self.limit, self.memory, seconds=seconds)
        hang = Hang(pulse, give_up, self.monitor)
        with pulse.of_this_thread():
            if self.supervisor is not None:
                yield hang
            else:
                with hang.interrupted():
                    yield hang


def silent_for(seconds: float) -> str:
    """Say why a run that hangs has failed."""
    return f"TrialTimeout: no outer step was finished for {seconds:.3g} seconds"


class Hang:
    """A run in this process that may hang.

    Attributes
    ----------
    reason : str
        Why it was interrupted; empty if it was not.
    seconds : float
        The limit that it broke.
    """

    def __init__(self, pulse: Pulse, give_up: GiveUp | None, monitor: Monitor | None) -> None:
        self.pulse = pulse
        self.reason, self.seconds = "", 0.0
        self._sent = False
        self._monitor = monitor
        self._give_up = give_up
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread: int | None = threading.get_ident()

    @contextmanager
    def interrupted(self) -> Iterator[None]:
        """Raise :class:`Interruption` in the block if it hangs."""
        looks = threading.Thread(target=self._look, name="autometa-watch", daemon=True)
        with self._handler():
            looks.start()
            try:
                yield
            finally:
                try:
                    self._leave(looks)
                finally:
                    self._leave(looks)  # the interruption may come in the midst of it, and comes once

    def _leave(self, looks: threading.Thread) -> None:
        with self._lock:
            self._over.set()
        looks.join()
        self._expect(0.0)

    def _look(self) -> None:
        silence = 0.0
        steps = self.pulse.count
        while silence < self.pulse.allowed:
            pause = min(self.pulse.allowed / 4, max(0.01, self.pulse.allowed - silence))
            self._expect(self.pulse.allowed + 2 * GRACE)
            if self._over.wait(pause):
                return
            # Time is counted in pauses: a process that was stopped and goes on has not been silent.
            silence = silence + pause if self.pulse.count == steps else 0.0
            steps = self.pulse.count
        with self._lock:
            if self._over.is_set():
                return
            self.seconds = self.pulse.allowed
            self.reason, self._sent = silent_for(self.seconds), True
            self._interrupt()
        while not self._over.wait(GRACE):
            if self.pulse.count == steps:
                self._end()
                return
            steps = self.pulse.count  # it took the interruption for an error of its own and goes on
            self._expect(self.pulse.allowed + 2 * GRACE)

    def _expect(self, seconds: float) -> None:
        if self._monitor is not None:
            self._monitor.expect(seconds)

    @contextmanager
    def _handler(self) -> Iterator[None]:
        """Let the signal of Ctrl-C interrupt the main thread here, which is what wakes one that sleeps."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)
        if before is None:  # somebody else's, and not to be had back
            self._thread = None
            yield
            return

        def interrupt(number: int, frame: FrameType | None) -> None:
            if self._sent:
                self._sent = False
                if not self._over.is_set():
                    raise Interruption(self.reason)
            elif callable(before):
                before(number, frame)
            elif before == signal.SIG_DFL:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)

        signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            if signal.getsignal(signal.SIGINT) is interrupt:
                signal.signal(signal.SIGINT, before)

    def _interrupt(self) -> None:
        if self._thread is None:
            return
        if self._thread != threading.main_thread().ident:
            kind = ctypes.py_object(Interruption)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), kind)
        elif hasattr(signal, "pthread_kill"):
            signal.pthread_kill(self._thread, signal.SIGINT)
        else:
            _thread.interrupt_main()

    def _end(self) -> None:
        """Give up a run that cannot be interrupted, and the process with it where nothing is lost by that."""
        if self._give_up is None:
            text = (
                "it cannot be interrupted, and what is done is in the memory of this process alone; it is waited for."
            )
            warn_user(f"{self.reason}; {text}", RuntimeWarning)
            return
        try:
            self._give_up(self.reason, self.seconds)
            if sys.__stderr__ is not None:
                text = "and it cannot be interrupted, so this process ends. The same call goes on with the rest."
                sys.__stderr__.write(f"error: {self.reason}, {text}\n")
                sys.__stderr__.flush()
        finally:
            os._exit(1)

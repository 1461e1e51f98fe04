"""SIGTERM, by which service managers and shells end a process: it stops a command as Ctrl-C does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

TERMINATED = 143
"""Exit code after SIGTERM, as shells give it."""


class Termination:
    """Tells whether SIGTERM asked the command to end."""

    def __init__(self) -> None:
        self.asked = False
        self.kept = ""
        """What the command says of its work so far."""


@contextmanager
def hear_sigterm() -> Iterator[Termination]:
    """Let SIGTERM stop the block as Ctrl-C would, so that what is at work is given back; a second one is not heard."""
    termination = Termination()
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield termination  # whoever runs the command hears it himself
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if termination.asked:
            return
        termination.asked = True
        # Whoever listens for Ctrl-C now, and may put it off, does the same here.
        ctrl_c = signal.getsignal(signal.SIGINT)
        if not callable(ctrl_c):
            raise KeyboardInterrupt
        ctrl_c(signal.SIGINT, frame)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield termination
    finally:
        if signal.getsignal(signal.SIGTERM) is stop:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

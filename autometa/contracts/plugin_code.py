"""Running a plugin's code, which may raise anything, while Ctrl-C still belongs to the user."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from autometa.contracts.no_exit import exit_is_an_error
from autometa.errors import PluginError


class OutOfTime(BaseException):
    """Raised in the midst of a run whose time is over; no fault of what runs."""


class CtrlC:
    """Tells a Ctrl-C of the user from a KeyboardInterrupt that a plugin raises itself."""

    def __init__(self) -> None:
        self.raised: BaseException | None = None
        """What the handler of a signal raised."""

    @property
    def pressed(self) -> bool:
        """True if a signal asked to stop."""
        return self.raised is not None

    def stop_if_pressed(self) -> None:
        """Raise what the signal's handler did, KeyboardInterrupt after Ctrl-C, whatever the plugin made of it."""
        if self.raised is not None:
            raise self.raised.with_traceback(None)


_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]


@contextmanager
def watch_ctrl_c() -> Iterator[CtrlC]:
    """Note whether Ctrl-C interrupts the block, whose code may raise or catch a KeyboardInterrupt of its own.

    The same holds for other signals that ask a process to end, where their handlers raise.
    """
    seen = CtrlC()
    if threading.current_thread() is not threading.main_thread():
        yield seen  # signals go to the main thread
        return

    def noting(before: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], None]:
        def note(number: int, frame: FrameType | None) -> None:
            try:
                before(number, frame)
            except BaseException as error:
                seen.raised = error
                raise

        return note

    found = {number: signal.getsignal(number) for number in _SIGNALS}
    before = {number: handler for number, handler in found.items() if callable(handler)}  # others raise nothing
    notes = {number: noting(handler) for number, handler in before.items()}
    for number, note in notes.items():
        signal.signal(number, note)
    try:
        yield seen
    finally:
        for number, note in notes.items():
            if signal.getsignal(number) is note:
                signal.signal(number, before[number])


@contextmanager
def plugin_code(whose: str = "it") -> Iterator[None]:
    """Run a plugin's code; what it raises to end the process is an error of the plugin like any other.

    Parameters
    ----------
    whose : str
        What to call it in the error.

    Raises
    ------
    PluginError
        In place of SystemExit, ``os._exit``, GeneratorExit, a KeyboardInterrupt without a signal, and all else that is
        no ``Exception``.
    KeyboardInterrupt
        The user pressed Ctrl-C, whatever the plugin made of it.
    OutOfTime
        The time of the run is over.
    """
    with watch_ctrl_c() as ctrl_c:
        try:
            with exit_is_an_error():
                yield
        except (Exception, OutOfTime):
            ctrl_c.stop_if_pressed()
            raise
        except BaseException as error:
            ctrl_c.stop_if_pressed()
            raise PluginError(f"{whose} raised {one_line(error)}") from error
        ctrl_c.stop_if_pressed()


def one_line(error: BaseException) -> str:
    """Return the type and the text of an error on one line."""
    return ": ".join(filter(None, [type(error).__name__, text_of(error)]))


def text_of(error: BaseException) -> str:
    """Return the text of an error on one line; none if it cannot be printed."""
    try:
        return " ".join(str(error).encode(errors="replace").decode().split())
    except Exception:
        return ""

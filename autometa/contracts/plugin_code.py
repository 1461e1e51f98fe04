"""Running a plugin's code, which may raise anything, while Ctrl-C still belongs to the user."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class CtrlC:
    """Tells a Ctrl-C of the user from a KeyboardInterrupt that a plugin raises itself."""

    def __init__(self) -> None:
        self.pressed = False

    def stop_if_pressed(self) -> None:
        """Raise KeyboardInterrupt if the user asked for it, whatever the plugin made of it."""
        if self.pressed:
            raise KeyboardInterrupt


@contextmanager
def watch_ctrl_c() -> Iterator[CtrlC]:
    """Note whether Ctrl-C interrupts the block, whose code may raise or catch a KeyboardInterrupt of its own."""
    seen = CtrlC()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        # The signal goes to the main thread, or is ignored, or ends the process.
        yield seen
        return

    def note(number: int, frame: object) -> None:
        try:
            before(number, frame)  # type: ignore[arg-type]
        except KeyboardInterrupt:
            seen.pressed = True
            raise

    signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        if signal.getsignal(signal.SIGINT) is note:
            signal.signal(signal.SIGINT, before)


def one_line(error: BaseException) -> str:
    """Return the type and the text of an error on one line."""
    return ": ".join(filter(None, [type(error).__name__, text_of(error)]))


def text_of(error: BaseException) -> str:
    """Return the text of an error on one line; none if it cannot be printed."""
    try:
        return " ".join(str(error).encode(errors="replace").decode().split())
    except Exception:
        return ""

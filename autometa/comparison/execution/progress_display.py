"""Show how far a comparison is."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from autometa.contracts.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

PAUSE = 60.0
"""Seconds between two lines where there is no terminal, at least."""


class ProgressDisplay(Protocol):
    """What shows how far a comparison is."""

    @property
    def is_due(self) -> bool:
        """True if it wants to be told now how far it is, which takes some reading."""

    def start(self, total: int) -> None:
        """Begin the display of ``total`` trials and final runs."""

    def advance(self, done: int, status: str, left: float | None = None, total: int | None = None) -> None:
        """Show that ``done`` of them are over, in this run or an earlier one; what is worked on; the seconds left.

        ``total`` is how many there are by now, where that has changed, as it does in a race.
        """

    def close(self) -> None:
        """End the display, whether all is done or not."""


class NoDisplay:
    """Show nothing."""

    is_due = False

    def start(self, total: int) -> None:
        """Do nothing."""

    def advance(self, done: int, status: str, left: float | None = None, total: int | None = None) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class LineDisplay:
    """Write a line on standard error now and then: ``done 12/100, maml on glyphs, about 7 min left``."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._total, self._last = 0, -math.inf

    @property
    def is_due(self) -> bool:
        """True if the last line was written a while ago."""
        return self._clock() - self._last >= PAUSE

    def start(self, total: int) -> None:
        """Write the first line as soon as it is known what is worked on."""
        self._total, self._last = total, -math.inf

    def advance(self, done: int, status: str, left: float | None = None, total: int | None = None) -> None:
        """Write a line, if one is due."""
        if not self.is_due:
            return
        self._last = self._clock()
        self._total = self._total if total is None else total
        parts = (f"done {done}/{self._total}", printable(status), left_text(left))
        if sys.stderr is not None:  # as it is for a program of windows alone
            sys.stderr.write(", ".join(filter(None, parts)) + "\n")
            sys.stderr.flush()

    def close(self) -> None:
        """Do nothing."""


class BarDisplay:
    """Show a bar with the time that is left, on standard error."""

    is_due = True

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("elapsed"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.description}", markup=False),
            console=console or Console(stderr=True),
        )

    def start(self, total: int) -> None:
        """Show the bar."""
        self._bar.start()
        self._task = self._bar.add_task("", total=total, left="")

    def advance(self, done: int, status: str, left: float | None = None, total: int | None = None) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done, description=printable(status), left=left_text(left), total=total)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.stop()


def left_text(seconds: float | None) -> str:
    """Say how much time is left; empty where nobody knows, and where none is."""
    if not seconds:
        return ""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute left"
    if minutes < 60:
        return f"about {minutes} min left"
    hours, days = round(minutes / 60), round(minutes / 1440)
    return f"about {hours} h left" if hours < 48 else f"about {days} days left"


def make_display(verbose: int) -> ProgressDisplay:
    """Return a bar, or lines where there is no terminal; for ``verbose=0`` a display that shows nothing."""
    if not verbose:
        return NoDisplay()
    from rich.console import Console

    console = Console(stderr=True)
    return BarDisplay(console) if console.is_terminal or console.is_jupyter else LineDisplay()

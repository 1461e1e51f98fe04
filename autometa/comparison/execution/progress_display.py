"""Show how far a comparison is."""

from __future__ import annotations

from typing import Protocol

from autometa.contracts.printable import printable


class ProgressDisplay(Protocol):
    """What shows how far a comparison is."""

    def start(self, total: int) -> None:
        """Begin the display of ``total`` trials and final runs."""

    def advance(self, done: int, status: str) -> None:
        """Show that ``done`` of them are over, in this run or an earlier one, and what is worked on."""

    def close(self) -> None:
        """End the display, whether all is done or not."""


class NoDisplay:
    """Show nothing."""

    def start(self, total: int) -> None:
        """Do nothing."""

    def advance(self, done: int, status: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class BarDisplay:
    """Show a bar with the time that is left, on standard error."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("elapsed"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=Console(stderr=True),
        )

    def start(self, total: int) -> None:
        """Show the bar."""
        self._bar.start()
        self._task = self._bar.add_task("", total=total)

    def advance(self, done: int, status: str) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done, description=printable(status))

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.stop()


def make_display(verbose: int) -> ProgressDisplay:
    """Return a bar; for ``verbose=0`` a display that shows nothing."""
    return BarDisplay() if verbose else NoDisplay()

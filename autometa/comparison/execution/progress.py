"""Telling how far a comparison is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What a comparison tells while it runs."""

    def start(self, total: int) -> None:
        """Begin; there are ``total`` trials and final runs."""

    def advance(self, done: int, status: str) -> None:
        """``done`` of them are over, in this run or an earlier one; ``status`` says what is going on."""

    def close(self) -> None:
        """End, whether all is done or not."""


class Silent:
    """Tells nothing."""

    def start(self, total: int) -> None:
        """Do nothing."""

    def advance(self, done: int, status: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Bar:
    """A progress bar with the time that is left, on standard error."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("elapsed"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
        )

    def start(self, total: int) -> None:
        """Show the bar."""
        self._bar.start()
        self._task = self._bar.add_task("", total=total)

    def advance(self, done: int, status: str) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done, description=status)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.stop()


def make_progress(verbose: int) -> Progress:
    """Return a bar, or silence for ``verbose=0``."""
    return Bar() if verbose else Silent()

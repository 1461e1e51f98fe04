"""A process that works for this one, and how this one sees what becomes of it."""

from __future__ import annotations

import os
import signal
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from autometa.comparison.execution.arm import Arm
from autometa.comparison.execution.owner import Owner
from autometa.comparison.execution.slot_study import SlotStudy
from autometa.comparison.execution.watch import Watch
from autometa.engine.process_start import ctrl_c_later, start_process
from autometa.engine.program import WORKER
from autometa.errors import ProcessFailed

if TYPE_CHECKING:  # Windows has not both
    from multiprocessing.context import ForkServerContext, SpawnContext

STORAGE_LOST = 2
"""Place in the shared memory where a process notes that it ends because its storage failed."""

LONGEST_PAUSE = 5.0
"""Seconds between two looks at a process that are counted, at most."""

LAST_WORDS = 10.0
"""Seconds that a process has to end once it is asked to, or killed."""


class Child:
    """One process at a time; another takes its place where it was ended by what it worked on.

    Parameters
    ----------
    context : multiprocessing context
    target : callable
        What the process runs: takes ``arguments`` and its :class:`Watch`.
    arguments : tuple
    watch : Watch
        How the process is to be watched.

    Attributes
    ----------
    is_orphan : bool
        True once it was found to live on after the server that forked it. Nobody is told its exit code then.
    """

    def __init__(
        self,
        context: SpawnContext | ForkServerContext,
        target: Callable[..., None],
        arguments: tuple[Any, ...],
        watch: Watch,
    ) -> None:
        self._context, self._target, self._arguments, self._watch = context, target, arguments, watch
        self._pidfd: int | None = None
        self._close_pidfd: Callable[[], object] | None = None
        self.begin()

    def begin(self) -> None:
        """Make a new process, which is not started yet."""
        self._memory = self._context.RawArray("d", 3)
        watch = Watch(limit=self._watch.limit, supervisor=self._watch.supervisor, memory=self._memory)
        self.process = self._context.Process(target=self._target, args=(*self._arguments, watch), name=WORKER)
        self._count, self._silence, self._looked = 0.0, 0.0, time.monotonic()
        self._identity: Owner | None = None
        if self._close_pidfd is not None:
            self._close_pidfd()
        self._pidfd, self._close_pidfd = None, None
        self.is_orphan = False

    def start(self) -> None:
        """Start the process that was made.

        Raises
        ------
        ProcessFailed
            The server that forks it ended.
        """
        try:
            with ctrl_c_later():
                start_process(self.process)
                assert self.process.pid is not None
                self._identity = Owner.of(self.process.pid)
        except (EOFError, ConnectionError) as error:
            raise ProcessFailed(
                "the process that starts the workers ended while it did so; memory may be short. The same call again "
                "goes on where this one was; fewer workers need less memory."
            ) from error

    def lives(self) -> bool:
        """Tell whether the process runs, which multiprocessing cannot once the server that forked it is gone."""
        if self.process.is_alive():
            return True
        lives = self._identity is not None and not self._identity.is_dead(last_beat=0.0)
        if lives and not self.is_orphan:
            self.is_orphan = True
            self._pidfd = self._open_pidfd()
        return lives

    def _open_pidfd(self) -> int | None:
        """Open what becomes ready once the process ends; None where the system has nothing like that."""
        assert self.process.pid is not None
        try:
            pidfd: int = os.pidfd_open(self.process.pid)  # type: ignore[attr-defined,unused-ignore]  # Linux
        except (AttributeError, OSError):
            return None
        self._close_pidfd = weakref.finalize(self, os.close, pidfd)
        return pidfd

    @property
    def sentinel(self) -> int | None:
        """What :func:`multiprocessing.connection.wait` waits for until the process ends; None if there is nothing."""
        return self._pidfd if self.is_orphan else self.process.sentinel

    def interrupt(self) -> None:
        """Ask the process to stop, as Ctrl-C does."""
        if self.lives():
            if os.name == "posix":
                self._signal(signal.SIGINT)
            else:
                self.process.terminate()

    def stop(self) -> None:
        """Wait for a process that was asked to stop, and kill it if it does not."""
        if self._identity is not None and not self._ends_soon():
            self._kill()

    def _kill(self) -> None:
        if self.is_orphan and self.lives():
            self._signal(signal.SIGKILL)
        else:
            self.process.kill()
        self._ends_soon()

    def _signal(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    def _ends_soon(self) -> bool:
        until = time.monotonic() + LAST_WORDS
        while (lives := self.lives()) and (left := until - time.monotonic()) > 0:
            if not self.is_orphan:
                self.process.join(left)
            elif self._pidfd is not None:
                connection.wait([self._pidfd], left)
            else:
                time.sleep(0.05)
        return not lives

    def hangs(self) -> float:
        """Return the seconds for which it was to finish a step and did not; 0 if it goes on, or waits for work."""
        count, allowed, _ = self._memory
        pause, self._looked = time.monotonic() - self._looked, time.monotonic()
        # A longer pause was no silence of the other process: this one, and perhaps both, had been stopped.
        self._silence = self._silence + min(pause, LONGEST_PAUSE) if count == self._count else 0.0
        self._count = count
        return float(allowed) if 0 < allowed < self._silence else 0.0

    @property
    def has_lost_its_storage(self) -> bool:
        """True if it ended because its storage failed."""
        return bool(self._memory[STORAGE_LOST])

    @property
    def end(self) -> str:
        """How the process ended."""
        if self.is_orphan:
            return "an exit code that nobody saw"
        code = self.process.exitcode or 0
        if code >= 0:
            return f"exit code {code}"
        try:
            return f"signal {signal.Signals(-code).name}"
        except ValueError:
            return f"signal {-code}"

    def bury(self, arms: Sequence[Arm]) -> list[tuple[Arm, bool]]:
        """Record what it was at work on when it ended: arms, and whether a slot of theirs has failed with it."""
        if self.has_lost_its_storage:
            return []
        return [
            (arm, study.bury(trial, self.end))
            for arm, study in _studies(arms)
            for trial in study.of_child(self.process.pid)
        ]

    def end_hanging(self, arms: Sequence[Arm], seconds: float) -> list[Arm]:
        """Kill it because it does not go on, and record that; return what it was at work on."""
        hanging = [
            arm
            for arm, study in _studies(arms)
            for trial in study.of_child(self.process.pid)
            if study.end_hanging(trial, seconds)
        ]
        self._kill()
        return hanging

    def give_back(self, arms: Sequence[Arm]) -> None:
        """Open the slots again that it was at work on when it was asked to stop."""
        for _, study in _studies(arms):
            for trial in study.of_child(self.process.pid):
                study.give_back(trial)


def _studies(arms: Sequence[Arm]) -> list[tuple[Arm, SlotStudy]]:
    return [(arm, study) for arm in arms for study in arm.studies]

"""Signs that a run goes on, by which whoever waits for it tells long work from a hang."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager
from statistics import median

from autometa.contracts.plugin_code import OutOfTime

SILENCE = 600.0
"""Seconds that may pass without a finished step, at least."""
MEDIANS = 100
"""And this many times the median step of the run, where that is more."""


class Pulse:
    """How a run goes on: counts its finished steps, and says how long the next one may take.

    Parameters
    ----------
    limit : float, optional
        Seconds that a step may take; None: what :data:`SILENCE` and :data:`MEDIANS` say.
    memory : mutable sequence of two floats, optional
        Where both numbers are kept; another process may read it.
    seconds : float, default=infinity
        After so many seconds from now the next finished step raises :class:`OutOfTime`.
    """

    def __init__(
        self,
        limit: float | None = None,
        memory: MutableSequence[float] | None = None,
        *,
        seconds: float = math.inf,
    ) -> None:
        self.limit = limit
        self._until = time.monotonic() + seconds
        self.last = time.monotonic()
        self._memory = [0.0, 0.0] if memory is None else memory
        self._seconds: deque[float] = deque(maxlen=MEDIANS)

    @property
    def count(self) -> float:
        """Steps finished so far, in all runs."""
        return self._memory[0]

    @property
    def allowed(self) -> float:
        """Seconds that the step at work may take; 0 if no run is at work."""
        return self._memory[1]

    @contextmanager
    def of_this_thread(self) -> Iterator[None]:
        """Count the steps that this thread finishes in a block, which is one run."""
        before = _pulses.get(threading.get_ident())
        self._seconds.clear()
        self.last = time.monotonic()
        self._memory[0] += 1
        self._memory[1] = SILENCE if self.limit is None else self.limit
        _pulses[threading.get_ident()] = self
        try:
            yield
        finally:
            self._memory[1] = 0.0
            if before is None:
                del _pulses[threading.get_ident()]
            else:
                _pulses[threading.get_ident()] = before

    def beat(self) -> None:
        """Count one more."""
        now = time.monotonic()
        took, self.last = now - self.last, now
        self._seconds.append(took)
        if self.limit is None:
            slow = max(self._seconds) * MEDIANS > SILENCE
            self._memory[1] = max(SILENCE, MEDIANS * median(self._seconds)) if slow else SILENCE
        self._memory[0] += 1
        if now > self._until:
            raise OutOfTime


_pulses: dict[int, Pulse] = {}
"""By thread."""


def step_finished() -> None:
    """Tell whoever waits for this thread that an outer step or a batch of an evaluation is over."""
    pulse = _pulses.get(threading.get_ident())
    if pulse is not None:
        pulse.beat()

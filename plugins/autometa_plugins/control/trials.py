"""How many trials an outer step takes."""

from __future__ import annotations

from typing import Literal

_STEPS_AT_ONCE = 40_000
_MOST_TRIALS = 1000


def trials_at_once(trials: int | Literal["auto"], n_tasks: int, n_steps: int) -> int:
    """Return the trials of an outer step: as asked for, or as many as make 40,000 steps, within bounds.

    Parameters
    ----------
    trials : int or "auto"
        "auto": at most 1,000, and never fewer than ``n_tasks``.
    n_tasks : int
        Tasks of an outer step by the outer loop.
    n_steps : int
        Of a trial.
    """
    if trials == "auto":
        return max(n_tasks, min(_MOST_TRIALS, _STEPS_AT_ONCE // n_steps))
    return trials

"""A comparison that goes on keeps the numbers of threads it was begun with, or says that they differ."""

from __future__ import annotations

from collections.abc import Sequence

from autometa.comparison.execution.arm import Arm
from autometa.comparison.execution.environment import usable_cores
from autometa.comparison.execution.thread_counts import ThreadCounts
from autometa.errors import warn_user


def counts_used(arms: Sequence[Arm]) -> list[ThreadCounts]:
    """Return the counts with which trials and final runs were begun, the first one first."""
    trials = [trial for arm in arms for study in (arm.tuning, arm.final) for trial in study.trials()]
    known = [trial for trial in trials if "threads" in trial.user_attrs]
    return list(dict.fromkeys(ThreadCounts(*trial.user_attrs["threads"]) for trial in known))


def counts_to_use(arms: Sequence[Arm], n_processes: int, each: int | None = None) -> ThreadCounts:
    """Return the counts that a comparison was begun with, or those of now if it is new.

    Where there are too few cores for that, those of now are used, with a warning.

    Parameters
    ----------
    arms : sequence of Arm
    n_processes : int
    each : int, optional
        Cores that each process has for itself, somewhere; None: they share those of this machine.
    """
    if each is not None:
        now, cores = ThreadCounts(each, each), each * n_processes
    else:
        now = ThreadCounts.here() if n_processes == 1 else ThreadCounts.shared(n_processes)
        cores = usable_cores()
    used = counts_used(arms)
    if not used or used[0] == now or all(arm.n_done == arm.n_slots for arm in arms):
        return now
    first = used[0]
    if max(first.torch, first.blas) * n_processes <= cores:
        return first
    warn_user(
        f"this comparison was begun with {first} threads for each process, and here {n_processes} share "
        f"{cores} cores: what is left runs with {now}. Results of different numbers agree to rounding."
    )
    return now


def threads_text(arms: Sequence[Arm]) -> int | str | None:
    """Say for the report how many threads computed; None if nothing is known."""
    used = sorted(counts_used(arms))
    if not used:
        return None
    if len(used) == 1:
        return used[0].torch if used[0].torch == used[0].blas else str(used[0])
    return f"{', '.join(map(str, used))}: not the same for all runs, so that they agree to rounding"

"""How many threads compute: part of what a score depends on, since sums in another order are rounded otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass

import torch
from threadpoolctl import threadpool_info, threadpool_limits

from autometa.comparison.execution.environment import usable_cores


@dataclass(frozen=True, slots=True, order=True)
class ThreadCounts:
    """The threads of a process."""

    torch: int
    blas: int
    """Of the linear algebra that numpy and scikit-learn call."""

    @classmethod
    def here(cls) -> ThreadCounts:
        """Return those of this process."""
        pools = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
        return cls(torch.get_num_threads(), max(pools, default=1))

    @classmethod
    def shared(cls, n_processes: int) -> ThreadCounts:
        """Return those of each of several processes that share the cores."""
        share = max(1, usable_cores() // n_processes)
        return cls(share, share)

    def __str__(self) -> str:
        return str(self.torch) if self.torch == self.blas else f"{self.torch} (linear algebra: {self.blas})"


_used: list[ThreadCounts] = []
"""The counts of the blocks of :func:`with_threads` that this process is in."""


@contextmanager
def with_threads(counts: ThreadCounts) -> Iterator[None]:
    """Compute with so many threads inside of the block, and record them with each trial."""
    _used.append(counts)
    before = torch.get_num_threads()
    try:
        if counts == ThreadCounts.here():
            yield
            return
        with threadpool_limits(counts.blas):
            torch.set_num_threads(counts.torch)
            yield
    finally:
        torch.set_num_threads(before)
        _used.remove(counts)


def recorded_threads() -> dict[str, tuple[int, ...]]:
    """Return what the record of a trial says of threads; looking at each library anew would take too long."""
    return {"threads": astuple(_used[-1])} if _used else {}

"""How much of what is learned of one task holds in another."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Mark:
    """A kernel of rows and tasks: ``k(x, x') · (shared + (1 - shared) · same) + level · same``.

    Here ``same`` is 1 for two rows of one task and else 0: the intrinsic coregionalization of Bonilla, Chai & Williams
    (2007), with tasks that are all alike related, and a level of each task.

    Parameters
    ----------
    shared : float
        Correlation of the functions of two tasks, 0 to 1.
    level : float
        Variance of the level of a task, beside that of the function.
    """

    shared: float
    level: float

    def within(self, kernel: Tensor) -> Tensor:
        """Return the kernel of rows of one task from that of what they hold."""
        return kernel + self.level

    def across(self, kernel: Tensor) -> Tensor:
        """Return the kernel of rows of two tasks."""
        return self.shared * kernel


MARKS = (
    Mark(1.0, 0.0),
    Mark(1.0, 0.3),
    Mark(1.0, 2.0),
    Mark(0.8, 0.1),
    Mark(0.8, 1.0),
    Mark(0.4, 0.3),
    Mark(0.4, 2.0),
    Mark(0.0, 0.3),
    Mark(0.0, 3.0),
)
"""From tasks that are all the same to those that have nothing but their mean in common."""
RIDGES = (0.05, 0.3, 2.0)

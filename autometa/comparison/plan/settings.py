"""The numbers of a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from autometa.checks import check_choice, check_int, check_real


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The numbers of a comparison; see :func:`autometa.compare`."""

    n_trials: int = 20
    budget: float | None = None
    n_test_tasks: int = 600
    n_valid_tasks: int = 100
    n_seeds: int = 5
    max_steps: int = 500
    tasks_per_step: int = 16
    random_state: int = 0
    search: Literal["separate", "joint"] = "separate"

    def __post_init__(self) -> None:
        counts = ("n_trials", "n_test_tasks", "n_valid_tasks", "n_seeds", "max_steps", "tasks_per_step")
        for name in (*counts, "random_state"):
            check_int(name, getattr(self, name), least=0 if name == "random_state" else 1)
            object.__setattr__(self, name, int(getattr(self, name)))  # a number of NumPy cannot be stored as JSON
        check_real("budget", self.budget, above=0, also=(None,), such_as=600)
        if self.budget is not None and not isinstance(self.budget, int):
            object.__setattr__(self, "budget", float(self.budget))
        check_choice("search", self.search, ("separate", "joint"))

    @property
    def seconds_per_run(self) -> float | None:
        """Meta-training time of one trial or final run."""
        return None if self.budget is None else self.budget / (self.n_trials + self.n_seeds)

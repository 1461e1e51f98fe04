"""The numbers of a comparison."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from autometa.checks import LARGEST_SEED, check_bool, check_choice, check_int, check_real
from autometa.contracts.objectives import AUTO
from autometa.contracts.problems import objective_names
from autometa.errors import InvalidParameter

MOST = {
    "n_trials": 100_000,
    "n_test_tasks": 10_000_000,
    "n_valid_tasks": 10_000_000,
    "n_seeds": 10_000,
    "max_steps": 10**9,
    "tasks_per_step": 1_000_000,
}
"""The largest number of each kind. Every trial and final run is a record that is read again and again, and every task a
number in a table: with more, a comparison never ends."""
Search: TypeAlias = Literal["separate", "race", "joint"]
"""How trials are shared among learners; see :func:`autometa.compare`."""
SEARCHES: tuple[Search, ...] = get_args(Search)
FIRST_ROUND = 0.4
"""Share of the time of a call that the first round of a race may take."""
RUNS_OF_FIRST_ROUND = 1.75
"""Whole runs that the first round of a race takes for each learner: four quarters, one of which goes on."""
MOST_WORKERS = 1024
"""Processes of one call; more machines join with ``autometa worker``."""


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
    search: Search = "separate"
    time_budget: float | None = None
    ensemble: bool = False
    objective: str = AUTO
    max_latency: float | None = None
    max_memory: float | None = None
    backbones: str | None = None
    """Full names of the networks that learners may choose from, between spaces; None until the plan is made."""

    def __post_init__(self) -> None:
        check_int("random_state", self.random_state, least=0, most=LARGEST_SEED)
        for name, most in MOST.items():
            check_int(name, getattr(self, name), most=most)
        for name in (*MOST, "random_state"):
            object.__setattr__(self, name, int(getattr(self, name)))  # a number of NumPy cannot be stored as JSON
        check_real("budget", self.budget, above=0, also=(None,), such_as=600)
        if self.budget is not None and not isinstance(self.budget, int):
            object.__setattr__(self, "budget", float(self.budget))
        check_choice("search", self.search, SEARCHES)
        if self.time_budget is not None and self.search != "race":
            raise InvalidParameter(
                f"time_budget={self.time_budget!r} with search={self.search!r}: only a race can keep to it; give "
                "search='race', or budget=, seconds of meta-training for each learner."
            )
        check_bool("ensemble", self.ensemble)
        if self.ensemble and self.search == "joint":
            raise InvalidParameter(
                "ensemble=True needs final runs of several learners, and search='joint' has those of its winner alone; "
                "use search='race' or 'separate', or ensemble=False."
            )
        check_choice("objective", self.objective, objective_names())
        if self.ensemble and self.objective == "log_likelihood":
            raise InvalidParameter(
                "ensemble=True with objective='log_likelihood': an ensemble tells no density of its own; give another "
                "objective, or ensemble=False."
            )
        check_real("max_latency", self.max_latency, above=0, also=(None,), such_as=50)
        check_real("max_memory", self.max_memory, above=0, also=(None,), such_as=10)
        for name in ("max_latency", "max_memory"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, float(getattr(self, name)))

    def shared(self, n_runs: float) -> Settings:
        """Return these with a ``budget`` with which so many learners can run the first round of a race in time."""
        if self.time_budget is None or self.budget is not None:
            return self
        seconds = FIRST_ROUND * self.time_budget / max(1.0, RUNS_OF_FIRST_ROUND * n_runs)
        return replace(self, budget=seconds * (self.n_trials + self.n_seeds))

    def over_limit(self, *, milliseconds: float = math.nan, mebibytes: float = math.nan) -> str:
        """Say which limits a learner is over, such as ``"12 ms a task, over max_latency=5"``; empty if none."""
        parts = []
        if self.max_latency is not None and milliseconds > self.max_latency:
            parts.append(f"{milliseconds:.3g} ms a task, over max_latency={self.max_latency:g}")
        if self.max_memory is not None and mebibytes > self.max_memory:
            parts.append(f"{mebibytes:.3g} MiB, over max_memory={self.max_memory:g}")
        return "; ".join(parts)

    @property
    def seconds_per_run(self) -> float | None:
        """Meta-training time of one trial or final run."""
        return None if self.budget is None else self.budget / (self.n_trials + self.n_seeds)

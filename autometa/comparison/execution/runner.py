"""One learner in a race: the slots that it was given, and what it made of them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from autometa.comparison.execution.arm import Arm
from autometa.comparison.execution.leg import Leg
from autometa.comparison.execution.slot_records import best_of

FIRST = 0.25
"""Share of meta-training after which every trial of a race pauses."""


class Runner:
    """Opens the slots of one learner, round by round: new trials up to their first rung, the best of which goes on.

    Which slots go on follows from the trials of the slots before alone, so that every process opens the same ones.

    Parameters
    ----------
    arm : Arm
        Its study has no slots yet.
    """

    def __init__(self, arm: Arm) -> None:
        self.arm = arm
        self._goes_on = True

    @property
    def label(self) -> str:
        """The learner."""
        return self.arm.space.label

    @property
    def runs(self) -> float:
        """What it was given so far, in whole meta-training runs."""
        begun = sum(self.first_share for leg in self.arm.legs if leg.begun_in is None)
        return begun + sum(1.0 - FIRST for leg in self.arm.legs if leg.begun_in is not None)

    def cost(self, n_new: int) -> float:
        """Return what a round with so many new trials takes, in whole runs."""
        return float(n_new) if self.is_whole else n_new * FIRST + (1.0 - FIRST)

    def n_new(self, wanted: int) -> int:
        """Return how many new trials there can be: no more than there are combinations of choices."""
        most = self.arm.space.n_points
        begun = sum(leg.begun_in is None for leg in self.arm.legs)
        return wanted if most is None else max(0, min(wanted, most - begun))

    def n_first(self, wanted: int, limit: float) -> int:
        """Return how many trials its first round has, so that it takes no more than so many whole runs."""
        most = self.n_new(wanted)
        return max((n for n in range(1, most + 1) if self.cost(n) <= limit), default=min(1, most))

    @property
    def can_go_on(self) -> bool:
        """True if a trial has paused."""
        return bool(self._paused())

    def begin(self, n_new: int) -> None:
        """Open the slots of a round."""
        for _ in range(n_new):
            self.arm.open(Leg(until=self.first_share))
        self._goes_on = False

    def is_done(self) -> bool:
        """Tell whether its part of the round is over; let the best of its paused trials go on first."""
        if not self.arm.tuning.is_complete:
            return False
        if not self._goes_on:
            slot = len(self.arm.legs)
            best = self.arm.tuning.goes_on_in(slot)  # as whoever opened the slot before has chosen
            is_taken = any(trial.user_attrs["slot"] == slot for trial in self.arm.tuning.trials())
            if best is None and (is_taken or self.arm.tuning.is_closed):  # taken: no trial went on in this round
                return True
            self._goes_on = True
            if best is None and (chosen := best_of(self._paused(), self.arm.tuning.study.direction)) is not None:
                best = chosen.user_attrs["slot"]
            if best is not None:
                self.arm.open(Leg(begun_in=best))
        return self.arm.tuning.is_complete

    @property
    def first_share(self) -> float:
        """Share of meta-training after which its trials pause."""
        return 1.0 if self.is_whole else FIRST

    @property
    def best(self) -> FrozenTrial | None:
        """Its best trial so far: whole runs count before paused ones."""
        return self.arm.tuning.best()

    @property
    def scores(self) -> NDArray[np.float64] | None:
        """Meta-valid scores of the best trial, [n_valid_tasks], the same tasks for all; None without a good trial."""
        best = self.best
        return None if best is None else np.asarray(best.user_attrs["valid_scores"], dtype=np.float64)

    @property
    def is_whole(self) -> bool:
        """True if there is nothing to meta-train, so that a trial is over at once."""
        return self.arm.space.pair(self.label).candidate.meta_optimizer is None

    def _paused(self) -> list[FrozenTrial]:
        gone_on = {leg.begun_in for leg in self.arm.legs}
        waiting = {slot for slot, leg in enumerate(self.arm.legs) if leg.until < 1.0} - gone_on
        found = self.arm.tuning.trials(TrialState.PRUNED)
        is_over = self.arm.tuning.is_over_limit
        return [trial for trial in found if trial.user_attrs["slot"] in waiting and not is_over(trial)]


CLEARLY = 3.0
"""Standard errors over the meta-valid tasks; the spread over runs, which one run does not show, needs some room too."""


def clearly_behind(scores: NDArray[np.float64], best: NDArray[np.float64], *, higher_is_better: bool) -> bool:
    """Tell whether scores are behind those of the best on the same tasks, by :data:`CLEARLY` standard errors."""
    behind = (best - scores) if higher_is_better else (scores - best)
    if len(behind) < 2:
        return False
    return float(behind.mean()) > CLEARLY * float(behind.std(ddof=1)) / math.sqrt(len(behind))

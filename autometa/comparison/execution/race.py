"""A race: rounds that move trials from learners that are clearly worse to those that are better."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from optuna.storages import BaseStorage

from autometa.comparison.execution.arm import Arm
from autometa.comparison.execution.claims import claim, latest
from autometa.comparison.execution.clock import Clock, load_of, seconds_of_final, seconds_of_leg
from autometa.comparison.execution.runner import Runner, clearly_behind
from autometa.comparison.plan.entrants import BASELINE, POOLED
from autometa.comparison.plan.plan import Plan
from autometa.errors import StorageError
from autometa.host.catalog import name_of
from autometa.schema import finite, misfit, whole

N_NEW = 4
"""New trials of each learner in a round after the first."""
MOST = 3
"""Times its equal share that a learner may have: with more, the best of many trials is the luckiest of them. Likewise
the times of ``n_seeds`` that it may have final runs, where there is time left."""
FINALISTS = 5
"""Learners with final runs, beside the references."""
LEADERS = 3
"""Learners for whose final runs time is kept."""
_NOTHING: dict[str, Any] = {"rounds": [], "finalists": None}
"""The record of a race that has not begun."""
_RECORD = {"rounds": [{str: whole()}], "finalists": (None, [str]), "until?": finite, "more?": {str: whole(1)}}


class Race:
    """The learners of one task distribution in a race.

    In the first round every learner has the same: a few trials up to their first rung, and the best of these to its
    end. After each round those of the worse half leave that are clearly behind the best, over the same meta-valid tasks
    (successive halving, Karnin et al. 2013, of whoever can be told apart), and the rest go on, the better first. The
    whole takes no more runs than equal shares would.

    A round is claimed in the storage before any of its slots is filled, so that all processes, and later calls, run the
    same race: of two that decide in the same moment the first counts, and the other takes its round.

    Parameters
    ----------
    arms : sequence of Arm
        Of one task distribution.
    storage : optuna.storages.BaseStorage
    comparison : str
        Name of the study that holds the plan.
    to_read : bool, default=False
        Take the race as it is.
    clock : Clock, optional
        Rounds go on as long as there is time, and as many learners have finals as there is time for. To read: that of
        the last call.
    """

    def __init__(
        self,
        arms: Sequence[Arm],
        storage: BaseStorage,
        comparison: str,
        *,
        to_read: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self.runners = {arm.space.label: Runner(arm) for arm in arms}
        self.tasks = arms[0].tasks
        self._storage, self._comparison, self._to_read = storage, comparison, to_read
        self.clock = None if to_read else clock
        self._has_ended = clock is None or clock.has_ended
        self._settings = arms[0].space.domain.settings
        self.higher_is_better = arms[0].space.domain.problem.higher_is_better
        self._n_rounds = 0
        self._running: list[Runner] = []
        self.finalists: list[str] | None = None
        record = self._read()
        is_this_call = clock is not None and clock.until == record.get("until")
        is_over = record["finalists"] is not None and (to_read or is_this_call)
        if is_over:
            self.finalists = record["finalists"]
        for label, runner in self.runners.items():
            runner.arm.final.n_slots = 0
            runner.arm.tuning.is_closed = is_over
            is_waiting = [label] == (self.finalists or [])[:1] and not runner.arm.finals()
            runner.arm.final.is_closed = to_read and clock is not None and clock.has_ended and not is_waiting
        self.update()

    def update(self) -> None:
        """Open the slots of the round, those of the next once it is over, and at last those of the finals."""
        if self.clock is not None:
            self._heed(self.clock)
        while self._is_over_round() and self._next_round():
            pass

    @property
    def rounds(self) -> list[dict[str, int]]:
        """New trials of every learner that took part, by round."""
        return list(self._read()["rounds"])

    @property
    def is_decided(self) -> bool:
        """True if its rounds are over and the finalists are chosen."""
        return self._read()["finalists"] is not None

    @property
    def is_over(self) -> bool:
        """True if it is decided; to read, also if the call that set a clock has ended and not only been cut."""
        return self.is_decided and (self._has_ended or not self._to_read)

    def _is_over_round(self) -> bool:
        done = [runner.is_done() for runner in self._running]  # of all: each opens slots of its own
        return all(done)

    def _next_round(self) -> bool:
        """Open the slots of the next round; False if there is none."""
        record = self._read()
        if len(record["rounds"]) == self._n_rounds:
            following = record if self._to_read else self._what_follows(record)
            if following != record:
                following = self._claimed(following, follows=record)
            if len(following["rounds"]) <= self._n_rounds:
                self._open_finals(following)
                return False
            record = following
        following_round = record["rounds"][self._n_rounds]
        self._running = [self.runners[label] for label in following_round if label in self.runners]
        for runner in self._running:
            runner.begin(following_round[runner.label])
        self._n_rounds += 1
        return True

    def _what_follows(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return the record with one more round; with the finalists, where there is none."""
        if new := self._decide(record["rounds"]):
            return {"rounds": [*record["rounds"], new], "finalists": None}
        if record["finalists"] is None:
            chosen = {"finalists": self._choose_finalists()}
            return record | chosen | ({} if self.clock is None else {"until": self.clock.until})
        self._open_finals(record)
        if self.clock is None or self._has_open_finals():
            return record
        if others := self._one_more(record["finalists"]):
            return record | {"finalists": record["finalists"] + others}
        return record | self._more_seeds(record, self.clock.n_workers)

    def _decide(self, rounds: Sequence[dict[str, int]]) -> dict[str, int]:
        """Return the new trials of each learner in the next round; empty: the race is over."""
        n_trials = self._settings.n_trials
        most = MOST * n_trials if self.clock is None else math.inf
        if not rounds:
            return {label: runner.n_first(N_NEW, n_trials) for label, runner in self.runners.items()}
        left = math.inf if self.clock else float(sum(runner.arm.space.n_slots for runner in self.runners.values()))
        left -= sum(runner.runs for runner in self.runners.values())
        found: dict[str, int] = {}
        for label in self._in_the_race(rounds[-1]):
            runner = self.runners[label]
            if runner.arm.tuning.is_closed:
                continue
            n_new = runner.n_new(N_NEW)
            cost = runner.cost(n_new)
            if (n_new or runner.can_go_on) and cost <= left and runner.runs + cost <= most:
                found[label] = n_new
                left -= cost
        return found

    def in_order(self) -> list[str]:
        """Return the learners that have a score, the best first."""
        scored = {label: scores for label, one in self.runners.items() if (scores := one.scores) is not None}
        return sorted(scored, key=lambda label: float(scored[label].mean()), reverse=self.higher_is_better)

    def _in_the_race(self, last_round: Collection[str]) -> list[str]:
        """Return who stays after a round, the best first: its better half, and whoever is not clearly behind."""
        ordered = [label for label in self.in_order() if label in last_round]
        half = -(-len(last_round) // 2)
        return ordered[:half] + [label for label in ordered[half:] if not self._is_clearly_behind(label, ordered[0])]

    def _is_clearly_behind(self, label: str, first: str) -> bool:
        scores, best = self.runners[label].scores, self.runners[first].scores
        if scores is None or best is None:
            return True
        return clearly_behind(scores, best, higher_is_better=self.higher_is_better)

    def _choose_finalists(self) -> list[str]:
        """Return the best learners, and the references that all are held against, as far as there is time for them."""
        ordered = self.in_order()
        references = [label for label in ordered[1:] if self._is_reference(label)]
        found: list[str] = []
        for label in [*ordered[:1], *references, *[one for one in ordered[1:FINALISTS] if one not in references]]:
            if not found or self._has_time_for([*found, label]):
                found.append(label)
        return found

    def _one_more(self, finalists: Sequence[str]) -> list[str]:
        """Return another learner, if there is time for all of its finals."""
        others = (label for label in self.in_order() if label not in finalists)
        return [label for label in others if self._has_time_for([label])][:1]

    def _more_seeds(self, record: dict[str, Any], n: int) -> dict[str, Any]:
        """Return so many further final runs of finalists, of those that had the fewest, the better first."""
        more: dict[str, int] = dict(record.get("more", {}))
        for _ in range(n):
            able = [label for label in self.finalists or [] if self._can_have_more(label, more.get(label, 0))]
            if able:
                label = min(able, key=lambda label: more.get(label, 0))
                more[label] = more.get(label, 0) + 1
        return {"more": more} if more else {}

    def _can_have_more(self, label: str, n_more: int) -> bool:
        """Tell whether there is time for one more final run of a finalist, beside those that it had besides."""
        runner, n_seeds = self.runners[label], self._settings.n_seeds
        if self.clock is None or n_seeds + n_more >= MOST * n_seeds or len(runner.arm.finals()) < n_seeds:
            return False
        return self.clock.has_time_for([runner], 1)

    def _has_open_finals(self) -> bool:
        return any("open" in runner.arm.final.slot_states() for runner in self.runners.values())

    def _has_time_for(self, labels: Sequence[str]) -> bool:
        waiting = [self.runners[label] for label in labels if not self.runners[label].arm.finals()]
        return self.clock is None or self.clock.has_time_for(waiting, self._settings.n_seeds)

    def _heed(self, clock: Clock) -> None:
        """Close the studies for which there is no time left."""
        now, n_seeds = time.time(), self._settings.n_seeds
        clock = self.clock = replace(clock, load=load_of(self.runners.values()))
        leaders = [self.runners[label] for label in self.in_order()[:LEADERS]]
        until = clock.trials_until(leaders, n_seeds)
        for runner in self.runners.values():
            tuning, final = runner.arm.studies
            tuning.ends_at = until if leaders else math.inf  # without a first trial there is nothing to judge
            tuning.is_closed = self.finalists is not None or (bool(leaders) and now + seconds_of_leg(runner) >= until)
            if runner in leaders[:1] and not runner.arm.finals():  # without one there is no winner
                final.ends_at, final.is_closed = math.inf, False
            else:
                final.ends_at = clock.finals_until
                final.is_closed = now + (seconds_of_final(runner) or 0.0) >= clock.finals_until

    def _is_reference(self, label: str) -> bool:
        runner = self.runners[label]
        return name_of(runner.arm.space.pair(label).candidate.learner, full=True) in (BASELINE, POOLED)

    def _open_finals(self, record: dict[str, Any]) -> None:
        """Open the slots of the finalists; by a clock, those of the best first."""
        self.finalists = [label for label in record["finalists"] or [] if label in self.runners]
        for runner in self.runners.values():
            runner.arm.final.n_slots = 0
        for label in self.finalists:
            final = self.runners[label].arm.final
            final.n_slots = self._settings.n_seeds + record.get("more", {}).get(label, 0)
            if self.clock is not None and "open" in final.slot_states():
                break

    def _read(self) -> dict[str, Any]:
        """Return the record of the race as it is stored."""
        return self._checked(latest(self._storage, self._study, self._key, _NOTHING))

    def _claimed(self, record: dict[str, Any], *, follows: dict[str, Any]) -> dict[str, Any]:
        """Store the record that follows another, unless a process has stored one; return what is stored."""
        return self._checked(claim(self._storage, self._study, self._key, record, follows=follows))

    def _checked(self, record: Any) -> dict[str, Any]:
        if wrong := misfit(record, _RECORD):
            raise StorageError(f"the storage is damaged: the race on {self.tasks!r}: {wrong}.")
        return dict(record)

    @property
    def _study(self) -> int:
        return self._storage.get_study_id_from_name(self._comparison)

    @property
    def _key(self) -> str:
        return f"race on {self.tasks}"


def open_races(plan: Plan, arms: Sequence[Arm], storage: BaseStorage, *, to_read: bool = False) -> list[Race]:
    """Return the races of a plan, one for each task distribution; none where it asks for none."""
    if plan.settings.search != "race":
        return []
    clock = Clock.of(storage, plan.name, ensemble=plan.settings.ensemble)
    learners = {(pair.tasks, pair.learner) for pair in plan.pairs}
    running = [arm for arm in arms if (arm.tasks, arm.space.label) in learners]  # an ensemble does not run
    by_tasks = ([arm for arm in running if arm.tasks == tasks] for tasks in plan.domains)
    return [Race(of_tasks, storage, plan.name, to_read=to_read, clock=clock) for of_tasks in by_tasks]

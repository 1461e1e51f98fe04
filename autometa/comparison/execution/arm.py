"""The smallest part of a comparison that any process can work on: one study and the finals of its best trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from optuna.pruners import MedianPruner
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from autometa.comparison.execution.finals import run_final, train_final
from autometa.comparison.execution.label_files import file_name
from autometa.comparison.execution.leg import Leg
from autometa.comparison.execution.slot_records import slot_state
from autometa.comparison.execution.slot_study import SlotStudy
from autometa.comparison.execution.trial import run_trial
from autometa.comparison.execution.watch import Watch
from autometa.comparison.plan.pair import Pair
from autometa.comparison.plan.plan import Plan
from autometa.comparison.plan.study_space import StudySpace
from autometa.files.description import as_stored
from autometa.training import MetaTraining

PAUSED = "paused"
"""The folder in which the paused trials of a race lie, beside that of the models."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A tuning study and the final runs of its best trial."""

    space: StudySpace
    tuning: SlotStudy
    final: SlotStudy
    legs: list[Leg] = field(default_factory=list)
    """Of a race: what each slot of the tuning study does of a trial. Elsewhere every slot has a whole one."""

    @property
    def label(self) -> str:
        """What to call it while it is worked on."""
        return f"{self.tasks}/{self.space.label}"

    @property
    def tasks(self) -> str:
        """Label of its task distribution."""
        return self.space.domain.label

    @property
    def n_slots(self) -> int:
        """Trials and finals."""
        return self.tuning.n_slots + self.final.n_slots

    @property
    def opened(self) -> tuple[tuple[int, bool], ...]:
        """What a race says of its studies: the number of their slots, and whether they are closed."""
        return tuple((study.n_slots, study.is_closed) for study in self.studies)

    @property
    def n_done(self) -> int:
        """Slots that need no more work; an arm without any good trial has no finals to run."""
        tuned = self.tuning.n_done
        if tuned < self.tuning.n_slots:
            return tuned + self.final.n_done
        if self.tuning.best() is None:
            return self.n_slots
        return tuned + self.final.n_done - (len(self._outdated()) if self._is_judged_here else 0)

    @property
    def _is_judged_here(self) -> bool:
        """True if final runs may be repeated: a race may have no time for them, or no place."""
        return bool(self.final.n_slots) and not self.final.is_closed

    @property
    def studies(self) -> tuple[SlotStudy, SlotStudy]:
        """Both."""
        return self.tuning, self.final

    @property
    def needs_a_process(self) -> bool:
        """True if its work has ended a process or may have done so: one that this one outlives should do the rest."""
        return any(study.needs_a_process for study in self.studies)

    @property
    def changes(self) -> list[str]:
        """What its runs changed in their processes."""
        records = [trial.user_attrs.get("changed", []) for study in self.studies for trial in study.trials()]
        return list(dict.fromkeys(name for record in records for name in record))

    def best_pair(self) -> Pair | None:
        """Return the pair that the best trial is about; None where there is no good trial."""
        best = self.tuning.best()
        return None if best is None else self.space.pair(self.split(best)[0])

    def split(self, trial: FrozenTrial) -> tuple[str, dict[str, Any]]:
        """Return the learner that a trial is about, and its parameters under their own names."""
        return self.space.split(trial.params)

    def open(self, leg: Leg) -> None:
        """Open one more slot of a race."""
        if leg.begun_in is not None:
            self.tuning.goes_on[len(self.legs)] = leg.begun_in
        self.legs.append(leg)
        self.tuning.n_slots = len(self.legs)

    def forgive(self) -> int:
        """Open the slots again that failed by what need not come again; return how many."""
        return sum(study.forgive() for study in self.studies)

    def step(self, device: torch.device, models: Path | None) -> bool:
        """Fill one slot; False where none is open to this process now."""
        trial = self.tuning.claim()
        if trial is not None:
            self.tuning.fill(trial, lambda trial: self._tune(trial, device, models))
            return True
        if not self.tuning.is_complete:
            return False
        best = self.tuning.best()
        if self._is_judged_here:
            self.final.set_aside(self._outdated())
        trial = self.final.claim() if best is not None else None
        if trial is None or best is None:
            return False
        self.final.fill(trial, lambda trial: self._run_final(trial, best.params, device, models))
        return True

    def _tune(self, trial: Trial, device: torch.device, models: Path | None) -> float:
        pair, seen = self.space.choose(trial)
        components = pair.candidate.draw(seen)
        trial.set_user_attr("drawn", True)
        if not self.legs:
            return run_trial(pair, components, trial, device)
        leg = self._leg(trial.user_attrs["slot"], models)
        try:
            return run_trial(pair, components, trial, device, leg)
        finally:
            leg.forget()

    def _leg(self, slot: int, models: Path | None) -> Leg:
        if models is None:
            return self.legs[slot]
        folder = models.parent / PAUSED / file_name(self.tasks) / file_name(self.space.label)
        return replace(self.legs[slot], folder=folder)

    def _run_final(self, trial: Trial, params: Mapping[str, Any], device: torch.device, models: Path | None) -> float:
        learner, own = self.space.split(params)
        pair = self.space.pair(learner)
        trial.set_user_attr("params", dict(params))
        trial.set_user_attr("n_test_tasks", pair.settings.n_test_tasks)
        trial.set_user_attr("elsewhere", [other.label for other in pair.elsewhere])
        return run_final(pair, own, trial, device, models)

    def finals(self) -> list[FrozenTrial]:
        """Return the final runs that can stand in one table: those of the best trial, or of the best before it.

        Those that were judged on less, or on more, than is asked for here cannot.
        """
        n_tasks = self.space.domain.settings.n_test_tasks
        runs = [
            run
            for run in self.final.trials(TrialState.COMPLETE)
            if run.user_attrs.get("n_test_tasks", n_tasks) == n_tasks and not self._lacks_tasks(run)
        ]
        best = self.tuning.best()
        return [run for run in runs if best is not None and _is_of(run, best)] or runs

    def pair_of(self, final: FrozenTrial) -> Pair | None:
        """Return the pair that a final run is about."""
        params = final.user_attrs.get("params")
        return self.best_pair() if params is None else self.space.pair(self.space.split(params)[0])

    def params_of(self, finals: Sequence[FrozenTrial]) -> dict[str, Any]:
        """Return the parameters of final runs, as they stand in tables."""
        return self.space.split(finals[0].user_attrs["params"])[1]

    def train_again(self, final: FrozenTrial, device: torch.device, models: Path | None) -> MetaTraining:
        """Repeat the meta-training of a final run."""
        pair = self.pair_of(final)
        assert pair is not None
        return train_final(pair, self.params_of([final]), final.user_attrs["slot"], device)[0]

    def _outdated(self) -> list[FrozenTrial]:
        """Return final runs to repeat: of what is no longer the best trial, or judged on less than is asked for."""
        best = self.tuning.best()
        runs = [run for run in self.final.trials(TrialState.COMPLETE, TrialState.FAIL) if slot_state(run) == "done"]
        return [run for run in runs if (best is not None and not _is_of(run, best)) or self._lacks_tasks(run)]

    def _lacks_tasks(self, run: FrozenTrial) -> bool:
        """Tell whether a final run was judged on fewer test tasks than are asked for, or on fewer distributions."""
        wanted = self.space.domain.settings.n_test_tasks
        if run.user_attrs.get("n_test_tasks", wanted) < wanted:
            return True
        pair, judged_on = self.pair_of(run), run.user_attrs.get("elsewhere")
        return (
            pair is not None and judged_on is not None and any(other.label not in judged_on for other in pair.elsewhere)
        )


def _is_of(run: FrozenTrial, best: FrozenTrial) -> bool:
    """Tell whether a final run has the hyperparameters of a trial."""
    params = run.user_attrs.get("params", best.params)
    return bool(as_stored(params) == as_stored(best.params))


def open_arms(plan: Plan, storage: BaseStorage, watch: Watch | None = None, *, to_read: bool = False) -> list[Arm]:
    """Open the studies of a plan; create those that are missing, unless they are only read."""
    return [_open(plan.name, space, storage, watch, to_read) for space in plan.spaces]


def _open(comparison: str, space: StudySpace, storage: BaseStorage, watch: Watch | None, to_read: bool) -> Arm:
    name = f"{comparison}/{space.domain.label}/{space.label}"
    better = space.domain.problem.higher_is_better
    tuning = SlotStudy(
        storage,
        name,
        n_slots=0 if space.domain.settings.search == "race" else space.n_slots,  # rounds open them
        higher_is_better=better,
        sampler=space.sampler(),
        pruner=MedianPruner(n_startup_trials=4, n_warmup_steps=0) if space.prunes else None,
        fixed=space.fixed,
        max_latency=space.domain.settings.max_latency,
        watch=watch,
        to_read=to_read,
    )
    final = SlotStudy(
        storage,
        f"{name}/final",
        n_slots=space.domain.settings.n_seeds,
        higher_is_better=better,
        watch=watch,
        to_read=to_read,
    )
    return Arm(space, tuning, final)

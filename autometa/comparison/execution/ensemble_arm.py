"""The part of a comparison that builds ensembles: one final run for each seed, of the final runs of that seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from autometa.comparison.execution.arm import Arm, open_arms
from autometa.comparison.execution.ensembles import Candidate, run_ensemble, together, trained_by
from autometa.comparison.execution.slot_records import slot_state
from autometa.comparison.execution.slot_study import SlotStudy
from autometa.comparison.execution.stored_trials import result_of
from autometa.comparison.execution.watch import Watch
from autometa.comparison.plan.pair import Pair
from autometa.comparison.plan.plan import Plan
from autometa.comparison.plan.study_space import PairSpace
from autometa.training import MetaTraining


class _Run(NamedTuple):
    """A final run of one of the others."""

    arm: Arm
    trial: FrozenTrial


@dataclass(frozen=True, slots=True)
class EnsembleArm(Arm):
    """An arm without trials, whose final runs wait for those of all others on the same tasks.

    The ensemble of a seed is made of the other learners' final runs of that seed, so that ensembles of different seeds
    share none. A final run is repeated where one of those that it was chosen from is no longer the same.
    """

    space: PairSpace
    others: Sequence[Arm] = field(kw_only=True)
    """All that may have final runs on these tasks."""

    @property
    def pair(self) -> Pair:
        """The ensemble as a pair."""
        return self.space.only

    @property
    def is_ready(self) -> bool:
        """True if all others are done."""
        return all(arm.n_done == arm.n_slots for arm in self.others)

    @property
    def n_done(self) -> int:
        """Final runs that need no more work; without a final run of anybody there is nothing to do."""
        done = self.final.n_done - len(self._outdated())
        return done + (len(self._empty()) if self.is_ready else 0)

    def best_pair(self) -> Pair:
        """Return the ensemble's pair."""
        return self.pair

    def pair_of(self, final: FrozenTrial) -> Pair:
        """Return the ensemble's pair."""
        return self.pair

    def step(self, device: torch.device, models: Path | None) -> bool:
        """Build one ensemble; False where the others are not done, or no slot is open to this process now."""
        if not self.is_ready:
            return False
        self.final.set_aside(self._outdated())
        runs = self._runs()
        trial = self.final.claim(but=self._empty())
        if trial is None:
            return False
        self.final.fill(trial, lambda trial: self._build(trial, runs[trial.user_attrs["slot"]], device, models))
        return True

    def _empty(self) -> set[int]:
        """Return the open slots of seeds of which nobody has a final run."""
        runs = self._runs()
        return {slot for slot, state in enumerate(self.final.slot_states()) if state == "open" and not runs.get(slot)}

    def _build(self, trial: Trial, runs: Mapping[str, _Run], device: torch.device, models: Path | None) -> float:
        trial.set_user_attr("params", {})
        trial.set_user_attr("made_of", {learner: run.trial.number for learner, run in runs.items()})
        trial.set_user_attr("n_test_tasks", self.pair.settings.n_test_tasks)
        trial.set_user_attr("elsewhere", [other.label for other in self.pair.elsewhere])
        return run_ensemble(self.pair, _candidates(runs), trial, device, models)

    def train_again(self, final: FrozenTrial, device: torch.device, models: Path | None) -> MetaTraining:
        """Join the members of a final run again."""
        shares = result_of(final, self.final.name)["members"]
        runs = self._runs()[final.user_attrs["slot"]]
        members = _candidates({learner: run for learner, run in runs.items() if learner in shares})
        trained = {member.pair.learner: trained_by(member, device, models) for member in members}
        return together(self.pair, members, trained, shares, device)

    def finals(self) -> list[FrozenTrial]:
        """Return the final runs that can stand in one table: of the others' present runs, or of those before."""
        n_tasks = self.pair.settings.n_test_tasks
        runs = [
            run
            for run in self.final.trials(TrialState.COMPLETE)
            if run.user_attrs.get("n_test_tasks") == n_tasks and not self._lacks_tasks(run)
        ]
        made_of = self._made_of()
        return [run for run in runs if _is_made_of(run, made_of)] or runs

    def params_of(self, finals: Sequence[FrozenTrial]) -> dict[str, Any]:
        """Return the mean share of every member."""
        shares = [run.user_attrs["params"] for run in finals]
        names = dict.fromkeys(name for of in shares for name in of)
        mean = {name: sum(of.get(name, 0.0) for of in shares) / len(shares) for name in names}
        return dict(sorted(mean.items(), key=lambda item: -item[1]))

    def members(self, final: FrozenTrial) -> dict[str, float]:
        """Return the share of every learner that a final run was chosen from; 0 of those that were not chosen."""
        result = result_of(final, self.final.name)
        names = [name for name in final.user_attrs["made_of"] if name not in result["left_out"]]
        return {name: result["members"].get(name, 0.0) for name in names}

    def _outdated(self) -> list[FrozenTrial]:
        """Return final runs to repeat: made of other runs than there are now, or judged on less than is asked for."""
        made_of = self._made_of()
        runs = [run for run in self.final.trials(TrialState.COMPLETE, TrialState.FAIL) if slot_state(run) == "done"]
        return [run for run in runs if not _is_made_of(run, made_of) or self._lacks_tasks(run)]

    def _made_of(self) -> dict[int, dict[str, int]]:
        return {
            slot: {learner: run.trial.number for learner, run in runs.items()} for slot, runs in self._runs().items()
        }

    def _runs(self) -> dict[int, dict[str, _Run]]:
        """Return the final runs of every seed, by learner; of several of one seed the last."""
        found: dict[int, dict[str, _Run]] = {slot: {} for slot in range(self.final.n_slots)}
        for arm in self.others:
            for run in arm.finals():
                pair = arm.pair_of(run)
                if pair is not None and run.user_attrs["slot"] in found:
                    found[run.user_attrs["slot"]][pair.learner] = _Run(arm, run)
        return found


def _is_made_of(run: FrozenTrial, made_of: Mapping[int, Mapping[str, int]]) -> bool:
    return bool(run.user_attrs.get("made_of") == made_of.get(run.user_attrs["slot"]))


def _candidates(runs: Mapping[str, _Run]) -> list[Candidate]:
    found = []
    for arm, trial in runs.values():
        pair, result = arm.pair_of(trial), result_of(trial, arm.final.name)
        assert pair is not None
        found.append(
            Candidate(
                pair=pair,
                params=arm.params_of([trial]),
                number=trial.user_attrs["slot"],
                steps=result["steps"],
                seconds=result["meta_train_seconds"],
            )
        )
    return found


def open_all_arms(plan: Plan, storage: BaseStorage, watch: Watch | None = None, *, to_read: bool = False) -> list[Arm]:
    """Open the studies of a plan, those of its ensembles too; create missing ones, unless they are only read."""
    arms = open_arms(plan, storage, watch, to_read=to_read)
    return arms + [_open(plan.name, pair, arms, storage, watch, to_read) for pair in plan.ensembles]


def _open(
    comparison: str, pair: Pair, arms: Sequence[Arm], storage: BaseStorage, watch: Watch | None, to_read: bool
) -> EnsembleArm:
    name, better = f"{comparison}/{pair.tasks}/{pair.learner}", pair.domain.problem.higher_is_better
    nothing = SlotStudy(
        storage, name, n_slots=0, higher_is_better=better, to_read=True
    )  # which the storage never holds
    final = SlotStudy(
        storage,
        f"{name}/final",
        n_slots=pair.settings.n_seeds,
        higher_is_better=better,
        watch=watch,
        to_read=to_read,
    )
    return EnsembleArm(PairSpace(pair), nothing, final, others=[arm for arm in arms if arm.tasks == pair.tasks])

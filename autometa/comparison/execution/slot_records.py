"""What an Optuna study with numbered slots holds: which trials count, and which slots are done."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import optuna
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autometa.comparison.execution.patient_storage import tell
from autometa.comparison.execution.sealed import is_sound
from autometa.comparison.execution.stored_trials import check_trial

_SET_ASIDE = "set aside: "
"""How user attributes of a study begin that name a finished trial whose slot is open again. Each has its own, so that
two processes lose none."""
_ENDED_WELL = {"error", "interrupted"}
"""One of these stands in a failed trial whose process saw its end."""

SlotState = Literal["open", "running", "done"]


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Let Optuna log errors only: how each trial ended is in the storage."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


class SlotRecords:
    """The trials of one Optuna study with a fixed number of slots.

    A trial carries the user attributes ``slot``, ``owner`` and ``beat`` (last sign of life), ``supervisor`` where
    another process watches its owner, and ``retry_of`` where it repeats a trial that was cut short. A failed trial with
    the attribute ``error`` has failed for good, and its slot is done; one without was cut short, and its slot is open
    again. What cut it short says ``interrupted`` (it was given back), ``died`` (its process, which another outlived)
    or none of them (nobody knows: all processes may have been killed together). Only ``died`` counts against a slot.

    Parameters
    ----------
    storage : optuna.storages.BaseStorage
    name : str
    n_slots : int
    higher_is_better : bool
    sampler, pruner : optional
    to_read : bool, default=False
        Write nothing: a study that the storage does not hold is an empty one.
    max_latency : float, optional
        Milliseconds of a task from which on a trial is over a limit.

    Attributes
    ----------
    is_closed : bool
        True once no more slots are filled; those that are open need no work then.
    """

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        *,
        n_slots: int,
        higher_is_better: bool,
        sampler: BaseSampler | None = None,
        pruner: BasePruner | None = None,
        to_read: bool = False,
        max_latency: float | None = None,
    ) -> None:
        self.max_latency = math.inf if max_latency is None else max_latency
        self.storage = storage if not to_read or _holds(storage, name) else InMemoryStorage()
        self.n_slots, self.is_closed = n_slots, False
        if self.storage is storage and to_read:
            self.study: Study = optuna.load_study(storage=storage, study_name=name, sampler=sampler, pruner=pruner)
        else:
            self.study = optuna.create_study(
                storage=self.storage,
                study_name=name,
                load_if_exists=True,
                direction="maximize" if higher_is_better else "minimize",
                sampler=sampler,
                pruner=pruner or NopPruner(),
            )
        self._study_id = self.storage.get_study_id_from_name(name)
        self._sound: dict[int, bool] = {}
        self._set_aside: frozenset[int] = frozenset()
        self.refresh()

    @property
    def name(self) -> str:
        """Name of the Optuna study."""
        return self.study.study_name

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return all trials that count for a slot, by number."""
        return [trial for trial in self._begun(*states) if trial.number not in self._set_aside]

    def _begun(self, *states: TrialState) -> list[FrozenTrial]:
        found = self.study.get_trials(deepcopy=False, states=states or None)
        begun = [trial for trial in found if "slot" in trial.user_attrs and "duplicate" not in trial.user_attrs]
        return [trial for trial in begun if self._is_sound(trial)]

    def _is_sound(self, trial: FrozenTrial) -> bool:
        """Tell whether the record of a trial is as it was written; warn of one that is not, and leave its slot open."""
        if not trial.state.is_finished():
            check_trial(trial, self.name)
            return is_sound(trial)
        if trial.number not in self._sound:
            sound = is_sound(trial)
            if sound:
                check_trial(trial, self.name)  # first, so that whoever reads on after its error is told again
            self._sound[trial.number] = sound
            if not sound:
                tell(
                    f"trial {trial.number} of study {self.name!r} is not as it was written (its checksum differs): it "
                    "does not count, and the command that began the comparison measures it again."
                )
        return self._sound[trial.number]

    def refresh(self) -> None:
        """Read again which finished trials other processes have set aside."""
        names = self.storage.get_study_user_attrs(self._study_id)
        numbers = (name.removeprefix(_SET_ASIDE) for name in names if name.startswith(_SET_ASIDE))
        self._set_aside = frozenset(int(number) for number in numbers if number.isdecimal())

    def set_aside(self, trials: Iterable[FrozenTrial]) -> int:
        """Open the slots of finished trials again; return how many. A failed one is repeated as it was drawn."""
        again = {trial.number for trial in trials}
        for number in sorted(again):
            self.study.set_user_attr(f"{_SET_ASIDE}{number}", True)
        if again:
            self.refresh()
        return len(again)

    @property
    def needs_a_process(self) -> bool:
        """True if filling a slot has ended a process or may have done so: one that this one outlives should do it."""
        return any(
            "died" in trial.user_attrs or "timeout" in trial.user_attrs or not _ENDED_WELL & trial.user_attrs.keys()
            for trial in self._begun(TrialState.FAIL)
        )

    def slot_states(self) -> list[SlotState]:
        """Return the state of every slot."""
        states: list[SlotState] = ["done" if self.is_closed else "open"] * self.n_slots
        for trial in self.trials():
            slot = trial.user_attrs["slot"]
            if slot < self.n_slots and (state := slot_state(trial)) != "open":
                states[slot] = state
        return states

    @property
    def n_done(self) -> int:
        """Slots that need no more work."""
        return self.slot_states().count("done")

    @property
    def is_complete(self) -> bool:
        """True if every slot is done."""
        return self.n_done == self.n_slots

    def _unsound(self, slot: int) -> list[FrozenTrial]:
        """Return the trials of a slot that do not count because their records changed."""
        found = self.study.get_trials(deepcopy=False) if False in self._sound.values() else []
        return [
            trial for trial in found if not self._sound.get(trial.number, True) and trial.user_attrs.get("slot") == slot
        ]

    def is_over_limit(self, trial: FrozenTrial) -> bool:
        """Tell whether a trial takes too much memory, or too long for a task."""
        return "over_limit" in trial.user_attrs or trial.user_attrs.get("milliseconds", 0.0) > self.max_latency

    def best(self) -> FrozenTrial | None:
        """Return the best complete trial, the best pruned one if none is complete; those over a limit come last."""
        for is_over in (False, True):
            for state in (TrialState.COMPLETE, TrialState.PRUNED):
                found = [trial for trial in self.trials(state) if self.is_over_limit(trial) == is_over]
                if (best := best_of(found, self.study.direction)) is not None:
                    return best
        return None


def best_of(trials: Iterable[FrozenTrial], direction: StudyDirection) -> FrozenTrial | None:
    """Return the trial with the best score, of equal ones that of the first slot; None if none has a score."""
    sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0
    found = [trial for trial in trials if trial.value is not None]
    return min(found, key=lambda one: (sign * float(one.value or 0.0), one.user_attrs["slot"]), default=None)


def _holds(storage: BaseStorage, name: str) -> bool:
    try:
        storage.get_study_id_from_name(name)
    except KeyError:
        return False
    return True


def slot_state(trial: FrozenTrial) -> SlotState:
    """Return the state of a trial's slot."""
    if trial.state == TrialState.RUNNING:
        return "running"
    if trial.state == TrialState.FAIL and "error" not in trial.user_attrs:
        return "open"
    return "done"

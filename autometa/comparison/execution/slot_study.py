"""Optuna studies whose trials fill numbered slots: each slot once, whichever process on whichever machine fills it."""

from __future__ import annotations

import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, Literal

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from autometa.comparison.execution.owner import Owner
from autometa.comparison.execution.patient_storage import PatientStorage, StorageLost, lost_in
from autometa.comparison.execution.stored_trials import checked_trial

MOST_CUTS = 3
"""How many processes may die while filling a slot; then the slot has failed."""

SlotState = Literal["open", "running", "done"]

_in_hand: set[str] = set()
"""Tokens of the trials that this process is filling. A running trial of its own without one was left by a Ctrl-C."""


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Let Optuna log errors only: how each trial ended is in the storage."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


class SlotStudy:
    """One Optuna study with a fixed number of slots.

    A trial carries the user attributes ``slot``, ``owner`` and ``beat`` (last sign of life), and ``retry_of`` where
    it repeats a trial that was cut short. A failed trial with the attribute ``error`` has failed for good, and its
    slot is done; one without was cut short, and its slot is open again.

    Parameters
    ----------
    storage : optuna.storages.BaseStorage
    name : str
    n_slots : int
    higher_is_better : bool
    sampler, pruner : optional
    fixed : mapping of int to dict, optional
        Parameter values for some slots.
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
        fixed: Mapping[int, dict[str, Any]] | None = None,
    ) -> None:
        self.storage = storage
        self.n_slots = n_slots
        self.fixed = fixed or {}
        self.study: Study = optuna.create_study(
            storage=storage,
            study_name=name,
            load_if_exists=True,
            direction="maximize" if higher_is_better else "minimize",
            sampler=sampler,
            pruner=pruner or NopPruner(),
        )
        self._study_id = storage.get_study_id_from_name(name)

    @property
    def name(self) -> str:
        """Name of the Optuna study."""
        return self.study.study_name

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return all trials that count for a slot, by number."""
        found = self.study.get_trials(deepcopy=False, states=states or None)
        ours = [trial for trial in found if "slot" in trial.user_attrs and "duplicate" not in trial.user_attrs]
        return [checked_trial(trial, self.name) for trial in ours]

    def slot_states(self) -> list[SlotState]:
        """Return the state of every slot."""
        states: list[SlotState] = ["open"] * self.n_slots
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

    def claim(self) -> Trial | None:
        """Start a trial for the first open slot; return None if there is none.

        Two processes may start one for the same slot; the trial with the lower number has it.
        """
        for slot, state in enumerate(self.slot_states()):
            if state != "open":
                continue
            template = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=self._attributes(slot))
            trial = Trial(self.study, self.storage.create_new_trial(self._study_id, template_trial=template))
            if not any(
                other.user_attrs["slot"] == slot and other.number < trial.number and slot_state(other) != "open"
                for other in self.trials()
            ):
                return trial
            trial.set_user_attr("duplicate", True)
            self.study.tell(trial, state=TrialState.FAIL)
            _in_hand.discard(trial.user_attrs["token"])
        return None

    def _attributes(self, slot: int) -> dict[str, Any]:
        token = uuid.uuid4().hex
        _in_hand.add(token)
        attributes: dict[str, Any] = {
            "slot": slot,
            "owner": Owner.here().to_json(),
            "token": token,
            "beat": time.time(),
        }
        fixed = self.fixed.get(slot, {})
        cut = [trial for trial in self.trials(TrialState.FAIL) if trial.user_attrs["slot"] == slot]
        if cut:
            attributes["retry_of"] = cut[-1].number
            if cut[-1].user_attrs.get("drawn"):
                fixed = cut[-1].params
        return attributes | ({"fixed": fixed} if fixed else {})

    def reap(self) -> list[int]:
        """Fail the running trials of processes that are gone; return their numbers.

        A slot whose processes died ``MOST_CUTS`` times has failed: the next one would die too.
        """
        reaped = []
        for trial in self.trials(TrialState.RUNNING):
            owner = Owner.from_json(trial.user_attrs["owner"])
            left = owner == Owner.here() and trial.user_attrs["token"] not in _in_hand
            # While the storage was away, nobody could give a sign of life.
            last_sign = max(trial.user_attrs["beat"], getattr(self.storage, "back_at", 0.0))
            if not left and not owner.is_dead(last_sign):
                continue
            slot = trial.user_attrs["slot"]
            cuts = sum(
                other.user_attrs["slot"] == slot and "interrupted" not in other.user_attrs
                for other in self.trials(TrialState.FAIL)
            )
            try:
                if left:
                    self._set(trial.number, "interrupted", True)
                elif cuts + 1 >= MOST_CUTS:
                    died = f"the process filling this slot died {cuts + 1} times, last as {owner}"
                    self._set(trial.number, "error", f"ProcessDied: {died}; it may need more memory than there is.")
                self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            except UpdateFinishedTrialError:
                continue
            reaped.append(trial.number)
        return reaped

    def fill(self, trial: Trial, work: Callable[[Trial], float]) -> None:
        """Do the work of a claimed trial and record how it ended.

        A trial that raises has failed and keeps the reason; Ctrl-C gives the slot back.

        Raises
        ------
        StorageLost
            The storage failed, which says nothing about the trial.
        """
        try:
            try:
                with self._alive(trial):
                    value = work(trial)
            except optuna.TrialPruned:
                self.study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            else:
                self.study.tell(trial, value, skip_if_finished=True)
        except UpdateFinishedTrialError:
            return  # another process took this one for dead and has opened the slot again
        except Exception as error:
            lost = lost_in(error)
            if lost is not None:
                raise lost from error.__cause__  # the trial is none the worse, and its slot will be open again
            reason = f"{type(error).__name__}: {error}"
            self._fail(trial, error=reason, traceback="".join(traceback.format_exception(error))[-4000:])
        except BaseException:
            # Where the storage does not answer, the slot is given back by whoever finds this process gone.
            with suppress(StorageLost), self._without_waiting():
                self._fail(trial, interrupted=True)
            raise
        finally:
            _in_hand.discard(trial.user_attrs["token"])

    def _fail(self, trial: Trial, **attributes: Any) -> None:
        try:
            for name, value in attributes.items():
                trial.set_user_attr(name, value)
            self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        except UpdateFinishedTrialError:
            return  # as above: the slot is no longer ours to judge

    def _without_waiting(self) -> AbstractContextManager[None]:
        return self.storage.at_once() if isinstance(self.storage, PatientStorage) else nullcontext()

    def _set(self, number: int, name: str, value: Any) -> None:
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        self.storage.set_trial_user_attr(trial_id, name, value)

    @contextmanager
    def _alive(self, trial: Trial) -> Iterator[None]:
        """Write signs of life while a trial runs, for processes on other machines."""
        if isinstance(self.storage, InMemoryStorage):
            yield
            return
        over = threading.Event()

        def beat() -> None:
            while not over.wait(Owner.BEAT):
                try:
                    self._set(trial.number, "beat", time.time())
                except UpdateFinishedTrialError:
                    return
                except StorageLost:
                    continue  # whoever fills the slot meets it too, and the next sign may come through

        thread = threading.Thread(target=beat, name="autometa-signs-of-life", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def best(self) -> FrozenTrial | None:
        """Return the best complete trial, or the best pruned one if none is complete."""
        sign = -1.0 if self.study.direction == optuna.study.StudyDirection.MAXIMIZE else 1.0
        for state in (TrialState.COMPLETE, TrialState.PRUNED):
            found = [trial for trial in self.trials(state) if trial.value is not None]
            if found:
                return min(found, key=lambda trial: (sign * float(trial.value or 0.0), trial.user_attrs["slot"]))
        return None


def slot_state(trial: FrozenTrial) -> SlotState:
    """Return the state of a trial's slot."""
    if trial.state == TrialState.RUNNING:
        return "running"
    if trial.state == TrialState.FAIL and "error" not in trial.user_attrs:
        return "open"
    return "done"

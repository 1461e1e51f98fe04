"""Optuna studies whose trials fill numbered slots: each slot once, whichever process on whichever machine fills it."""

from __future__ import annotations

import threading
import time
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from autometa.comparison.execution.patient_storage import PatientStorage, StorageLost, SystemFailure, lost_in, tell
from autometa.comparison.execution.sealed import is_sound, seal
from autometa.comparison.execution.stored_trials import check_trial
from autometa.comparison.execution.thread_counts import recorded_threads
from autometa.comparison.execution.watch import Hang, Interruption, Watch, silent_for
from autometa.contracts.plugin_code import plugin_code, text_of
from autometa.engine.process_state import restored_process
from autometa.engine.pulse import SILENCE

MOST_DEATHS = 3
"""How many processes may die in the midst of filling a slot, by no fault but its own; then the slot has failed."""

_SET_ASIDE = "set_aside"
"""User attribute of a study: numbers of finished trials whose slots are open again."""
_ENDED_WELL = {"error", "interrupted"}
"""One of these stands in a failed trial whose process saw its end."""

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
    fixed : mapping of int to dict, optional
        Parameter values for some slots.
    watch : Watch, optional
        How the runs of this process are watched.
    to_read : bool, default=False
        Write nothing: a study that the storage does not hold is an empty one.

    Attributes
    ----------
    has_hung : bool
        True once a trial of this process was interrupted because it did not go on.
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
        watch: Watch | None = None,
        to_read: bool = False,
    ) -> None:
        self.storage = storage if not to_read or _holds(storage, name) else InMemoryStorage()
        self.n_slots = n_slots
        self.fixed = fixed or {}
        self.watch = watch or Watch()
        self.has_hung = False
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
            self._sound[trial.number] = is_sound(trial)
            if self._sound[trial.number]:
                check_trial(trial, self.name)
            else:
                tell(
                    f"trial {trial.number} of study {self.name!r} is not as it was written (its checksum differs): it "
                    "does not count, and the command that began the comparison measures it again."
                )
        return self._sound[trial.number]

    def refresh(self) -> None:
        """Read again which finished trials other processes have set aside."""
        self._set_aside = frozenset(self.storage.get_study_user_attrs(self._study_id).get(_SET_ASIDE, []))

    @property
    def has_second_tries(self) -> bool:
        """True if slots that were done are filled again."""
        return bool(self._set_aside)

    def set_aside(self, trials: Iterable[FrozenTrial]) -> int:
        """Open the slots of finished trials again; return how many. A failed one is repeated as it was drawn."""
        again = {trial.number for trial in trials}
        if again:
            self.refresh()
            self._set_aside |= again
            self.study.set_user_attr(_SET_ASIDE, sorted(self._set_aside))
        return len(again)

    def forgive(self) -> int:
        """Open the slots again that failed by the death of a process, or by a shorter limit; return how many."""
        limit = self.watch.limit or 0.0
        return self.set_aside(
            trial
            for trial in self.trials(TrialState.FAIL)
            if "error" in trial.user_attrs
            and ("died" in trial.user_attrs or trial.user_attrs.get("timeout", limit) < limit)
        )

    @property
    def needs_a_process(self) -> bool:
        """True if filling a slot has ended a process or may have done so: one that this one outlives should do it."""
        return any(
            "died" in trial.user_attrs or "timeout" in trial.user_attrs or not _ENDED_WELL & trial.user_attrs.keys()
            for trial in self._begun(TrialState.FAIL)
        )

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
            **recorded_threads(),
        }
        if self.watch.supervisor is not None:
            attributes["supervisor"] = self.watch.supervisor.to_json()
        fixed = self.fixed.get(slot, {})
        cut = [trial for trial in self._begun(TrialState.FAIL) if trial.user_attrs["slot"] == slot]
        if cut:
            attributes["retry_of"] = cut[-1].number
            if cut[-1].user_attrs.get("drawn"):
                fixed = cut[-1].params
        for changed in self._unsound(slot):
            attributes["retry_of"] = changed.number
            fixed = fixed or changed.params
        return attributes | ({"fixed": fixed} if fixed else {})

    def _unsound(self, slot: int) -> list[FrozenTrial]:
        """Return the trials of a slot that do not count because their records changed."""
        found = self.study.get_trials(deepcopy=False) if False in self._sound.values() else []
        return [
            trial for trial in found if not self._sound.get(trial.number, True) and trial.user_attrs.get("slot") == slot
        ]

    def reap(self) -> list[int]:
        """Fail the running trials of processes that are gone; return their numbers.

        Their slots are open again: nobody can tell what ended those processes. Where another process watches one, it
        is left to that to say how it ended.
        """
        reaped = []
        here = Owner.here()
        for trial in self.trials(TrialState.RUNNING):
            owner = Owner.from_json(trial.user_attrs["owner"])
            left = owner == here and trial.user_attrs["token"] not in _in_hand
            # While the storage was away, nobody could give a sign of life.
            last_sign = max(trial.user_attrs["beat"], getattr(self.storage, "back_at", 0.0))
            if not left and (not owner.is_dead(last_sign) or self._is_watched(trial, last_sign)):
                continue
            if self._end(trial.number, **({"interrupted": True} if left else {})):
                reaped.append(trial.number)
        return reaped

    @staticmethod
    def _is_watched(trial: FrozenTrial, last_sign: float) -> bool:
        """Tell whether a process lives that will say how the owner of a trial ended."""
        if "supervisor" not in trial.user_attrs:
            return False
        supervisor = Owner.from_json(trial.user_attrs["supervisor"])
        return supervisor != Owner.here() and not supervisor.is_dead(last_sign)

    def of_child(self, pid: int | None) -> list[FrozenTrial]:
        """Return the running trials of a process that this one started."""
        here = Owner.here().to_json()
        running = self.trials(TrialState.RUNNING)
        return [
            trial
            for trial in running
            if trial.user_attrs.get("supervisor") == here and trial.user_attrs["owner"]["pid"] == pid
        ]

    def bury(self, trial: FrozenTrial, how: str) -> bool:
        """Fail a trial whose process died while this one lives on; tell whether the slot has failed with it.

        That takes :data:`MOST_DEATHS`, and a single one where another slot has already failed so.
        """
        dead = [other for other in self.trials(TrialState.FAIL) if "died" in other.user_attrs]
        slot = trial.user_attrs["slot"]
        deaths = 1 + sum(other.user_attrs["slot"] == slot for other in dead)
        if deaths < MOST_DEATHS and not any("error" in other.user_attrs for other in dead):
            self._end(trial.number, died=how)
            return False
        times = "" if deaths == 1 else f" {deaths} times, last"
        memory = "; it may need more memory than there is" if how == "signal SIGKILL" else ""
        error = f"ProcessDied: the process filling this slot died{times} with {how}{memory}."
        return self._end(trial.number, died=how, error=error)

    def end_hanging(self, trial: FrozenTrial, seconds: float) -> bool:
        """Fail a trial that does not go on."""
        return self._end(trial.number, timeout=seconds, error=silent_for(seconds))

    def give_back(self, trial: FrozenTrial) -> bool:
        """Open the slot of a trial again that was at work when this process was asked to stop."""
        return self._end(trial.number, interrupted=True)

    def _end(self, number: int, **attributes: Any) -> bool:
        """Fail a trial of any process; False if it has ended already."""
        try:
            for name, value in attributes.items():
                self._set(number, name, value)
            self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        except UpdateFinishedTrialError:
            return False
        return True

    def fill(self, trial: Trial, work: Callable[[Trial], float]) -> None:
        """Do the work of a claimed trial and record how it ended.

        A trial that raises has failed and keeps the reason, whatever it raises, and so has one that hangs; Ctrl-C
        gives the slot back. What it changed in the process is put back and named in its record.

        Raises
        ------
        StorageLost
            The storage or the system failed, which says nothing about the trial.
        """
        changed: list[str] = []
        hang: Hang | None = None
        try:
            try:
                with (
                    self._alive(trial),
                    restored_process() as changed,
                    self.watch.over(self._give_up(trial)) as hang,
                    plugin_code(),
                ):
                    value = work(trial)
            except optuna.TrialPruned:
                self._note(trial, changed)
                seal(self.storage, trial, TrialState.PRUNED)
                self.study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            else:
                self._note(trial, changed)
                seal(self.storage, trial, TrialState.COMPLETE, value)
                self.study.tell(trial, value, skip_if_finished=True)
        except UpdateFinishedTrialError:
            return  # another process took this one for dead and has opened the slot again
        except Exception as error:
            lost = lost_in(error)
            if lost is not None:
                self._give_up_slot(trial, lost)
                raise lost from error.__cause__  # the trial is none the worse, and its slot will be open again
            self._fail(trial, **_failure(error, hang), changed=changed)
            self._tell_of(hang)
        except Interruption as error:
            self._fail(trial, **_failure(error, hang), changed=changed)
            self._tell_of(hang)
        except BaseException:
            # Where the storage does not answer, the slot is given back by whoever finds this process gone.
            with suppress(StorageLost), self._without_waiting():
                self._fail(trial, interrupted=True)
            raise
        finally:
            _in_hand.discard(trial.user_attrs["token"])

    def _tell_of(self, hang: Hang | None) -> None:
        if hang is not None and hang.reason:
            self.has_hung = True
            label = self.name.partition("/")[2]
            warnings.warn(f"{label}: {hang.reason}; it has failed, and the rest goes on.", RuntimeWarning, stacklevel=3)

    def _give_up(self, trial: Trial) -> Callable[[str], None] | None:
        if isinstance(self.storage, InMemoryStorage):
            return None
        return lambda reason: self._fail(trial, error=reason, timeout=self.watch.limit or SILENCE)

    def _note(self, trial: Trial, changed: list[str]) -> None:
        if changed:
            trial.set_user_attr("changed", changed)

    def _fail(self, trial: Trial, **attributes: Any) -> None:
        try:
            for name, value in attributes.items():
                if value:
                    trial.set_user_attr(name, value)
            self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        except UpdateFinishedTrialError:
            return  # as above: the slot is no longer ours to judge

    def _give_up_slot(self, trial: Trial, lost: StorageLost) -> None:
        """Open the slot again at once, unless it is the storage that failed."""
        if isinstance(lost, SystemFailure):
            with suppress(StorageLost), self._without_waiting():
                self._fail(trial, interrupted=True)

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


def _holds(storage: BaseStorage, name: str) -> bool:
    try:
        storage.get_study_id_from_name(name)
    except KeyError:
        return False
    return True


def _failure(error: BaseException, hang: Hang | None) -> dict[str, Any]:
    """Return what the record of a trial says of the error it ended with."""
    if hang is not None and hang.reason:
        return {"error": hang.reason, "timeout": hang.pulse.limit or SILENCE}
    trace = "".join(traceback.format_exception(error))[-4000:]
    return {"error": f"{type(error).__name__}: {text_of(error)}", "traceback": trace}


def slot_state(trial: FrozenTrial) -> SlotState:
    """Return the state of a trial's slot."""
    if trial.state == TrialState.RUNNING:
        return "running"
    if trial.state == TrialState.FAIL and "error" not in trial.user_attrs:
        return "open"
    return "done"

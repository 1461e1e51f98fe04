"""Optuna studies whose trials fill numbered slots: each slot once, whichever process on whichever machine fills it."""

from __future__ import annotations

import math
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from autometa.comparison.execution.owner import Owner
from autometa.comparison.execution.patient_storage import PatientStorage, StorageLost, SystemFailure, lost_in
from autometa.comparison.execution.sealed import seal
from autometa.comparison.execution.slot_endings import SlotEndings
from autometa.comparison.execution.slot_records import slot_state
from autometa.comparison.execution.thread_counts import recorded_threads
from autometa.comparison.execution.watch import GiveUp, Hang, Interruption, Watch
from autometa.contracts.plugin_code import OutOfTime, plugin_code, text_of
from autometa.engine.process_state import restored_process
from autometa.engine.pulse import SILENCE
from autometa.errors import warn_user

_in_hand: set[str] = set()
"""Tokens of the trials that this process is filling. A running trial of its own without one was left by a Ctrl-C."""


class SlotStudy(SlotEndings):
    """Fills the slots of a study, see :class:`SlotRecords` for what it holds.

    Parameters
    ----------
    storage : optuna.storages.BaseStorage
    name : str
    fixed : mapping of int to dict, optional
        Parameter values for some slots.
    watch : Watch, optional
        How the runs of this process are watched.
    **options
        Of :class:`SlotRecords`.

    Attributes
    ----------
    has_hung : bool
        True once a trial of this process was interrupted because it did not go on.
    goes_on : dict of int to int
        Slots that go on with the trial of another slot, as it was drawn.
    ends_at : float
        Seconds since the epoch at which a run is cut short and gives its slot back.
    """

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        *,
        fixed: Mapping[int, dict[str, Any]] | None = None,
        watch: Watch | None = None,
        **options: Any,
    ) -> None:
        super().__init__(storage, name, **options)
        self.fixed = fixed or {}
        self.watch = watch or Watch()
        self.has_hung = False
        self.goes_on: dict[int, int] = {}
        self.ends_at = math.inf

    def goes_on_in(self, slot: int) -> int | None:
        """Return the slot whose trial goes on in a slot, as the record of the first trial there tells."""
        found = (trial.user_attrs.get("begun_in") for trial in self.trials() if trial.user_attrs["slot"] == slot)
        return next(found, None)

    def forgive(self) -> int:
        """Open the slots again that failed by the death of a process, or by a shorter limit; return how many."""
        limit = self.watch.limit or SILENCE
        return self.set_aside(
            trial
            for trial in self.trials(TrialState.FAIL)
            if "error" in trial.user_attrs
            and ("died" in trial.user_attrs or trial.user_attrs.get("timeout", limit) < limit)
        )

    def claim(self, *, but: Collection[int] = ()) -> Trial | None:
        """Start a trial for the first open slot, some left out; return None if there is none.

        Two processes may start one for the same slot; the trial with the lower number has it.
        """
        for slot, state in enumerate(self.slot_states()):
            if state != "open" or slot in but or time.time() >= self.ends_at:
                continue
            if slot in self.goes_on and not self._is_over(self.goes_on[slot]):
                continue  # its record was damaged, and is made again first
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

    def _is_over(self, slot: int) -> bool:
        return any(trial.user_attrs["slot"] == slot for trial in self.trials(TrialState.PRUNED, TrialState.COMPLETE))

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
        if slot in self.goes_on:
            attributes["begun_in"] = self.goes_on[slot]
        fixed = self._fixed_for(slot)
        cut = [trial for trial in self._begun(TrialState.FAIL) if trial.user_attrs["slot"] == slot]
        if cut:
            attributes["retry_of"] = cut[-1].number
            if cut[-1].user_attrs.get("drawn"):
                fixed = cut[-1].params
        for changed in self._unsound(slot):
            attributes["retry_of"] = changed.number
            fixed = fixed or changed.params
        return attributes | ({"fixed": fixed} if fixed else {})

    def _fixed_for(self, slot: int) -> dict[str, Any]:
        """Return the values of a slot; where an earlier trial drew them by itself, others that none has tried."""
        if slot in self.goes_on:
            begun = self.trials(TrialState.PRUNED, TrialState.COMPLETE)
            return next(trial.params for trial in begun if trial.user_attrs["slot"] == self.goes_on[slot])
        fixed = self.fixed.get(slot - sum(other < slot for other in self.goes_on), {})  # by trials, not by legs
        others = [trial for trial in self.trials() if trial.user_attrs["slot"] != slot]
        tried = [trial.user_attrs.get("fixed") or trial.params for trial in others]
        if fixed not in tried:
            return fixed
        return next((values for values in self.fixed.values() if values not in tried), {})

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
        began = time.process_time()
        try:
            try:
                with (
                    self._alive(trial),
                    restored_process() as changed,
                    self.watch.over(self._give_up(trial), seconds=self.ends_at - time.time()) as hang,
                    plugin_code(),
                ):
                    value = work(trial)
            except optuna.TrialPruned:
                self._note(trial, changed, time.process_time() - began)
                seal(self.storage, trial, TrialState.PRUNED)
                self.study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            else:
                self._note(trial, changed, time.process_time() - began)
                seal(self.storage, trial, TrialState.COMPLETE, value)
                self.study.tell(trial, value, skip_if_finished=True)
        except UpdateFinishedTrialError:
            return  # another process took this one for dead and has opened the slot again
        except Exception as error:
            lost = lost_in(error)
            if lost is not None:
                self._give_up_slot(trial, lost)
                if isinstance(lost, SystemFailure):
                    lost = SystemFailure(f"{self.name.partition('/')[2]}: {lost}")
                raise lost from error.__cause__  # the trial is none the worse, and its slot will be open again
            self._fail(trial, **_failure(error, hang), changed=changed)
            self._tell_of(hang)
        except OutOfTime:
            self._fail(trial, interrupted=True)
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
            warn_user(f"{label}: {hang.reason}; it has failed, and the rest goes on.", RuntimeWarning)

    def _give_up(self, trial: Trial) -> GiveUp | None:
        if isinstance(self.storage, InMemoryStorage):
            return None
        return lambda reason, seconds: self._fail(trial, error=reason, timeout=seconds)

    def _note(self, trial: Trial, changed: list[str], processor_seconds: float) -> None:
        trial.set_user_attr("processor_seconds", processor_seconds)
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


def _failure(error: BaseException, hang: Hang | None) -> dict[str, Any]:
    """Return what the record of a trial says of the error it ended with."""
    if hang is not None and hang.reason:
        return {"error": hang.reason, "timeout": hang.seconds}
    trace = "".join(traceback.format_exception(error))[-4000:]
    return {"error": f"{type(error).__name__}: {text_of(error)}", "traceback": trace}

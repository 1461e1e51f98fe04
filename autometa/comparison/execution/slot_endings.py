"""How the trials of other processes end: those of processes that died, hang, or were asked to stop."""

from __future__ import annotations

from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from autometa.comparison.execution.owner import Owner
from autometa.comparison.execution.slot_records import SlotRecords
from autometa.comparison.execution.watch import silent_for

MOST_DEATHS = 3
"""How many processes may die in the midst of filling a slot, by no fault but its own; then the slot has failed."""


class SlotEndings(SlotRecords):
    """Ends trials from outside, whichever process fills them."""

    def of_child(self, pid: int | None) -> list[FrozenTrial]:
        """Return the running trials of a process that this one started."""
        own = self.watched_by(Owner.here().to_json())
        return [trial for trial in own if trial.user_attrs["owner"]["pid"] == pid]

    def watched_by(self, supervisor: dict[str, Any]) -> list[FrozenTrial]:
        """Return the running trials of processes that another process watches."""
        running = self.trials(TrialState.RUNNING)
        return [trial for trial in running if trial.user_attrs.get("supervisor") == supervisor]

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

    def _set(self, number: int, name: str, value: Any) -> None:
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        self.storage.set_trial_user_attr(trial_id, name, value)

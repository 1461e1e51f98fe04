"""A checksum in the record of a trial, so that a number that changed in a storage is never taken for a score."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

SEAL = "seal"
"""The user attribute that holds it."""
_UNSEALED = {SEAL, "beat", "duplicate"}
"""User attributes that may be written by others."""
_UNENDED = {TrialState.RUNNING, TrialState.FAIL}


def seal(storage: BaseStorage, trial: Trial, state: TrialState, value: float | None = None) -> None:
    """Write the checksum of all that a trial reports into its record, before its end is told.

    Parameters
    ----------
    storage : optuna.storages.BaseStorage
    trial : optuna.Trial
    state : TrialState
        How it is about to end.
    value : float, optional
        Its score; a trial that is pruned has the last one that it reported.
    """
    written = storage.get_trial(trial._trial_id)  # as it will be read
    value = _last(written) if state == TrialState.PRUNED else value
    trial.set_user_attr(SEAL, _checksum(written, state, value))


def is_sound(trial: FrozenTrial) -> bool:
    """Tell whether the record of a trial is as it was written. Only those that ended with a score have a checksum."""
    if trial.state in _UNENDED:
        return True
    return bool(trial.user_attrs.get(SEAL) == checksum(trial))


def checksum(trial: FrozenTrial) -> str:
    """Return the checksum of the record of a trial that has ended."""
    value = trial.values[0] if trial.values else None
    if trial.state == TrialState.PRUNED and value is None:
        value = _last(trial)
    return _checksum(trial, trial.state, value)


def _last(trial: FrozenTrial) -> float | None:
    return None if trial.last_step is None else trial.intermediate_values[trial.last_step]


def _checksum(trial: FrozenTrial, state: TrialState, value: float | None) -> str:
    reported: dict[str, Any] = {
        "state": state.name,
        "value": None if value is None else float(value),
        "params": trial.params,
        "intermediate": {str(step): float(score) for step, score in trial.intermediate_values.items()},
        "attributes": {key: value for key, value in trial.user_attrs.items() if key not in _UNSEALED},
    }
    plain = json.loads(json.dumps(reported))  # in which keys are text and tuples lists, as in a file
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]

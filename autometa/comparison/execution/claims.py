"""Records that processes agree on: of several that are to follow the same one, the first counts.

No storage can check a record and set another in one step, but all give every trial a number of its own. So whoever
wants to set a record adds a trial that holds it and says which one it is to follow; whoever comes second reads that.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from autometa.errors import StorageError

FOLLOWS = "follows"
"""The user attribute of a trial with a record that tells the record before: a digest of it."""


def claim(storage: BaseStorage, study: int, key: str, record: Any, *, follows: Any) -> Any:
    """Let a record follow another one, and return what follows that: this one, or that of whoever was first.

    Parameters
    ----------
    storage : optuna.storages.BaseStorage
    study : int
        Id of the study whose trials hold the records.
    key : str
        What the record is about, a user attribute of its trial.
    record, follows : dict, list, str, number or None
        What JSON can hold.

    Returns
    -------
    dict, list, str, number or None
        The record that counts.

    Raises
    ------
    StorageError
        The storage does not show what was written.
    """
    first = successor(storage, study, key, follows)
    if first is None:
        attributes = {key: record, FOLLOWS: _digest(follows), "token": uuid.uuid4().hex}
        template = create_trial(state=TrialState.COMPLETE, value=0.0, user_attrs=attributes)
        storage.create_new_trial(study, template_trial=template)
        first = successor(storage, study, key, follows)
    if first is None:
        raise StorageError(f"the storage does not show what was written into it ({key!r}); use another one.")
    return first


def successor(storage: BaseStorage, study: int, key: str, record: Any) -> Any | None:
    """Return the record that follows another one; None if there is none yet."""
    before = _digest(record)
    found = (trial.user_attrs[key] for trial in _claims(storage, study, key) if trial.user_attrs[FOLLOWS] == before)
    return next(found, None)


def latest(storage: BaseStorage, study: int, key: str, first: Any) -> Any:
    """Return the last record of those that follow each other from the first on."""
    followers: dict[str, Any] = {}
    for trial in _claims(storage, study, key):
        followers.setdefault(str(trial.user_attrs[FOLLOWS]), trial.user_attrs[key])
    record = first
    while (before := _digest(record)) in followers:
        record = followers.pop(before)
    return record


def _claims(storage: BaseStorage, study: int, key: str) -> list[FrozenTrial]:
    """Return the trials that hold records of a kind, the first first."""
    found = storage.get_all_trials(study, deepcopy=False)
    return [trial for trial in found if {key, FOLLOWS} <= trial.user_attrs.keys()]


def _digest(record: Any) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()

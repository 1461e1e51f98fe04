"""The plan of a comparison in its storage, where other processes and later calls find it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import optuna
from optuna.storages import BaseStorage

from autometa.comparison.execution.claims import FOLLOWS, claim, successor
from autometa.comparison.plan.foreign import Paths, check_foreign
from autometa.comparison.plan.plan import Plan, restore_plan
from autometa.comparison.plan.same_plan import check_content, check_same, check_stored
from autometa.errors import AutometaError, InvalidParameter, StorageError, warn_user
from autometa.files.description import as_stored

PLAN = "plan"


def register_plan(storage: BaseStorage, plan: Plan, where: str) -> None:
    """Store the plan in the study that has the comparison's name, or check that the stored one agrees.

    Of several that would follow the same one, the first is set.

    Raises
    ------
    InvalidParameter
        Another plan, or one of another version, has the name.
    """
    what = f"{where}, comparison {plan.name!r},"
    new = as_stored(dict(plan.described))
    while True:
        study = optuna.create_study(storage=storage, study_name=plan.name, load_if_exists=True)
        stored = _read(study, what)
        if stored is not None:
            check_same(stored, plan, what)
        elif any(FOLLOWS not in trial.user_attrs for trial in study.get_trials(deepcopy=False)):
            text = f"{where} holds an Optuna study {plan.name!r} that is no comparison; give another name."
            raise InvalidParameter(text)
        if stored == new:
            return
        first = claim(storage, study._study_id, PLAN, new, follows=stored)
        check_same(first, plan, what)
        study.set_user_attr(PLAN, first)  # if it is another process's, that one may be gone


def begun_plan(storage: BaseStorage, name: str) -> Mapping[str, Any]:
    """Return the stored plan of a comparison; empty if there is none, or one that cannot go on.

    One that was claimed counts, even if the process that did so is gone.
    """
    if name not in optuna.get_all_study_names(storage=storage):
        return {}
    study = optuna.load_study(storage=storage, study_name=name)
    try:
        plan: Any = _read(study, f"comparison {name!r}") or successor(storage, study._study_id, PLAN, None)
        check_stored(plan, f"comparison {name!r}")
    except AutometaError:  # which whoever registers a plan is told
        return {}
    return dict(plan)


def comparisons_in(storage: BaseStorage) -> list[str]:
    """Return the names of all comparisons that a storage holds."""
    summaries = optuna.get_all_study_summaries(storage=storage, include_best_trial=False)
    return [summary.study_name for summary in summaries if PLAN in summary.user_attrs]


def stored_plan(
    storage: BaseStorage,
    name: str,
    *,
    to_read: bool = False,
    allowed_paths: Paths | None = (),
    trusted: Collection[str] | None = None,
) -> Plan:
    """Make the plan of a comparison from its storage.

    Parameters
    ----------
    storage : BaseStorage
    name : str
    to_read : bool, default=False
        Nothing will be trained or judged: files that changed since are a warning.
    allowed_paths, trusted
        What it may name, see :func:`check_foreign`.

    Raises
    ------
    InvalidParameter
        There is no comparison of this name, it is of another version, it names what is not allowed, or its files
        changed since.
    StorageError
        The stored plan is damaged.
    """
    names = [summary.study_name for summary in optuna.get_all_study_summaries(storage=storage)]
    found = [n for n in names if "/" not in n]
    if name not in names:
        raise InvalidParameter(f"name={name!r} is no comparison in this storage; it holds {found or 'none'}.")
    study = optuna.load_study(storage=storage, study_name=name)
    stored = _read(study, f"comparison {name!r}") or successor(storage, study._study_id, PLAN, None)
    if stored is None:
        raise InvalidParameter(f"name={name!r} is an Optuna study that autometa did not make.")
    check_stored(stored, f"comparison {name!r}")
    option = "Comparison.load(..., {})" if to_read else "work(..., {})"
    check_foreign(stored, f"comparison {name!r}", allowed_paths, trusted, option=option)
    try:
        plan = restore_plan(name, stored)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, AutometaError):
            raise
        raise StorageError(
            f"comparison {name!r} has a damaged plan, of which nothing can be made: {type(error).__name__}: {error}."
        ) from error
    try:
        check_content(stored, plan, f"comparison {name!r}")
    except InvalidParameter as error:
        if not to_read:
            raise
        warn_user(f"{error} What is shown is what was measured before.")
    return plan


def _read(study: optuna.Study, where: str) -> Any:
    """Return what a study has for a plan; None if nothing."""
    try:
        return study.user_attrs.get(PLAN)
    except RecursionError as error:  # Optuna copies it
        raise StorageError(f"{where} has a damaged plan: it is nested too deep.") from error

"""The plan of a comparison in its storage, where other processes and later calls find it."""

from __future__ import annotations

import warnings
from typing import Any

import optuna
from optuna.storages import BaseStorage

from autometa.comparison.plan.plan import Plan, restore_plan
from autometa.comparison.plan.same_plan import check_content, check_same, check_stored
from autometa.errors import AutometaError, InvalidParameter, StorageError

PLAN = "plan"


def register_plan(storage: BaseStorage, plan: Plan, where: str) -> None:
    """Store the plan in the study that has the comparison's name, or check that the stored one agrees.

    Raises
    ------
    InvalidParameter
        Another plan, or one of another version, has the name.
    """
    study = optuna.create_study(storage=storage, study_name=plan.name, load_if_exists=True)
    stored = _read(study, f"{where}, comparison {plan.name!r},")
    if stored is not None:
        check_same(stored, plan, f"{where}, comparison {plan.name!r},")
    elif study.trials:
        raise InvalidParameter(f"{where} holds an Optuna study {plan.name!r} that is no comparison; give another name.")
    study.set_user_attr(PLAN, dict(plan.described))


def stored_plan(storage: BaseStorage, name: str, *, to_read: bool = False) -> Plan:
    """Make the plan of a comparison from its storage.

    Parameters
    ----------
    storage : BaseStorage
    name : str
    to_read : bool, default=False
        Nothing will be trained or judged: files that changed since are a warning.

    Raises
    ------
    InvalidParameter
        There is no comparison of this name, it is of another version, or its files changed since.
    StorageError
        The stored plan is damaged.
    """
    names = [summary.study_name for summary in optuna.get_all_study_summaries(storage=storage)]
    found = [n for n in names if "/" not in n]
    if name not in names:
        raise InvalidParameter(f"name={name!r} is no comparison in this storage; it holds {found or 'none'}.")
    stored = _read(optuna.load_study(storage=storage, study_name=name), f"comparison {name!r}")
    if stored is None:
        raise InvalidParameter(f"name={name!r} is an Optuna study that autometa did not make.")
    check_stored(stored, f"comparison {name!r}")
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
        warnings.warn(f"{error} What is shown is what was measured before.", UserWarning, stacklevel=3)
    return plan


def _read(study: optuna.Study, where: str) -> Any:
    """Return what a study has for a plan; None if nothing."""
    try:
        return study.user_attrs.get(PLAN)
    except RecursionError as error:  # Optuna copies it
        raise StorageError(f"{where} has a damaged plan: it is nested too deep.") from error

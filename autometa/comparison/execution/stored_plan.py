"""The plan of a comparison in its storage, where other processes and later calls find it."""

from __future__ import annotations

import warnings
from collections.abc import Collection

import optuna
from optuna.storages import BaseStorage

from autometa.comparison.plan.foreign import Paths, check_foreign
from autometa.comparison.plan.plan import Plan, restore_plan
from autometa.comparison.plan.same_plan import check_content, check_same, check_version
from autometa.errors import InvalidParameter

PLAN = "plan"


def register_plan(storage: BaseStorage, plan: Plan, where: str) -> None:
    """Store the plan in the study that has the comparison's name, or check that the stored one agrees.

    Raises
    ------
    InvalidParameter
        Another plan, or one of another version, has the name.
    """
    study = optuna.create_study(storage=storage, study_name=plan.name, load_if_exists=True)
    stored = study.user_attrs.get(PLAN)
    if stored is not None:
        check_same(stored, plan, f"{where}, comparison {plan.name!r},")
    elif study.trials:
        raise InvalidParameter(f"{where} holds an Optuna study {plan.name!r} that is no comparison; give another name.")
    study.set_user_attr(PLAN, dict(plan.described))


def stored_plan(
    storage: BaseStorage,
    name: str,
    *,
    to_read: bool = False,
    allowed_paths: Paths = (),
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
    """
    names = [summary.study_name for summary in optuna.get_all_study_summaries(storage=storage)]
    found = [n for n in names if "/" not in n]
    if name not in names:
        raise InvalidParameter(f"name={name!r} is no comparison in this storage; it holds {found or 'none'}.")
    stored = optuna.load_study(storage=storage, study_name=name).user_attrs.get(PLAN)
    if stored is None:
        raise InvalidParameter(f"name={name!r} is an Optuna study that autometa did not make.")
    check_version(stored, f"comparison {name!r}")
    option = "Comparison.load(..., {})" if to_read else "work(..., {})"
    check_foreign(stored, f"comparison {name!r}", allowed_paths, trusted, option=option)
    plan = restore_plan(name, stored)
    try:
        check_content(stored, plan, f"comparison {name!r}")
    except InvalidParameter as error:
        if not to_read:
            raise
        warnings.warn(f"{error} What is shown is what was measured before.", UserWarning, stacklevel=3)
    return plan

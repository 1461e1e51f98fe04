"""What a call tries first: what it names, or what the comparison that it goes on with was begun with."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from optuna.storages import BaseStorage

from autometa.comparison.execution.slot_records import quiet_optuna
from autometa.comparison.execution.storage import open_storage
from autometa.comparison.execution.stored_plan import begun_plan
from autometa.comparison.plan.portfolio import Portfolio, WarmStart, read_portfolio
from autometa.errors import InvalidFile, InvalidParameter, MissingData, StorageError
from autometa.files.description import as_stored


def read_start(warm_start: WarmStart | None, where: str | BaseStorage | None, name: str) -> tuple[Portfolio, bool]:
    """Read what is tried first.

    Parameters
    ----------
    warm_start : path, list of paths or None
    where : str, BaseStorage or None
        The storage in which the comparison may have been begun.
    name : str
        Of the comparison.

    Returns
    -------
    portfolio : Portfolio
    is_lost : bool
        True if it is that of the stored plan, because what is named cannot be read.

    Raises
    ------
    InvalidParameter, MissingData, InvalidFile
        It cannot be read, and no comparison was begun with it.
    """
    try:
        return as_stored(read_portfolio(warm_start)), False
    except (InvalidParameter, MissingData, InvalidFile):
        begun: Mapping[str, Any] = {}
        with suppress(StorageError), quiet_optuna():
            begun = begun_plan(open_storage(where, make=False), name)
        if not begun:
            raise
        return begun.get("warm_start", []), True


def other_start(name: str, warm_start: WarmStart | None, begun_with: Portfolio, *, is_lost: bool) -> str:
    """Say that a comparison goes on with another start than a call asks for."""
    goes_on = "with what warm_start held when it was begun" if begun_with else "without warm_start, as it was begun"
    asked = "" if warm_start is None else f", not with what warm_start={warm_start!r} holds now"
    if is_lost:
        asked = f"; warm_start={warm_start!r} cannot be read now"
    return f"comparison {name!r} goes on {goes_on}{asked}."

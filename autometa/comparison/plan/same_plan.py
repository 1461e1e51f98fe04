"""Check that a stored plan is the same as a new one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from autometa._version import __version__
from autometa.comparison.plan.plan import FORMAT, STORED, Plan
from autometa.comparison.plan.portfolio import Portfolio
from autometa.comparison.plan.settings import Settings
from autometa.errors import InvalidParameter, StorageError
from autometa.files.complete_run import GROWS
from autometa.files.description import as_stored, changed_content, same_description
from autometa.schema import misfit, misfit_of_any

FREE = ("max_latency",)
"""Settings that change no trial, only which one is taken and what is said of it."""
_DEFAULTS = {field.name: field.default for field in fields(Settings)}
"""What plans mean that do not tell a setting yet."""


def check_version(stored: Mapping[str, Any], where: str) -> None:
    """Refuse a plan that another version of autometa stored.

    Raises
    ------
    InvalidParameter
        Names both versions.
    """
    if (stored.get("format"), stored.get("version")) != (FORMAT, __version__):
        raise InvalidParameter(
            f"{where} was made by autometa {stored.get('version')} (format {stored.get('format')}) and this is "
            f"{__version__} (format {FORMAT}): scores of different versions cannot stand in one table; install that "
            "version, or give another output or name."
        )


def check_stored(stored: Any, where: str) -> None:
    """Refuse a stored plan that another version made, or that no version did.

    Raises
    ------
    InvalidParameter
        It is of another version.
    StorageError
        It is not what a plan looks like; the text names the place.
    """
    wrong = misfit(stored, dict)
    if wrong is None:
        check_version(stored, where)
        wrong = misfit_of_any(stored, STORED)
    if wrong:
        raise StorageError(f"{where} has a damaged plan: {wrong}; give another output or name, or restore the storage.")


def check_content(stored: Mapping[str, Any], plan: Plan, where: str) -> None:
    """Refuse files that are not those that the plan was made with.

    Raises
    ------
    InvalidParameter
        Names what changed.
    """
    changed = changed_content(stored, plan.described)
    if changed:
        raise InvalidParameter(f"{where} was made from other data: what {', '.join(changed)} names changed since.")


def _difference(kind: str, label: str, stored: Any, new: Any) -> str:
    changed = changed_content(stored, new)
    if not changed:
        return f"{kind} {label!r} has other parameters there"
    return f"the data of {', '.join(changed)} changed since ({kind} {label!r})"


def _changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return how settings differ from the stored ones, in other ways than by growing."""
    found = []
    has_time = any(settings.get("time_budget") is not None for settings in (before, now))
    for name, value in now.items():
        if name == "budget" and has_time:  # from which it follows
            continue
        there = before.get(name, _DEFAULTS[name])
        if there == value or name in FREE or (name == "budget" and _seconds_per_run(before) and _seconds_per_run(now)):
            continue
        grows = name in GROWS and isinstance(there, int)
        if not grows or there > value:
            hint = " (which can grow, not shrink)" * grows
            found.append(f"{name}={there!r} there and {value!r} here{hint}")
    share, shared = _seconds_per_run(before), _seconds_per_run(now)
    if share and shared and not math.isclose(share, shared):
        same = share * (now["n_trials"] + now["n_seeds"])
        found.append(
            f"budget={before['budget']!r} there, {share:.4g} seconds for each run, and budget={now['budget']!r} here, "
            f"{shared:.4g} for each (as many as there are budget={same:.10g})"
        )
    return found


def going_on(settings: Settings, portfolio: Portfolio, begun: Mapping[str, Any]) -> tuple[Settings, Portfolio]:
    """Return settings and portfolio of a call that goes on with a comparison, with what its first call alone decides.

    That is which networks are on offer, whatever the device now, how long the time of that call let every run be, and
    which hyperparameters are tried first.

    Parameters
    ----------
    settings : Settings
        As asked for now.
    portfolio : Portfolio
        Likewise.
    begun : mapping
        The stored plan; empty if there is none.
    """
    if not begun:
        return settings, portfolio
    return _settings_going_on(settings, begun["settings"]), begun.get("warm_start", [])


def _settings_going_on(settings: Settings, begun: Mapping[str, Any]) -> Settings:
    kept: dict[str, Any] = {}
    if isinstance(begun.get("backbones"), str):
        kept["backbones"] = begun["backbones"]
    share = _seconds_per_run(begun)
    if settings.time_budget is not None and begun.get("time_budget") is not None and share is not None:
        is_same = begun["n_trials"] + begun["n_seeds"] == settings.n_trials + settings.n_seeds
        kept["time_budget"] = begun["time_budget"]
        kept["budget"] = begun["budget"] if is_same else share * (settings.n_trials + settings.n_seeds)
    return replace(settings, **kept)


def _seconds_per_run(settings: Mapping[str, Any]) -> float | None:
    """Return the seconds of meta-training of one run; None without a budget."""
    budget, n_trials, n_seeds = (settings.get(name) for name in ("budget", "n_trials", "n_seeds"))
    if not isinstance(budget, int | float) or not isinstance(n_trials, int) or not isinstance(n_seeds, int):
        return None
    return budget / max(1, n_trials + n_seeds)


def check_same(stored: Mapping[str, Any], plan: Plan, where: str) -> None:
    """Refuse a plan that differs from the stored one, except for what it asks for besides.

    Learners, tasks, test tasks and an ensemble may be new, and the numbers in :data:`GROWS` larger, as long as every
    run has as many seconds as before.

    Raises
    ------
    InvalidParameter
        Names every argument that differs, with both values.
    StorageError
        The stored plan is damaged.
    """
    new = plan.described
    check_stored(stored, where)
    differences = _changed_settings(stored["settings"], new["settings"])
    for kind in ("tasks", "test_tasks", "learners"):
        for label, described in stored.get(kind, {}).items():
            if label not in new[kind]:
                differences.append(f"{kind} {label!r} is there and not here")
            elif not same_description(described, new[kind][label]):
                differences.append(_difference(kind, label, described, new[kind][label]))
    if stored.get("warm_start", []) != as_stored(new.get("warm_start", [])):
        differences.append("warm_start holds other hyperparameters there")
    search = new["settings"]["search"]
    if search != "separate" and stored["learners"].keys() != new["learners"].keys():
        differences.append(
            f"learners {list(stored['learners'])} there and {list(new['learners'])} here (search={search!r})"
        )
    if differences:
        fewer = not stored["learners"].keys() <= new["learners"].keys()
        hint = " To leave learners out of the tables, use Comparison.without or 'autometa report --without'."
        raise InvalidParameter(
            f"{where} holds another comparison: {'; '.join(differences)}; "
            f"give another output or name, or the arguments it was begun with.{hint * fewer}"
        )

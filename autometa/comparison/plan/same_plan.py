"""Check that a stored plan is the same as a new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autometa._version import __version__
from autometa.comparison.plan.plan import FORMAT, STORED, Plan
from autometa.errors import InvalidParameter, StorageError
from autometa.files.description import changed_content, same_description
from autometa.schema import misfit, misfit_of_any


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


def check_same(stored: Mapping[str, Any], plan: Plan, where: str) -> None:
    """Refuse a plan that differs from the stored one, except for learners and tasks that are new.

    Test tasks cannot be added: a final run is judged on all of them when it ends, and may not be saved.

    Raises
    ------
    InvalidParameter
        Names every argument that differs, with both values.
    StorageError
        The stored plan is damaged.
    """
    new = plan.described
    check_stored(stored, where)
    differences = [
        f"{name}={stored['settings'].get(name)!r} there and {value!r} here"
        for name, value in new["settings"].items()
        if stored["settings"].get(name) != value
    ]
    for kind in ("tasks", "learners"):
        for label, described in stored[kind].items():
            if label not in new[kind]:
                differences.append(f"{kind} {label!r} is there and not here")
            elif not same_description(described, new[kind][label]):
                differences.append(_difference(kind, label, described, new[kind][label]))
    before, now = stored.get("test_tasks", {}), new["test_tasks"]
    if before.keys() != now.keys():
        differences.append(f"test_tasks={list(before) or None} there and {list(now) or None} here")
    else:
        differences += [
            _difference("test_tasks", label, before[label], now[label])
            for label in now
            if not same_description(before[label], now[label])
        ]
    if new["settings"]["search"] == "joint" and stored["learners"].keys() != new["learners"].keys():
        differences.append(
            f"learners {list(stored['learners'])} there and {list(new['learners'])} here (search='joint')"
        )
    if differences:
        raise InvalidParameter(
            f"{where} holds another comparison: {'; '.join(differences)}; "
            "give another output or name, or the arguments it was begun with."
        )

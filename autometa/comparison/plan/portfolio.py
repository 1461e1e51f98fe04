"""Hyperparameters that did best in finished comparisons, which new ones try first."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from autometa.checks import check_path
from autometa.comparison.plan.search_space import Candidate, SearchSpace, contains
from autometa.contracts.tasks import TaskInfo
from autometa.errors import AutometaError, InvalidFile, InvalidParameter, MissingData, warn_user
from autometa.host.catalog import name_of
from autometa.host.discovery import PORTFOLIO, get_host
from autometa.schema import Schema, misfit, read_json

FILE = PORTFOLIO
"""What a folder of a comparison holds."""
INSTALLED = "installed"
"""Stands for the portfolios that come with plugins."""
MOST = 3
"""Points that a study takes from a portfolio: more would leave a short search nothing to find."""
ENTRY: Schema = {
    "tasks": str,
    "problem": str,
    "input": ("images", "tables", "vectors"),
    "learner": str,
    "meta_optimizer": (None, str),
    "params": {str: (None, bool, int, float, str)},
}
Portfolio: TypeAlias = Sequence[Mapping[str, Any]]
"""Entries as in :data:`ENTRY`."""
WarmStart: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def read_portfolio(given: WarmStart | None) -> list[dict[str, Any]]:
    """Read files of portfolios, those in folders of finished comparisons, or those of plugins, one after the other.

    That of a plugin which cannot be read is left out with a warning.

    Raises
    ------
    InvalidParameter
        It is no path.
    MissingData
        There is no such file, or no portfolio in the folder.
    InvalidFile
        It is no portfolio.
    """
    if given is not None and not isinstance(given, str | os.PathLike | Sequence):
        raise InvalidParameter(
            f"warm_start={given!r} must be the folder of a finished comparison, a portfolio, {INSTALLED!r}, or a list "
            "of these."
        )
    found: list[dict[str, Any]] = []
    for item in items_of(given):
        if item == INSTALLED:
            found.extend(_of_plugins())
            continue
        check_path("warm_start", item)
        path = Path(item).expanduser()
        found.extend(_read(path / FILE if path.is_dir() else path, f"warm_start={str(item)!r}"))
    return found


def items_of(given: WarmStart | None) -> list[str | os.PathLike[str]]:
    """Return each of the things that an argument names."""
    return [] if given is None else [given] if isinstance(given, str | os.PathLike) else list(given)


def _read(path: Path, shown: str) -> list[dict[str, Any]]:
    try:
        entries = read_json(path.read_text(encoding="utf-8-sig"))  # which some editors write
    except OSError as error:
        raise MissingData(
            f"{shown} has no {FILE} that can be read ({error.strerror}); give the folder of a finished comparison, its "
            f"portfolio, or {INSTALLED!r} for those of plugins."
        ) from error
    except ValueError as error:
        raise InvalidFile(f"{shown} is no portfolio: {error}.") from error
    if wrong := misfit(entries, [ENTRY]):
        raise InvalidFile(f"{shown} is no portfolio: {wrong}.")
    return list(entries)


def _of_plugins() -> list[dict[str, Any]]:
    """Read the portfolios of all plugins."""
    found: list[dict[str, Any]] = []
    for record in get_host().records:
        if record.status != "active" or not record.portfolio:
            continue
        try:
            found.extend(_read(Path(record.portfolio), f"{record.portfolio!r} of plugin {record.name!r}"))
        except AutometaError as error:
            warn_user(f"warm_start={INSTALLED!r}: {error} It is left out.")
    return found


def entry_of(tasks: str, candidate: Candidate, params: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a portfolio keeps of the best hyperparameters of a learner; None where nothing can be kept."""
    entry = {"tasks": tasks, **key_of(candidate), "input": _input(candidate.info), "params": dict(params)}
    return None if not params or misfit(entry, ENTRY) else entry


def points_of(portfolio: Portfolio, candidate: Candidate, space: SearchSpace) -> list[dict[str, Any]]:
    """Return the points of a portfolio that fit a search space, those of alike tasks first, each once.

    A parameter that the space lacks, or a value outside it, is left out and has its default.
    """
    key, kind = key_of(candidate), _input(candidate.info)
    alike = [entry for entry in portfolio if is_for(entry, key)]
    points: list[dict[str, Any]] = []
    for entry in sorted(alike, key=lambda entry: entry["input"] != kind):
        fitting = fitting_params(entry, space)
        point = {**space.defaults, **fitting}
        if fitting and point != space.defaults and point not in points:
            points.append(point)
    return points[:MOST]


def is_for(entry: Mapping[str, Any], key: Mapping[str, Any]) -> bool:
    """Tell whether an entry is for the learner, the meta-optimizer and the problem of a :func:`key_of`."""
    return {name: entry[name] for name in key} == key


def fitting_params(entry: Mapping[str, Any], space: SearchSpace) -> dict[str, Any]:
    """Return the parameters of an entry that a search space has, with values that lie in it."""
    known = {**space.distributions, **space.opened}
    return {name: value for name, value in entry["params"].items() if name in known and contains(known[name], value)}


def key_of(candidate: Candidate) -> dict[str, Any]:
    """Return what an entry that is for a candidate has."""
    optimizer = candidate.meta_optimizer
    return {
        "problem": candidate.info.problem,
        "learner": name_of(candidate.learner, full=True),
        "meta_optimizer": None if optimizer is None else name_of(optimizer, full=True),
    }


def _input(info: TaskInfo) -> str:
    if info.is_table:
        return "tables"
    return "images" if len(info.input_shape) == 3 else "vectors"

"""Packages that only some baselines need."""

from __future__ import annotations

import importlib
from types import ModuleType

import autometa as am


class NotInstalled(am.MissingData, am.Incompatible):
    """The package of an extra is missing; a comparison of all learners leaves the learner out and says so."""


def needed(package: str, *, learner: str, extra: str) -> ModuleType:
    """Import a package of an extra.

    Raises
    ------
    NotInstalled
        Names the learner, the package and the extra.
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        raise NotInstalled(
            f"learner {learner!r} needs the package {package.partition('.')[0]}; install autometa with the extra "
            f"{extra!r}."
        ) from None

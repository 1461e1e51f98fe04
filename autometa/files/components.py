"""What a component is made of; files and plans both write a component as this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sklearn.base import BaseEstimator

from autometa.host.catalog import name_of
from autometa.host.kinds import KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """An object with parameters, taken apart."""

    kind: str | None
    """Such as ``"learner"``; None where it is no component of autometa's."""
    name: str | None
    """Full name under which it is installed; None where no plugin offers it."""
    path: str
    """``"package.module:Class"``."""
    params: dict[str, Any]


def path_of(made_by: Any) -> str:
    """Return ``"package.module:Class"`` of a class."""
    return f"{getattr(made_by, '__module__', '')}:{getattr(made_by, '__qualname__', '')}"


def parts_of(value: BaseEstimator) -> Parts:
    """Take an object with parameters apart, but not the objects among its parameters."""
    kind = next((name for name, entry in KINDS.items() if isinstance(value, entry.base())), None)
    return Parts(
        kind=kind,
        name=None if kind is None else name_of(value, full=True),
        path=path_of(type(value)),
        params=value.get_params(deep=False),
    )

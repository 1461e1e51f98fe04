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
    """Name under which it is installed; None where no plugin offers it."""
    path: str
    """``"package.module:Class"``."""
    params: dict[str, Any]


def parts_of(value: BaseEstimator) -> Parts:
    """Take an object with parameters apart, but not the objects among its parameters."""
    kind = next((name for name, entry in KINDS.items() if isinstance(value, entry.base())), None)
    return Parts(
        kind=kind,
        name=None if kind is None else name_of(value),
        path=f"{type(value).__module__}:{type(value).__qualname__}",
        params=value.get_params(deep=False),
    )

"""Components as JSON and back: how a plan is stored, compared with another, and carried to other machines."""

from __future__ import annotations

from typing import Any

from autometa.errors import Incompatible
from autometa.files.description import describe as describe
from autometa.host.catalog import make


def restore(described: Any, what: str) -> Any:
    """Make what :func:`describe` described.

    Raises
    ------
    Incompatible
        It holds an object that only the process that made it has.
    """
    if isinstance(described, list):
        return [restore(item, what) for item in described]
    if not isinstance(described, dict):
        return described
    if "tuple" in described:
        return tuple(restore(item, what) for item in described["tuple"])
    if "mapping" in described:
        return {key: restore(item, what) for key, item in described["mapping"].items()}
    if described.get("name") is not None:
        params = {key: restore(item, what) for key, item in described["params"].items()}
        return make(described["kind"], described["name"], **params)
    held = described.get("opaque") or described.get("class")
    raise Incompatible(
        f"{what} holds a {held}, which no other process can rebuild; use components installed as plugins, and data "
        "by its path, for workers that are started apart."
    )

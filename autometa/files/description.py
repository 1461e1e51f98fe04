"""Components as JSON and back: how a plan is stored, compared with another, and carried to other machines."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator

from autometa.errors import AutometaError, Incompatible
from autometa.files.components import parts_of
from autometa.host.catalog import make


def describe(value: Any) -> Any:
    """Describe a component or a parameter completely, as JSON; data that is not JSON appears as its hash."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list | tuple):
        items = [describe(item) for item in value]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"mapping": {key: describe(item) for key, item in value.items()}}
    if isinstance(value, BaseEstimator):
        parts = parts_of(value)
        params = {key: describe(item) for key, item in parts.params.items()}
        return {"kind": parts.kind, "name": parts.name, "class": parts.path, "params": params}
    return {"opaque": type(value).__name__, "hash": _hash(value)}


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


def same_description(stored: Any, new: Any) -> bool:
    """Tell whether two descriptions mean the same component.

    A stored one may name a class by an earlier path, or have parameters that its plugin no longer has, at values that
    changed nothing. A mapping of descriptions is compared part by part.
    """
    if stored == new:
        return True
    if isinstance(stored, Mapping) and isinstance(new, Mapping) and "params" not in stored:
        return stored.keys() == new.keys() and all(same_description(stored[key], new[key]) for key in stored)
    try:
        return bool(as_stored(describe(restore(stored, "what is stored"))) == as_stored(new))
    except AutometaError:
        return False


def as_stored(described: Any) -> Any:
    """Return a description as it reads in a file: tuples are lists there."""
    return json.loads(json.dumps(described))


def _hash(value: Any) -> str:
    """Hash the content; the same in every process."""
    if isinstance(value, pd.DataFrame | pd.Series):
        # joblib hashes the pickle, in which equal strings may or may not be one object
        rows = pd.util.hash_pandas_object(value).to_numpy()
        names = [str(name) for name in getattr(value, "columns", [value.name if isinstance(value, pd.Series) else ""])]
        value = (names, rows)
    elif isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    elif isinstance(value, torch.nn.Module):
        value = (repr(value), {name: _hash(part) for name, part in value.state_dict().items()})
    return str(joblib.hash(value))

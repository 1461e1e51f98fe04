"""Components as JSON that says all of them, to be stored and compared."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator

from autometa.host.catalog import name_of
from autometa.host.kinds import KINDS


def describe(value: Any) -> Any:
    """Return JSON that says all of a component or a parameter; data that is not JSON appears as its hash."""
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
        kind = next((name for name, entry in KINDS.items() if isinstance(value, entry.base())), None)
        return {
            "kind": kind,
            "name": None if kind is None else name_of(value),
            "class": f"{type(value).__module__}:{type(value).__qualname__}",
            "params": {key: describe(item) for key, item in value.get_params(deep=False).items()},
        }
    return {"opaque": type(value).__name__, "hash": _hash(value)}


def _hash(value: Any) -> str:
    """A hash of the content, the same in every process."""
    if isinstance(value, pd.DataFrame | pd.Series):
        # joblib hashes the pickle, in which equal strings may or may not be one object
        rows = pd.util.hash_pandas_object(value).to_numpy()
        names = [str(name) for name in getattr(value, "columns", [value.name if isinstance(value, pd.Series) else ""])]
        value = (names, rows)
    elif isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    return str(joblib.hash(value))

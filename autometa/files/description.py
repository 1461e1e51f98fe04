"""Components as JSON and back: how a plan is stored, compared with another, and carried to other machines."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import CellType
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator

from autometa.contracts.base_learner import BaseLearner, check_promises
from autometa.contracts.content import named_content
from autometa.contracts.same_value import settings_of
from autometa.contracts.tasks import TaskSampler
from autometa.errors import AutometaError, Incompatible
from autometa.files.components import parts_of, path_of
from autometa.host.catalog import components, find, make
from autometa.host.kinds import KINDS
from autometa.schema import OneOf, Schema

_ITEMS: list[Schema] = []
_WRAPPED = OneOf()
COMPONENT: dict[str, Schema] = {"kind": (None, *KINDS), "name": str | None, "class": str, "content?": {str: str}}
"""What :func:`describe` makes of a component."""
DESCRIBED: Schema = (None, bool, int, float, str, _ITEMS, _WRAPPED, {"opaque": str, "hash": str}, COMPONENT)
"""What it makes of anything."""
_ITEMS.append(DESCRIBED)
_WRAPPED |= {"tuple": [DESCRIBED], "mapping": {str: DESCRIBED}}
COMPONENT["params"] = {str: DESCRIBED}


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
        described = {"kind": parts.kind, "name": parts.name, "class": parts.path, "params": params}
        content = _content(value, parts.params)
        return described | {"content": content} if content else described
    if isinstance(value, type) or inspect.isroutine(value):
        return {"opaque": path_of(value), "hash": _hash_of_code(value)}
    if isinstance(value, np.lib.npyio.NpzFile):
        return {"opaque": "NpzFile", "hash": _hash({name: value[name] for name in sorted(value.files)})}
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
        return make(described["kind"], installed_name(described), **params)
    held = described.get("opaque") or described.get("class")
    raise Incompatible(
        f"{what} holds a {held}, which no other process can rebuild; use components installed as plugins, and data "
        "by its path, for workers that are started apart."
    )


def same_description(stored: Any, new: Any) -> bool:
    """Tell whether two descriptions mean the same component.

    A stored one may name a class by an earlier path or by its short name, have parameters that its plugin no longer
    has, at values that changed nothing, or lack later ones, which then must have their defaults. Lists and mappings are
    compared part by part. A parameter that names a file or a folder is the same if its content is, wherever it lies;
    without a stored digest the path alone is compared.
    """
    if stored == new:
        return True
    if isinstance(stored, list) and isinstance(new, list):
        return len(stored) == len(new) and all(map(same_description, stored, new))
    if not (isinstance(stored, Mapping) and isinstance(new, Mapping)):
        return False
    if "params" not in stored:
        return _same_parts(stored, new)
    if _same_component(stored, new):
        return True
    try:
        restored = as_stored(describe(restore(stored, "what is stored")))
    except AutometaError:
        return False
    return bool(restored == as_stored(new)) and not changed_content(stored, new)


def changed_content(stored: Any, new: Any) -> list[str]:
    """Return what differs between two descriptions in nothing but the content of files, such as ``"data='x.csv'"``."""
    if isinstance(stored, list) and isinstance(new, list):
        return [text for pair in zip(stored, new, strict=False) for text in changed_content(*pair)]
    if not (isinstance(stored, Mapping) and isinstance(new, Mapping)):
        return []
    there, here = stored.get("content"), new.get("content")
    found = []
    if "params" in stored and "params" in new and there is not None and here is not None:
        differing = [name for name in {**there, **here} if there.get(name) != here.get(name)]
        found = [f"{name}={new['params'].get(name)!r}" for name in differing]
    return found + [text for key in stored if key in new for text in changed_content(stored[key], new[key])]


def _same_parts(stored: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return stored.keys() == new.keys() and all(same_description(stored[key], new[key]) for key in stored)


def _same_component(stored: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Tell whether two objects are of one class and have the same parameters."""
    if "params" not in new or stored["class"] != new["class"]:
        return False
    there, here = stored.get("content"), new.get("content")
    if there is not None and there != here:
        return False
    equal = (there or {}).keys()
    return _same_parts(
        {name: value for name, value in (_defaults(new) | stored["params"]).items() if name not in equal},
        {name: value for name, value in new["params"].items() if name not in equal},
    )


def _defaults(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the described defaults of an installed component, which an earlier version may have had less of."""
    if described.get("name") is None:
        return {}
    made_by = find(described["kind"], installed_name(described)).spec.resolve()
    parameters = inspect.signature(made_by).parameters
    known = {name: parameters[name].default for name in described["params"] if name in parameters}
    return {name: as_stored(describe(value)) for name, value in known.items() if value is not inspect.Parameter.empty}


def _content(value: BaseEstimator, params: Mapping[str, Any]) -> dict[str, str]:
    """Return digests of the files that the parameters of a component name; those of its parts are told by the parts."""
    if isinstance(value, TaskSampler):
        return value.content()
    if isinstance(value, BaseLearner):
        check_promises(value)
    code = {name: _module_file(params[name]) for name in getattr(value, "names_code", ()) if name in params}
    files = {name: Path(file) for name, file in code.items() if file is not None}
    return named_content({**params, **files}, getattr(value, "names_files", ()))


def _module_file(path: Any) -> str | None:
    """Return the file of the module in an import path such as ``"package.module:function"``; import nothing."""
    if not isinstance(path, str) or not re.fullmatch(r"\w+(\.\w+)*:[\w.]+", path):
        return None
    package, *inner = path.partition(":")[0].split(".")
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # whoever calls the function is told
        return None
    if found is None or not found.has_location:
        return None
    if not inner:
        return found.origin
    # Asked for the spec of a module inside, importlib would run the package.
    places = [Path(place, *inner) for place in found.submodule_search_locations or ()]
    files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()]
    return str(files[0]) if files else None


def installed_name(described: Mapping[str, Any]) -> str:
    """Return the name in a description; a short one that means several components becomes the full one by its class."""
    name: str = described["name"]
    offered = [c for c in components(described["kind"]) if c.name == name]
    if len(offered) > 1:
        for component in offered:
            factory = component.spec.factory
            if described.get("class") in (factory, path_of(factory)):
                return component.full_name
    return name


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
        state = {name: _hash(part) for name, part in value.state_dict().items()}
        value = (repr(value), describe(settings_of(value)), state)
    return str(joblib.hash(value))


def _hash_of_code(code: Any) -> str:
    """Hash the source of a class, function or method, and what it is bound to.

    Where there is no source, as for what is compiled, its path stands for it.
    """
    try:
        source = inspect.getsource(code)
    except (OSError, TypeError):
        source = path_of(code)
    held = [getattr(code, "__defaults__", None), getattr(code, "__kwdefaults__", None)]
    held += [cell.cell_contents for cell in getattr(code, "__closure__", None) or () if _is_filled(cell)]
    # Code among it counts by its path alone: a function may hold itself.
    bound = [path_of(value) if inspect.isroutine(value) else describe(value) for value in held]
    return str(
        joblib.hash([source, bound, describe(getattr(code, "__self__", None)) if inspect.ismethod(code) else None])
    )


def _is_filled(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True

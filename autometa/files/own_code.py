"""Code of one's own in files: its import path is saved, and imported only if whoever loads the file trusts it."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import nn

from autometa.contracts.same_value import FROZEN, same_value, settings_of
from autometa.errors import InvalidFile, InvalidParameter


def import_path(code: Callable[..., Any], where: str) -> str:
    """Return ``"package.module:name"`` of a class or function.

    Raises
    ------
    InvalidParameter
        Another process could not import it.
    """
    name = getattr(code, "__qualname__", repr(code))
    path = f"{getattr(code, '__module__', None)}:{name}"
    if path.startswith("__main__:") or _found(path) is not code:
        raise InvalidParameter(
            f"{where} cannot be saved: another process cannot import {name} from {path.partition(':')[0]!r}. Put it "
            "at the top level of a module of its own, or offer it from a plugin ('autometa plugins new' writes one)."
        )
    return path


def buildable_path(network: nn.Module, where: str) -> str:
    """Return the import path of a network's class, which builds it again without arguments.

    Raises
    ------
    InvalidParameter
        Another process could not import the class, or it builds another network.
    """
    kind = type(network)
    path = import_path(kind, where)
    try:
        again = built(kind)
    except Exception as error:  # whatever the class makes of it
        why = f"{kind.__name__}() fails: {error}"
    else:
        difference = _difference(again, network)
        if difference is None:
            return path
        why = f"{kind.__name__}() has {difference}"
    raise InvalidParameter(
        f"{where} cannot be saved: files hold no code, and it cannot be built again without arguments ({why}). Give a "
        "function of no arguments that builds it, at the top level of a module, or a class whose defaults do."
    )


def built(kind: Callable[[], nn.Module]) -> nn.Module:
    """Call what builds a network; its first weights are drawn, and the caller's random numbers are not touched."""
    with torch.random.fork_rng(devices=[]):
        return kind()


def named_code(component: Any) -> set[str]:
    """Return the import paths that a component's parameters name, see ``Learner.names_code``."""
    values = [getattr(component, name, None) for name in getattr(component, "names_code", ())]
    several = [value if isinstance(value, (list, tuple)) else [value] for value in values]
    return {path for paths in several for path in paths if isinstance(path, str)}


def check_named_code(component: Any, trusted: Collection[str]) -> Any:
    """Return a component of a file, whose parameters name no code but what is trusted.

    Raises
    ------
    InvalidFile
        It names something else.
    """
    for path in sorted(named_code(component)):
        if path not in trusted:
            raise InvalidFile(
                f"the file names the function {path!r} in a parameter of its {type(component).__name__}, which would "
                f"call it with your rows; if you know it, load with trusted=[{path!r}]."
            )
    return component


def import_trusted(path: str, trusted: Collection[str]) -> Any:
    """Import what a file names.

    Raises
    ------
    InvalidFile
        The path is not among those trusted, or leads to nothing here.
    """
    if path not in trusted:
        raise InvalidFile(
            f"the file names {path!r}, code that is no part of it and that loading runs; if you know it, load with "
            f"trusted=[{path!r}]."
        )
    found = _found(path)
    if found is None:
        raise InvalidFile(f"the file names {path!r}, which cannot be imported here.")
    return found


def _found(path: str) -> Any:
    try:
        return pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError):
        return None


def _difference(a: nn.Module, b: nn.Module) -> str | None:
    """Tell what sets two networks apart beside their weights' values and which are trained; None if nothing does."""
    if _shapes(a) != _shapes(b):
        return "other weights"
    ours, theirs = settings_of(a), settings_of(b)
    if [*ours] != [*theirs] or any(ours[name][0] is not theirs[name][0] for name in ours):
        return "other layers"
    for name in ours:
        mine, other = ours[name][1], theirs[name][1]
        for key in {**mine, **other}:
            if key != FROZEN and not (key in mine and key in other and same_value(mine[key], other[key])):
                return f"another {'.'.join(filter(None, (name, key)))}"
    return None


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(getattr(value, "shape", ())) for name, value in network.state_dict().items()}

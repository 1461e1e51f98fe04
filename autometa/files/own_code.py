"""Code of one's own in files: its import path is saved, and imported only if whoever loads the file trusts it."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Collection
from typing import Any

from torch import nn

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
        again = kind()
    except TypeError as error:
        why = f"{kind.__name__}() fails: {error}"
    else:
        if _shapes(again) == _shapes(network):
            return path
        why = f"{kind.__name__}() has other weights"
    raise InvalidParameter(
        f"{where} cannot be saved: files hold no code, and it cannot be built again without arguments ({why}). Give a "
        "function of no arguments that builds it, at the top level of a module, or a class whose defaults do."
    )


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


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(getattr(value, "shape", ())) for name, value in network.state_dict().items()}

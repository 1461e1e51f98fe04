"""Checking a plugin's hooks and what they return."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from autometa.contracts import hookspecs
from autometa.contracts.specs import Spec
from autometa.errors import PluginError
from autometa.host.kinds import HOOKS, Kind

MARK = f"{hookspecs.PROJECT}_impl"


def check_hook_names(plugin: str, module: Any) -> None:
    """Refuse hooks that would silently never be called: misspelt, without the marker, or none at all.

    Raises
    ------
    PluginError
        Names the plugin, the function and what was probably meant.
    """
    # A module that loads names on demand lists them in dir(); only what it holds already is looked at.
    names = list(vars(module)) if isinstance(module, ModuleType) else dir(module)
    members = {name: getattr(module, name) for name in names}
    functions = {name: member for name, member in members.items() if inspect.isroutine(member)}
    implemented = 0
    for name, function in functions.items():
        mark = getattr(function, MARK, None)
        hook = (mark or {}).get("specname") or name
        if mark is None and name.startswith("autometa_"):
            raise PluginError(
                f"{name}() of plugin {plugin!r} lacks its marker; put @autometa.hookimpl above it{_meant(name)}"
            )
        if mark is not None and hook not in HOOKS:
            raise PluginError(f"plugin {plugin!r} implements {hook!r}, which is no hook{_meant(hook)}")
        implemented += mark is not None
    if not implemented:
        raise PluginError(
            f"plugin {plugin!r} ({type(module).__name__} {getattr(module, '__name__', module)!r}) implements no hook; "
            f"mark one of {', '.join(sorted(HOOKS))} with @autometa.hookimpl."
        )


def _meant(name: str) -> str:
    if name in HOOKS:
        return "."
    close = difflib.get_close_matches(name, sorted(HOOKS), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; the hooks are {', '.join(sorted(HOOKS))}."


def wanted(kind: Kind) -> str:
    """Say what the hook of this kind must return."""
    return f"it must return a list of {kind.spec.__name__}."


def check_specs(plugin: str, kind: Kind, result: Any) -> list[Spec]:
    """Check the specs that a hook returned, and return them as a list.

    Raises
    ------
    PluginError
        The result is not an iterable of specs of this kind, or holds one name twice.
    """
    if not isinstance(result, Iterable) or isinstance(result, str | bytes | Mapping):
        raise PluginError(f"{kind.hook}() of plugin {plugin!r} returned a {type(result).__name__}; {wanted(kind)}")
    specs: list[Spec] = []
    for spec in result:
        if not isinstance(spec, kind.spec):
            raise PluginError(
                f"{kind.hook}() of plugin {plugin!r} returned a {type(spec).__name__} among its specs; {wanted(kind)}"
            )
        if spec.name in {known.name for known in specs}:
            raise PluginError(f"plugin {plugin!r} offers {kind.name} {spec.name!r} twice.")
        specs.append(spec)
    return specs

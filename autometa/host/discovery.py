"""Finding and loading plugins, one by one, so that a faulty one is named and costs the others nothing."""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import traceback
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

import pluggy
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import autometa
from autometa.contracts import hookspecs
from autometa.contracts.specs import Spec
from autometa.errors import NameClash, PluginError
from autometa.host.kinds import HOOKS, KINDS, Kind

GROUP = "autometa"
DISABLED_VARIABLE = "AUTOMETA_DISABLED_PLUGINS"


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginRecord:
    """What became of one plugin."""

    name: str
    """Entry-point name."""
    distribution: str
    """Installed distribution it came with."""
    version: str
    """Version of that distribution."""
    status: str = "active"
    """``"active"``, ``"disabled"`` or ``"broken"``."""
    error: str = ""
    """Why it is disabled or broken, in one line."""
    trace: str = ""
    """Full traceback of the failure."""
    specs: tuple[Spec, ...] = field(default=())
    """What it offers; of a broken plugin, what it offered before it failed."""

    def failed(self, error: BaseException) -> PluginRecord:
        """Return the record of this plugin broken by ``error``."""
        text = " ".join(str(error).split())
        reason = text if isinstance(error, PluginError) else f"{type(error).__name__}: {text}"
        return replace(self, status="broken", error=reason, trace="".join(traceback.format_exception(error)))


class Host:
    """All plugins of this environment.

    Parameters
    ----------
    disabled : iterable of str
        Names of plugins, or of whole distributions, that shall not be loaded.
    found : iterable of EntryPoint, optional
        Entry points to load instead of the installed ones.
    """

    def __init__(self, disabled: Iterable[str] = (), found: Iterable[EntryPoint] | None = None) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self.disabled = frozenset(name for name in disabled if name)
        self.records: list[PluginRecord] = []
        claims: dict[str, dict[tuple[str, str], EntryPoint]] = {}
        for point in entry_points(group=GROUP) if found is None else found:
            # One distribution may be listed twice (an egg-info folder, a symlinked lib64): that is no clash.
            claims.setdefault(point.name, {})[(canonicalize_name(_origin(point)[0]), point.value)] = point
        for name, claim in sorted(claims.items()):
            self.records.extend(self._settle(name, [claim[key] for key in sorted(claim)]))
        self._warn_of_unknown_names(claims)

    def _settle(self, name: str, points: list[EntryPoint]) -> Iterator[PluginRecord]:
        """Decide about all that claim one plugin name."""
        enabled = []
        for point in points:
            distribution, version = _origin(point)
            if {name, distribution, canonicalize_name(distribution)} & self.disabled:
                yield PluginRecord(
                    name=name,
                    distribution=distribution,
                    version=version,
                    status="disabled",
                    error=f"disabled by -p no:NAME or {DISABLED_VARIABLE}",
                )
            else:
                enabled.append(point)
        if len(enabled) > 1:
            providers = " and ".join(f"{_origin(p)[0]} ({p.value})" for p in enabled)
            clash = NameClash(
                f"plugin {name!r} is claimed by {providers}; "
                f"disable one with '-p no:{_origin(enabled[0])[0]}' or {DISABLED_VARIABLE}."
            )
        for point in enabled:
            distribution, version = _origin(point)
            record = PluginRecord(name=name, distribution=distribution, version=version)
            yield record.failed(clash) if len(enabled) > 1 else self._load(record, point)

    def _load(self, record: PluginRecord, point: EntryPoint) -> PluginRecord:
        """Import one plugin and ask every hook; whatever goes wrong ends in its record."""
        specs: list[Spec] = []
        try:
            _check_requirement(point)
            module = point.load()
            _check_hook_names(record.name, module)
            self._manager.register(module, record.name)
            for kind in KINDS.values():
                specs.extend(self._ask(record, module, kind))
        except (Exception, SystemExit) as error:
            if self._manager.has_plugin(record.name):
                self._manager.unregister(name=record.name)
            return replace(record.failed(error), specs=tuple(specs))
        return replace(record, specs=tuple(specs))

    def _ask(self, record: PluginRecord, module: Any, kind: Kind) -> list[Spec]:
        """Collect one plugin's specs of one kind, refusing anything else."""
        others = self._manager.get_plugins() - {module}
        caller = self._manager.subset_hook_caller(kind.hook, others)
        results = caller()
        if caller.get_hookimpls() and not results:
            raise PluginError(f"{kind.hook}() of plugin {record.name!r} returned None; it must return a list of specs.")
        specs: list[Spec] = []
        for result in results:
            if not isinstance(result, Iterable) or isinstance(result, str):
                raise PluginError(
                    f"{kind.hook}() of plugin {record.name!r} returned a {type(result).__name__}; "
                    f"it must return a list of {kind.spec.__name__}."
                )
            for spec in result:
                if not isinstance(spec, kind.spec):
                    raise PluginError(
                        f"{kind.hook}() of plugin {record.name!r} returned a {type(spec).__name__} "
                        f"among its specs; every item must be a {kind.spec.__name__}."
                    )
                if spec.name in {known.name for known in specs}:
                    raise PluginError(f"plugin {record.name!r} offers {kind.name} {spec.name!r} twice.")
                specs.append(spec)
        return specs

    def _warn_of_unknown_names(self, claims: dict[str, dict[tuple[str, str], EntryPoint]]) -> None:
        known = set(claims) | {name for claim in claims.values() for point in claim.values() for name in _aliases(point)}
        for name in sorted(self.disabled - known):
            close = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            warnings.warn(f"plugin {name!r} was to be disabled but is not installed.{hint}", stacklevel=3)


def _origin(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist else ("unknown", "unknown")


def _aliases(point: EntryPoint) -> set[str]:
    distribution = _origin(point)[0]
    return {distribution, canonicalize_name(distribution)}


def _check_requirement(point: EntryPoint) -> None:
    """Refuse a plugin whose own metadata says that it needs another autometa than this one."""
    for text in (point.dist.requires or []) if point.dist else []:
        requirement = Requirement(text)
        if canonicalize_name(requirement.name) != "autometa" or (requirement.marker and not requirement.marker.evaluate()):
            continue
        if not requirement.specifier.contains(autometa.__version__, prereleases=True):
            raise PluginError(f"needs autometa{requirement.specifier}, and this is autometa {autometa.__version__}.")


def _check_hook_names(plugin: str, module: Any) -> None:
    """Find hooks that would silently never be called: misspelt, or without the marker."""
    if not isinstance(module, ModuleType) and not inspect.isclass(module) and not hasattr(module, "__dict__"):
        raise PluginError(f"entry point of plugin {plugin!r} is a {type(module).__name__}; it must be a module.")
    for name, member in inspect.getmembers(module, inspect.isroutine):
        marked = getattr(member, f"{hookspecs.PROJECT}_impl", None) is not None
        if marked and name not in HOOKS:
            close = difflib.get_close_matches(name, sorted(HOOKS), n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"the hooks are {sorted(HOOKS)}."
            raise PluginError(f"plugin {plugin!r} implements {name!r}, which is no hook; {hint}")
        if not marked and name.startswith("autometa_"):
            raise PluginError(f"{name}() of plugin {plugin!r} lacks its marker; put @autometa.hookimpl above it.")


@functools.cache
def get_host() -> Host:
    """Load the installed plugins once for this process."""
    return Host(disabled=[name.strip() for name in os.environ.get(DISABLED_VARIABLE, "").split(",")])


def disable(names: Iterable[str]) -> None:
    """Load no plugin of these names, nor any plugin of distributions of these names, in this process and its children.

    The names join those of the environment variable, by which child processes learn of them.
    """
    before = os.environ.get(DISABLED_VARIABLE, "")
    joined = ",".join(filter(None, [before, *names]))
    if joined != before:
        os.environ[DISABLED_VARIABLE] = joined
        get_host.cache_clear()

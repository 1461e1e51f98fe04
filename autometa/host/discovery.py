"""Finding and loading plugins one by one; a faulty one is named and does not affect the others."""

from __future__ import annotations

import difflib
import functools
import os
import traceback
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from autometa._version import __version__
from autometa.contracts import hookspecs
from autometa.contracts.specs import Spec
from autometa.errors import NameClash, PluginError
from autometa.host.hooks import check_hook_names, check_specs, wanted
from autometa.host.kinds import KINDS, Kind

GROUP = "autometa"
DISABLED_VARIABLE = "AUTOMETA_DISABLED_PLUGINS"


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginRecord:
    """The outcome of loading one plugin."""

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
        self.disabled = frozenset(name.strip() for name in disabled if name.strip())
        self.records: list[PluginRecord] = []
        claims: dict[str, dict[tuple[str, str], EntryPoint]] = {}
        for point in entry_points(group=GROUP) if found is None else found:
            # One distribution may be listed twice (an egg-info folder, a symlinked lib64): that is no clash.
            # The first on the path is the one that Python imports.
            claims.setdefault(point.name, {}).setdefault((canonicalize_name(_origin(point)[0]), point.value), point)
        for name, claim in sorted(claims.items()):
            self.records.extend(self._settle(name, [claim[key] for key in sorted(claim)]))
        self._warn_of_unknown_names(claims)

    def _settle(self, name: str, points: list[EntryPoint]) -> Iterator[PluginRecord]:
        """Load the plugin of one name, or record why it is not loaded."""
        enabled = []
        for point in points:
            distribution, version = _origin(point)
            if any(_means(choice, point) for choice in self.disabled):
                yield PluginRecord(
                    name=name,
                    distribution=distribution,
                    version=version,
                    status="disabled",
                    error=f"disabled by -p no:NAME or {DISABLED_VARIABLE}",
                )
            else:
                enabled.append(point)
        for point in enabled:
            distribution, version = _origin(point)
            record = PluginRecord(name=name, distribution=distribution, version=version)
            yield record.failed(_clash(name, enabled)) if len(enabled) > 1 else self._load(record, point)

    def _load(self, record: PluginRecord, point: EntryPoint) -> PluginRecord:
        """Import one plugin and call its hooks; an error ends in its record."""
        specs: list[Spec] = []
        try:
            _check_requirement(point)
            module = point.load()
            check_hook_names(record.name, module)
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
        if not caller.get_hookimpls():
            return []
        try:
            results = caller()
            if not results:
                raise PluginError(f"{kind.hook}() of plugin {record.name!r} returned None; {wanted(kind)}")
            return [spec for result in results for spec in check_specs(record.name, kind, result)]
        except PluginError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"{kind.hook}() of plugin {record.name!r} raised {type(error).__name__}: {error}"
            ) from error

    def _warn_of_unknown_names(self, claims: dict[str, dict[tuple[str, str], EntryPoint]]) -> None:
        points = [point for claim in claims.values() for point in claim.values()]
        known = sorted({point.name for point in points} | {_origin(point)[0] for point in points})
        for name in sorted(self.disabled):
            if not any(_means(name, point) for point in points):
                close = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else " 'autometa plugins' lists all."
                warnings.warn(f"plugin {name!r} was to be disabled but is not installed.{hint}", stacklevel=3)


def _origin(point: EntryPoint) -> tuple[str, str]:
    """Return name and version of the distribution; damaged metadata may lack both."""
    if point.dist is None:
        return "unknown", "unknown"
    return point.dist.name or "unknown", point.dist.version or "unknown"


def _means(choice: str, point: EntryPoint) -> bool:
    """Tell whether ``choice`` names this plugin or its distribution."""
    return choice == point.name or canonicalize_name(choice) == canonicalize_name(_origin(point)[0])


def _clash(name: str, points: list[EntryPoint]) -> NameClash:
    names = [_origin(point)[0] for point in points]
    # To disable the distribution autometa would disable every bundled plugin.
    guest = next((n for n in names if canonicalize_name(n) != "autometa"), names[0])
    return NameClash(
        f"plugin {name!r} is claimed by {' and '.join(f'{_origin(p)[0]} ({p.value})' for p in points)}; "
        f"disable one with '-p no:{guest}' or {DISABLED_VARIABLE}={guest}."
    )


def _check_requirement(point: EntryPoint) -> None:
    """Refuse a plugin whose metadata requires another version of autometa."""
    for text in (point.dist.requires or []) if point.dist else []:
        requirement = Requirement(text)
        if canonicalize_name(requirement.name) != "autometa" or (
            requirement.marker and not requirement.marker.evaluate()
        ):
            continue
        if not requirement.specifier.contains(__version__, prereleases=True):
            raise PluginError(f"needs autometa{requirement.specifier}, and this is autometa {__version__}.")


@functools.cache
def get_host() -> Host:
    """Load the installed plugins once for this process."""
    return Host(disabled=os.environ.get(DISABLED_VARIABLE, "").split(","))


def disable(names: Iterable[str]) -> None:
    """Load no plugin of these names, nor any plugin of distributions of these names, in this process and its children.

    The names join those of the environment variable, by which child processes learn of them.
    """
    before = os.environ.get(DISABLED_VARIABLE, "")
    joined = ",".join(filter(None, [before, *names]))
    if joined != before:
        os.environ[DISABLED_VARIABLE] = joined
        get_host.cache_clear()

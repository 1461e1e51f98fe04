"""Finding and loading plugins one by one; a faulty one is named and does not affect the others."""

from __future__ import annotations

import difflib
import functools
import os
import re
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pluggy
from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from autometa._version import __version__
from autometa.contracts import hookspecs
from autometa.contracts.plugin_code import one_line, text_of, watch_ctrl_c
from autometa.contracts.specs import Spec
from autometa.errors import NameClash, PluginError, warn_user
from autometa.host.hooks import check_hook_names, check_specs, wanted
from autometa.host.installed import Damaged, installed, origin_of
from autometa.host.kinds import KINDS, Kind

GROUP = "autometa"
DISABLED_VARIABLE = "AUTOMETA_DISABLED_PLUGINS"
PORTFOLIO = "portfolio.json"
"""The file in a plugin's package that holds hyperparameters with which its learners did well."""
DISABLED = f"disabled by -p no:NAME or {DISABLED_VARIABLE}"
_REQUIRED = re.compile(r"\s*([\w.-]*)")
"""The name at the beginning of a requirement."""


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
    portfolio: str = ""
    """Path of its file of hyperparameters; empty where it has none."""

    def failed(self, error: BaseException) -> PluginRecord:
        """Return the record of this plugin broken by ``error``."""
        reason = text_of(error) if isinstance(error, PluginError) else one_line(error)
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
        points, damaged = installed(GROUP) if found is None else (list(found), [])
        for point in points:
            # One distribution may be listed twice (an egg-info folder, a symlinked lib64): that is no clash.
            # The first on the path is the one that Python imports.
            claims.setdefault(point.name, {}).setdefault((canonicalize_name(_origin(point)[0]), point.value), point)
        for name, claim in sorted(claims.items()):
            self.records.extend(self._settle(name, [claim[key] for key in sorted(claim)]))
        for one in damaged:
            self.records.extend(self._settle_damaged(one))
        self.records.sort(key=lambda record: record.name)
        self._warn_of_unknown_names()

    def _settle(self, name: str, points: list[EntryPoint]) -> Iterator[PluginRecord]:
        """Load the plugin of one name, or record why it is not loaded."""
        enabled = []
        for point in points:
            distribution, version = _origin(point)
            record = PluginRecord(name=name, distribution=distribution, version=version)
            if self._is_disabled(record):
                yield replace(record, status="disabled", error=DISABLED)
            else:
                enabled.append(point)
        # A name of a bundled plugin is taken: whoever is installed beside it must not turn the bundled one off.
        bundled = [point for point in enabled if _is_bundled(point)]
        for point in enabled:
            distribution, version = _origin(point)
            record = PluginRecord(name=name, distribution=distribution, version=version)
            if bundled and not _is_bundled(point):
                yield record.failed(_name_taken(name, point))
            elif len(bundled or enabled) > 1:
                yield record.failed(_clash(name, bundled or enabled))
            else:
                yield self._load(record, point)

    def _settle_damaged(self, damaged: Damaged) -> Iterator[PluginRecord]:
        """Record the plugins of a distribution whose entry points cannot be read."""
        for name in damaged.names:
            record = PluginRecord(name=name, distribution=damaged.distribution, version=damaged.version)
            if self._is_disabled(record):
                yield replace(record, status="disabled", error=DISABLED)
            else:
                yield record.failed(damaged.error)

    def _is_disabled(self, record: PluginRecord) -> bool:
        return any(_means(choice, record) for choice in self.disabled)

    def _load(self, record: PluginRecord, point: EntryPoint) -> PluginRecord:
        """Import one plugin and call its hooks; whatever it raises ends in its record, but not the user's Ctrl-C."""
        specs: list[Spec] = []
        failure: BaseException | None = None
        with watch_ctrl_c() as ctrl_c:
            try:
                _check_metadata(point)
                module = point.load()
                check_hook_names(record.name, module)
                self._manager.register(module, record.name)
                for kind in KINDS.values():
                    specs.extend(self._ask(record, module, kind))
            except BaseException as error:
                failure = error
        ctrl_c.stop_if_pressed()
        if failure is not None:
            if self._manager.has_plugin(record.name):
                self._manager.unregister(name=record.name)
            return replace(record.failed(failure), specs=tuple(specs))
        return replace(record, specs=tuple(specs), portfolio=_portfolio_of(module))

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
        except BaseException as error:
            raise PluginError(f"{kind.hook}() of plugin {record.name!r} raised {one_line(error)}") from error

    def _warn_of_unknown_names(self) -> None:
        known = sorted({r.name for r in self.records} | {r.distribution for r in self.records})
        for name in sorted(self.disabled):
            if not any(_means(name, record) for record in self.records):
                close = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else " 'autometa plugins' lists all."
                warn_user(f"plugin {name!r} was to be disabled but is not installed.{hint}")


def _origin(point: EntryPoint) -> tuple[str, str]:
    """Return name and version of the distribution; damaged metadata may lack both."""
    return origin_of(point.dist)


def _means(choice: str, record: PluginRecord) -> bool:
    """Tell whether ``choice`` names this plugin or its distribution."""
    return choice == record.name or canonicalize_name(choice) == canonicalize_name(record.distribution)


def _is_bundled(point: EntryPoint) -> bool:
    return canonicalize_name(_origin(point)[0]) == "autometa"


def _portfolio_of(module: Any) -> str:
    """Return the path of the portfolio in the package of a plugin; empty where there is none."""
    files = [Path(folder) / PORTFOLIO for folder in getattr(module, "__path__", ())]
    return next((str(file) for file in files if file.is_file()), "")


def _name_taken(name: str, point: EntryPoint) -> NameClash:
    return NameClash(
        f"plugin {name!r} of {_origin(point)[0]} ({point.value}) has the name of a plugin that comes with autometa, "
        "which is used; its entry point needs another name."
    )


def _clash(name: str, points: list[EntryPoint]) -> NameClash:
    guest = _origin(points[0])[0]
    return NameClash(
        f"plugin {name!r} is claimed by {' and '.join(f'{_origin(p)[0]} ({p.value})' for p in points)}; "
        f"disable one with '-p no:{guest}' or {DISABLED_VARIABLE}={guest}."
    )


def _check_metadata(point: EntryPoint) -> None:
    """Refuse a plugin whose metadata cannot be read, or requires another version of autometa."""
    if point.dist is None:
        return
    try:
        texts = point.dist.requires or []
        point.dist.name  # noqa: B018
    except Exception as error:  # damaged metadata raises what its damage leads to
        raise PluginError(f"its METADATA cannot be read ({one_line(error)}); it must be text in UTF-8.") from error
    for text in texts:
        if canonicalize_name(_REQUIRED.match(text)[1]) == "autometa":  # type: ignore[index]
            _check_requirement(text)


def _check_requirement(text: str) -> None:
    """Refuse a requirement on autometa that this version does not meet; what other packages need is up to pip."""
    try:
        requirement = Requirement(text)
        applies = requirement.marker is None or requirement.marker.evaluate()
    except (InvalidRequirement, UndefinedComparison, UndefinedEnvironmentName, InvalidVersion) as error:
        raise PluginError(f"its metadata requires {text!r}, which says no version ({one_line(error)}).") from error
    if applies and not requirement.specifier.contains(__version__, prereleases=True):
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

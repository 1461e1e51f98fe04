"""Components by name: listing, looking up, making."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from autometa.contracts.plugin_code import one_line, watch_ctrl_c
from autometa.contracts.specs import Spec
from autometa.errors import AutometaError, InvalidParameter, NameClash, PluginError, UnknownName
from autometa.host.discovery import DISABLED_VARIABLE, PluginRecord, get_host
from autometa.host.kinds import KINDS

if TYPE_CHECKING:
    import pandas as pd

    from autometa.contracts.backbone import Backbone, BackboneLike
    from autometa.contracts.base_learner import BaseLearner
    from autometa.contracts.meta_optimizer import MetaOptimizer
    from autometa.contracts.tasks import TaskSampler


_MOST_OWNERS = 3
"""An error names the other components that have a parameter if there are no more; what many have is no hint."""


@dataclass(frozen=True, slots=True)
class Component:
    """One spec and the plugin that offers it."""

    kind: str
    spec: Spec
    plugin: PluginRecord

    @property
    def name(self) -> str:
        """Name of the component."""
        return self.spec.name

    @property
    def full_name(self) -> str:
        """``plugin/name``, which is never ambiguous."""
        return f"{self.plugin.name}/{self.spec.name}"


def components(kind: str | None = None, *, status: str | None = "active") -> Iterator[Component]:
    """Iterate over all components, in the order of their plugins' names."""
    for record in get_host().records:
        for spec in record.specs:
            if (kind is None or spec.kind == kind) and (status is None or record.status == status):
                yield Component(spec.kind, spec, record)


def find(kind: str, name: str) -> Component:
    """Look up a component by ``name`` or ``plugin/name``.

    Raises
    ------
    UnknownName
        Nothing of this kind has the name; the nearest is suggested, and plugins that are broken are named.
    NameClash
        Two plugins offer it.
    PluginError
        The plugin that offers it is broken or disabled.
    """
    plugin_name, _, short = name.rpartition("/")
    wanted = [c for c in components(kind, status=None) if c.name == short and plugin_name in ("", c.plugin.name)]
    usable = [c for c in wanted if c.plugin.status == "active"]
    if len(usable) > 1:
        raise _clash(kind, short, usable)
    if usable:
        return usable[0]
    ill = {c.plugin.name for c in wanted} | {plugin_name}
    for record in get_host().records:
        if record.name in ill and record.status != "active":
            raise PluginError(
                f"{kind} {name!r} is not available: plugin {record.name!r} is {record.status}: {record.error}"
            )
    raise _unknown(kind, name, list(components(status=None)))


def _clash(kind: str, name: str, claimants: list[Component]) -> NameClash:
    claims = " and ".join(f"{c.plugin.distribution} (plugin {c.plugin.name!r})" for c in claimants)
    names = " or ".join(repr(c.full_name) for c in claimants)
    return NameClash(
        f"{kind} {name!r} is offered by {claims}; say {names}, "
        f"or disable one with '-p no:{claimants[-1].plugin.name}' or {DISABLED_VARIABLE}={claimants[-1].plugin.name}."
    )


def _unknown(kind: str, name: str, everything: list[Component]) -> UnknownName:
    usable = [c for c in everything if c.kind == kind and c.plugin.status == "active"]
    error = UnknownName.among(kind, name, [c.full_name if "/" in name else c.name for c in usable])
    others = sorted({c.kind for c in everything if name in (c.name, c.full_name)})
    if others:
        error.add_note(f"{name!r} is the name of a {' and of a '.join(others)}.")
    broken = [record for record in get_host().records if record.status == "broken"]
    if broken:
        error.add_note("Broken plugins: " + "; ".join(f"{r.name} ({r.distribution}): {r.error}" for r in broken))
    return error


def make(kind: str, component: Any, /, **params: Any) -> Any:
    """Make a component by its name; an object of that kind is returned as it is.

    Raises
    ------
    InvalidParameter
        A parameter the component does not have, or an object of another kind.
    PluginError
        The component's constructor raised.
    """
    base, public = KINDS[kind].base(), KINDS[kind].public
    if isinstance(component, str):
        spec = find(kind, component).spec
        factory = spec.resolve()
        if isinstance(factory, type) and not issubclass(factory, base):
            raise PluginError(f"{kind} {component!r} is made by {factory!r}, which is no {public}.")
        retired = spec.retired
        params = {key: value for key, value in params.items() if not (key in retired and retired[key] == value)}
        with watch_ctrl_c() as ctrl_c:
            try:
                _check_params(kind, spec.name, factory, params)
                made = factory(**params)
            except AutometaError:
                raise
            except BaseException as error:
                ctrl_c.stop_if_pressed()
                raise PluginError(f"{kind} {component!r} cannot be made: {one_line(error)}") from error
        if not isinstance(made, base):
            raise PluginError(f"{kind} {component!r} is a {type(made).__name__}, which is no {public}.")
        return made
    if not isinstance(component, base):
        raise InvalidParameter(
            f"{component!r} is no {kind}; give a name (see 'autometa plugins') or an {public} object."
        )
    if not params:
        return component
    from sklearn.base import clone

    for given in params:
        _check_known(kind, type(component).__name__, given.partition("__")[0], list(component.get_params(deep=False)))
    return clone(component).set_params(**params)


def _check_known(kind: str, name: str, given: str, known: list[str]) -> None:
    if given in known:
        return
    close = difflib.get_close_matches(given, known, n=1)
    owners = [] if close else _owners(kind, given)
    if close:
        hint = f"; did you mean {close[0]!r}? It"
    elif 0 < len(owners) <= _MOST_OWNERS:
        hint = f", but {' and '.join(map(repr, owners))} {'has' if len(owners) == 1 else 'have'}; {name!r}"
    else:
        hint = "; it"
    raise InvalidParameter(f"{kind} {name!r} has no parameter {given!r}{hint} takes {', '.join(known) or 'none'}.")


def _owners(kind: str, parameter: str) -> list[str]:
    """Return the names of the components of a kind that take a parameter. Imports them all: only an error needs it."""
    owners = []
    for component in components(kind):
        try:
            factory = component.spec.resolve()
        except PluginError:  # the error is about another component; whoever asks for this one by name is told
            continue
        if parameter in inspect.signature(factory).parameters:
            owners.append(component.name)
    return owners


def _check_params(kind: str, name: str, factory: Callable[..., Any], params: dict[str, Any]) -> None:
    parameters = inspect.signature(factory).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for given in params:
        _check_known(kind, name, given, list(parameters))
    missing = [
        p.name
        for p in parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in params
    ]
    if missing:
        raise InvalidParameter(f"{kind} {name!r} needs {', '.join(f'{m}=...' for m in missing)}.")


def name_of(component: Any, *, full: bool = False) -> str | None:
    """Return the name of an object's class; None if it is not installed.

    ``plugin/name`` if ``full``, or if the short one is ambiguous.
    """
    for kind, entry in KINDS.items():
        if isinstance(component, entry.base()):
            offered = list(components(kind))
            made = type(component)
            found = next((c for c in offered if _names(c.spec, made)), None)
            found = found or next((c for c in offered if _makes(c.spec, made)), None)  # imports what is offered
            if found is None:
                return None
            clashes = sum(c.name == found.name for c in offered)
            return found.full_name if full or clashes > 1 else found.name
    return None


def _names(spec: Spec, made: type) -> bool:
    """Tell whether a spec's factory is this class or the path to it."""
    return spec.factory is made or spec.factory == f"{made.__module__}:{made.__qualname__}"


def _makes(spec: Spec, made: type) -> bool:
    """Tell whether a spec's factory is this class, whatever the path to it."""
    try:
        return spec.resolve() is made
    except PluginError:
        # What cannot be imported has made no object; whoever asks for it by name is told.
        return False


def make_tasks(tasks: str | TaskSampler, /, **params: Any) -> TaskSampler:
    """Make a task sampler by name, such as ``make_tasks("sinusoid", n_shot=5)``; see ``autometa plugins``."""
    return cast("TaskSampler", make("task sampler", tasks, **params))


def make_learner(learner: str | BaseLearner, /, **params: Any) -> Any:
    """Make a learner by name, such as ``make_learner("maml", inner_lr=0.01)``; see ``autometa plugins``.

    It is an ``autometa.Learner``, or an ``autometa.Actor`` where the problem is control.
    """
    return make("learner", learner, **params)


def make_meta_optimizer(meta_optimizer: str | MetaOptimizer, /, **params: Any) -> MetaOptimizer:
    """Make a meta-optimizer by name, such as ``make_meta_optimizer("gradient", lr=1e-3)``."""
    return cast("MetaOptimizer", make("meta-optimizer", meta_optimizer, **params))


def make_backbone(backbone: BackboneLike, /, **params: Any) -> Backbone:
    """Make a backbone by name, such as ``make_backbone("conv4", n_filters=64)``, or of a network of your own.

    A network is copied with its weights, where every training begins; a class or function is called anew.
    """
    if not isinstance(backbone, str) and callable(backbone) and not params:
        from autometa.contracts.own_network import OwnNetwork

        return OwnNetwork(backbone)
    return cast("Backbone", make("backbone", backbone, **params))


def listing() -> list[dict[str, str]]:
    """One row per component, and one for every plugin that offers none because it is disabled or broken."""
    rows = []
    for record in get_host().records:
        common = {
            "plugin": record.name,
            "distribution": record.distribution,
            "version": record.version,
            "status": record.status,
            "error": record.error,
        }
        for spec in record.specs:
            rows.append(
                {
                    "kind": spec.kind,
                    "name": spec.name,
                    "problems": ", ".join(sorted(spec.problems)),
                    "summary": spec.summary,
                }
                | common
            )
        if not record.specs:
            rows.append({"kind": "plugin", "name": record.name, "problems": "", "summary": ""} | common)
    return rows


COLUMNS = ["kind", "name", "plugin", "distribution", "version", "problems", "status", "error", "summary"]


def plugins() -> pd.DataFrame:
    """List every component of every plugin.

    Returns
    -------
    pandas.DataFrame
        Columns kind, name, plugin, distribution, version, problems, status ("active", "disabled" or "broken"),
        error, summary. A broken or disabled plugin has a row too.
    """
    import pandas as pd

    return pd.DataFrame(listing(), columns=COLUMNS)

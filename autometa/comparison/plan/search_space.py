"""From ``suggest`` to a search space: the names of its parameters, their ranges and their defaults."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar, cast

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from autometa.comparison.plan.backbones import AUTO, Network
from autometa.comparison.plan.suggests import Prefixed, Suggests
from autometa.contracts.backbone import Backbone
from autometa.contracts.base_learner import BaseLearner
from autometa.contracts.meta_optimizer import MetaOptimizer
from autometa.contracts.tasks import TaskInfo, TaskSampler
from autometa.errors import PluginError

BACKBONE = "learner__backbone"
"""The parameter that chooses a learner's network."""
TASKS = "tasks__"
"""What the names of parameters of a task sampler begin with."""

ComponentT = TypeVar("ComponentT", BaseLearner, MetaOptimizer)
Corner = Literal["default", "low", "high"]


class _Pinned:
    """A trial that keeps a value which the user set outside of the search space."""

    def __init__(self, trial: Suggests, given: Mapping[str, Any]) -> None:
        self._trial, self._given = trial, given
        self.asked: set[str] = set()

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if self._is_pinned(name, FloatDistribution(low, high, step=step, log=log)):
            return float(self._given[name])
        return self._trial.suggest_float(name, low, high, step=step, log=log)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if self._is_pinned(name, IntDistribution(low, high, step=step, log=log)):
            return int(self._given[name])
        return self._trial.suggest_int(name, low, high, step=step, log=log)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        if self._is_pinned(name, CategoricalDistribution(choices)):
            return self._given[name]
        return self._trial.suggest_categorical(name, choices)

    def _is_pinned(self, name: str, distribution: BaseDistribution) -> bool:
        pinned = name in self._given and not contains(distribution, self._given[name])
        if not pinned:
            self.asked.add(name)
        return pinned


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Tell whether a value lies in a distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return distribution.low <= value <= distribution.high


def range_text(distribution: BaseDistribution) -> str:
    """Say what a hyperparameter is chosen from: ``"0.001 – 1 (log)"``, or the choices."""
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(map(str, distribution.choices))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    text = f"{distribution.low:.4g} – {distribution.high:.4g}"
    return f"{text} (log)" if distribution.log else text


def changed_params(component: BaseLearner | MetaOptimizer) -> dict[str, Any]:
    """Parameters whose values are not the class's defaults."""
    defaults = _defaults(type(component))
    return {
        name: value for name, value in component.get_params(deep=False).items() if repr(value) != defaults.get(name)
    }


@lru_cache(maxsize=256)
def _defaults(kind: type) -> Mapping[str, str]:
    """Return the default of every parameter of a class, printed: an object is no key, and may be as good as another."""
    return {name: repr(parameter.default) for name, parameter in inspect.signature(kind).parameters.items()}


def draw(component: ComponentT, trial: Suggests, info: TaskInfo) -> ComponentT:
    """Draw a component's hyperparameters; keep what the user set and the space does not search.

    Raises
    ------
    PluginError
        ``suggest`` returned something other than a component of its class.
    """
    kind = type(component)
    given = changed_params(component)
    seen = _Pinned(trial, given)
    suggested = kind.suggest(cast(optuna.Trial, seen), info)
    if not isinstance(suggested, kind):
        raise _wrong_kind(kind, suggested)
    kept = {name: value for name, value in given.items() if name not in seen.asked}
    return suggested.set_params(**kept) if kept else suggested


def _wrong_kind(kind: type[Any], suggested: Any) -> PluginError:
    return PluginError(
        f"{kind.__name__}.suggest returned a {type(suggested).__name__}; it must return a {kind.__name__}."
    )


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a trial or a final run is about."""

    learner: BaseLearner
    meta_optimizer: MetaOptimizer | None
    tasks: TaskSampler | None = None
    """Tasks to meta-train on; None: those of the comparison."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A learner with its meta-optimizer, before tuning."""

    label: str
    """Its name on the leaderboard."""
    learner: BaseLearner
    meta_optimizer: MetaOptimizer | None
    info: TaskInfo
    tasks: TaskSampler | None = None
    """What meta-training may draw otherwise; None: nothing of it is searched."""
    networks: Sequence[Network] = ()
    """What to choose from beside "auto" for the learner's ``backbone``; empty: it is not searched, or by the learner
    itself."""

    def draw(self, trial: Suggests) -> Drawn:
        """Draw all hyperparameters; names are ``learner__x``, ``meta_optimizer__x`` and ``tasks__x``."""
        learner = draw(self.learner, Prefixed(trial, "learner__"), self.info)
        if self.networks:
            learner.set_params(backbone=self._draw_backbone(trial))
        if self.meta_optimizer is None:
            return Drawn(learner, None)
        meta_optimizer = draw(self.meta_optimizer, Prefixed(trial, "meta_optimizer__"), self.info)
        return Drawn(learner, meta_optimizer, self._draw_tasks(trial))

    def _draw_tasks(self, trial: Suggests) -> TaskSampler | None:
        if self.tasks is None:
            return None
        suggested = self.tasks.suggest(cast(optuna.Trial, Prefixed(trial, TASKS)))
        kind = type(self.tasks)
        if not isinstance(suggested, kind):
            raise _wrong_kind(kind, suggested)
        return suggested

    def _draw_backbone(self, trial: Suggests) -> str | Backbone:
        chosen = trial.suggest_categorical(BACKBONE, [AUTO, *(network.label for network in self.networks)])
        network = next((network for network in self.networks if network.label == chosen), None)
        return AUTO if network is None else network.draw(Prefixed(trial, f"{BACKBONE}__"), self.info.input_shape)

    @property
    def details(self) -> dict[str, Any]:
        """Values that a short search leaves as they are.

        They are those of the networks and of the tasks, and what the meta-optimizer calls details.
        """
        names = self.meta_optimizer.details if self.meta_optimizer is not None else frozenset()
        found = {f"meta_optimizer__{name}" for name in names}
        wide = (f"{BACKBONE}__", TASKS)
        return {name: value for name, value in self.starting_values().items() if name in found or name.startswith(wide)}

    def starting_values(self) -> dict[str, Any]:
        """Parameters as the user or the class set them, by the names that :meth:`draw` gives them."""
        values = {f"{BACKBONE}__{k}": value for network in self.networks for k, value in network.defaults.items()}
        if self.tasks is not None:
            values |= {f"{TASKS}{name}": value for name, value in self.tasks.get_params(deep=False).items()}
        values |= {f"learner__{name}": value for name, value in self.learner.get_params(deep=False).items()}
        if self.meta_optimizer is not None:
            of_optimizer = self.meta_optimizer.get_params(deep=False)
            values |= {f"meta_optimizer__{name}": value for name, value in of_optimizer.items()}
        return values


class _Recorder:
    """A trial that answers with one corner of the space and records what it was asked."""

    def __init__(self, corner: Corner, starting: Mapping[str, Any], chosen: Mapping[str, Any] | None = None) -> None:
        self._corner, self._starting, self._chosen = corner, starting, chosen or {}
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self._answer(name, FloatDistribution(low, high, step=step, log=log), low, high))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self._answer(name, IntDistribution(low, high, step=step, log=log), low, high))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._answer(name, CategoricalDistribution(choices), choices[0], choices[-1])

    def _answer(self, name: str, distribution: BaseDistribution, low: Any, high: Any) -> Any:
        self.distributions[name] = distribution
        if name in self._chosen:
            return self._chosen[name]
        start = self._starting.get(name)
        if self._corner == "default" and contains(distribution, start):
            return start
        return high if self._corner == "high" else low


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """The parameters of a candidate that Optuna chooses."""

    distributions: Mapping[str, BaseDistribution]
    """Range of every parameter that ``suggest`` asks for at the defaults, by name."""
    opened: Mapping[str, BaseDistribution]
    """Range of every other parameter, which is asked for only at some values of those."""
    defaults: Mapping[str, Any]
    """Values of trial 0: those of the candidate that lie in the space."""
    conditional: bool
    """True if some parameters are asked for only at some values of others."""

    @classmethod
    def of(cls, candidate: Candidate) -> SearchSpace:
        """Find the space: call ``suggest`` with the defaults, both ends of all ranges and every choice."""
        starting = candidate.starting_values()

        def ask(corner: Corner, chosen: Mapping[str, Any]) -> dict[str, BaseDistribution]:
            recorder = _Recorder(corner, starting, chosen)
            candidate.draw(recorder)
            return recorder.distributions

        corners = [ask("default", {}), ask("low", {}), ask("high", {})]
        for name, distribution in corners[0].items():
            if isinstance(distribution, CategoricalDistribution):
                corners.extend(ask("default", {name: choice}) for choice in distribution.choices)
        defaults = {
            name: starting[name]
            for name, distribution in corners[0].items()
            if name in starting and contains(distribution, starting[name])
        }
        everything = {name: found for corner in corners for name, found in corner.items()}
        return cls(
            distributions=corners[0],
            opened={name: found for name, found in everything.items() if name not in corners[0]},
            defaults=defaults,
            conditional=any(corner.keys() != corners[0].keys() for corner in corners),
        )

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to choose."""
        return not self.distributions

    def grid(self, limit: int) -> list[dict[str, Any]] | None:
        """Return all combinations, the defaults first; None if there are numbers to choose or more than ``limit``."""
        if self.conditional or self.is_empty:
            return None
        if not all(isinstance(d, CategoricalDistribution) for d in self.distributions.values()):
            return None
        choices = [d.choices for d in self.distributions.values() if isinstance(d, CategoricalDistribution)]
        if math.prod(map(len, choices)) > limit:
            return None
        points = [dict(zip(self.distributions, values, strict=True)) for values in itertools.product(*choices)]
        return sorted(points, key=lambda point: point != self.defaults)

    @property
    def is_plain(self) -> bool:
        """True if all parameters are numbers that are always asked for."""
        numeric = all(isinstance(d, FloatDistribution | IntDistribution) for d in self.distributions.values())
        return numeric and not self.conditional and not self.is_empty

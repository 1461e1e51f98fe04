"""From ``suggest`` to an Optuna search space: names, defaults, and the sampler that suits them."""

from __future__ import annotations

import inspect
import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, cast

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from autometa.contracts.learner import Learner
from autometa.contracts.meta_optimizer import MetaOptimizer
from autometa.contracts.seeding import derive_seed
from autometa.contracts.tasks import TaskInfo
from autometa.errors import PluginError

LARGEST_FOR_GP = 250
"""Trials beyond which a Gaussian process takes longer than it saves."""

ComponentT = TypeVar("ComponentT", Learner, MetaOptimizer)
Corner = Literal["default", "low", "high"]


class Suggests(Protocol):
    """The part of ``optuna.Trial`` that a ``suggest`` may use."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Draw a real number."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Draw a whole number."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Draw one of the choices."""


class _View:
    """A trial seen by one component: its names get a prefix, and values the user fixed outside the space stay fixed."""

    def __init__(self, trial: Suggests, prefix: str, given: Mapping[str, Any]) -> None:
        self._trial, self._prefix, self._given = trial, prefix, given
        self.asked: set[str] = set()

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if self._is_pinned(name, FloatDistribution(low, high, step=step, log=log)):
            return float(self._given[name])
        return self._trial.suggest_float(self._prefix + name, low, high, step=step, log=log)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if self._is_pinned(name, IntDistribution(low, high, step=step, log=log)):
            return int(self._given[name])
        return self._trial.suggest_int(self._prefix + name, low, high, step=step, log=log)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        if self._is_pinned(name, CategoricalDistribution(choices)):
            return self._given[name]
        return self._trial.suggest_categorical(self._prefix + name, choices)

    def _is_pinned(self, name: str, distribution: BaseDistribution) -> bool:
        pinned = name in self._given and not contains(distribution, self._given[name])
        if not pinned:
            self.asked.add(name)
        return pinned


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a value lies in a distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return distribution.low <= value <= distribution.high


def changed_params(component: Learner | MetaOptimizer) -> dict[str, Any]:
    """Parameters whose values are not the class's defaults."""
    signature = inspect.signature(type(component)).parameters
    return {
        name: value
        for name, value in component.get_params(deep=False).items()
        if name not in signature or repr(value) != repr(signature[name].default)
    }


def draw(component: ComponentT, trial: Suggests, info: TaskInfo, prefix: str) -> ComponentT:
    """Draw a component's hyperparameters; what the user set and the space does not search stays as set.

    Raises
    ------
    PluginError
        ``suggest`` raised, or returned something else than a component of its class.
    """
    kind = type(component)
    given = changed_params(component)
    view = _View(trial, prefix, given)
    suggested = kind.suggest(cast(optuna.Trial, view), info)
    if not isinstance(suggested, kind):
        raise PluginError(
            f"{kind.__name__}.suggest returned a {type(suggested).__name__}; it must return a {kind.__name__}."
        )
    kept = {name: value for name, value in given.items() if name not in view.asked}
    return suggested.set_params(**kept) if kept else suggested


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A learner with its meta-optimizer, before tuning."""

    label: str
    """How the leaderboard calls it."""
    learner: Learner
    meta_optimizer: MetaOptimizer | None
    info: TaskInfo

    def draw(self, trial: Suggests, prefix: str = "") -> tuple[Learner, MetaOptimizer | None]:
        """Draw the hyperparameters of both; names are ``learner__x`` and ``meta_optimizer__x``."""
        learner = draw(self.learner, trial, self.info, f"{prefix}learner__")
        if self.meta_optimizer is None:
            return learner, None
        return learner, draw(self.meta_optimizer, trial, self.info, f"{prefix}meta_optimizer__")

    def starting_values(self) -> dict[str, Any]:
        """Parameters as the user or the class set them, by the names that :meth:`draw` gives them."""
        values = {f"learner__{name}": value for name, value in self.learner.get_params(deep=False).items()}
        if self.meta_optimizer is not None:
            of_optimizer = self.meta_optimizer.get_params(deep=False)
            values |= {f"meta_optimizer__{name}": value for name, value in of_optimizer.items()}
        return values


class _Recorder:
    """A stand-in for a trial that answers with one corner of the space and remembers what it was asked."""

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
    """What a candidate lets Optuna choose."""

    distributions: Mapping[str, BaseDistribution]
    """Every parameter that is asked for at the defaults, by name."""
    defaults: Mapping[str, Any]
    """Values of trial 0: the candidate's own, where they lie in the space."""
    conditional: bool
    """Whether some parameters are only asked for at some values of others."""

    @classmethod
    def of(cls, candidate: Candidate, prefix: str = "") -> SearchSpace:
        """Ask for the space at the defaults, at both ends and at every choice."""
        starting = {prefix + name: value for name, value in candidate.starting_values().items()}

        def ask(corner: Corner, chosen: Mapping[str, Any]) -> dict[str, BaseDistribution]:
            recorder = _Recorder(corner, starting, chosen)
            candidate.draw(recorder, prefix)
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
        return cls(
            distributions=corners[0],
            defaults=defaults,
            conditional=any(corner.keys() != corners[0].keys() for corner in corners),
        )

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to choose."""
        return not self.distributions

    def grid(self, limit: int) -> list[dict[str, Any]] | None:
        """All combinations, the defaults first; None where there are numbers to choose or more than ``limit``."""
        if self.conditional or self.is_empty:
            return None
        if not all(isinstance(d, CategoricalDistribution) for d in self.distributions.values()):
            return None
        choices = [d.choices for d in self.distributions.values() if isinstance(d, CategoricalDistribution)]
        if math.prod(map(len, choices)) > limit:
            return None
        points = [dict(zip(self.distributions, values, strict=True)) for values in itertools.product(*choices)]
        return sorted(points, key=lambda point: point != self.defaults)

    def suits_gaussian_process(self, n_trials: int) -> bool:
        """Whether all parameters are numbers that are always asked for, and trials are few."""
        numeric = all(isinstance(d, FloatDistribution | IntDistribution) for d in self.distributions.values())
        return numeric and not self.conditional and not self.is_empty and n_trials <= LARGEST_FOR_GP


class SlotSampler(BaseSampler):
    """Makes the draws of a slot depend on the slot and on finished trials, not on who fills it.

    Optuna keeps no random state: a sampler seeded once repeats its first draws whenever a study is resumed. Here
    every slot has a seed of its own. A trial whose user attribute ``"fixed"`` names values gets those.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._inner: BaseSampler = make(0)
        self._fixed: Mapping[str, Any] = {}

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Start the slot's own random stream."""
        self._inner = self._make(derive_seed(self._seed, trial.user_attrs["slot"]) % 2**32)
        self._fixed = trial.user_attrs.get("fixed", {})
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return what is drawn jointly: nothing where values are fixed."""
        return {} if self._fixed else self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw jointly."""
        return {} if self._fixed else self._inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the fixed value, or draw one parameter."""
        if param_name in self._fixed and contains(param_distribution, self._fixed[param_name]):
            return self._fixed[param_name]
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Tell the inner sampler."""
        self._inner.after_trial(study, trial, state, values)


def make_sampler(space: SearchSpace | None, n_trials: int, seed: int) -> SlotSampler:
    """Choose the sampler for a space; None stands for the joint space of several candidates."""
    startup = max(2, min(10, n_trials // 4))

    def gaussian_process(seed: int) -> BaseSampler:
        return GPSampler(seed=seed, n_startup_trials=startup)

    branches = space is None or space.conditional

    def parzen(seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, group=branches)

    use_gp = space is not None and space.suits_gaussian_process(n_trials)
    return SlotSampler(gaussian_process if use_gp else parzen, seed)

"""Optuna samplers whose draws for a slot depend on the slot, and the one that suits a search space."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from autometa.comparison.plan.search_space import SearchSpace, contains
from autometa.contracts.seeding import derive_seed

N_HELD = 8
"""First slots of a study, which search the main parameters alone: with few trials, every further one would cost some of
those that count most."""
LARGEST_FOR_GP = 250
"""Trials beyond which a Gaussian process takes longer than it saves."""


class SlotSampler(BaseSampler):
    """Draw by the number of the slot and the finished trials, so that it does not matter which process fills it.

    Optuna keeps no random state: a sampler seeded once repeats its first draws whenever a study is resumed. Here
    every slot has a seed of its own. A trial whose user attribute ``"fixed"`` names values gets those.

    Parameters
    ----------
    make : callable
        Makes Optuna's sampler from a seed.
    seed : int
    held : mapping, optional
        Parameters that the first slots keep at these values.
    n_held : int
        How many slots.
    """

    def __init__(
        self, make: Callable[[int], BaseSampler], seed: int, held: Mapping[str, Any] | None = None, n_held: int = N_HELD
    ) -> None:
        self._make, self._seed = make, seed
        self._held, self._n_held = held or {}, n_held
        self.inner: BaseSampler = make(0)
        self._fixed: Mapping[str, Any] = {}
        self._is_whole = False

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Start the slot's own random stream."""
        slot = trial.user_attrs["slot"]
        self.inner = self._make(derive_seed(self._seed, slot) % 2**32)
        self._is_whole = bool(trial.user_attrs.get("fixed"))
        self._fixed = trial.user_attrs.get("fixed") or (self._held if slot < self._n_held else {})
        self.inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return what is drawn jointly: nothing where all values are fixed."""
        if self._is_whole:
            return {}
        found = self.inner.infer_relative_search_space(study, trial)
        return {name: distribution for name, distribution in found.items() if name not in self._fixed}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw jointly."""
        if not search_space:
            return {}
        drawn = self.inner.sample_relative(study, trial, search_space)
        return {name: value for name, value in drawn.items() if name in search_space}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the fixed value, or draw one parameter."""
        if param_name in self._fixed and contains(param_distribution, self._fixed[param_name]):
            return self._fixed[param_name]
        return self.inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Tell the inner sampler."""
        self.inner.after_trial(study, trial, state, values)


def make_sampler(space: SearchSpace, n_trials: int, seed: int, held: Mapping[str, Any] | None = None) -> SlotSampler:
    """Return a Gaussian process for few trials of numbers alone, and Parzen estimators for any other space.

    The first :data:`N_HELD` slots keep what is ``held``.
    """
    if not (space.is_plain and n_trials <= LARGEST_FOR_GP):
        return make_parzen_sampler(n_trials, seed, conditional=space.conditional, held=held)

    def gaussian_process(seed: int) -> BaseSampler:
        return GPSampler(seed=seed, n_startup_trials=_n_startup(n_trials))

    return SlotSampler(gaussian_process, seed, held)


def make_parzen_sampler(
    n_trials: int, seed: int, *, conditional: bool, held: Mapping[str, Any] | None = None, n_held: int = N_HELD
) -> SlotSampler:
    """Return tree-structured Parzen estimators; ``conditional`` if some parameters are asked for only sometimes."""

    def parzen(seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return TPESampler(seed=seed, n_startup_trials=_n_startup(n_trials), multivariate=True, group=conditional)

    return SlotSampler(parzen, seed, held, n_held)


def _n_startup(n_trials: int) -> int:
    """Trials drawn at random before anything is learned from them."""
    return max(2, min(10, n_trials // 4))

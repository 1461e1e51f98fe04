"""What every learner is, whatever its problem: hyperparameters, θ, and what it offers to meta-training."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Set
from typing import TYPE_CHECKING, ClassVar, Self

from torch import nn

from autometa.contracts.held_networks import HoldsNetworks
from autometa.contracts.tasks import TaskInfo
from autometa.errors import PluginError

if TYPE_CHECKING:
    from optuna import Trial


class BaseLearner(HoldsNetworks, ABC):
    """Hyperparameters in the constructor, θ in the module that :meth:`build` returns.

    Plugins derive from ``Learner``, which adapts to a support set and predicts, or from ``Actor``, which acts in
    environments.
    """

    default_meta_optimizer: ClassVar[str | None] = None
    """Name of the meta-optimizer used unless another is asked for, best the full one; None: nothing to meta-train."""

    provides: ClassVar[frozenset[str]] = frozenset()
    """What a meta-optimizer may count on."""

    names_code: ClassVar[frozenset[str]] = frozenset()
    """Hyperparameters that may be import paths of functions, which the learner calls: who loads a saved estimator must
    say that they are trusted."""

    names_files: ClassVar[frozenset[str]] = frozenset()
    """Hyperparameters whose text is the path of a file or folder: its content then is part of a comparison's plan and
    of a checkpoint. Path objects count in every hyperparameter."""

    @property
    def adaptation_parameters(self) -> frozenset[str]:
        """Hyperparameters that may change after meta-training and count at the next adaptation.

        Like the property below, a class attribute overrides it where the answer is the same for every object:
        ``adaptation_parameters = frozenset({"steps"})``.
        """
        return frozenset()

    @property
    def needs_meta_training(self) -> frozenset[str]:
        """Problems on which it is useless before meta-training, such as ``frozenset({"regression"})``."""
        return frozenset()

    @abstractmethod
    def build(self, info: TaskInfo) -> nn.Module:
        """Return θ, freshly initialised from torch's current random state."""

    @classmethod
    def suggest(cls, trial: Trial, info: TaskInfo) -> Self:
        """Draw hyperparameters from the search space; parameter names are constructor names."""
        return cls()


_NAMES = ("adaptation_parameters", "needs_meta_training", "provides", "names_code", "names_files")
_FLAGS = ("replayable", "predicts_unseen_classes", "needs_support", "greedy")


def check_promises(learner: BaseLearner) -> None:
    """Refuse a learner whose properties are not of the kind that they are read as.

    Raises
    ------
    PluginError
        Names the learner and the property.
    """
    for name in _NAMES:
        value = getattr(learner, name)
        if not isinstance(value, Set) or not all(isinstance(item, str) for item in value):
            raise _broken_promise(learner, name, "a frozenset of names, such as frozenset({'steps'})")
    for name in _FLAGS:
        if hasattr(type(learner), name) and not isinstance(getattr(learner, name), bool):
            raise _broken_promise(learner, name, "True or False")
    if not isinstance(learner.default_meta_optimizer, str | None):
        raise _broken_promise(learner, "default_meta_optimizer", "the name of a meta-optimizer, or None")


def _broken_promise(learner: BaseLearner, name: str, wanted: str) -> PluginError:
    value = getattr(learner, name)
    found, hint = ("a method", "; put @property above it") if inspect.ismethod(value) else (repr(value), "")
    return PluginError(f"{name} of learner {type(learner).__name__} is {found}; it must be {wanted}{hint}.")

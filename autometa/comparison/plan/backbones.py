"""Which networks a learner may choose from: not only how to train one, but whether to learn features at all."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

import optuna
from sklearn.base import clone

from autometa.comparison.plan.suggests import Prefixed, Suggests
from autometa.contracts.backbone import Backbone
from autometa.contracts.base_learner import BaseLearner
from autometa.contracts.tasks import TaskInfo
from autometa.engine.folding import auto_backbone
from autometa.engine.random_state import fresh_module
from autometa.errors import PluginError, warn_user
from autometa.host.catalog import components, find

AUTO = "auto"
"""What a learner takes unless another network is asked for."""


@dataclass(frozen=True, slots=True)
class Network:
    """A backbone that a study can choose, with the parameters that this opens."""

    label: str
    """What the study calls it."""
    kind: type[Backbone]

    def draw(self, trial: Suggests, input_shape: tuple[int, ...]) -> Backbone:
        """Draw its hyperparameters, which bear its label: ``conv4__norm``.

        Raises
        ------
        PluginError
            ``suggest`` returned something other than a backbone of its class.
        """
        seen = Prefixed(trial, f"{self.label}__")
        suggested = self.kind.suggest(cast(optuna.Trial, seen), input_shape)
        if not isinstance(suggested, self.kind):
            name = self.kind.__name__
            raise PluginError(f"{name}.suggest returned a {type(suggested).__name__}; it must return a {name}.")
        return suggested

    @property
    def defaults(self) -> dict[str, Any]:
        """Values of all of its parameters unless others are asked for, by the names that :meth:`draw` gives them."""
        signature = inspect.signature(self.kind).parameters
        return {f"{self.label}__{name}": parameter.default for name, parameter in signature.items()}


def offered_backbones(*, accelerator: bool) -> str:
    """List the full names of the installed backbones that a comparison searches, between spaces.

    They are those with a ``suggest`` of their own; those that need an accelerator, only where there is one. A backbone
    that cannot be imported is left out with a warning.
    """
    found = []
    for component in components("backbone"):
        try:
            kind = component.spec.resolve()
        except PluginError as error:
            warn_user(f"{error} No learner will be tried with it.")
            continue
        if _is_searched(kind) and (accelerator or not kind.needs_accelerator):
            found.append(component.full_name)
    return " ".join(found)


def networks_of(learner: BaseLearner, info: TaskInfo, offered: str) -> tuple[Network, ...]:
    """Return the networks to search beside "auto"; none where there is no choice, or the user made it.

    Backbone "identity" leaves inputs as they are, which is best where there are too few classes or tasks to learn
    features from; a single number is no feature to leave as it is. Those that the learner cannot be built with are left
    out.
    """
    given = learner.get_params(deep=False).get("backbone")
    if not isinstance(given, str) or given != AUTO or info.problem_record.acts:
        return ()
    return tuple(network for network in _networks(offered.split()) if _fits(network, learner, info))


def is_auto(network: Network, input_shape: tuple[int, ...]) -> bool:
    """Tell whether this is the network that "auto" stands for."""
    return network.kind is find("backbone", auto_backbone(input_shape)).spec.resolve()


def _networks(offered: Sequence[str]) -> list[Network]:
    found = [find("backbone", name) for name in offered]
    names = [component.name for component in found]
    labels = [one.name if names.count(one.name) == 1 else one.full_name for one in found]
    kinds = [one.spec.resolve() for one in found]
    return [Network(label, kind) for label, kind in zip(labels, kinds, strict=True) if _is_searched(kind)]


def _is_searched(kind: Any) -> TypeGuard[type[Backbone]]:
    """Tell whether a class declares a search space."""
    if not (isinstance(kind, type) and issubclass(kind, Backbone)):
        return False
    return next(base for base in kind.__mro__ if "suggest" in vars(base)) is not Backbone


def _fits(network: Network, learner: BaseLearner, info: TaskInfo) -> bool:
    try:
        backbone = network.kind()
        if math.prod(info.input_shape) == 1 and not list(backbone.build(info.input_shape).parameters()):
            return False
        fresh_module(clone(learner).set_params(backbone=backbone), info, seed=0)
    except Exception:  # a plugin may raise anything; with "auto" it was built before this
        return False
    return True

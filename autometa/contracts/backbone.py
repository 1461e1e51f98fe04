"""From one example to features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Self, TypeAlias

from torch import nn

from autometa.contracts.held_networks import HoldsNetworks

if TYPE_CHECKING:
    from optuna import Trial


class Backbone(HoldsNetworks, ABC):
    """A network factory: hyperparameters in the constructor, the network from :meth:`build`.

    Parameters that take a backbone are of type ``autometa.BackboneLike``: the name of an installed one, a Backbone, an
    ``nn.Module`` of one's own, which is copied, or a class or function that returns one without arguments.
    :func:`autometa.build_backbone` makes the network of any of them.

    Comparisons let learners choose among the backbones that have a :meth:`suggest` of their own.
    """

    needs_accelerator: ClassVar[bool] = False
    """True if training takes so long without an accelerator that a comparison on a CPU should not try it."""

    @abstractmethod
    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Return a module mapping [batch, *input_shape] to [batch, n_features], with ``n_features`` as attribute.

        A module whose features are a flattened map may say so by the attribute ``feature_shape`` (channels, height,
        width).

        Raises
        ------
        InvalidParameter
            The backbone cannot take inputs of this shape.
        """

    @classmethod
    def suggest(cls, trial: Trial, input_shape: tuple[int, ...]) -> Self:
        """Draw hyperparameters from the search space; parameter names are constructor names.

        A class that defines this method, if only to return its defaults, is among the networks that a comparison tries
        with every learner whose ``backbone`` is "auto".
        """
        return cls()


BackboneLike: TypeAlias = str | Backbone | nn.Module | Callable[[], nn.Module]
"""What users give as a backbone: its name, an object, a network of their own, or what builds one without arguments."""

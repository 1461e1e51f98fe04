"""Fully connected features."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from torch import Tensor, nn

import autometa as am

if TYPE_CHECKING:
    from optuna import Trial

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}
_NORMS = ("none", "layer")


class MLP(am.Backbone):
    """Fully connected layers over the flattened inputs, each followed by its activation.

    Parameters
    ----------
    hidden : int or sequence of int, default=64
        Width of all layers, or of each; the last one is the number of features. Backbone "identity" has no layers.
    n_layers : int, default=2
        Number of layers where ``hidden`` is one width.
    activation : {"relu", "gelu", "silu", "tanh"}, default="relu"
    norm : {"none", "layer"}, default="none"
        Normalization between a layer and its activation.
    """

    def __init__(
        self, hidden: int | Sequence[int] = 64, n_layers: int = 2, activation: str = "relu", norm: str = "none"
    ) -> None:
        self.hidden = hidden
        self.n_layers = n_layers
        self.activation = activation
        self.norm = norm

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Return a module mapping [batch, *input_shape] to [batch, n_features].

        Raises
        ------
        InvalidParameter
            A width or the number of layers is not positive, or the activation or norm is unknown.
        """
        widths = [math.prod(input_shape), *self._widths()]
        layers: list[nn.Module] = []
        for n_in, n_out in itertools.pairwise(widths):
            layers.append(nn.Linear(n_in, n_out))
            if self.norm == "layer":
                layers.append(nn.LayerNorm(n_out))
            layers.append(_ACTIVATIONS[self.activation]())
        return _Layers(nn.Sequential(*layers), n_features=widths[-1])

    def _widths(self) -> list[int]:
        """Width of every layer."""
        am.check_int("n_layers", self.n_layers, of="backbone 'mlp'")
        am.check_choice("activation", self.activation, _ACTIVATIONS, of="backbone 'mlp'")
        am.check_choice("norm", self.norm, _NORMS, of="backbone 'mlp'")
        if isinstance(self.hidden, Sequence):
            am.check_ints("hidden", self.hidden, of="backbone 'mlp'", such_as=(64, 64))
            return list(map(int, self.hidden))
        am.check_int("hidden", self.hidden, of="backbone 'mlp'")
        return [int(self.hidden)] * int(self.n_layers)

    @classmethod
    def suggest(cls, trial: Trial, input_shape: tuple[int, ...]) -> Self:
        """Search width, depth and normalization."""
        return cls(
            hidden=trial.suggest_categorical("hidden", [32, 64, 128, 256]),
            n_layers=trial.suggest_int("n_layers", 1, 3),
            norm=trial.suggest_categorical("norm", ["none", "layer"]),
        )


class _Layers(nn.Module):
    def __init__(self, layers: nn.Sequential, n_features: int) -> None:
        super().__init__()
        self.layers = layers
        self.n_features = n_features

    @am.fixed_forward
    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.layers(x.flatten(1))
        return features

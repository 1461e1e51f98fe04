"""Fully connected features."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from torch import Tensor, nn

import autometa as am

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}
_NORMS = ("none", "layer")


class MLP(am.Backbone):
    """Fully connected layers over the flattened inputs, each followed by its activation.

    Parameters
    ----------
    hidden : sequence of int, default=(64, 64)
        Width of every layer; the last one is the number of features. Backbone "identity" has no layers.
    activation : {"relu", "gelu", "silu", "tanh"}, default="relu"
    norm : {"none", "layer"}, default="none"
        Normalization between a layer and its activation.
    """

    def __init__(self, hidden: Sequence[int] = (64, 64), activation: str = "relu", norm: str = "none") -> None:
        self.hidden = hidden
        self.activation = activation
        self.norm = norm

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Return a module mapping [batch, *input_shape] to [batch, hidden[-1]].

        Raises
        ------
        InvalidParameter
            A width is not positive, or the activation or norm is unknown.
        """
        self._check()
        widths = [math.prod(input_shape), *map(int, self.hidden)]
        layers: list[nn.Module] = []
        for n_in, n_out in itertools.pairwise(widths):
            layers.append(nn.Linear(n_in, n_out))
            if self.norm == "layer":
                layers.append(nn.LayerNorm(n_out))
            layers.append(_ACTIVATIONS[self.activation]())
        return _Layers(nn.Sequential(*layers), n_features=widths[-1])

    def _check(self) -> None:
        am.check_ints("hidden", self.hidden, of="backbone 'mlp'", such_as=(64, 64))
        am.check_choice("activation", self.activation, _ACTIVATIONS, of="backbone 'mlp'")
        am.check_choice("norm", self.norm, _NORMS, of="backbone 'mlp'")


class _Layers(nn.Module):
    def __init__(self, layers: nn.Sequential, n_features: int) -> None:
        super().__init__()
        self.layers = layers
        self.n_features = n_features

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.layers(x.flatten(1))
        return features

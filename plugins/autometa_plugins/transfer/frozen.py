"""A pretrained network that stays as it is."""

from __future__ import annotations

import copy
from typing import Any, Self

import torch
from torch import Tensor, nn

import autometa as am


class Frozen(am.Backbone):
    """A pretrained network as it is: never trained, always in evaluation mode.

    The features of a network with timm's ``forward_features`` and ``forward_head`` are those before the classifier,
    of any other its output, flattened. Their number is found by running it on one example. The network is copied. An
    estimator with it cannot be saved to a file, as files hold no code: offer a backbone that builds the network from
    a plugin for that.

    Parameters
    ----------
    module : nn.Module, optional
        Maps [batch, *input_shape] to features. None: the inputs themselves.

    Examples
    --------
    >>> import torch, autometa as am
    >>> frozen = am.make_backbone("frozen", module=torch.nn.Linear(4, 3))
    >>> frozen.build((4,)).n_features
    3
    """

    def __init__(self, module: nn.Module | None = None) -> None:
        self.module = module

    def __sklearn_clone__(self) -> Self:
        # Nothing changes the network, and it may be large.
        return type(self)(self.module)

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Return a copy of the network with ``n_features``.

        Raises
        ------
        InvalidParameter
            It is no network, or cannot take inputs of this shape.
        """
        if self.module is not None and not isinstance(self.module, nn.Module):
            raise am.InvalidParameter(
                f"module={self.module!r} of backbone 'frozen' must be a torch.nn.Module; a function of raw rows "
                "belongs to learner 'frozen_features' as encoder=..."
            )
        return _FrozenNetwork(nn.Flatten() if self.module is None else self.module, input_shape)


class _FrozenNetwork(nn.Module):
    def __init__(self, network: nn.Module, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.train(False)
        first = next((p for p in self.network.parameters() if p.is_floating_point()), torch.empty(0))
        try:
            features = self(torch.zeros(1, *input_shape, dtype=first.dtype, device=first.device))
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, AssertionError) as error:
            raise am.InvalidParameter(
                f"module={type(network).__name__} of backbone 'frozen' cannot turn inputs of shape {input_shape} into "
                f"features: {type(error).__name__}: {error}"
            ) from error
        self.n_features = int(features.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        network: Any = self.network
        # Where a task is differentiated, inputs may want a gradient; the weights never do.
        if hasattr(network, "forward_features") and hasattr(network, "forward_head"):
            features = network.forward_head(network.forward_features(x), pre_logits=True)
        else:
            features = network(x)
        if not isinstance(features, Tensor):
            raise TypeError(f"its output is a {type(features).__name__}, not a tensor")
        return features.flatten(1)

    def train(self, mode: bool = True) -> Self:
        return super().train(False)

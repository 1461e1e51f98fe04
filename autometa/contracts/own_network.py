"""A network of one's own as a backbone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from autometa.contracts.backbone import Backbone
from autometa.contracts.fixed_forward import fixed_forward
from autometa.contracts.held_networks import check_weights
from autometa.errors import InvalidData, InvalidParameter


class OwnNetwork(Backbone):
    """A network of one's own: what ``make_backbone`` makes of a network, or of something that builds one.

    The features of a network with timm's ``forward_features`` and ``forward_head`` are those before the classifier,
    of any other its output, flattened. Their number is found by running it on two examples.

    Parameters
    ----------
    network : nn.Module or callable
        From [batch, *input_shape] to features. A network is copied with its weights, where every training begins. A
        class or function is called anew, without arguments.
    """

    def __init__(self, network: nn.Module | Callable[[], nn.Module]) -> None:
        self.network = network

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Return the network with ``n_features``, and ``feature_shape`` where its output is a map.

        Raises
        ------
        InvalidParameter
            It is no network, or cannot take inputs of this shape.
        """
        check_network(self.network)
        network = copy.deepcopy(self.network) if isinstance(self.network, nn.Module) else self._called()
        has_head = hasattr(network, "forward_features") and hasattr(network, "forward_head")
        return (_BeforeHead if has_head else _Features)(network, input_shape)

    def _called(self) -> nn.Module:
        name = getattr(self.network, "__qualname__", repr(self.network))
        try:
            network = self.network()
        except TypeError as error:
            raise InvalidParameter(f"backbone {name} is called without arguments, and this failed: {error}") from error
        if not isinstance(network, nn.Module):
            raise InvalidParameter(
                f"backbone {name} made a {type(network).__name__}; a function that is a backbone returns a "
                "torch.nn.Module."
            )
        check_weights(network, f"backbone {type(network).__name__}")
        return network


def check_network(network: Any) -> None:
    """Refuse a network that cannot be copied with its weights; anything else passes.

    Raises
    ------
    InvalidParameter
    """
    if not isinstance(network, nn.Module):
        return
    name = type(network).__name__
    if isinstance(network, torch.jit.ScriptModule):
        raise InvalidParameter(f"backbone {name} is compiled by TorchScript; give the network it was compiled from.")
    if not all(map(_has_values, (*network.parameters(), *network.buffers()))):
        raise InvalidParameter(
            f"backbone {name} has layers without weights yet (lazy ones); run it once on an example, or give the class "
            "or a function that builds it."
        )
    check_weights(network, f"backbone {name}")


_COMPARES_ROWS = "Expected more than 1 value per channel"
"""What torch says of one row alone."""


class _Features(nn.Module):
    """A network whose output is flattened to [batch, n_features]."""

    def __init__(self, network: nn.Module, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network
        features = self._tried(input_shape)
        self.n_features = features[0].numel()
        if features.dim() == 4:
            self.feature_shape = tuple(features.shape[1:])

    @fixed_forward
    def forward(self, x: Tensor) -> Tensor:
        return self._of_rows(x)

    def _of_rows(self, x: Tensor) -> Tensor:
        try:
            return self._features(x).flatten(1)
        except ValueError as error:
            if len(x) > 1 or _COMPARES_ROWS not in str(error):
                raise
            raise InvalidData(
                f"backbone {type(self.network).__name__} cannot take one row alone: a batch norm of it without running "
                "averages (track_running_stats=False) compares the rows of a call with each other. Give several rows, "
                "or let it keep averages."
            ) from error

    def _features(self, x: Tensor) -> Tensor:
        return self.network(x)  # type: ignore[no-any-return]

    @torch.no_grad()
    def _tried(self, input_shape: tuple[int, ...]) -> Tensor:
        """Return the features of two examples; nothing of the network changes, its running averages neither."""
        modes = {module: module.training for module in self.modules()}
        first = next((p for p in self.parameters() if _has_values(p) and p.is_floating_point()), torch.empty(0))
        try:
            features = self.eval()._features(torch.zeros(2, *input_shape, dtype=first.dtype, device=first.device))
            if not isinstance(features, Tensor):
                raise TypeError(f"its output is a {type(features).__name__}, not a tensor")
            if features.dim() < 2 or len(features) != 2:
                raise ValueError(f"its output for two examples has shape {tuple(features.shape)}, not [2, n_features]")
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, AssertionError) as error:
            raise InvalidParameter(
                f"backbone {type(self.network).__name__} cannot turn inputs of shape {input_shape} into features: "
                f"{type(error).__name__}: {error}"
            ) from error
        for module, mode in modes.items():
            module.training = mode
        return features


class _BeforeHead(_Features):
    """A network with a classifier, without it; how it is called is the network's own, of which nothing is promised."""

    def forward(self, x: Tensor) -> Tensor:
        return self._of_rows(x)

    def _features(self, x: Tensor) -> Tensor:
        network: Any = self.network
        return network.forward_head(network.forward_features(x), pre_logits=True)  # type: ignore[no-any-return]


def _has_values(value: Tensor) -> bool:
    return not isinstance(value, (nn.parameter.UninitializedParameter, nn.parameter.UninitializedBuffer))

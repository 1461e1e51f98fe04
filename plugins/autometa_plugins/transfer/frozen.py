"""A pretrained network that stays as it is."""

from __future__ import annotations

from typing import Self

from torch import Tensor, nn

import autometa as am


class Frozen(am.Backbone):
    """A pretrained network as it is: never trained, always in evaluation mode.

    The features of a network with timm's ``forward_features`` and ``forward_head`` are those before the classifier,
    of any other its output, flattened. Their number is found by running it on one example. The network is copied.

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
        return _FrozenNetwork(am.build_backbone(nn.Flatten() if self.module is None else self.module, input_shape))


class _FrozenNetwork(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.n_features = network.n_features
        self.train(False)

    @am.fixed_forward
    def forward(self, x: Tensor) -> Tensor:
        # Where a task is differentiated, inputs may want a gradient; the weights never do.
        features: Tensor = self.network(x)
        return features

    def train(self, mode: bool = True) -> Self:
        return super().train(False)

"""Networks and a backbone that no plugin offers, in a module that other processes can import."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.nn.utils.parametrize import register_parametrization

import autometa as am


class Narrow(nn.Module):
    """Features of 8x8 images, two of them normalised by the batch."""

    def __init__(self, n_features: int = 5) -> None:
        super().__init__()
        self.layer = nn.Linear(64, n_features)
        self.norm = nn.BatchNorm1d(n_features)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.norm(self.layer(x.flatten(1))))


class MapOfFeatures(nn.Module):
    """A map of features, [batch, 3, 4, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 3, 3, padding=1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).relu()  # type: ignore[no-any-return]


class Bent(nn.Module):
    """Flattens and bends, with a setting that no weight shows."""

    def __init__(self, bend: str = "relu") -> None:
        super().__init__()
        self.bend = bend

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).relu() if self.bend == "relu" else x.flatten(1).tanh()


class Bending:
    """Builds networks, by a call or by a method."""

    def __init__(self, bend: str) -> None:
        self.bend = bend

    def build(self) -> nn.Module:
        return Bent(self.bend)

    __call__ = build


class Picky(Bent):
    """Has a message of its own where an argument is missing."""

    def __init__(self, w: str | None = None) -> None:
        super().__init__()
        if w is None:
            raise ValueError("w is needed")


def sequential() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 7), nn.ReLU())


class Scaled(am.Backbone):
    """A backbone of one's own, with a parameter."""

    def __init__(self, by: float = 2.0) -> None:
        self.by = by

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
        network.n_features = 4  # type: ignore[assignment]
        return network


class Symmetric(nn.Module):
    """A parametrization of square matrices."""

    def forward(self, x: Tensor) -> Tensor:
        return x.triu() + x.triu(1).mT


class Parametrized(nn.Module):
    """Layers whose weights are computed from others."""

    def __init__(self) -> None:
        super().__init__()
        middle = nn.Linear(8, 8)
        register_parametrization(middle, "weight", Symmetric())
        self.layers = nn.Sequential(weight_norm(nn.Linear(64, 8)), middle, spectral_norm(nn.Linear(8, 8)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(1)).tanh()  # type: ignore[no-any-return]

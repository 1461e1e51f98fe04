"""Small backbones that several test modules share."""

from __future__ import annotations

from torch import nn

import autometa as am


class Normed(am.Backbone):
    """Batch norm with running averages."""

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        module = nn.Sequential(nn.Linear(*input_shape, 4), nn.BatchNorm1d(4), nn.Tanh())
        module.n_features = 4
        return module


class Blind(am.Backbone):
    """A frozen first layer that sees nothing: as long as it stays, all inputs are alike."""

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        module = nn.Sequential(nn.Linear(*input_shape, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh())
        for value in module[0].parameters():
            nn.init.zeros_(value).requires_grad_(False)
        module.n_features = 4
        return module

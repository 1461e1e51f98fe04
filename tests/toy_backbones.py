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

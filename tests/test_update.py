"""The outer update: what torch's optimizers and clipping do, in fewer calls."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import autometa as am


def loss_of(network: nn.Module, scale: float) -> Tensor:
    return scale * network(torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)).square().sum()


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("name", ["adam", "sgd", "adamw", "rmsprop"])
def test_steps_are_those_of_torch(name: str, clip: float | None) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).to(torch.float64)
    network.register_parameter("spare", nn.Parameter(torch.ones(2, dtype=torch.float64)))  # never has a gradient
    twin = copy.deepcopy(network)
    update = am.ParameterUpdate(network, optimizer=name, lr=0.1, clip=clip)
    kinds = {kind.__name__.lower(): kind for kind in (torch.optim.Adam, torch.optim.SGD, torch.optim.AdamW)}
    optimizer = kinds.get(name, torch.optim.RMSprop)(twin.parameters(), lr=0.1, weight_decay=0.0)
    for scale in (1e-3, 1.0, 100.0):  # below the limit and above it
        update.step([loss_of(network, scale)], progress=0.0)
        optimizer.zero_grad()
        loss_of(twin, scale).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(twin.parameters(), clip)
        optimizer.step()
        torch.testing.assert_close(list(network.parameters()), list(twin.parameters()), rtol=1e-10, atol=1e-12)

"""The optimizers that the library steps with are torch's, without the import of its compiler."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor, nn

from autometa.engine.optimizers import OPTIMIZERS


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - {"LBFGS", "SparseAdam"}))
def test_steps_and_states_are_those_of_torch(name: str) -> None:
    def run(kind: type[torch.optim.Optimizer]) -> tuple[list[Tensor], dict[str, object]]:
        torch.manual_seed(0)
        layer = nn.Linear(3, 4, bias=False)
        optimizer = kind(layer.parameters(), lr=0.1)  # type: ignore[call-arg]
        for step in range(4):
            optimizer.zero_grad()
            layer(torch.randn(5, 3)).square().sum().backward()
            optimizer.step()
            assert not layer.weight.grad_fn
            if step == 1:
                state = pickle.loads(pickle.dumps(optimizer)).state_dict()
                optimizer = kind(layer.parameters(), lr=0.5)  # type: ignore[call-arg]
                optimizer.load_state_dict(state)
        return list(layer.parameters()), optimizer.state_dict()

    own, expected = run(OPTIMIZERS[name]), run(getattr(torch.optim, name))
    torch.testing.assert_close(own, expected, rtol=0, atol=0)


def test_steps_are_hooked_as_those_of_torch() -> None:
    parameter, seen = nn.Parameter(torch.ones(2)), []
    optimizer = OPTIMIZERS["SGD"]([parameter], lr=0.1)
    optimizer.register_step_post_hook(lambda *arguments: seen.append(arguments))
    optimizer.step()
    assert len(seen) == 1

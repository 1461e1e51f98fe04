"""What is special in the memory of MANN, the layers of SNAIL and the plastic weights."""

from __future__ import annotations

import pytest
import torch
from autometa_plugins.model.cells.external_memory import ExternalMemory, least_used, write
from autometa_plugins.model.cells.plastic import PlasticCell
from autometa_plugins.model.cells.snail import CausalAttention, CausalConvolution
from torch import Tensor

import autometa as am
from autometa.testing.toys import Blobs

WIDTH = 3


def memory_cell() -> ExternalMemory:
    torch.manual_seed(0)
    sizes = {"hidden_size": 6, "n_slots": 5, "slot_size": 4, "n_heads": 2}
    return ExternalMemory(WIDTH, **sizes, decay=0.95, strength=3.0, length=8).double()


def plastic_cell(*, modulated: bool = True) -> PlasticCell:
    torch.manual_seed(0)
    return PlasticCell(WIDTH, hidden_size=4, decay=0.9, modulated=modulated).double()


def tokens(n: int, seed: int = 1) -> Tensor:
    return torch.randn(2, n, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_read_weights_sum_to_one() -> None:
    cell = memory_cell()
    state = cell.start(tokens(1))
    for token in tokens(6).unbind(1):
        _, state = cell.step(token, state)
        torch.testing.assert_close(state["reading"].sum(-1), torch.ones(2, 2, dtype=torch.float64))


def test_the_least_used_slots_are_emptied_and_written_to() -> None:
    usage = torch.tensor([[0.5, 0.1, 0.9, 0.0, 0.7]])
    fresh = least_used(usage, 2)
    assert fresh.argmax(-1).tolist() == [[3, 1]]
    memory, keys = torch.ones(1, 5, 4), torch.tensor([[[1.0, 2, 3, 4], [5, 6, 7, 8]]])
    after = write(memory, fresh, fresh, keys)
    torch.testing.assert_close(after[0, [3, 1]], keys[0])
    torch.testing.assert_close(after[0, [0, 2, 4]], torch.ones(3, 4))


def test_an_open_gate_writes_where_was_read_before_and_a_closed_one_to_fresh_slots() -> None:
    cell = memory_cell()
    _, state = cell.step(tokens(1)[:, 0], cell.start(tokens(1)))
    fresh = least_used(state["usage"], 2)
    for bias, where in ((-100.0, fresh), (100.0, state["reading"])):
        torch.nn.init.constant_(cell.gate.bias, bias)
        _, after = cell.step(tokens(1, seed=2)[:, 0], state)
        used = after["usage"] - 0.95 * state["usage"] - after["reading"].sum(1)
        torch.testing.assert_close(used, where.sum(1))


def test_usage_fades() -> None:
    cell = memory_cell()
    _, first = cell.step(tokens(1)[:, 0], cell.start(tokens(1)))
    _, second = cell.step(tokens(1)[:, 0], first)
    assert (second["usage"] >= 0.95 * first["usage"]).all()


@pytest.mark.parametrize(
    "cell", [pytest.param(memory_cell(), marks=pytest.mark.thorough), plastic_cell()], ids=["memory", "plastic"]
)
def test_the_gradient_of_reading_is_right(cell: ExternalMemory | PlasticCell) -> None:
    sequence = tokens(4).requires_grad_()
    mask = torch.ones(2, 4, dtype=torch.bool)

    def read(sequence: Tensor, weight: Tensor) -> Tensor:
        name = "key.weight" if isinstance(cell, ExternalMemory) else "slow.weight"
        given = (sequence, mask, cell.start(sequence))
        features, _ = torch.func.functional_call(_Reads(cell), {f"cell.{name}": weight}, given)
        return features

    weight = cell.key.weight if isinstance(cell, ExternalMemory) else cell.slow.weight
    assert torch.autograd.gradcheck(read, (sequence, weight.detach().clone().requires_grad_()))


class _Reads(torch.nn.Module):
    def __init__(self, cell: torch.nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, sequence: Tensor, mask: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return self.cell.read(sequence, mask, state)


def test_without_modulation_a_plastic_network_is_the_plain_one() -> None:
    cell = plastic_cell(modulated=False)
    torch.nn.init.zeros_(cell.rate)
    state, hidden = cell.start(tokens(1)), torch.zeros(2, 4, dtype=torch.float64)
    for token in tokens(5).unbind(1):
        features, state = cell.step(token, state)
        hidden = cell.norm(cell.token(token) + cell.slow(hidden) / 4**0.5).tanh()
        torch.testing.assert_close(features, hidden)
    assert not state["fast"].any()


def test_fast_weights_are_faded_outer_products_of_what_was_active() -> None:
    cell = plastic_cell()
    state, wanted = cell.start(tokens(1)), torch.zeros(2, 4, 4, dtype=torch.float64)
    for token in tokens(5).unbind(1):
        before = state["hidden"]
        hidden, state = cell.step(token, state)
        strength = cell.modulation(hidden)[:, :, None]
        wanted = 0.9 * wanted + strength * torch.einsum("bi,bj->bij", hidden, before) / 4
        torch.testing.assert_close(state["fast"], wanted)


def test_the_softmax_of_attention_runs_over_the_steps_so_far() -> None:
    torch.manual_seed(0)
    layer, sequence = CausalAttention(WIDTH, 4, 2).double(), tokens(6)
    features, _ = layer.read(sequence, torch.ones(2, 6, dtype=torch.bool), layer.start(sequence))
    query, key, value = layer.project(sequence).split((4, 4, 2), dim=-1)
    for step in range(6):
        weights = (query[:, step : step + 1] @ key[:, : step + 1].mT / 2).softmax(dim=-1)
        torch.testing.assert_close(features[:, step : step + 1], weights @ value[:, : step + 1])


@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_a_convolution_sees_a_step_and_the_one_a_dilation_before(dilation: int) -> None:
    torch.manual_seed(0)
    layer, sequence = CausalConvolution(WIDTH, 2, dilation).double(), tokens(9).requires_grad_()
    features, _ = layer.read(sequence, torch.ones(2, 9, dtype=torch.bool), layer.start(sequence))
    (gradient,) = torch.autograd.grad(features[0, 6].sum(), sequence)
    seen = gradient[0].any(dim=-1).nonzero().flatten().tolist()
    assert seen == [6 - dilation, 6]


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("mann", {"n_slots": 2}, "n_slots=2 of learner 'mann' must be at least n_heads=4"),
        ("mann", {"strength": 0.0}, "strength=0.0 of learner 'mann' must be a positive number"),
        ("mann", {"decay": 1.5}, "decay=1.5 of learner 'mann' must be a number from 0 to 1"),
        ("plastic", {"decay": -1.0}, "decay=-1.0 of learner 'plastic' must be a number from 0 to 1"),
        ("snail", {"attention": ()}, "must be pairs of positive sizes"),
        ("snail", {"length": 0}, "length=0 of learner 'snail' must be a positive integer"),
    ],
)
def test_bad_parameters_are_named(name: str, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(am.InvalidParameter, match=message):
        am.make_learner(name, **parameters).build(Blobs().info)

"""Descents of multilayer perceptrons, whose derivatives are written out: the numbers that autograd gives."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import autometa as am
from autometa.engine.inner_loop import mlp_descent
from autometa.engine.inner_loop.mlp_program import read

DOUBLE = torch.float64
Rates = float | Tensor | list[float] | dict[str, Tensor]


def perceptron(widths: tuple[int, ...], activation: Callable[[], nn.Module], *, bias: bool = True) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten()]
    for n_in, n_out in itertools.pairwise(widths):
        layers += [nn.Linear(n_in, n_out, bias=bias), activation()]
    return nn.Sequential(*layers[:-1]).to(DOUBLE)


@pytest.fixture(params=["regression", "classification"])
def ragged(request: pytest.FixtureRequest) -> am.Examples:
    """Four tasks of 5, 3, 1 and 4 examples with two axes; where they have classes, the third has one class."""
    torch.manual_seed(1)
    mask = torch.arange(5) < torch.tensor([5, 3, 1, 4]).unsqueeze(1)
    x = torch.randn(4, 5, 3, 2, dtype=DOUBLE) * mask[..., None, None]
    if request.param == "regression":
        return am.Examples(x, torch.randn(4, 5, 3, dtype=DOUBLE) * mask.unsqueeze(-1), mask)
    return am.Examples(x, torch.arange(5).remainder(3).repeat(4, 1) * mask, mask, n_classes=3)


def descended(
    network: nn.Module, support: am.Examples, rates: Rates, *, strategy: str, first_order: bool
) -> list[list[Tensor]]:
    """Adapted parameters with and without gradients, the meta-gradient, and the derivative of its square."""

    def adapt() -> dict[str, Tensor]:
        start = am.per_task(network, 4)
        return am.descend(network, start, support, steps=3, rates=rates, strategy=strategy, first_order=first_order)

    learned = [rate for rate in (rates.values() if isinstance(rates, dict) else ()) if rate.requires_grad]
    wanted = [*network.parameters(), *learned]
    adapted = adapt()
    loss = am.loss_on(support)(am.call_per_task(network, adapted, support.x, strategy=strategy)).sum()
    gradient = torch.autograd.grad(loss, wanted, retain_graph=True)
    again = torch.autograd.grad(loss, wanted, create_graph=True)
    square = torch.stack([part.square().sum() for part in again]).sum()
    second = torch.autograd.grad(square, wanted)
    with torch.no_grad():
        alone = adapt()
    return [list(adapted.values()), list(alone.values()), list(gradient), list(again), list(second)]


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Identity])
@pytest.mark.parametrize("widths", [(6, 3), pytest.param((6, 5, 4, 3), marks=pytest.mark.thorough)])
@pytest.mark.parametrize("kind", ["one", "by step", "learned", "learned by step"])
def test_every_derivative_is_that_of_the_recorded_descent(
    ragged: am.Examples, activation: type[nn.Module], widths: tuple[int, ...], kind: str, first_order: bool
) -> None:
    network = perceptron(widths, activation)
    names = [name for name, _ in network.named_parameters()]
    results = []
    for strategy in ("bmm", "loop"):
        sizes = torch.linspace(0.1, 0.6, len(names), dtype=DOUBLE)
        rates: Rates = {
            "one": 0.3,
            "by step": [0.5, 0.2],
            "learned": {name: size.requires_grad_() for name, size in zip(names, sizes.unbind(), strict=True)},
            "learned by step": {
                name: torch.tensor([float(size), 0.2], dtype=DOUBLE, requires_grad=True)
                for name, size in zip(names, sizes.unbind(), strict=True)
            },
        }[kind]
        results.append(descended(network, ragged, rates, strategy=strategy, first_order=first_order))
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-11)


def test_layers_may_lack_a_bias(ragged: am.Examples) -> None:
    network = perceptron((6, 5, 3), nn.Tanh, bias=False)
    results = [descended(network, ragged, 0.3, strategy=name, first_order=False) for name in ("bmm", "loop")]
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-11)


def test_the_meta_gradient_is_that_of_finite_differences(ragged: am.Examples) -> None:
    network = perceptron((6, 4, 3), nn.Tanh)
    names = list(dict(network.named_parameters()))
    rates = torch.tensor([0.4, 0.2], dtype=DOUBLE, requires_grad=True)

    def descend(rates: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        start = {name: value.expand(4, *value.shape) for name, value in zip(names, values, strict=True)}
        return tuple(am.descend(network, start, ragged, steps=2, rates=rates).values())

    assert torch.autograd.gradcheck(descend, (rates, *network.parameters()))


@pytest.fixture
def written_out(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the steps of every descent whose derivatives are written out."""
    taken: list[int] = []
    descend = mlp_descent.descend

    def counted(descent: mlp_descent.Descent, *arguments: object) -> object:
        taken.append(descent.steps)
        return descend(descent, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(mlp_descent, "descend", counted)
    return taken


def test_derivatives_of_a_plain_descent_are_written_out_and_of_no_other(
    ragged: am.Examples, written_out: list[int]
) -> None:
    network = perceptron((6, 4, 3), nn.ReLU)
    start = am.per_task(network, 4)
    am.descend(network, start, ragged, steps=2, rates=0.1)
    am.descend(network, start, ragged, steps=3, rates=dict.fromkeys(start, 0.1), strategy="bmm")
    assert written_out == [2, 3]
    for other in (
        {"loss": am.loss_on(ragged)},
        {"weight_decay": 0.1},
        {"proximal": 0.1},
        {"checkpoint": True},
        {"strategy": "loop"},
        {"rates": {name: torch.full_like(value, 0.1) for name, value in start.items()}},
    ):
        am.descend(network, start, ragged, **{"steps": 2, "rates": 0.1, **other})  # type: ignore[arg-type]
    am.descend(network, {"1.weight": start["1.weight"]}, ragged, steps=2, rates=0.1)
    for unlike in (
        nn.Sequential(nn.Flatten(), nn.Linear(6, 3), nn.GELU()),
        nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(6, 3)),
    ):
        am.descend(unlike.to(DOUBLE), am.per_task(unlike, 4), ragged, steps=2, rates=0.1)
    assert written_out == [2, 3]


def test_a_network_is_a_chain_only_if_every_layer_feeds_the_next() -> None:
    program = read(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Identity(), nn.Linear(4, 2)))
    assert program is not None
    assert program.chain is not None
    assert program.chain.names == ("0.weight", "0.bias", "3.weight", "3.bias")

    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

        @am.fixed_forward
        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.second(self.first(x)) + x
            return result

    program = read(Skips())
    assert program is not None
    assert program.chain is None


@pytest.mark.thorough
def test_nothing_of_a_descent_outlives_it(ragged: am.Examples, live_tensors: Callable[[], int]) -> None:
    network = perceptron((6, 4, 3), nn.ReLU)

    def train() -> None:
        adapted = am.descend(network, am.per_task(network, 4), ragged, steps=2, rates=0.1)
        torch.autograd.grad(sum(value.square().sum() for value in adapted.values()), list(network.parameters()))

    train()
    before = live_tensors()
    for _ in range(10):
        train()
    assert live_tensors() == before


def test_a_start_that_depends_on_the_step_sizes_is_an_input_of_its_own(ragged: am.Examples) -> None:
    network, rate = perceptron((6, 4, 3), nn.Tanh), torch.tensor(0.3, dtype=DOUBLE, requires_grad=True)
    found = []
    for strategy in ("auto", "loop"):
        values: dict[str, Tensor] = am.per_task(network, 4)
        for _ in range(2):
            values = am.descend(network, values, ragged, steps=1, rates=rate, strategy=strategy)
        loss = am.loss_on(ragged)(am.call_per_task(network, values, ragged.x, strategy=strategy)).sum()
        found.append(torch.autograd.grad(loss, [rate, *network.parameters()], create_graph=True))
    torch.testing.assert_close(found[0], found[1])

"""Networks of convolutional blocks, whose derivatives are written out: the numbers that autograd gives."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import autometa as am
from autometa.engine.inner_loop import conv_blocks, strategies
from autometa.engine.inner_loop.mlp_program import read
from autometa.engine.inner_loop.strategies import Order, blocks, choose, loop
from tiers import first_by_default

DOUBLE = torch.float64
SHAPE = (2, 9, 6)
N_TASKS = 2


def conv4(**options: object) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        backbone = am.make_backbone("conv4", n_filters=6, **options).build(SHAPE)
        return nn.Sequential(backbone, nn.Linear(backbone.n_features, 3))

    return make


def of_its_own() -> nn.Module:
    """Every kind of block: ReLU first, pooling of one axis, no bias, no affine parameters, nothing but a filter."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False),
        nn.Identity(),
        nn.BatchNorm2d(4, affine=False, track_running_stats=False),
        nn.ReLU(),
        nn.MaxPool2d((1, 2)),
        nn.Conv2d(4, 3, (3, 1), padding=(1, 0)),
        nn.GroupNorm(3, 3, affine=False),
        nn.Conv2d(3, 4, 1),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 2, 1),
        nn.GroupNorm(1, 2),
        nn.ReLU(),
        nn.Flatten(),
    )


NETWORKS = {
    "batch": conv4(batch_norm="transductive"),
    "running": conv4(batch_norm="inductive"),
    "group": conv4(norm="group"),
    "none": conv4(norm="none"),
    "unpooled": conv4(norm="batch", batch_norm="transductive", n_pools=1),
    "own": of_its_own,
}


def network(name: str) -> nn.Module:
    """Gains and shifts are of both signs."""
    torch.manual_seed(0)
    made = NETWORKS[name]()
    for part in made.modules():
        if isinstance(part, (nn.BatchNorm2d, nn.GroupNorm)) and part.affine:
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    return made.to(DOUBLE)


@pytest.fixture(autouse=True)
def _small_networks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategies, "FEWEST_NUMBERS", dict.fromkeys(Order, 0))


@pytest.fixture
def examples() -> am.Examples:
    torch.manual_seed(1)
    return am.Examples(torch.randn(N_TASKS, 5, *SHAPE, dtype=DOUBLE), torch.arange(5).remainder(2).repeat(N_TASKS, 1))


def derivatives(module: nn.Module, examples: am.Examples, strategy: str, *, first_order: bool) -> list[object]:
    """Adapted parameters with and without gradients, two derivatives of a query loss, and the buffers."""
    module = copy.deepcopy(module)
    rates = {name: torch.tensor([0.2, 0.1], dtype=DOUBLE, requires_grad=True) for name, _ in module.named_parameters()}
    wanted = [*module.parameters(), *rates.values()]

    def adapt() -> dict[str, Tensor]:
        start = am.per_task(module, N_TASKS)
        return am.descend(
            module, start, examples, steps=2, rates=rates, first_order=first_order, strategy=strategy, proximal=0.1
        )

    with torch.no_grad():
        alone = adapt()
    adapted = adapt()
    loss = am.loss_on(examples)(am.call_per_task(module, adapted, examples.x, strategy=strategy)).sum()
    once = torch.autograd.grad(loss, wanted, create_graph=True)
    square = torch.stack([part.square().sum() for part in once]).sum()
    twice = torch.autograd.grad(square, wanted)
    return [list(adapted.values()), list(alone.values()), list(once), list(twice), dict(module.named_buffers())]


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("name", first_by_default(1, NETWORKS))
def test_numbers_and_derivatives_are_those_of_autograd(name: str, examples: am.Examples, first_order: bool) -> None:
    module = network(name)
    assert choose("auto", module, am.per_task(module, N_TASKS), examples.x, Order.SECOND) is blocks
    found, expected = (derivatives(module, examples, way, first_order=first_order) for way in ("auto", "loop"))
    for part, other in zip(found, expected, strict=True):
        torch.testing.assert_close(part, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", first_by_default(1, NETWORKS))
def test_gradients_are_finite_differences(name: str, examples: am.Examples) -> None:
    module = network(name)
    names, start = list(am.per_task(module, N_TASKS)), am.per_task(module, N_TASKS)

    def outputs(*values: Tensor) -> Tensor:
        return am.call_per_task(module, dict(zip(names, values, strict=True)), examples.x).tanh()

    values = [value.detach().clone().requires_grad_() for value in start.values()]
    assert torch.autograd.gradcheck(outputs, values, fast_mode=True)
    assert torch.autograd.gradgradcheck(outputs, values, fast_mode=True)


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("name", first_by_default(1, ["running", "group", "own"]))
def test_a_few_examples_at_a_time_are_all_at_once(
    name: str, examples: am.Examples, first_order: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = network(name)
    at_once = derivatives(module, examples, "auto", first_order=first_order)
    monkeypatch.setattr(conv_blocks, "MOST_KEPT", 1)
    monkeypatch.setattr(conv_blocks, "NUMBERS_AT_A_TIME", 2 * 6 * 11 * 8)  # two examples, two and one
    torch.testing.assert_close(derivatives(module, examples, "auto", first_order=first_order), at_once)


def test_parameters_that_are_not_given_are_the_modules_own(examples: am.Examples) -> None:
    module = network("batch")
    own = {name: value for name, value in am.per_task(module, N_TASKS).items() if "blocks.4" in name or "1." in name}
    results = []
    for way in ("auto", "loop"):
        outputs = am.call_per_task(module, own, examples.x, strategy=way)
        results.append([outputs, *torch.autograd.grad(outputs.square().sum(), list(module.parameters()))])
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-11)


class Doubled(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Conv2d(2, 2, 3, stride=2), nn.Flatten()),
        (nn.Conv2d(2, 2, 3, groups=2), nn.Flatten()),
        (nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), nn.Flatten()),
        (nn.Conv2d(2, 2, 3), nn.ReLU(), nn.BatchNorm2d(2), nn.Flatten()),
        (nn.Conv2d(2, 2, 3), nn.MaxPool2d(3, stride=2), nn.Flatten()),
        (nn.Conv2d(2, 2, 3), nn.Tanh(), nn.Flatten()),
        (nn.Conv2d(2, 2, 3), nn.Flatten(), nn.ReLU()),
        (nn.MaxPool2d(2), nn.Conv2d(2, 2, 3), nn.Flatten()),
        (Doubled(2, 2, 3), nn.Flatten()),
    ],
)
def test_networks_of_other_layers_are_no_blocks(layers: tuple[nn.Module, ...]) -> None:
    program = read(nn.Sequential(*layers))
    assert program is None or (program.blocks is None and program.steps is None)


def test_what_blocks_cannot_run_runs_in_the_loop(examples: am.Examples) -> None:
    module = network("running")
    start = am.per_task(module, N_TASKS)
    assert choose("auto", module, start, examples.x[:, :1], Order.FIRST) is loop
    assert choose("auto", module, start, examples.x.clone().requires_grad_(), Order.FIRST) is loop
    assert choose("auto", module, start, examples.x.float(), Order.FIRST) is loop
    module.eval()
    assert choose("auto", module, start, examples.x, Order.FIRST) is loop


def test_transforms_of_torch_func_take_the_plain_way(examples: am.Examples) -> None:
    module = network("group")
    start = {name: value.detach() for name, value in am.per_task(module, N_TASKS).items()}
    name = next(iter(start))

    def loss(weight: Tensor) -> Tensor:
        return am.call_per_task(module, start | {name: weight}, examples.x).square().sum()

    weight = start[name].clone().requires_grad_()
    expected = torch.autograd.grad(loss(weight), weight)[0]
    torch.testing.assert_close(torch.func.grad(loss)(start[name]), expected)


def test_a_gain_of_zero_keeps_the_places_of_the_plain_way(examples: am.Examples) -> None:
    module = network("group")
    norm = next(part for part in module.modules() if isinstance(part, nn.GroupNorm))
    nn.init.zeros_(norm.weight[:1])
    start = am.per_task(module, N_TASKS)
    found, expected = (
        torch.autograd.grad(
            am.loss_on(examples)(am.call_per_task(module, start, examples.x, strategy=strategy)).sum(),
            list(start.values()),
        )
        for strategy in ("auto", "loop")
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", ["no bias", "averages off"])
def test_what_blocks_do_not_know_takes_the_plain_way(examples: am.Examples, kind: str) -> None:
    torch.manual_seed(0)
    channels = examples.x.shape[2]
    layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    norm = nn.BatchNorm2d(channels, bias=kind != "no bias")
    norm.track_running_stats = kind != "averages off"
    module = nn.Sequential(layer, norm, nn.ReLU(), nn.Flatten()).to(DOUBLE)
    found, expected = [], []
    for results, strategy in ((found, "auto"), (expected, "loop")):
        own = copy.deepcopy(module)
        start = am.per_task(own, N_TASKS)
        outputs = am.call_per_task(own, start, examples.x, strategy=strategy)
        gradients = torch.autograd.grad(outputs.square().sum(), list(start.values()))
        results += [outputs, *gradients, *own.buffers()]
    torch.testing.assert_close(found, expected)

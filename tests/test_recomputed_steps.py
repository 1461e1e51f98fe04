"""Inner steps that are taken again when they are differentiated: the same gradients, from the memory of one step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import autometa as am

STRATEGIES = ["bmm", "vmap", "loop"]
DOUBLE = torch.float64


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)).to(DOUBLE)


@pytest.fixture(params=["regression", "classification"])
def ragged(request: pytest.FixtureRequest) -> am.Examples:
    """Four tasks of 5, 3, 1 and 4 examples."""
    torch.manual_seed(1)
    mask = torch.arange(5) < torch.tensor([5, 3, 1, 4]).unsqueeze(1)
    x = torch.randn(4, 5, 3, dtype=DOUBLE) * mask.unsqueeze(-1)
    if request.param == "regression":
        return am.Examples(x, torch.randn(4, 5, 2, dtype=DOUBLE) * mask.unsqueeze(-1), mask)
    return am.Examples(x, torch.randint(2, (4, 5)) * mask, mask, n_classes=2)


def outer_gradient(
    network: nn.Module, examples: am.Examples, *, checkpoint: bool, strategy: str = "loop", **options: object
) -> list[Tensor]:
    """Adapted parameters, and the derivative of a query loss for the network, its rates and its inputs."""
    x = examples.x.clone().requires_grad_()
    rates = torch.tensor([0.5, 0.2], dtype=DOUBLE, requires_grad=True)
    support = am.Examples(x, examples.y, examples.mask, examples.n_classes)
    names = options.pop("names", None)
    adapted = am.descend(
        network,
        am.per_task(network, len(examples), names),  # type: ignore[arg-type]
        support,
        steps=4,
        rates=rates,
        checkpoint=checkpoint,
        strategy=strategy,
        **options,  # type: ignore[arg-type]
    )
    outputs = am.call_per_task(network, adapted, x, strategy=strategy)
    wanted = [*network.parameters(), rates, x]
    return [*adapted.values(), *torch.autograd.grad(am.loss_on(support)(outputs).sum(), wanted)]


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("strategy", [*STRATEGIES, "auto"])
def test_gradients_are_those_of_steps_that_are_kept(
    network: nn.Module, ragged: am.Examples, strategy: str, first_order: bool
) -> None:
    kept, taken_again = (
        outer_gradient(network, ragged, checkpoint=checkpoint, strategy=strategy, first_order=first_order)
        for checkpoint in (False, True)
    )
    torch.testing.assert_close(taken_again, kept, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    "options", [{"proximal": 0.3, "weight_decay": 0.1}, {"names": ["2.weight", "2.bias"]}], ids=["pulls", "head alone"]
)
def test_so_they_are_with_pulls_and_for_parameters_that_tasks_share(
    network: nn.Module, ragged: am.Examples, options: dict[str, object]
) -> None:
    kept, again = (outer_gradient(network, ragged, checkpoint=checkpoint, **options) for checkpoint in (False, True))
    torch.testing.assert_close(again, kept, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("strategy", ["vmap", "loop"])
def test_so_they_are_for_convolutions(strategy: str) -> None:
    torch.manual_seed(0)
    backbone = am.make_backbone("conv4", n_filters=4, norm="group").build((1, 16, 16))
    network = nn.Sequential(backbone, nn.Linear(4, 3)).to(DOUBLE)
    examples = am.Examples(torch.randn(2, 6, 1, 16, 16, dtype=DOUBLE), torch.arange(6).remainder(3).repeat(2, 1))
    kept, again = (
        outer_gradient(network, examples, checkpoint=checkpoint, strategy=strategy) for checkpoint in (False, True)
    )
    torch.testing.assert_close(again, kept, rtol=1e-9, atol=1e-12)


def test_so_they_are_for_what_a_loss_brings_with_it(network: nn.Module, ragged: am.Examples) -> None:
    temperature = torch.tensor(0.3, dtype=DOUBLE, requires_grad=True)
    gradients = []
    for checkpoint in (False, True):
        scale = temperature.exp()  # a history of its own, which all steps share
        plain = am.loss_on(ragged)
        adapted = am.descend(
            network,
            am.per_task(network, 4),
            ragged,
            steps=3,
            rates=0.3,
            checkpoint=checkpoint,
            loss=lambda outputs, plain=plain, scale=scale: plain(outputs * scale),  # type: ignore[misc]
        )
        outputs = am.call_per_task(network, adapted, ragged.x) * scale
        gradients.append(torch.autograd.grad(plain(outputs).sum(), [*network.parameters(), temperature]))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-10, atol=1e-14)


def test_the_derivative_agrees_with_finite_differences(network: nn.Module, ragged: am.Examples) -> None:
    bias = network[2].bias

    def query_loss() -> Tensor:
        adapted = am.descend(network, am.per_task(network, 4), ragged, steps=3, rates=0.4, checkpoint=True)
        return am.loss_on(ragged)(am.call_per_task(network, adapted, ragged.x)).sum()

    (slope,) = torch.autograd.grad(query_loss(), bias)
    with torch.no_grad():
        for index in range(len(bias)):
            sides = []
            for shift in (1e-5, -1e-5):
                bias[index] += shift
                sides.append(query_loss())
                bias[index] -= shift
            assert float((sides[0] - sides[1]) / 2e-5) == pytest.approx(float(slope[index]), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_dropout_drops_the_same_both_times(strategy: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 2)).to(DOUBLE)
    examples = am.Examples(torch.randn(4, 5, 3, dtype=DOUBLE), torch.randint(2, (4, 5)), n_classes=2)
    results, states = [], []
    for checkpoint in (False, True):
        torch.manual_seed(5)
        results.append(outer_gradient(network, examples, checkpoint=checkpoint, strategy=strategy))
        states.append(torch.get_rng_state())
    torch.testing.assert_close(results[1], results[0], rtol=1e-10, atol=1e-14)
    assert torch.equal(*states)


class Counting(nn.Linear):
    """Counts its calls."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__(3, 2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


@pytest.mark.parametrize(
    ("network", "what"),
    [
        (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), "batch norm that updates running"),
        (Counting(), "a layer that changes its buffers"),
    ],
)
def test_what_would_change_twice_is_refused(network: nn.Module, what: str) -> None:
    examples = am.Examples(torch.randn(2, 6, 3), torch.arange(6).remainder(2).repeat(2, 1))

    def descend() -> dict[str, Tensor]:
        return am.descend(
            network, am.per_task(network, 2), examples, steps=1, rates=0.1, checkpoint=True, strategy="loop"
        )

    with pytest.raises(am.Incompatible, match=f"checkpoint=True runs every step twice and cannot run {what}"):
        descend()
    with torch.no_grad():  # no step is taken twice
        descend()


def test_a_second_derivative_is_refused_not_wrong(network: nn.Module, ragged: am.Examples) -> None:
    adapted = am.descend(network, am.per_task(network, 4), ragged, steps=2, rates=0.3, checkpoint=True)
    (slope,) = torch.autograd.grad(adapted["2.bias"].square().sum(), network[0].weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


class Kept:
    """Bytes that living graphs hold for their derivatives, each storage once."""

    def __init__(self) -> None:
        self.living: dict[int, tuple[int, int]] = {}

    def pack(self, tensor: Tensor) -> _Slip:
        return _Slip(self, tensor)

    @property
    def bytes(self) -> int:
        return sum(dict(self.living.values()).values())


class _Slip:
    def __init__(self, kept: Kept, tensor: Tensor) -> None:
        self.kept, self.tensor = kept, tensor
        storage = tensor.untyped_storage()
        kept.living[id(self)] = storage.data_ptr(), storage.nbytes()

    def __del__(self) -> None:
        del self.kept.living[id(self)]


def kept_by(steps: int, *, checkpoint: bool) -> int:
    """Bytes kept by the steps of a network with many activations and few parameters."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 1))
    support = am.Examples(torch.randn(2, 500, 2), torch.randn(2, 500, 1))
    kept = Kept()
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda slip: slip.tensor):
        adapted = am.descend(
            network, am.per_task(network, 2), support, steps=steps, rates=0.1, checkpoint=checkpoint, strategy="loop"
        )
    assert adapted["0.weight"].requires_grad
    return kept.bytes


def test_memory_does_not_grow_with_the_activations_of_each_step() -> None:
    parameters = 4 * 2 * (2 * 32 + 32 + 32 + 1)  # bytes of two tasks
    activations = 4 * 2 * 500 * 32
    growth = {
        checkpoint: (kept_by(9, checkpoint=checkpoint) - kept_by(3, checkpoint=checkpoint)) / 6
        for checkpoint in (True, False)
    }
    assert 0 < growth[True] <= 2 * parameters
    assert growth[False] > 2 * activations


@pytest.mark.thorough
def test_nothing_of_the_steps_outlives_their_derivative(
    network: nn.Module, ragged: am.Examples, live_tensors: Callable[[], int]
) -> None:
    outer_gradient(network, ragged, checkpoint=True)
    before = live_tensors()
    for _ in range(10):
        outer_gradient(network, ragged, checkpoint=True)
    assert live_tensors() == before


def test_maml_meta_trains_to_the_same_parameters() -> None:
    tasks = am.make_tasks("sinusoid")
    runs = [
        am.FewShotRegressor(
            am.make_learner("maml", steps=3, checkpoint=checkpoint),
            am.make_meta_optimizer("gradient", chunk=2, threads=2),
            max_steps=5,
            tasks_per_step=4,
            device="cpu",
            precision="64",
            random_state=0,
        ).meta_fit(tasks)
        for checkpoint in (False, True)
    ]
    states = [dict(run.module_.state_dict()) for run in runs]
    torch.testing.assert_close(states[1], states[0], rtol=1e-9, atol=1e-12)

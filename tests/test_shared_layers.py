"""Networks that use a layer or parameter in several places, or compute weights: tasks adapt each of them once."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import autometa as am
from autometa.engine.other_values import places_of
from autometa.testing.toys import Blobs
from derivatives import build_moved, finite_differences

DOUBLE = torch.float64
N_TASKS = 4


def one_layer_twice(n_inputs: int = 3) -> nn.Module:
    shared = nn.Linear(4, 4)
    return nn.Sequential(nn.Linear(n_inputs, 4), shared, nn.Tanh(), shared, nn.LayerNorm(4), nn.Linear(4, 2))


def tied_parameters(n_inputs: int = 3) -> nn.Module:
    network = nn.Sequential(nn.Linear(n_inputs, 4), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 2))
    network[3].weight = network[1].weight
    return network


def block_with_norm_twice() -> nn.Module:
    block = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Tanh())
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), block, block, nn.Flatten(), nn.Linear(32, 2))


NETWORKS = [(one_layer_twice, (3,)), (tied_parameters, (3,)), (block_with_norm_twice, (1, 4, 4))]


def examples(shape: tuple[int, ...]) -> am.Examples:
    y = torch.arange(6).remainder(2).repeat(N_TASKS, 1)
    return am.Examples(torch.randn(N_TASKS, 6, *shape, dtype=DOUBLE), y)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize(("make", "shape"), NETWORKS)
def test_every_strategy_adapts_them_as_one_and_leaves_them_as_they_were(
    make: Callable[[], nn.Module], shape: tuple[int, ...], first_order: bool
) -> None:
    torch.manual_seed(0)
    network = make().to(DOUBLE)
    support, query = examples(shape), examples(shape)

    def meta_loss(strategy: str, network: nn.Module) -> Tensor:
        start = am.per_task(network, N_TASKS)
        ends = am.descend(network, start, support, steps=2, rates=0.5, strategy=strategy, first_order=first_order)
        return am.loss_on(query)(am.call_per_task(network, ends, query.x, strategy=strategy)).sum()

    gradients, averages = {}, {}
    for strategy in ("loop", "vmap", "auto"):
        after = copy.deepcopy(network)
        own = list(after.parameters())
        gradients[strategy] = torch.autograd.grad(meta_loss(strategy, after), own)
        averages[strategy] = dict(after.named_buffers())
        assert all(now is value for now, value in zip(after.parameters(), own, strict=True))
    for strategy in ("vmap", "auto"):
        torch.testing.assert_close(gradients[strategy], gradients["loop"], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(averages[strategy], averages["loop"], rtol=1e-10, atol=1e-12)
    if not first_order:
        for parameter, gradient in zip(network.parameters(), gradients["loop"], strict=True):
            by_definition = finite_differences(lambda: meta_loss("loop", network).detach(), parameter)
            torch.testing.assert_close(gradient, by_definition, rtol=1e-5, atol=1e-7)


class SharedBlocks(nn.Module):
    """A backbone of one convolution that is used twice."""

    n_features = 12

    def __init__(self) -> None:
        super().__init__()
        self.first = self.second = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        images = x.view(len(x), 2, 1, 3)
        return self.second(self.first(images).tanh()).tanh().flatten(1)


@pytest.mark.parametrize("strategy", ["loop", "vmap", "auto"])
@pytest.mark.parametrize("name", ["maml", "meta_sgd", "imaml", "maml_plus_plus", "boil"])
def test_learners_adapt_a_backbone_that_uses_a_layer_twice(name: str, strategy: str) -> None:
    learner = am.make_learner(name, backbone=SharedBlocks, steps=2, strategy=strategy)
    tasks = Blobs(n_shot=2, n_query=2)
    module = build_moved(learner, tasks.info)
    batch = tasks.sample(N_TASKS, seed=0).to(dtype=DOUBLE)
    parameters = dict(module.named_parameters())

    def loss() -> Tensor:
        return learner.meta_loss(module, batch, progress=0.9).sum()

    own = next(value for key, value in parameters.items() if key.endswith("first.weight"))
    (gradient,) = torch.autograd.grad(loss(), own)
    torch.testing.assert_close(gradient, finite_differences(lambda: loss().detach(), own), rtol=1e-4, atol=1e-6)
    assert all(now is parameters[key] for key, now in module.named_parameters())


@pytest.mark.parametrize("make", [one_layer_twice, tied_parameters])
def test_candidates_of_a_population_have_one_value_for_all_places(make: Callable[[int], nn.Module]) -> None:
    torch.manual_seed(0)
    network = make(6)
    network.n_features = 2  # type: ignore[assignment]
    learner, tasks = am.make_learner("prototypical", backbone=network), Blobs()
    module, batch = learner.build(tasks.info).double(), tasks.sample(3, seed=0).to(dtype=DOUBLE)
    population = {
        key: value.detach() + 0.3 * torch.randn(5, *value.shape, dtype=DOUBLE)
        for key, value in module.named_parameters()
    }
    before = list(module.parameters())
    for strategy in ("vmap", "loop"):
        found = am.PopulationLosses(learner, module, strategy=strategy)(population, batch)
        assert all(now is value for now, value in zip(module.parameters(), before, strict=True))
        for candidate, losses in enumerate(found):
            other = copy.deepcopy(module)
            with torch.no_grad():
                for key, value in other.named_parameters():
                    value.copy_(population[key][candidate])
                torch.testing.assert_close(losses, am.query_losses(learner, other, batch))


def test_two_names_of_one_tensor_are_refused() -> None:
    network = tied_parameters()
    assert places_of(network, ["1.weight"]) == {"1.weight": "1.weight", "3.weight": "1.weight"}
    assert places_of(one_layer_twice(), ["1.weight"]) == {"1.weight": "1.weight"}
    start = am.per_task(network, N_TASKS, ["1.weight", "3.weight"])
    with pytest.raises(am.InvalidParameter, match=r"'1.weight' and '3.weight' are one tensor"):
        am.call_per_task(network, start, torch.zeros(N_TASKS, 2, 3), strategy="loop")


@pytest.mark.parametrize("first_order", [False, True])
def test_weights_that_are_computed_are_adapted_by_what_they_are_computed_from(first_order: bool) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(weight_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2)).to(DOUBLE)
    support = examples((3,))
    starts = am.per_task(network, N_TASKS)
    assert "0.parametrizations.weight.original1" in starts
    for strategy in ("loop", "auto"):
        ends = am.descend(network, starts, support, steps=2, rates=0.5, strategy=strategy, first_order=first_order)
        for task in range(N_TASKS):
            alone = copy.deepcopy(network)
            descent = torch.optim.SGD(alone.parameters(), lr=0.5)
            for _ in range(2):
                descent.zero_grad()
                nn.functional.cross_entropy(alone(support.x[task]), support.y[task]).backward()  # type: ignore[no-untyped-call]
                descent.step()
            for name, value in alone.named_parameters():
                torch.testing.assert_close(ends[name][task], value)

"""Running averages of batch norm: tasks side by side leave what tasks one after the other leave."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import autometa as am
from autometa.engine.inner_loop import strategies
from autometa.engine.inner_loop.strategies import Order, choose, loop, vmap
from tiers import first_by_default

DOUBLE = torch.float64
N_TASKS = 5


class Twice(nn.Module):
    """Calls a norm twice."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.between = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.between(self.norm(x).tanh())).tanh()


def perceptron(**options: object) -> nn.Module:
    """A norm that is called twice, one without affine parameters, and one that updates nothing."""
    return nn.Sequential(
        nn.Linear(3, 4),
        Twice(nn.BatchNorm1d(4, **options)),
        nn.BatchNorm1d(4, affine=False, **options),
        nn.BatchNorm1d(4, track_running_stats=False),
        nn.Linear(4, 2),
    )


def images(**options: object) -> nn.Module:
    return nn.Sequential(am.make_backbone("conv4", n_filters=4).build((1, 8, 8)), nn.Linear(4, 2))


def examples(shape: tuple[int, ...], n: int = 6) -> am.Examples:
    torch.manual_seed(1)
    y = torch.arange(n).remainder(2).repeat(N_TASKS, 1)
    return am.Examples(torch.randn(N_TASKS, n, *shape, dtype=DOUBLE), y)


def after_meta_step(
    network: nn.Module, support: am.Examples, query: am.Examples, *, strategy: str, first_order: bool
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Meta-gradient and buffers after two meta-steps of three inner steps."""
    network = copy.deepcopy(network)
    gradient: list[Tensor] = []
    for _ in range(2):
        start = am.per_task(network, N_TASKS)
        ends = am.descend(
            network, start, support, steps=3, rates=[0.3, 0.1], first_order=first_order, strategy=strategy
        )
        outputs = am.call_per_task(network, ends, query.x, strategy=strategy)
        gradient = list(torch.autograd.grad(am.loss_on(query)(outputs).sum(), list(network.parameters())))
    return gradient, dict(network.named_buffers())


@pytest.mark.parametrize("first_order", first_by_default(1, [True, False]))
@pytest.mark.parametrize(
    ("make", "shape", "options"),
    [
        (perceptron, (3,), {}),
        (perceptron, (3,), {"momentum": 0.7}),
        (perceptron, (3,), {"momentum": None}),
        (images, (1, 8, 8), {}),
    ],
)
def test_tasks_in_one_call_leave_the_averages_of_the_plain_loop(
    make: Callable[..., nn.Module], shape: tuple[int, ...], options: dict[str, object], first_order: bool
) -> None:
    torch.manual_seed(0)
    network, support, query = make(**options).to(DOUBLE), examples(shape), examples(shape, 8)
    expected, in_turn = after_meta_step(network, support, query, strategy="loop", first_order=first_order)
    for strategy in ("vmap", "auto"):
        found, averages = after_meta_step(network, support, query, strategy=strategy, first_order=first_order)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(averages, in_turn, rtol=1e-10, atol=1e-12)
    before = dict(network.named_buffers())
    assert not any(torch.equal(before[name], average) for name, average in in_turn.items())


def test_tasks_with_running_averages_run_in_one_call_by_the_rule() -> None:
    network = perceptron()
    before = copy.deepcopy(network.state_dict())
    for order in Order:
        assert choose("auto", network, am.per_task(network, 4), torch.randn(4, 6, 3), order) is vmap
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


def test_a_graph_that_holds_an_average_outlives_its_update() -> None:
    torch.manual_seed(0)
    network, query = perceptron().to(DOUBLE), examples((3,))
    start = am.per_task(network, N_TASKS)
    held = am.call_per_task(network, start, query.x, strategy="loop").square().sum()
    am.call_per_task(network, start, query.x, strategy="vmap")
    held.backward()


@pytest.mark.parametrize("momentum", first_by_default(1, [0.1, None]))
@pytest.mark.parametrize("first_order", [True, False])
def test_threads_leave_the_weights_and_averages_of_one_thread(momentum: float | None, first_order: bool) -> None:
    """Batches of two tasks a thread, of one task at a time and of all at once."""

    def trained(chunk: int | None, threads: int) -> dict[str, Tensor]:
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4, momentum=momentum), nn.Tanh())
        learner = am.make_learner("maml", backbone=WithFeatures(layers), steps=2, first_order=first_order)
        tasks = am.make_tasks("sinusoid", n_shot=5, n_query=6)
        module = learner.build(tasks.info).to(DOUBLE)
        optimizer = am.make_meta_optimizer("gradient", optimizer="sgd", lr=0.1, chunk=chunk, threads=threads)
        optimizer.start(learner, module, tasks.info)
        for seed in range(4):
            batch = tasks.sample(6, seed=seed)
            optimizer.step(
                am.TaskBatch(
                    support=batch.support.with_parts(x=batch.support.x.double(), y=batch.support.y.double()),
                    query=batch.query.with_parts(x=batch.query.x.double(), y=batch.query.y.double()),
                )
            )
        return module.state_dict()

    in_turn = trained(1, 1)
    for threads in (2, 3):
        torch.testing.assert_close(trained(1, threads), in_turn, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(trained(2, 3), trained(2, 1), rtol=1e-10, atol=1e-12)


def test_threads_that_update_averages_run_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4))
    learner = am.make_learner("maml", backbone=WithFeatures(layers), steps=1)
    tasks = am.make_tasks("sinusoid", n_shot=5, n_query=6)
    optimizer = am.make_meta_optimizer("gradient", chunk=1, threads=2)
    optimizer.start(learner, learner.build(tasks.info), tasks.info)
    optimizer.step(tasks.sample(4, seed=0))
    meeting, whole = threading.Barrier(2, timeout=20), am.Learner.meta_loss

    def meet(*arguments: Any) -> Tensor:
        meeting.wait()  # breaks unless two losses are under way at once
        return whole(*arguments)

    monkeypatch.setattr(am.Learner, "meta_loss", meet)
    optimizer.step(tasks.sample(4, seed=1))


class WithFeatures(nn.Module):
    """Four features of a network."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers
        self.n_features = 4

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Remembering(nn.Module):
    """Two linear layers with a layer norm between them, which keeps something of every call in one of several ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.first, self.norm, self.last = nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)
        self.register_buffer("mean", torch.zeros(4))
        self.seen: Tensor | None = None
        self.by_name: dict[str, Tensor] = {"mean": torch.zeros(4)}
        self.all: list[Tensor] = []
        self.n_calls = 0

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.first(x))
        mean = h.detach().mean(dim=0)
        if self.way == "assigned":
            self.mean = 0.9 * self.mean + 0.1 * mean
        elif self.way == "in place":
            self.mean.mul_(0.9).add_(mean, alpha=0.1)
        elif self.way == "attribute":
            self.seen = mean
        elif self.way == "dict":
            self.by_name["mean"] = 0.9 * self.by_name["mean"] + 0.1 * mean
            return self.last(h - self.by_name["mean"])
        elif self.way == "list":
            self.all.append(mean)
        elif self.way == "number":
            self.n_calls += 1
            return self.last(h / self.n_calls)
        return self.last(h - self.mean)

    @property
    def kept(self) -> list[Tensor]:
        numbers = [torch.tensor(float(self.n_calls))]
        return [self.mean, *([] if self.seen is None else [self.seen]), *self.by_name.values(), *self.all, *numbers]


@pytest.mark.parametrize("way", ["assigned", "in place", "attribute", "dict", "list", "number"])
def test_what_a_network_keeps_of_every_call_is_that_of_tasks_in_turn(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategies, "_runs", {})
    torch.manual_seed(0)
    network, x, y = Remembering(way).to(DOUBLE), torch.randn(4, 6, 3, dtype=DOUBLE), torch.randint(2, (4, 6))
    kept, outputs = [], []
    for strategy in ("auto", "loop"):
        module = copy.deepcopy(network)
        starts = am.per_task(module, 4)
        assert choose(strategy, module, starts, x, Order.SECOND) is loop
        ends = am.descend(module, starts, am.Examples(x, y), steps=2, rates=0.1, strategy=strategy)
        outputs.append(am.call_per_task(module, ends, x, strategy=strategy))
        kept.append(module.kept)
    assert all(map(torch.equal, *kept))
    assert sum(part.abs().sum() for part in kept[0]) > 0
    assert torch.equal(outputs[0], outputs[1])


class Switched(nn.Module):
    """Keeps a moving mean of every call where it is told to."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.first, self.norm, self.last, self.weight = nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2), weight
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.first(x))
        if self.weight:
            self.mean = (1 - self.weight) * self.mean + self.weight * h.detach().mean(dim=0)
        return self.last(h - self.mean)


def test_networks_of_one_class_with_other_settings_are_told_apart() -> None:
    x = torch.randn(4, 6, 3)
    for weight, strategy in ((0.0, vmap), (0.1, loop), (0.0, vmap)):
        module = Switched(weight)
        assert choose("auto", module, am.per_task(module, 4), x, Order.SECOND) is strategy


def test_a_hook_is_given_one_task_after_the_other() -> None:
    seen: list[Tensor] = []
    module, x = Switched(0.0), torch.randn(4, 6, 3)
    starts = am.per_task(module, 4)
    am.call_per_task(module, starts, x)
    module.norm.register_forward_hook(lambda layer, inputs, output: seen.append(output.detach()))
    am.call_per_task(module, starts, x)
    assert [tuple(output.shape) for output in seen] == [(6, 4)] * 4


class OneOfAKind:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __deepcopy__(self, memo: object) -> OneOfAKind:
        raise self.error


@pytest.mark.parametrize("error", [ValueError(), TypeError(), AttributeError(), pickle.PicklingError()], ids=repr)
def test_a_network_that_cannot_be_copied_runs_one_task_after_the_other(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategies, "_runs", {})
    module, x = Switched(0.0), torch.randn(4, 6, 3)
    module.handle = OneOfAKind(error)
    assert choose("auto", module, am.per_task(module, 4), x, Order.SECOND) is loop

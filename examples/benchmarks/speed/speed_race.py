"""The networks that are raced, and how each library takes a meta-step of MAML.

Every contender takes the same meta-step, as its own examples write it: inner steps, query loss, backward pass and an
outer step of SGD, too small to move anything. Each returns the meta-gradient.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

import autometa as am
from autometa.engine.few_threads import enough_threads

LR = 0.01
STANDSTILL = 1e-30
ORDERS = ("first", "second")
Task = tuple[Tensor, Tensor, Tensor, Tensor]
"""Support inputs and targets, query inputs and targets."""
MetaStep = Callable[[am.TaskBatch], list[Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network and the tasks it is raced on."""

    title: str
    backbone: am.Backbone
    info: am.TaskInfo
    draw: Callable[[int], am.TaskBatch]


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """One network on its tasks: all that a contender needs."""

    learner: am.Learner
    module: nn.Module
    info: am.TaskInfo
    batch: am.TaskBatch
    steps: int
    first_order: bool

    def plain_network(self) -> nn.Module:
        """The same network as peers take it: one head row for each class, all starting equal."""
        backbone = am.build_backbone(self.learner.backbone, self.info.input_shape)
        network = nn.Sequential(backbone, nn.Linear(backbone.n_features, self.info.n_outputs))
        own = [value for name, value in self.module.named_parameters() if name != "rates"]
        for mine, value in zip(network.parameters(), own, strict=True):
            mine.data.copy_(value.detach().expand_as(mine))
        return network.to(own[0].device)


def loss_of(outputs: Tensor, y: Tensor) -> Tensor:
    """Loss of one task."""
    return functional.mse_loss(outputs, y) if y.is_floating_point() else functional.cross_entropy(outputs, y)


def tasks_of(batch: am.TaskBatch) -> list[Task]:
    """What is in a batch, task by task."""
    support, query = batch.support, batch.query
    return list(zip(support.x, support.y, query.x, query.y, strict=True))


def _sinusoids(n_tasks: int) -> am.TaskBatch:
    amplitude, phase = 0.1 + 4.9 * torch.rand(n_tasks, 1, 1), torch.pi * torch.rand(n_tasks, 1, 1)
    x = 10 * torch.rand(n_tasks, 20, 1) - 5
    y = amplitude * torch.sin(x - phase)
    return am.TaskBatch(support=am.Examples(x[:, :10], y[:, :10]), query=am.Examples(x[:, 10:], y[:, 10:]))


def _images(*shape: int) -> Callable[[int], am.TaskBatch]:
    """Five classes, one support and fifteen query images of each."""

    def draw(n_tasks: int) -> am.TaskBatch:
        x, y = torch.rand(n_tasks, 80, *shape), torch.arange(5).repeat(n_tasks, 16)
        return am.TaskBatch(support=am.Examples(x[:, :5], y[:, :5]), query=am.Examples(x[:, 5:], y[:, 5:]))

    return draw


def _images_info(*shape: int) -> am.TaskInfo:
    return am.TaskInfo(problem="classification", input_shape=shape, n_outputs=5, n_shot=1, n_query=15)


NETWORKS = {
    "mlp": Network(
        title="MLP 40-40, sinusoids",
        backbone=am.make_backbone("mlp", hidden=(40, 40)),
        info=am.TaskInfo(problem="regression", input_shape=(1,), n_outputs=1, n_shot=10, n_query=10),
        draw=_sinusoids,
    ),
    "conv4-28": Network(
        title="Conv4-64, 1x28x28",
        backbone=am.make_backbone("conv4", batch_norm="transductive"),
        info=_images_info(1, 28, 28),
        draw=_images(1, 28, 28),
    ),
    "conv4-84": Network(
        title="Conv4-32, 3x84x84",
        backbone=am.make_backbone("conv4", n_filters=32, batch_norm="transductive"),
        info=_images_info(3, 84, 84),
        draw=_images(3, 84, 84),
    ),
}


def make_race(network: str, n_tasks: int, steps: int, order: str, *, device: str = "cpu") -> Race:
    """Build network and tasks, the same ones for every contender.

    Sinusoids are those of Finn et al. 2017, section 5.1; images have the shapes of their Omniglot and mini-ImageNet
    recipes, 5-way 1-shot, normalised by batch statistics.
    """
    of = NETWORKS[network]
    torch.manual_seed(0)
    learner = am.make_learner(
        "maml", backbone=of.backbone, steps=steps, inner_lr=LR, learn_lr=False, first_order=order == "first"
    )
    module = learner.build(of.info)
    if of.info.problem_record.has_classes:
        nn.init.normal_(module.head.weight, std=0.1)
    return Race(
        learner=learner,
        module=module.to(device),
        info=of.info,
        batch=of.draw(n_tasks).to(device),
        steps=steps,
        first_order=order == "first",
    )


def autometa(race: Race) -> MetaStep:
    """Meta-optimizer "gradient", on as many threads as meta-training gives it."""
    parameters = [value for name, value in race.module.named_parameters() if name != "rates"]
    optimizer = am.make_meta_optimizer("gradient", optimizer="sgd", lr=STANDSTILL, clip=None)
    optimizer.start(race.learner, race.module, race.info)

    def run(batch: am.TaskBatch) -> list[Tensor]:
        with enough_threads(race.module, *batch.inputs):
            optimizer.step(batch)
        return [value.grad for value in parameters]

    return run


def plain(race: Race) -> MetaStep:
    """The textbook loop, written with torch alone; not raced: what the others are compared with."""
    network = race.plain_network()
    start = dict(network.named_parameters())

    def run(batch: am.TaskBatch) -> list[Tensor]:
        total = [torch.zeros_like(value) for value in start.values()]
        for support_x, support_y, query_x, query_y in tasks_of(batch):
            values = start
            for _ in range(race.steps):
                loss = loss_of(functional_call(network, values, (support_x,)), support_y)
                slopes = torch.autograd.grad(loss, list(values.values()), create_graph=not race.first_order)
                values = {name: value - LR * g for (name, value), g in zip(values.items(), slopes, strict=True)}
            loss = loss_of(functional_call(network, values, (query_x,)), query_y)
            gradient = torch.autograd.grad(loss / len(batch), list(start.values()))
            total = [mine + part for mine, part in zip(total, gradient, strict=True)]
        return total

    return run


def learn2learn(race: Race) -> MetaStep:
    """The loop of its examples: clone, adapt, backward, task by task."""
    algorithm = importlib.import_module("learn2learn.algorithms.maml").MAML
    maml = algorithm(race.plain_network(), lr=LR, first_order=race.first_order)
    outer = torch.optim.SGD(maml.parameters(), lr=STANDSTILL)

    def run(batch: am.TaskBatch) -> list[Tensor]:
        outer.zero_grad()
        for support_x, support_y, query_x, query_y in tasks_of(batch):
            clone = maml.clone()
            for _ in range(race.steps):
                clone.adapt(loss_of(clone(support_x), support_y))
            (loss_of(clone(query_x), query_y) / len(batch)).backward()
        outer.step()
        return [value.grad for value in maml.parameters()]

    return run


def higher(race: Race) -> MetaStep:
    """The loop of its examples: an inner-loop context for each task; first order, one that tracks no gradients."""
    innerloop_ctx = importlib.import_module("higher").innerloop_ctx
    network = race.plain_network()
    inner_optimizer = torch.optim.SGD(network.parameters(), lr=LR)
    outer = torch.optim.SGD(network.parameters(), lr=STANDSTILL)

    def run(batch: am.TaskBatch) -> list[Tensor]:
        outer.zero_grad()
        for support_x, support_y, query_x, query_y in tasks_of(batch):
            with innerloop_ctx(
                network, inner_optimizer, copy_initial_weights=False, track_higher_grads=not race.first_order
            ) as (adapted, inner):
                for _ in range(race.steps):
                    inner.step(loss_of(adapted(support_x), support_y))
                loss = loss_of(adapted(query_x), query_y) / len(batch)
                if race.first_order:
                    _add_gradient(network, loss, list(adapted.parameters()))
                else:
                    loss.backward()
        outer.step()
        return [value.grad for value in network.parameters()]

    return run


def torchopt(race: Race) -> MetaStep:
    """The loop of its examples: a differentiable optimizer whose start is recovered after each task.

    It has no first order of its own; stopping the gradient after every step gives it.
    """
    library = importlib.import_module("torchopt")
    network = race.plain_network()
    parameters = list(network.parameters())
    inner = library.MetaSGD(network, lr=LR)
    outer = torch.optim.SGD(parameters, lr=STANDSTILL)

    def run(batch: am.TaskBatch) -> list[Tensor]:
        outer.zero_grad()
        network_start = library.extract_state_dict(network, by="reference")
        inner_start = library.extract_state_dict(inner, by="reference")
        for support_x, support_y, query_x, query_y in tasks_of(batch):
            gradients: tuple[Tensor, ...] = ()
            for _ in range(race.steps):
                inner.step(loss_of(network(support_x), support_y))
                if race.first_order:
                    library.stop_gradient(network)
            loss = loss_of(network(query_x), query_y) / len(batch)
            if race.first_order:
                gradients = torch.autograd.grad(loss, list(network.parameters()))
            else:
                loss.backward()
            library.recover_state_dict(network, network_start)
            library.recover_state_dict(inner, inner_start)
            for value, gradient in zip(parameters, gradients, strict=False):
                value.grad = gradient if value.grad is None else value.grad + gradient
        outer.step()
        return [value.grad for value in parameters]

    return run


def metalearn_vmap(race: Race) -> MetaStep:
    """parallel-metalearn's ``MAML`` with all tasks in one call."""
    return _metalearn(race, "vmap")


def metalearn_loop(race: Race) -> MetaStep:
    """parallel-metalearn's ``MAML`` with one task after the other."""
    return _metalearn(race, "sequential")


def _metalearn(race: Race, backend: str) -> MetaStep:
    """Its training step, which takes layers that accept any keyword, and a loss that returns a metric too.

    Batches of images are cut into chunks of four tasks, as its documentation says to do where memory is short: what 32
    tasks of 84x84 keep at once is by estimate some 20 GB.
    """
    library = {name: importlib.import_module(f"metalearn.{name}") for name in ("algorithms", "inner_optimizers")}
    wrapper = importlib.import_module("metalearn.model_wrappers").MAML_Model
    backbone, head = map(_AnyKeyword, race.plain_network())
    model = wrapper(backbone=backbone, head=head)
    algorithm = library["algorithms"].MAML(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=STANDSTILL),
        inner_optimizer=library["inner_optimizers"].InnerSGD(
            model.get_fast_weights(), inner_lr=LR, learn_lr=False, first_order=race.first_order
        ),
        support_loss_fn=_LossAndMetric(),
        inner_steps=race.steps,
        chunk_size=4 if len(race.info.input_shape) == 3 else 80,
        device=race.batch.query.x.device,
        backend=backend,
    )

    def run(batch: am.TaskBatch) -> list[Tensor]:
        support, query = batch.support, batch.query
        algorithm.step(iter([(support.x, {"labels": support.y}, query.x, {"labels": query.y})]))
        return [value.grad for value in model.parameters()]

    return run


class _AnyKeyword(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, **_: object) -> Tensor:
        return self.layer(x)  # type: ignore[no-any-return]


class _LossAndMetric(nn.Module):
    def forward(self, out_dict: dict[str, Tensor], targets: dict[str, Tensor], **_: object) -> tuple[Tensor, Tensor]:
        loss = loss_of(out_dict["logits"], targets["labels"])
        return loss, loss.detach()


def _add_gradient(network: nn.Module, loss: Tensor, adapted: list[Tensor]) -> None:
    for value, gradient in zip(network.parameters(), torch.autograd.grad(loss, adapted), strict=True):
        value.grad = gradient if value.grad is None else value.grad + gradient


CONTENDERS: dict[str, Callable[[Race], MetaStep]] = {
    "autometa": autometa,
    "learn2learn": learn2learn,
    "higher": higher,
    "torchopt": torchopt,
    "metalearn vmap": metalearn_vmap,
    "metalearn loop": metalearn_loop,
}


ROUNDING = {"metalearn vmap": 1e-3}
"""Shares of the largest entry by which double-precision gradients may be off, where that is more than 1e-8.

On Conv4-28 those of five steps of second order are off by 5e-5, those of fewer or of first order by less than 1e-13;
the library's own loop is exact.
"""


def contenders() -> list[str]:
    """Names of those that can be imported."""
    modules = {name: name.split()[0] for name in CONTENDERS}
    return [name for name, of in modules.items() if of in sys.modules or importlib.util.find_spec(of) is not None]


def offer_learn2learn(clone: Path) -> None:
    """Make ``learn2learn.algorithms.maml`` importable from a clone, without the package's compiled parts."""
    for name in ("learn2learn", "learn2learn.algorithms"):
        package = types.ModuleType(name)
        package.__path__ = [str(clone.joinpath(*name.split(".")))]
        sys.modules[name] = package


def assert_equal_gradients(network: str, steps: int, order: str, *, n_tasks: int = 2) -> None:
    """Compare every contender's meta-gradient with the textbook's, in double precision, on few query examples.

    The rows of a peer's head, which start as autometa's one row, are added up for autometa.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        race = make_race(network, n_tasks, steps, order)
        batch = am.TaskBatch(support=race.batch.support, query=race.batch.query.select(slice(10)))
        expected = plain(race)(batch)
        largest = max(float(gradient.abs().max()) for gradient in expected)
        for name in contenders():
            run = CONTENDERS[name](race)
            run(batch)  # autometa takes its first step on one thread: the second is the one that is raced
            for found, other in zip(run(batch), expected, strict=True):
                same = other if other.shape == found.shape else other.sum(dim=0, keepdim=True)
                atol = ROUNDING.get(name, 1e-8) * largest
                torch.testing.assert_close(
                    found, same, rtol=1e-4, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
                )
    finally:
        torch.set_default_dtype(before)

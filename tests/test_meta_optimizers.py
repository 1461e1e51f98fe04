"""The outer updates do what they claim, chunked or not, and go on from a checkpoint as if never stopped."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import autometa as am
from autometa.engine.threads import _Workers
from learning import assert_lower, training_seed
from toy_tasks import BLOBS, SINES, blobs, sines

DOUBLE = torch.float64


def maml(**parameters: object) -> am.Learner:
    backbone = am.make_backbone("mlp", hidden=(5,), activation="tanh")
    return am.make_learner(
        "maml", **{"backbone": backbone, "inner_lr": 0.1, "steps": 2, "strategy": "vmap", **parameters}
    )


def build(learner: am.Learner, info: am.TaskInfo = SINES, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return learner.build(info).to(DOUBLE)


class Fixed(am.Backbone):
    """Always a copy of the same network, of four features."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        network = copy.deepcopy(self.network)
        network.n_features = 4
        return network


def parameters(module: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def train(optimizer: am.MetaOptimizer, first: int, last: int, of: int = 10, seed: int = 0) -> None:
    for step in range(first, last):
        optimizer.progress = step / of
        optimizer.step(sines(5, seed=seed + step))


def test_gradient_steps_lower_the_query_loss_of_new_tasks() -> None:
    learner, optimizer = maml(), am.make_meta_optimizer("gradient", lr=0.01)
    module = build(learner, seed=training_seed())
    optimizer.start(learner, module, SINES)
    new = sines(200, seed=training_seed(99))
    with torch.no_grad():
        before = am.query_losses(learner, module, new)
    train(optimizer, 0, 50, of=50, seed=training_seed())
    with torch.no_grad():
        assert_lower(am.query_losses(learner, module, new), 0.8 * before)


def test_one_plain_gradient_step_is_the_step_written_by_hand() -> None:
    learner = maml()
    module = build(learner)
    expected_loss = am.query_losses(learner, module, sines(5, seed=0)).mean()
    slopes = torch.autograd.grad(expected_loss, list(module.parameters()))
    expected = [value - 0.1 * slope for value, slope in zip(parameters(module), slopes, strict=True)]
    optimizer = am.make_meta_optimizer("gradient", optimizer="SGD", lr=0.1, clip=None)
    optimizer.start(learner, module, SINES)
    loss = optimizer.step(sines(5, seed=0))["loss"]
    torch.testing.assert_close(parameters(module), expected)
    torch.testing.assert_close(loss, expected_loss.detach())
    assert not loss.requires_grad


@pytest.mark.parametrize("chunk", [1, 2, 7, "auto"])
def test_chunks_of_tasks_give_the_whole_gradient(chunk: int | str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autometa_plugins.optimization.gradient._NUMBERS_AT_A_TIME", 25)
    results = []
    for size in (None, chunk):
        learner, optimizer = maml(), am.make_meta_optimizer("gradient", optimizer="sgd", lr=0.1, chunk=size)
        module = build(learner)
        optimizer.start(learner, module, SINES)
        loss = optimizer.step(sines(5, seed=0))["loss"]
        results.append([*parameters(module), loss])
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_filters_laid_out_channels_last_move_by_their_own_gradients_on_threads(optimizer: str) -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(2, 2, 3).double().to(memory_format=torch.channels_last)
    before = network.weight.detach().clone()
    slopes = torch.randn(2, 2, 3, 3, dtype=DOUBLE)
    update = am.ParameterUpdate(network, optimizer=optimizer, lr=0.1)
    update.step_on_threads([lambda module: (module.weight * slopes).sum()] * 2, progress=0.0, threads=2)
    moved = before - network.weight.detach()
    torch.testing.assert_close(moved, 0.2 * slopes if optimizer == "sgd" else 0.1 * slopes.sign(), rtol=1e-6, atol=1e-6)


def three_steps(learner: am.Learner, **parameters: object) -> list[Tensor]:
    optimizer = am.make_meta_optimizer("gradient", optimizer="sgd", lr=0.1, **parameters)
    module = build(learner).train()
    optimizer.start(learner, module, SINES)
    losses = [optimizer.step(sines(5, seed=step))["loss"] for step in range(3)]
    return [*losses, *module.state_dict().values()]


@pytest.mark.parametrize("backbone", ["mlp", nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(4), nn.Tanh())])
def test_chunks_on_threads_give_the_same_gradient_and_the_same_bits_each_time(backbone: str | nn.Module) -> None:
    learner = maml(backbone=backbone if isinstance(backbone, str) else Fixed(backbone), strategy="auto")
    once, again = (three_steps(learner, chunk=1, threads=3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    torch.testing.assert_close(once, three_steps(learner, chunk=1, threads=1))


def test_threads_run_at_the_same_time_and_leave_torch_its_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, before = maml(), torch.get_num_threads()
    optimizer = am.make_meta_optimizer("gradient", chunk=1, threads=2)
    optimizer.start(learner, build(learner), SINES)
    optimizer.step(sines(4, seed=0))
    meeting, whole = threading.Barrier(2, timeout=20), am.Learner.meta_loss

    def meet(*arguments: Any) -> Tensor:
        meeting.wait()  # breaks unless two losses are under way at once
        assert torch.get_num_threads() == max(1, before // 2)
        return whole(*arguments)

    monkeypatch.setattr(am.Learner, "meta_loss", meet)
    optimizer.step(sines(4, seed=1))
    assert torch.get_num_threads() == before


def test_threads_stay_from_step_to_step_and_end_with_their_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, whole, used = maml(), am.Learner.meta_loss, list[threading.Thread]()

    def note(*arguments: Any) -> Tensor:
        used.append(threading.current_thread())
        return whole(*arguments)

    optimizer = am.make_meta_optimizer("gradient", optimizer="sgd", lr=0.1, chunk=1, threads=2)
    module = build(learner)
    optimizer.start(learner, module, SINES)
    optimizer.step(sines(4, seed=0))
    monkeypatch.setattr(am.Learner, "meta_loss", note)
    for seed in (1, 2, 3):
        optimizer.step(sines(4, seed=seed))
    assert len(set(used)) <= 2
    twin = copy.deepcopy(optimizer)
    assert twin.step(sines(4, seed=4)) == optimizer.step(sines(4, seed=4))
    torch.testing.assert_close(twin.module_.state_dict(), module.state_dict(), rtol=0, atol=0)
    del optimizer, twin
    for thread in used:
        thread.join(timeout=20)
        assert not thread.is_alive()


def test_a_forked_process_has_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = _Workers()
    mine = workers.pool(1, 1)
    assert workers.pool(1, 1) is mine
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert workers.pool(1, 1) is not mine


class KeepsItsResult(nn.Identity):
    def forward(self, x: Tensor) -> Tensor:
        self.last = super().forward(x)
        return self.last


class CountsCalls(nn.Identity):
    n_calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.n_calls += 1
        return super().forward(x) / self.n_calls


@pytest.mark.parametrize(
    "layer",
    [nn.Dropout(0.5), nn.BatchNorm1d(4), KeepsItsResult(), CountsCalls()],
    ids=lambda layer: type(layer).__name__,
)
def test_losses_that_cannot_be_taken_side_by_side_are_taken_in_turn(layer: nn.Module) -> None:
    learner = maml(backbone=Fixed(nn.Sequential(nn.Linear(2, 4), layer, nn.Tanh())), strategy="loop")
    torch.manual_seed(1)
    in_turn = three_steps(learner, chunk=1, threads=1)
    torch.manual_seed(1)
    torch.testing.assert_close(three_steps(learner, chunk=1, threads=3), in_turn)


def test_clipping_bounds_the_whole_gradient() -> None:
    learner, optimizer = maml(), am.make_meta_optimizer("gradient", optimizer="sgd", lr=1.0, clip=1e-3)
    module = build(learner)
    before = parameters(module)
    optimizer.start(learner, module, SINES)
    optimizer.step(sines(5, seed=0))
    moved = torch.stack([(a - b).square().sum() for a, b in zip(parameters(module), before, strict=True)]).sum().sqrt()
    assert moved.item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(("schedule", "left"), [("constant", 1.0), ("cosine", 0.01), ("step", 0.01)])
def test_the_schedule_follows_the_progress_of_meta_training(schedule: str, left: float) -> None:
    moved = []
    for progress in (0.0, 1.0):
        learner, optimizer = maml(), am.make_meta_optimizer("gradient", optimizer="sgd", lr=0.1, schedule=schedule)
        module = build(learner)
        before = parameters(module)
        optimizer.start(learner, module, SINES)
        optimizer.progress = progress
        optimizer.step(sines(5, seed=0))
        moved.append(parameters(module)[0] - before[0])
    torch.testing.assert_close(moved[1], left * moved[0])


@pytest.mark.parametrize("name", ["gradient", "reptile"])
def test_five_steps_a_checkpoint_and_five_more_are_ten_steps(name: str) -> None:
    learner = maml()
    whole, halves = build(learner), build(learner)
    optimizer = am.make_meta_optimizer(name)
    optimizer.start(learner, whole, SINES)
    train(optimizer, 0, 10)

    optimizer = am.make_meta_optimizer(name)
    optimizer.start(learner, halves, SINES)
    train(optimizer, 0, 5)
    checkpoint, theta = optimizer.state_dict(), halves.state_dict()
    continued, optimizer = build(learner), am.make_meta_optimizer(name)
    continued.load_state_dict(theta)
    optimizer.start(learner, continued, SINES)
    optimizer.load_state_dict(checkpoint)
    train(optimizer, 5, 10)
    torch.testing.assert_close(parameters(continued), parameters(whole), rtol=0, atol=0)


def test_reptile_moves_a_share_of_the_way_to_the_mean_adapted_parameters() -> None:
    learner = maml()
    module, batch = build(learner), sines(5, seed=0)
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    with torch.no_grad():
        adapted = learner.adapt(module, batch.support.join(batch.query))
    optimizer = am.make_meta_optimizer("reptile", step_size=0.4)
    optimizer.start(learner, module, SINES)
    optimizer.progress = 0.25
    optimizer.step(batch)
    for name, value in module.named_parameters():
        towards = adapted[name].mean(0) if name in adapted else before[name]
        torch.testing.assert_close(value.detach(), before[name] + 0.3 * (towards - before[name]))


def test_reptile_of_one_inner_step_descends_the_mean_loss_of_all_examples() -> None:
    learner = maml(steps=1, learn_lr=False, inner_lr=0.1)
    module, batch = build(learner), sines(5, seed=0)
    examples = batch.support.join(batch.query)
    names = [name for name, _ in module.named_parameters() if name != "rates"]

    def objective() -> Tensor:
        with torch.no_grad():
            outputs = am.call_per_task(module, am.per_task(module, 5, names), examples.x)
            return am.loss_on(examples)(outputs).mean()

    slopes = {}
    for name in names:
        values = module.get_parameter(name).data.view(-1)
        slopes[name] = torch.zeros_like(values)
        for place in range(values.numel()):
            values[place] += 1e-6
            above = objective()
            values[place] -= 2e-6
            slopes[name][place] = (above - objective()) / 2e-6
            values[place] += 1e-6
    before = {name: module.get_parameter(name).detach().clone() for name in names}
    optimizer = am.make_meta_optimizer("reptile", step_size=0.5)
    optimizer.start(learner, module, SINES)
    optimizer.step(batch)
    for name in names:
        moved = module.get_parameter(name).detach() - before[name]
        torch.testing.assert_close(moved, -0.5 * 0.1 * slopes[name].view_as(moved), rtol=1e-5, atol=1e-9)


def test_reptile_takes_the_mean_of_the_rows_of_a_shared_head() -> None:
    learner = maml(steps=3)
    module = build(learner, BLOBS)
    nn.init.ones_(module.head.weight)
    optimizer = am.make_meta_optimizer("reptile")
    optimizer.start(learner, module, BLOBS)
    shapes = [value.shape for value in module.parameters()]
    assert optimizer.step(blobs(4))["loss"].isfinite()
    assert [value.shape for value in module.parameters()] == shapes


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("gradient", {"optimizer": "adamm"}, "optimizer='adamm' must be one of"),
        ("gradient", {"lr": 0.0}, "lr=0.0 must be a positive number"),
        ("gradient", {"weight_decay": -1.0}, "weight_decay=-1.0 must be a number of at least 0"),
        ("gradient", {"schedule": "linear"}, "schedule='linear' must be one of"),
        ("gradient", {"clip": -1.0}, "clip=-1.0 must be a positive number, or None"),
        ("gradient", {"chunk": 0}, "chunk=0 of meta-optimizer 'gradient' must be a positive integer"),
        ("gradient", {"threads": 0}, "threads=0 of meta-optimizer 'gradient' must be a positive integer"),
        (
            "reptile",
            {"step_size": 2.0},
            "step_size=2.0 of meta-optimizer 'reptile' must be a positive number of at most 1",
        ),
        ("pooled", {"lr": -1.0}, "lr=-1.0 must be a positive number"),
    ],
)
def test_impossible_parameters_are_named_before_any_work(name: str, wrong: dict[str, object], message: str) -> None:
    learner = maml()
    with pytest.raises(am.InvalidParameter, match=message):
        am.make_meta_optimizer(name, **wrong).start(learner, build(learner), SINES)

"""An LSTM as optimizer: gradient descent where its gates say so, and a derivative that leaves out its inputs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from autometa_plugins.model.gradient_codes import log_and_sign
from autometa_plugins.model.meta_lstm import UpdateCell
from torch import Tensor

import autometa as am
from autometa.contracts.forward import forward, query_losses
from autometa.training import MetaTraining
from learning import assert_better, judged, training_seed

N_WAY, N_SUPPORT, SHAPE = 3, 9, (4,)
PROBLEMS = ["classification", "regression"]
every_problem = pytest.mark.parametrize("problem", PROBLEMS)


def build(problem: str, **parameters: Any) -> tuple[am.Learner, Any]:
    n_outputs = N_WAY if problem == "classification" else 2
    info = am.TaskInfo(problem=problem, input_shape=SHAPE, n_outputs=n_outputs, n_shot=3, n_query=5)  # type: ignore[arg-type]
    learner = am.make_learner(
        "meta_lstm", backbone=am.make_backbone("mlp", hidden=(5,), activation="tanh"), **parameters
    )
    torch.manual_seed(0)
    module = learner.build(info).double()
    for parameter in module.parameters():  # Nothing may hide behind a parameter that starts at zero.
        torch.nn.init.normal_(parameter, std=0.5)
    return learner, module


def support_of(problem: str, n_tasks: int = 3) -> am.Examples:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n_tasks, N_SUPPORT, *SHAPE, generator=generator, dtype=torch.float64)
    if problem == "classification":
        return am.Examples(x, torch.arange(N_WAY).repeat(n_tasks, N_SUPPORT // N_WAY))
    return am.Examples(x, torch.randn(n_tasks, N_SUPPORT, 2, generator=generator, dtype=torch.float64))


def queries(n: int = 5, n_tasks: int = 3) -> Tensor:
    return torch.randn(n_tasks, n, *SHAPE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def fix_gates(cell: UpdateCell, rate: float) -> None:
    """Let go of nothing, and step by one rate whatever comes."""
    with torch.no_grad():
        cell.gates.weight.zero_()
        cell.gates.bias.copy_(torch.tensor([40.0, math.log(rate / (1 - rate))]))
        cell.last.zero_()


@every_problem
@pytest.mark.parametrize("adapted", ["all", "head"])
@pytest.mark.parametrize("hidden", [0, 3])
def test_with_fixed_gates_it_is_gradient_descent(problem: str, adapted: str, hidden: int) -> None:
    learner, module = build(problem, steps=4, adapted=adapted, hidden=hidden)
    fix_gates(module.cell, rate=0.1)
    support = support_of(problem)
    start = am.per_task(module.own, 3)
    if problem == "classification":
        start |= {name: start[name].expand(3, N_WAY, *start[name].shape[2:]) for name in ("1.weight", "1.bias")}
    seen = am.Examples(module.seen(support.x), support.y)
    wanted = am.descend(module.own, start, seen, steps=4, rates=0.1)
    found = learner.adapt(module, support)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value)


@every_problem
def test_a_fresh_learner_takes_nearly_gradient_steps_of_its_rate(problem: str) -> None:
    info = am.TaskInfo(problem=problem, input_shape=SHAPE, n_outputs=1, n_shot=3, n_query=5)  # type: ignore[arg-type]
    module: Any = am.make_learner("meta_lstm", inner_lr=0.2).build(info)
    zeros = torch.zeros(1, 2)
    cell = module.cell
    moved, (forget, rate) = cell(zeros, torch.tensor([[1.0, -3.0]]), torch.ones(1), cell.start(zeros))
    assert (forget - 1).abs().max() < 0.01
    assert (rate - 0.2).abs().max() < 0.02
    torch.testing.assert_close(moved, -rate * torch.tensor([[1.0, -3.0]]))


@pytest.mark.parametrize("hidden", [0, 3])
def test_every_parameter_is_updated_through_the_same_weights(hidden: int) -> None:
    torch.manual_seed(0)
    cell = UpdateCell(hidden, 0.1).double()
    for parameter in cell.parameters():
        torch.nn.init.normal_(parameter)
    gradients = torch.randn(3, 2, 6, dtype=torch.float64)
    start, losses, order = torch.randn(2, 6, dtype=torch.float64), torch.rand(3, 2).double(), torch.randperm(6)

    def updated(start: Tensor, gradients: Tensor) -> Tensor:
        state = cell.start(start)
        for gradient, loss in zip(gradients, losses, strict=True):
            start, state = cell(start, gradient, loss, state)
        return start

    torch.testing.assert_close(updated(start[:, order], gradients[..., order]), updated(start, gradients)[:, order])
    other = gradients.clone()
    other[:, :, 0] += 1
    assert torch.equal(updated(start, other)[:, 1:], updated(start, gradients)[:, 1:])


@every_problem
def test_permuting_hidden_units_changes_nothing(problem: str) -> None:
    learner, module = build(problem, steps=3)
    before = forward(learner, module, support_of(problem), queries())
    order = torch.tensor([3, 0, 4, 2, 1])
    with torch.no_grad():
        first, head = module.own[0].layers[0], module.own[1]
        first.weight.copy_(first.weight[order])
        first.bias.copy_(first.bias[order])
        head.weight.copy_(head.weight[:, order])
    torch.testing.assert_close(forward(learner, module, support_of(problem), queries()), before)


def test_renaming_the_classes_renames_the_outputs() -> None:
    learner, module = build("classification")
    support, new_name = support_of("classification"), torch.tensor([2, 0, 1])
    renamed = am.Examples(support.x, new_name[support.y])
    torch.testing.assert_close(
        forward(learner, module, support, queries()), forward(learner, module, renamed, queries())[..., new_name]
    )


@pytest.mark.parametrize("adapted", ["auto", "all"])
def test_tasks_over_images_are_independent_and_only_the_head_is_their_own_unless_asked_for(adapted: str) -> None:
    info = am.TaskInfo(problem="classification", input_shape=(1, 8, 8), n_outputs=3, n_shot=2, n_query=2)
    learner = am.make_learner("meta_lstm", adapted=adapted, steps=2, inner_lr=0.5)
    torch.manual_seed(0)
    module = learner.build(info).double().eval()
    x = torch.randn(3, 6, 1, 8, 8, dtype=torch.float64)
    support = am.Examples(x, torch.arange(3).repeat(3, 2))
    together = learner.adapt(module, support)
    assert (len(together) > 2) == (adapted == "all")
    outputs = learner.predict(module, together, x)
    for task in range(3):
        one = slice(task, task + 1)
        torch.testing.assert_close(forward(learner, module, support[one], x[one]), outputs[one])


@every_problem
@pytest.mark.parametrize("hidden", [0, 3])
def test_the_meta_gradient_takes_gradients_and_losses_as_constants(problem: str, hidden: int) -> None:
    learner, module = build(problem, steps=3, hidden=hidden)
    support = support_of(problem)
    batch = am.TaskBatch(support=support, query=support)
    seen: list[tuple[Tensor, Tensor]] = []
    hook = module.cell.register_forward_pre_hook(lambda cell, inputs: seen.append(inputs[1:3]))
    query_losses(learner, module, batch).sum().backward()
    hook.remove()
    assert len(seen) == 3
    assert not any(value.requires_grad for pair in seen for value in pair)

    def replayed() -> Tensor:
        """The query losses of updates by the gradients and losses that were seen."""
        start = am.per_task(module.own, 3)
        if problem == "classification":
            start |= {name: start[name].expand(3, N_WAY, *start[name].shape[2:]) for name in ("1.weight", "1.bias")}
        flat = torch.cat([value.flatten(1) for value in start.values()], dim=1)
        state = module.cell.start(flat)
        for gradient, loss in seen:
            flat, state = module.cell(flat, gradient, loss, state)
        parts = flat.split([value[0].numel() for value in start.values()], dim=1)
        ends = {name: part.view(start[name].shape) for name, part in zip(start, parts, strict=True)}
        return query_losses(learner, module, batch, adapted=ends).sum()

    step = 1e-6
    for parameter in module.parameters():
        with torch.no_grad():
            direction, start = torch.randn_like(parameter), parameter.clone()
            losses = []
            for sign in (1, -1):
                parameter.copy_(start + sign * step * direction)
                losses.append(replayed())
            parameter.copy_(start)
        slope = (losses[0] - losses[1]) / (2 * step)
        torch.testing.assert_close((parameter.grad * direction).sum(), slope, rtol=1e-5, atol=1e-8)


def test_magnitude_and_sign_are_continuous_and_span_the_sizes() -> None:
    edge = math.exp(-7.0)
    values = torch.tensor([edge * (1 - 1e-9), edge * (1 + 1e-9), -edge, 0.0, 1.0, -math.exp(7.0)], dtype=torch.float64)
    wanted = torch.tensor([[-1, 1], [-1, 1], [-1, -1], [-1, 0], [0, 1], [1, -1]], dtype=torch.float64)
    torch.testing.assert_close(log_and_sign(values, p=7.0), wanted)


@pytest.mark.thorough
def test_meta_training_learns_better_updates_than_the_gradient_steps_it_starts_from() -> None:
    tasks = am.make_tasks("linear")
    learner = am.make_learner("meta_lstm", inner_lr=0.02, backbone="identity")
    gradient = am.make_meta_optimizer("gradient", lr=0.01)
    run = MetaTraining(learner, gradient, tasks, n_steps=250, tasks_per_step=12, seed=training_seed())
    before = judged(learner, run.module, tasks, n_tasks=600)
    run.run_to()
    after = judged(learner, run.module, tasks, n_tasks=600)
    no_steps = judged(am.make_learner("meta_lstm", steps=0), run.module, tasks, n_tasks=600)
    assert_better(after, 0.8 * before, tasks.info)
    assert_better(after, 0.8 * no_steps, tasks.info)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"steps": -1}, "steps=-1"),
        ({"hidden": 2.5}, "hidden=2.5"),
        ({"inner_lr": 1}, "inner_lr=1.*above 0 and below 1"),
        ({"adapted": "body"}, "adapted='body'"),
    ],
)
def test_what_cannot_work_is_named(parameters: dict[str, Any], named: str) -> None:
    with pytest.raises(am.InvalidParameter, match=named):
        build("regression", **parameters)

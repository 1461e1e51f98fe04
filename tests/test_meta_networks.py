"""Meta Networks: fast weights are what their gradients and generators say, and nothing where there is no gradient."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from autometa_plugins.model import gradient_codes
from torch import Tensor

import autometa as am
from autometa.contracts.forward import forward, query_losses
from autometa.training import MetaTraining, evaluate
from learning import assert_better, training_seed, untrained_and_trained
from tiers import first_by_default

N_WAY, N_SUPPORT, SHAPE, DIM = 3, 9, (4,), 6
every_problem = pytest.mark.parametrize("problem", ["classification", "regression"])


def build(problem: str, **parameters: Any) -> tuple[am.Learner, Any]:
    n_outputs = N_WAY if problem == "classification" else 2
    info = am.TaskInfo(problem=problem, input_shape=SHAPE, n_outputs=n_outputs, n_shot=3, n_query=5)  # type: ignore[arg-type]
    small = {"dim": DIM, "hidden": 3, "backbone": am.make_backbone("mlp", hidden=(5,), activation="tanh")}
    learner = am.make_learner("meta_networks", **{**small, **parameters})
    torch.manual_seed(0)
    module = learner.build(info).double()
    for parameter in module.parameters():  # Nothing may hide behind a parameter that starts at zero.
        torch.nn.init.normal_(parameter, std=0.7)
    return learner, module


def support_of(problem: str, n_tasks: int = 3) -> am.Examples:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n_tasks, N_SUPPORT, *SHAPE, generator=generator, dtype=torch.float64)
    if problem == "classification":
        return am.Examples(x, torch.arange(N_WAY).repeat(n_tasks, N_SUPPORT // N_WAY))
    return am.Examples(x, torch.randn(n_tasks, N_SUPPORT, 2, generator=generator, dtype=torch.float64))


def queries(n: int = 5, n_tasks: int = 3) -> Tensor:
    return torch.randn(n_tasks, n, *SHAPE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def slow_outputs(module: Any, x: Tensor) -> Tensor:
    outputs: Tensor = module.head(module.embedding(module.backbone(x.flatten(0, 1))).relu())
    return outputs.view(*x.shape[:2], -1)


@every_problem
def test_zero_makes_zero(problem: str) -> None:
    _, module = build(problem)
    zeros = torch.zeros(2, 4, 3, dtype=torch.float64)
    for generator in (module.task_inputs, module.task_outputs, module.head_inputs, module.head_outputs):
        assert not generator(zeros).any()
        assert generator(zeros + 0.1).any()


def test_where_the_slow_network_is_right_already_nothing_is_added_to_it() -> None:
    learner, module = build("regression")
    x = support_of("regression", n_tasks=1).x
    y, wanted = (slow_outputs(module, inputs).detach() for inputs in (x, queries(n_tasks=1)))
    mean, spread = y[0].mean(0), y[0].std(0, correction=0)
    with torch.no_grad():  # The head answers in units of the support's spread.
        module.head.weight.div_(spread.unsqueeze(1))
        module.head.bias.sub_(mean).div_(spread)
    adapted = learner.adapt(module, am.Examples(x, y))
    for name in ("task_outputs", "outputs"):
        assert adapted[name].abs().max() < 1e-9  # Rounding leaves gradients of 1e-15.
    torch.testing.assert_close(learner.predict(module, adapted, queries(n_tasks=1)), wanted)


@every_problem
def test_pushes_are_the_gradients_of_each_examples_representation_loss(problem: str) -> None:
    _, module = build(problem)
    support = support_of(problem)
    features = torch.randn(3, N_SUPPORT, 5, dtype=torch.float64)
    targets = support.targets().double()
    before = module.embedding(features).detach().requires_grad_()
    if problem == "classification":
        absent = torch.zeros(3, 1, N_WAY, dtype=torch.bool)
        means = (targets.mT @ before.relu() / 3).detach()
        losses = torch.nn.functional.cross_entropy(
            (before.relu() @ means.mT / math.sqrt(DIM)).mT, support.y, reduction="sum"
        )
    else:
        absent = None
        losses = (module.head(before.relu()) - targets).square().sum() / 2
    (wanted,) = torch.autograd.grad(losses, before)
    torch.testing.assert_close(module.representation_gradient(features, targets, support.mask, absent), wanted)


@every_problem
def test_predictions_are_those_of_slow_weights_and_the_attended_fast_ones(problem: str) -> None:
    learner, module = build(problem)
    support, x = support_of(problem), queries()
    adapted = learner.adapt(module, support)
    outputs = learner.predict(module, adapted, x)
    for task in range(3):
        own = {name: value[task] for name, value in adapted.items()}
        fast_embedding = own["task_outputs"].T @ own["task_inputs"]
        memory = torch.einsum("no,ni->noi", own["outputs"], own["inputs"]) / math.sqrt(DIM)
        features = module.backbone(x[task])
        embedded = module.embedding(features).relu() + (features @ fast_embedding.T).relu()
        attention = module.attend(embedded[None], own["keys"][None], support.mask[:1])[0]
        torch.testing.assert_close(attention.sum(-1), torch.ones(5, dtype=torch.float64))
        fast_head = torch.einsum("qn,noi->qoi", attention, memory)
        with_one = torch.cat([embedded, torch.ones(5, 1, dtype=torch.float64)], dim=1)
        wanted = module.head(embedded) + torch.einsum("qoi,qi->qo", fast_head, with_one)
        if problem == "regression":
            wanted = wanted * own["spread"] + own["mean"]
        torch.testing.assert_close(outputs[task], wanted)


@every_problem
def test_the_order_of_the_support_does_not_matter_but_every_example_does(problem: str) -> None:
    learner, module = build(problem)
    support, order = support_of(problem), torch.randperm(N_SUPPORT, generator=torch.Generator().manual_seed(3))
    before = forward(learner, module, support, queries())
    torch.testing.assert_close(forward(learner, module, support.select(order), queries()), before)
    for row in range(N_SUPPORT):
        x = support.x.clone()
        x[:, row] += 1
        assert not torch.allclose(forward(learner, module, am.Examples(x, support.y), queries()), before)


@every_problem
def test_a_query_never_changes_another_querys_output(problem: str) -> None:
    learner, module = build(problem)
    x = queries()
    changed = x.clone()
    changed[:, 2] += 10
    before, after = (forward(learner, module, support_of(problem), q) for q in (x, changed))
    others = torch.arange(5) != 2
    torch.testing.assert_close(before[:, others], after[:, others])


@every_problem
def test_padded_rows_change_nothing_whatever_they_hold(problem: str) -> None:
    learner, module = build(problem)
    support = support_of(problem)
    padding = am.Examples(
        torch.full_like(support.x[:, :4], 50.0), support.y[:, :4], torch.zeros(3, 4, dtype=torch.bool)
    )
    torch.testing.assert_close(
        forward(learner, module, padding.join(support), queries()), forward(learner, module, support, queries())
    )


def test_renaming_the_classes_renames_the_outputs() -> None:
    learner, module = build("classification")
    support, new_name = support_of("classification"), torch.tensor([2, 0, 1])
    renamed = am.Examples(support.x, new_name[support.y])
    torch.testing.assert_close(
        forward(learner, module, support, queries()), forward(learner, module, renamed, queries())[..., new_name]
    )


def test_classes_that_a_task_lacks_change_nothing() -> None:
    learner, module = build("classification")
    support = support_of("classification")
    wider = am.Examples(support.x, support.y, n_classes=7)
    torch.testing.assert_close(
        forward(learner, module, wider, queries())[..., :N_WAY], forward(learner, module, support, queries())
    )


@every_problem
def test_the_meta_gradient_takes_meta_information_as_constant(problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    learner, module = build(problem)
    batch = am.TaskBatch(support=support_of(problem), query=support_of(problem))
    codes, recorded = gradient_codes.log_and_sign, []

    def record(values: Tensor, p: float) -> Tensor:
        recorded.append(codes(values, p))
        return recorded[-1]

    monkeypatch.setattr(gradient_codes, "log_and_sign", record)
    query_losses(learner, module, batch).sum().backward()
    assert len(recorded) == 4
    assert not any(values.requires_grad for values in recorded)
    step = 1e-6
    for name, parameter in module.named_parameters():
        with torch.no_grad():
            direction, start = torch.randn_like(parameter), parameter.clone()
            losses = []
            for sign in (1, -1):
                parameter.copy_(start + sign * step * direction)
                replay = iter(recorded)
                monkeypatch.setattr(gradient_codes, "log_and_sign", lambda values, p, replay=replay: next(replay))
                losses.append(query_losses(learner, module, batch).sum())
            parameter.copy_(start)
        assert parameter.grad is not None, name
        slope = (losses[0] - losses[1]) / (2 * step)
        torch.testing.assert_close((parameter.grad * direction).sum(), slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("backbone", ["identity", "mlp"])
@pytest.mark.parametrize("n_way", first_by_default(1, [2, 5]))
@pytest.mark.parametrize("n_steps", first_by_default(1, [0, 3]))
def test_untrained_and_hardly_trained_it_is_better_than_chance_from_every_start(
    n_steps: int, n_way: int, backbone: str
) -> None:
    tasks = (
        am.make_tasks("digits", n_way=n_way, n_query=5)
        if n_way == 2
        else am.make_tasks("glyphs", size=8, n_drawers=10, n_way=n_way, n_query=5)
    )
    learner = am.make_learner("meta_networks", backbone=backbone)
    for seed in range(8):
        run = MetaTraining(
            learner,
            am.make_meta_optimizer("gradient"),
            tasks,
            n_steps=max(n_steps, 1),
            tasks_per_step=4,
            seed=training_seed(seed),
        )
        if n_steps:
            run.run_to(1.0)
        scores = evaluate(learner, run.module, tasks, split="test", n_tasks=150, seed=seed).scores
        assert scores.mean() > 1 / n_way + 4 * scores.std(ddof=1) / math.sqrt(len(scores)), f"seed {seed}"


def test_untrained_fast_weights_lower_the_loss_of_their_own_support() -> None:
    support = support_of("classification")
    learner = am.make_learner("meta_networks", backbone="identity", dim=DIM)
    info = am.TaskInfo(problem="classification", input_shape=SHAPE, n_outputs=N_WAY, n_shot=3, n_query=5)
    for seed in range(20):
        torch.manual_seed(seed)
        module = learner.build(info).double()
        adapted = learner.adapt(module, support)
        without = adapted | {"outputs": torch.zeros_like(adapted["outputs"])}
        after, before = (
            torch.nn.functional.cross_entropy(
                learner.predict(module, state, support.x).flatten(0, 1), support.y.flatten()
            )
            for state in (adapted, without)
        )
        assert after < before, f"seed {seed}"


@pytest.mark.thorough
def test_meta_training_classifies_new_letters() -> None:
    tasks = am.make_tasks("glyphs", size=8, n_drawers=10, n_shot=1, n_query=5)
    learner = am.make_learner("meta_networks", backbone=am.make_backbone("mlp", hidden=(64,)))
    update = am.make_meta_optimizer("gradient", lr=3e-3)
    before, after = untrained_and_trained(learner, update, tasks, n_steps=200, tasks_per_step=8)
    assert_better(after, before + 0.1, tasks.info)


@pytest.mark.parametrize(("parameters", "named"), [({"dim": 0}, "dim=0"), ({"hidden": 2.5}, "hidden=2.5")])
def test_an_impossible_size_is_named(parameters: dict[str, Any], named: str) -> None:
    with pytest.raises(am.InvalidParameter, match=named):
        build("regression", **parameters)

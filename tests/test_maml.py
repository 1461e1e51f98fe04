"""MAML's meta-gradients are those of its paper, and a task may have any number of classes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import autometa as am

DOUBLE = torch.float64
SINES = am.TaskInfo(problem="regression", input_shape=(2,), n_outputs=1, n_shot=6, n_query=5)
BLOBS = am.TaskInfo(problem="classification", input_shape=(2,), n_outputs=3, n_shot=2, n_query=4)


def learner(**parameters: object) -> am.Learner:
    backbone = am.make_backbone("mlp", hidden=(5,), activation="tanh")
    return am.make_learner(
        "maml", **{"backbone": backbone, "inner_lr": 0.3, "steps": 2, "strategy": "vmap", **parameters}
    )


def build(learner: am.Learner, info: am.TaskInfo) -> nn.Module:
    torch.manual_seed(0)
    module = learner.build(info).to(DOUBLE)
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return module


def sines(n_tasks: int = 4) -> am.TaskBatch:
    torch.manual_seed(2)
    x = torch.randn(n_tasks, 11, 2, dtype=DOUBLE)
    y = torch.sin(x.sum(-1)) * torch.rand(n_tasks, 1, dtype=DOUBLE)
    return am.TaskBatch(support=am.Examples(x[:, :6], y[:, :6]), query=am.Examples(x[:, 6:], y[:, 6:]))


def blobs(n_tasks: int = 3, n_way: int = 3) -> am.TaskBatch:
    """Classes around centres far apart."""
    torch.manual_seed(3)
    centres = 4 * torch.randn(n_tasks, n_way, 2, dtype=DOUBLE)

    def examples(n: int) -> am.Examples:
        y = torch.arange(n_way).repeat(n_tasks, n)
        x = centres.gather(1, y.unsqueeze(-1).expand(-1, -1, 2)) + torch.randn(*y.shape, 2, dtype=DOUBLE)
        return am.Examples(x, y, n_classes=n_way)

    return am.TaskBatch(support=examples(2), query=examples(4))


def finite_differences(function: Callable[[], Tensor], parameter: Tensor, epsilon: float = 1e-6) -> Tensor:
    slopes = torch.zeros_like(parameter).flatten()
    values = parameter.data.view(-1)
    for place in range(values.numel()):
        before = values[place].item()
        values[place] = before + epsilon
        above = function()
        values[place] = before - epsilon
        slopes[place] = (above - function()) / (2 * epsilon)
        values[place] = before
    return slopes.view_as(parameter)


@pytest.mark.parametrize(("info", "batch"), [(SINES, sines()), (BLOBS, blobs())], ids=["regression", "classification"])
def test_exact_meta_gradients_equal_finite_differences_of_the_query_loss(
    info: am.TaskInfo, batch: am.TaskBatch
) -> None:
    maml = learner()
    module = build(maml, info)

    def objective() -> Tensor:
        with torch.no_grad():
            return am.query_losses(maml, module, batch).mean()

    am.query_losses(maml, module, batch).mean().backward()
    for name, parameter in module.named_parameters():
        expected = finite_differences(objective, parameter)
        torch.testing.assert_close(
            parameter.grad, expected, rtol=1e-5, atol=1e-8, msg=lambda text, name=name: name + text
        )


def test_first_order_meta_gradients_are_the_query_gradients_at_the_adapted_parameters() -> None:
    maml = learner(first_order=True, learn_lr=False)
    module, batch = build(maml, SINES), sines()
    am.query_losses(maml, module, batch).mean().backward()
    with torch.no_grad():
        adapted = maml.adapt(module, batch.support)
    leaves = {name: value.requires_grad_() for name, value in adapted.items()}
    outputs = maml.predict(module, leaves, batch.query.x)
    slopes = torch.autograd.grad(am.task_losses(maml, outputs, batch.query).mean(), list(leaves.values()))
    for name, slope in zip(leaves, slopes, strict=True):
        torch.testing.assert_close(module.get_parameter(name).grad, slope.sum(dim=0))
    exact = build(learner(learn_lr=False), SINES)
    am.query_losses(learner(learn_lr=False), exact, batch).mean().backward()
    assert not torch.allclose(exact.head.weight.grad, module.head.weight.grad)


def test_one_module_serves_tasks_with_any_number_of_classes_in_any_order() -> None:
    maml = learner(steps=4)
    module = build(maml, BLOBS)
    for n_way in (2, 7):
        batch = blobs(n_way=n_way)
        outputs = maml.predict(module, maml.adapt(module, batch.support), batch.query.x)
        assert outputs.shape == (3, 4 * n_way, n_way)
        renamed = am.Examples(batch.support.x, (batch.support.y + 1) % n_way, n_classes=n_way)
        again = maml.predict(module, maml.adapt(module, renamed), batch.query.x)
        torch.testing.assert_close(again.roll(-1, dims=-1), outputs)


def test_steps_beyond_those_meta_trained_reuse_the_last_learned_size() -> None:
    module, batch = build(learner(steps=2), SINES), sines()
    long = learner(steps=4).adapt(module, batch.support)
    module.rates = nn.Parameter(torch.cat([module.rates, module.rates[-1:], module.rates[-1:]]))
    torch.testing.assert_close(learner(steps=4).adapt(module, batch.support), long)


def test_the_step_size_may_change_after_meta_training_only_where_it_is_fixed() -> None:
    assert "inner_lr" in learner(learn_lr=False).adaptation_parameters
    assert "inner_lr" not in learner(learn_lr=True).adaptation_parameters
    assert {"steps", "strategy"} <= learner().adaptation_parameters


def test_without_meta_training_it_is_a_linear_classifier_that_works() -> None:
    maml = learner(backbone="identity", steps=20)
    module, batch = maml.build(BLOBS).to(DOUBLE), blobs(n_tasks=20)
    with torch.no_grad():
        outputs = maml.predict(module, maml.adapt(module, batch.support), batch.query.x)
    assert (outputs.argmax(-1) == batch.query.y).double().mean() > 0.8


def test_evaluation_holds_no_graph_and_no_memory(live_tensors: Callable[[], int]) -> None:
    maml = learner()
    module, batch = build(maml, SINES), sines()

    def evaluate() -> None:
        with torch.no_grad():
            adapted = maml.adapt(module, batch.support)
            outputs = maml.predict(module, adapted, batch.query.x)
        assert not any(value.requires_grad for value in (*adapted.values(), outputs))

    evaluate()
    before = live_tensors()
    for _ in range(100):
        evaluate()
    assert live_tensors() == before


def test_labels_permuted_within_tasks_score_chance() -> None:
    maml = learner(steps=5)
    torch.manual_seed(0)
    module = maml.build(BLOBS).to(DOUBLE)
    update = am.make_meta_optimizer("gradient", lr=0.01)
    update.start(maml, module, BLOBS)

    def permuted(batch: am.TaskBatch, seed: int) -> am.TaskBatch:
        order = torch.randperm(batch.query.y.shape[1], generator=torch.Generator().manual_seed(seed))
        query = am.Examples(batch.query.x, batch.query.y[:, order], n_classes=3)
        return am.TaskBatch(support=batch.support, query=query)

    for step in range(10):
        update.step(permuted(blobs(n_tasks=8), step))
    batch = permuted(blobs(n_tasks=200), 99)
    with torch.no_grad():
        outputs = maml.predict(module, maml.adapt(module, batch.support), batch.query.x)
    assert abs((outputs.argmax(-1) == batch.query.y).double().mean() - 1 / 3) < 0.06


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": -1}, "steps=-1 of maml"),
        ({"steps": 1.5}, "steps=1.5 of maml"),
        ({"inner_lr": 0}, "inner_lr=0 of maml"),
    ],
)
def test_impossible_parameters_are_named_before_any_work(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(am.InvalidParameter, match=message):
        learner(**wrong).build(SINES)

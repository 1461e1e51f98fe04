"""Implicit meta-gradients are those of the inner problem's minimum, and cost no memory for the way there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from autometa_plugins.optimization.implicit import conjugate_gradients
from torch import Tensor, nn

import autometa as am
from autometa.training import MetaTraining
from derivatives import build_moved, finite_differences
from learning import assert_better, assert_lower, judged, training_seed

DOUBLE = torch.float64
LAMBDA = 0.7


def info(problem: str = "regression") -> am.TaskInfo:
    return am.TaskInfo(problem=problem, input_shape=(2,), n_outputs=2, n_shot=6, n_query=5)


def tasks(problem: str = "regression", n_tasks: int = 3, n_outputs: int = 2) -> am.TaskBatch:
    torch.manual_seed(2)
    x = torch.randn(n_tasks, 12, 2, dtype=DOUBLE)
    if problem == "classification":
        y = torch.stack([torch.arange(12).roll(task) % 3 for task in range(n_tasks)])
    else:
        y = torch.sin(x @ torch.randn(n_tasks, 2, n_outputs, dtype=DOUBLE))
    every = am.Examples(x, y)
    return am.TaskBatch(support=every.select(slice(0, 8)), query=every.select(slice(8, 12)))


def imaml(**parameters: object) -> am.Learner:
    defaults = {"backbone": "identity", "steps": 40, "inner_lr": 0.2, "regularization": LAMBDA, "strategy": "bmm"}
    return am.make_learner("imaml", **{**defaults, **parameters})


def build(learner: am.Learner, problem: str = "regression", seed: int = 0) -> nn.Module:
    return build_moved(learner, info(problem), 0.3, seed)


def implicit_gradients(
    learner: am.Learner, module: nn.Module, batch: am.TaskBatch, problem: str = "regression", **parameters: object
) -> dict[str, Tensor]:
    """Return the gradient that the meta-optimizer descends: the step it takes with plain SGD of rate 1."""
    exact = {"cg_steps": 60, "damping": 0.0, "clip": None}
    update = am.make_meta_optimizer("implicit", optimizer="sgd", lr=1.0, schedule="constant", **{**exact, **parameters})
    update.start(learner, module, info(problem))
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    update.step(batch)
    gradients = {name: before[name] - parameter.detach() for name, parameter in module.named_parameters()}
    module.load_state_dict(before)
    return {name: gradient for name, gradient in gradients.items() if gradient.numel()}


def with_ones(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)


def exact_query_loss(head: Tensor, batch: am.TaskBatch) -> Tensor:
    """Return the mean query loss at the minima of quadratic inner problems that start at ``head`` [3, n_outputs]."""
    x, y = with_ones(batch.support.x), batch.support.y
    scale = 2 / y[0].numel()  # of the squared error, a mean over examples and outputs
    matrix = scale * x.mT @ x + LAMBDA * torch.eye(3, dtype=DOUBLE)
    minimum = torch.linalg.solve(matrix, scale * x.mT @ y + LAMBDA * head)
    return (with_ones(batch.query.x) @ minimum - batch.query.y).square().flatten(1).mean(dim=1).mean()


def test_on_a_quadratic_problem_the_gradient_is_that_of_the_closed_form() -> None:
    learner, batch = imaml(steps=200), tasks()
    module = build(learner)
    found = implicit_gradients(learner, module, batch)
    head = torch.cat([module.head.weight.detach().mT, module.head.bias.detach().unsqueeze(0)]).requires_grad_()
    (wanted,) = torch.autograd.grad(exact_query_loss(head, batch), head)
    torch.testing.assert_close(found["head.weight"].mT, wanted[:2], rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(found["head.bias"], wanted[2], rtol=1e-8, atol=1e-12)
    differences = finite_differences(lambda: exact_query_loss(head.detach(), batch), head.detach())
    torch.testing.assert_close(wanted, differences, rtol=1e-6, atol=1e-9)


@pytest.mark.thorough
@pytest.mark.parametrize("problem", ["regression", "classification"])
def test_gradients_of_a_network_equal_finite_differences_of_the_loss_after_many_steps(problem: str) -> None:
    backbone = am.make_backbone("mlp", hidden=(2,), activation="tanh")
    learner, batch = imaml(backbone=backbone, steps=60, inner_lr=0.2, regularization=2.0), tasks(problem, n_tasks=2)
    module = build(learner, problem)

    def objective() -> Tensor:
        with torch.no_grad():
            return am.query_losses(learner, module, batch).mean()

    for name, gradient in implicit_gradients(learner, module, batch, problem).items():
        expected = finite_differences(objective, module.get_parameter(name))
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-7, msg=lambda text, name=name: name + text)


class HeadOnly(am.Learner):
    """Ridge regression on features all tasks share: θ acts on the inner problem and on the query directly."""

    provides = frozenset({"gradient", "inner_objective"})

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.Sequential(nn.Linear(2, 4), nn.Tanh())

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        x = module(support.x)
        return {"weights": torch.linalg.solve(x.mT @ x + torch.eye(4, dtype=x.dtype), x.mT @ support.y)}

    def inner_objective(self, module: nn.Module, adapted: dict[str, Tensor], support: am.Examples) -> Tensor:
        error = self.predict(module, adapted, support.x) - support.y
        return (error.square().flatten(1).sum(dim=1) + adapted["weights"].square().flatten(1).sum(dim=1)) / 2

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        return module(x) @ adapted["weights"]


def test_parameters_that_the_adaptation_does_not_replace_get_both_their_gradients() -> None:
    learner, batch = HeadOnly(), tasks()
    module = learner.build(info()).to(DOUBLE)
    found = implicit_gradients(learner, module, batch)
    parameters = dict(module.named_parameters())
    wanted = torch.autograd.grad(am.query_losses(learner, module, batch).mean(), list(parameters.values()))
    for name, gradient in zip(parameters, wanted, strict=True):
        torch.testing.assert_close(found[name], gradient, rtol=1e-7, atol=1e-10)


def test_tasks_taken_apart_give_the_same_gradient() -> None:
    learner, batch = imaml(steps=20), tasks(n_tasks=5)
    module = build(learner)
    together = implicit_gradients(learner, module, batch)
    for name, gradient in implicit_gradients(learner, module, batch, chunk=2).items():
        torch.testing.assert_close(gradient, together[name])


def test_conjugate_gradients_solve_every_tasks_own_system() -> None:
    torch.manual_seed(0)
    roots = torch.randn(5, 8, 8, dtype=DOUBLE)
    matrices = roots @ roots.mT + torch.logspace(-1, 2, 5, dtype=DOUBLE).view(5, 1, 1) * torch.eye(8, dtype=DOUBLE)
    wanted = torch.randn(5, 8, dtype=DOUBLE)
    wanted[3] = 0

    def multiply(vector: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        whole = torch.cat([vector[0].flatten(1), vector[1]], dim=1)
        product = (matrices @ whole.unsqueeze(-1)).squeeze(-1)
        return product[:, :6].view(5, 2, 3), product[:, 6:]

    target = multiply((wanted[:, :6].view(5, 2, 3), wanted[:, 6:]))
    first, second = conjugate_gradients(multiply, target, steps=30)
    torch.testing.assert_close(torch.cat([first.flatten(1), second], dim=1), wanted, rtol=1e-8, atol=1e-8)


def test_a_task_that_is_at_no_minimum_stops_and_leaves_the_others_alone() -> None:
    diagonal = torch.tensor([[1.0, 2.0], [-1.0, -2.0]], dtype=DOUBLE)
    (solution,) = conjugate_gradients(lambda v: (diagonal * v[0],), (torch.ones(2, 2, dtype=DOUBLE),), steps=5)
    torch.testing.assert_close(solution, torch.tensor([[1.0, 0.5], [0.0, 0.0]], dtype=DOUBLE))


def test_memory_does_not_grow_with_the_inner_steps(
    live_tensors: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = tasks()

    def most_alive(steps: int) -> int:
        learner, counts = imaml(steps=steps), []
        module, objective = build(learner), learner.inner_objective

        def watch(module: nn.Module, adapted: dict[str, Tensor], support: am.Examples) -> Tensor:
            assert all(value.is_leaf for value in adapted.values())
            counts.append(live_tensors())
            return objective(module, adapted, support)

        monkeypatch.setattr(learner, "inner_objective", watch)
        update = am.make_meta_optimizer("implicit")
        update.start(learner, module, info())
        update.step(batch)
        return max(counts)

    most_alive(4)  # leaves behind what is measured once and kept
    assert most_alive(4) == most_alive(40)


@pytest.mark.slow
def test_meta_training_learns_sinusoids() -> None:
    sinusoids = am.make_tasks("sinusoid")
    learner = am.make_learner("imaml", backbone=am.make_backbone("mlp", hidden=(40, 40)))
    update = am.make_meta_optimizer("implicit", lr=5e-3)
    run = MetaTraining(learner, update, sinusoids, n_steps=100, tasks_per_step=8, seed=training_seed())
    before = judged(learner, run.module, sinusoids)
    run.run_to()
    after = judged(learner, run.module, sinusoids)
    assert_better(after, 0.8 * before, sinusoids.info)
    assert_better(after, 0.8 * judged(am.make_learner("imaml", steps=0), run.module, sinusoids), sinusoids.info)


@pytest.mark.parametrize("inner_lr", [1e-4, 0.1, 100.0])
@pytest.mark.parametrize("problem", ["regression", "classification"])
def test_no_step_raises_a_task_s_objective(problem: str, inner_lr: float) -> None:
    backbone = am.make_backbone("mlp", hidden=(8, 8))
    batch, heights = tasks(problem, n_tasks=6), []
    for steps in (0, 1, 2, 4, 8, 16):
        learner = imaml(backbone=backbone, steps=steps, inner_lr=inner_lr, regularization=2.0)
        module = build(learner, problem)
        with torch.no_grad():
            adapted = learner.adapt(module, batch.support)
            heights.append(learner.inner_objective(module, adapted, batch.support))
    fell = torch.stack(heights).diff(dim=0)
    assert (fell <= 1e-12).all()
    assert (heights[-1] < heights[0]).all()


def test_the_steps_can_be_differentiated() -> None:
    backbone = am.make_backbone("mlp", hidden=(3,), activation="tanh")
    learner, batch = imaml(backbone=backbone, steps=4, inner_lr=3.0, regularization=2.0), tasks(n_tasks=2)
    module = build(learner)
    loss = am.query_losses(learner, module, batch).mean()
    parameters = {name: value for name, value in module.named_parameters() if value.numel()}
    found = torch.autograd.grad(loss, list(parameters.values()))

    def objective() -> Tensor:
        with torch.no_grad():
            return am.query_losses(learner, module, batch).mean()

    for (name, parameter), gradient in zip(parameters.items(), found, strict=True):
        expected = finite_differences(objective, parameter)
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-8, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("meta_optimizer", ["gradient", "reptile"])
def test_other_meta_optimizers_train_the_same_learner(meta_optimizer: str) -> None:
    learner, batch = imaml(steps=5, regularization=2.0), tasks(n_tasks=60)
    module = build(learner, seed=training_seed())
    update = am.make_meta_optimizer(meta_optimizer)
    update.start(learner, module, info())
    before = am.query_losses(learner, module, batch).detach()
    for _ in range(10):
        update.step(batch)
    assert_lower(am.query_losses(learner, module, batch), before)


def test_the_distance_from_the_start_is_what_is_penalized() -> None:
    batch = tasks()
    learner = imaml(regularization=1e4, inner_lr=1e-5, steps=100)
    module = build(learner)
    for name, value in learner.adapt(module, batch.support).items():
        torch.testing.assert_close(value, module.get_parameter(name).expand_as(value), rtol=1e-2, atol=1e-2)
    far, near = (imaml(regularization=r).adapt(module, batch.support)["head.weight"] for r in (0.01, 1.0))
    start = module.head.weight
    assert ((far - start).norm(dim=(1, 2)) > (near - start).norm(dim=(1, 2))).all()


def test_a_task_may_have_any_number_of_classes() -> None:
    learner = imaml(steps=5)
    module = build(learner, "classification")
    x = torch.randn(2, 14, 2, dtype=DOUBLE)
    support = am.Examples(x, torch.arange(14).repeat(2, 1) % 7)
    renamed = am.Examples(x, (support.y + 1) % 7)
    outputs = learner.predict(module, learner.adapt(module, support), x)
    again = learner.predict(module, learner.adapt(module, renamed), x)
    torch.testing.assert_close(again.roll(-1, dims=-1), outputs)


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        ("learner", {"steps": -1}, "steps=-1 of learner 'imaml'"),
        ("learner", {"inner_lr": 0}, "inner_lr=0 of learner 'imaml'"),
        ("learner", {"inner_lr": "fast"}, "inner_lr='fast' of learner 'imaml'"),
        ("learner", {"regularization": -1.0}, "regularization=-1.0 of learner 'imaml'"),
        ("meta-optimizer", {"cg_steps": 0}, "cg_steps=0 of meta-optimizer 'implicit'"),
        ("meta-optimizer", {"damping": -1.0}, "damping=-1.0 of meta-optimizer 'implicit'"),
        ("meta-optimizer", {"chunk": 0}, "chunk=0 of meta-optimizer 'implicit'"),
    ],
)
def test_impossible_parameters_are_named_before_any_work(kind: str, wrong: dict[str, object], message: str) -> None:
    learner = imaml(**wrong) if kind == "learner" else imaml()
    update = am.make_meta_optimizer("implicit", **(wrong if kind == "meta-optimizer" else {}))
    with pytest.raises(am.InvalidParameter, match=message):
        update.start(learner, learner.build(info()), info())

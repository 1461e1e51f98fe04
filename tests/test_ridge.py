"""Closed-form ridge regression, held against scikit-learn's and its own derivative."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

import autometa as am
from autometa.contracts.forward import forward
from learning import assert_better, untrained_and_trained
from toy_tasks import Haystack, clouds, cut

N_WAY, N_SHOT, SHAPE = 3, 4, (5,)


def info(problem: str = "classification", shape: tuple[int, ...] = SHAPE, n_outputs: int = N_WAY) -> am.TaskInfo:
    return am.TaskInfo(problem=problem, input_shape=shape, n_outputs=n_outputs, n_shot=N_SHOT, n_query=4)


def classes(n_tasks: int = 6) -> am.Examples:
    return clouds(n_tasks, N_WAY, N_SHOT, *SHAPE, spread=3.0, dtype=torch.float32)


def real(support: am.Examples, n_outputs: int = 2) -> am.Examples:
    weights = torch.linspace(-1, 1, SHAPE[0] * n_outputs).reshape(SHAPE[0], n_outputs)
    return am.Examples(support.x, support.x @ weights + 3, support.mask)


@pytest.mark.parametrize(("n", "n_features"), [(12, 5), (4, 9)], ids=["primal", "woodbury"])
@pytest.mark.parametrize("penalty", [1e-4, 1.0, 30.0])
def test_ridge_equals_scikit_learns_on_the_rows_that_count(n: int, n_features: int, penalty: float) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(5, 2, (3, n, n_features)), rng.normal(-2, 3, (3, n, 2))
    mask = np.arange(n) < np.array([[n], [n - 1], [2]])
    padded_x, padded_y = (torch.tensor(np.where(mask[..., None], a, 0.0)) for a in (x, y))
    weights, intercept = am.solve_ridge(
        padded_x, padded_y, torch.tensor(mask, dtype=torch.float64), torch.tensor(penalty, dtype=torch.float64)
    )
    for task in range(3):
        expected = Ridge(alpha=penalty).fit(x[task][mask[task]], y[task][mask[task]])
        np.testing.assert_allclose(weights[task].T, expected.coef_, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(intercept[task, 0], expected.intercept_, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("n_features", [3, 7], ids=["primal", "woodbury"])
def test_the_gradient_through_the_solution_equals_finite_differences(n_features: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, n_features, dtype=torch.float64, requires_grad=True)
    y = torch.randn(2, 5, 1, dtype=torch.float64, requires_grad=True)
    log_penalty = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], dtype=torch.float64)

    def solve(x: Tensor, y: Tensor, log_penalty: Tensor) -> tuple[Tensor, Tensor]:
        return am.solve_ridge(x, y, mask, log_penalty.exp())

    assert torch.autograd.gradcheck(solve, (x, y, log_penalty))


def test_regularization_multiplies_the_learned_penalty() -> None:
    support = real(classes())
    plain, stronger = (am.make_learner("ridge", backbone="identity", regularization=r) for r in (1.0, 10.0))
    module = plain.build(info("regression", n_outputs=2))
    expected = stronger.adapt(module, support)
    torch.nn.init.constant_(module.log_penalty, float(np.log(10)))
    for name, value in plain.adapt(module, support).items():
        torch.testing.assert_close(value, expected[name])


def test_the_scale_of_targets_carries_over_to_predictions() -> None:
    support = real(classes())
    learner = am.make_learner("ridge", backbone="identity")
    module = learner.build(info("regression", n_outputs=2))
    outputs = forward(learner, module, support, support.x)
    moved = forward(learner, module, am.Examples(support.x, 100 * support.y - 7), support.x)
    torch.testing.assert_close(moved, 100 * outputs - 7, rtol=1e-4, atol=1e-3)


def test_a_plain_ridge_without_meta_training_fits_linear_data() -> None:
    support = real(classes())
    learner = am.make_learner("ridge", backbone="identity")
    outputs = forward(learner, learner.build(info("regression", n_outputs=2)), support, support.x)
    residual = (outputs - support.y).square().mean() / support.y.var()
    assert residual < 0.05


def test_the_order_of_the_support_does_not_matter() -> None:
    learner, support = am.make_learner("ridge"), classes()
    module = learner.build(info())
    order = torch.randperm(support.y.shape[1], generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        forward(learner, module, support, support.x),
        forward(learner, module, support.select(order), support.x),
        rtol=1e-4,
        atol=1e-4,
    )


def test_renaming_the_classes_renames_the_outputs() -> None:
    learner, support = am.make_learner("ridge"), classes()
    module, new_name = learner.build(info()), torch.tensor([2, 0, 1])
    renamed = am.Examples(support.x, new_name[support.y])
    torch.testing.assert_close(
        forward(learner, module, support, support.x),
        forward(learner, module, renamed, support.x)[..., new_name],
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("problem", ["classification", "regression"])
def test_ragged_tasks_together_equal_each_alone(problem: str) -> None:
    support = classes() if problem == "classification" else real(classes())
    learner = am.make_learner("ridge")
    module = learner.build(info(problem, n_outputs=N_WAY if problem == "classification" else 2))
    together, alone = cut(support)
    outputs = forward(learner, module, together, support.x)
    for task, own in enumerate(alone):
        expected = forward(learner, module, own, support.x[task : task + 1])
        torch.testing.assert_close(outputs[task : task + 1], expected, rtol=1e-4, atol=1e-4)


def test_any_number_of_classes_may_follow_meta_training() -> None:
    learner = am.make_learner("ridge")
    module = learner.build(info())
    support = am.Examples(torch.randn(2, 7, *SHAPE), torch.arange(7).repeat(2, 1))
    assert forward(learner, module, support, support.x).argmax(-1).equal(support.y)


def test_meta_training_learns_what_tells_new_classes_apart() -> None:
    tasks = Haystack()
    learner = am.make_learner("ridge", backbone="mlp")
    before, after = untrained_and_trained(learner, am.make_meta_optimizer("gradient"), tasks, n_steps=100)
    assert_better(after, before + 0.2, tasks.info)


def test_ridge_on_meta_trained_features_predicts_sinusoids() -> None:
    tasks, update = am.make_tasks("sinusoid", n_shot=10), am.make_meta_optimizer("gradient", lr=3e-3)
    before, after = untrained_and_trained(am.make_learner("ridge"), update, tasks, n_steps=300, tasks_per_step=16)
    assert_better(after, before / 3, tasks.info)


@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_an_impossible_value_is_named_also_when_it_is_set_after_meta_training(value: float) -> None:
    with pytest.raises(am.InvalidParameter, match=f"regularization={value}"):
        am.make_learner("ridge", regularization=value).build(info())
    learner = am.make_learner("ridge")
    module = learner.build(info())
    with pytest.raises(am.InvalidParameter, match=f"regularization={value}"):
        learner.set_params(regularization=value).adapt(module, classes())

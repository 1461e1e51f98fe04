"""The support vector machine is scikit-learn's, and its derivative that of its solution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from autometa_plugins.optimization.svm_head import solve_dual
from scipy.optimize import minimize
from sklearn.svm import LinearSVC
from torch import Tensor
from torch.nn import functional

import autometa as am
from learning import assert_better, chance, untrained_and_trained
from toy_tasks import clouds

DOUBLE = torch.float64


def info(problem: str = "classification", n_outputs: int = 3) -> am.TaskInfo:
    return am.TaskInfo(problem=problem, input_shape=(5,), n_outputs=n_outputs, n_shot=4, n_query=4)


def weights_of(x: Tensor, one_hot: Tensor, C: float) -> Tensor:
    return solve_dual(x @ x.mT, one_hot, C).mT @ x


# scikit-learn 1.9.0 counts iterations wrongly here.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("C", [0.01, 0.1, 3.0])
@pytest.mark.parametrize(("n_way", "n_shot", "n_features"), [(3, 1, 6), (5, 4, 10), (4, 6, 3)])
def test_weights_and_predictions_are_those_of_scikit_learn(n_way: int, n_shot: int, n_features: int, C: float) -> None:
    support = clouds(3, n_way, n_shot, n_features)
    found = weights_of(support.x, support.one_hot(), C)
    fresh = clouds(3, n_way, 10, n_features, seed=1).x
    for task in range(3):
        machine = LinearSVC(
            C=C, multi_class="crammer_singer", fit_intercept=False, tol=1e-8, max_iter=1_000_000, random_state=0
        ).fit(support.x[task], support.y[task])
        wanted = machine.coef_ - machine.coef_.mean(axis=0)  # what is common to all classes changes no difference
        np.testing.assert_allclose(found[task], wanted, rtol=1e-4, atol=1e-5)
        if np.abs(wanted).max() > 1e-3:  # where classes overlap too much for C, all weights are zero
            np.testing.assert_array_equal((fresh[task] @ found[task].mT).argmax(-1), machine.predict(fresh[task]))


def test_the_dual_is_that_of_a_general_solver_and_feasible() -> None:
    support, C = clouds(3, 3, 2, 4), 0.5
    one_hot = support.one_hot()
    kernels = support.x @ support.x.mT
    found = solve_dual(kernels, one_hot, C)
    torch.testing.assert_close(found.sum(dim=2), torch.zeros(3, 6, dtype=DOUBLE), rtol=0, atol=1e-10)
    assert (found <= C * one_hot + 1e-10).all()
    for task, kernel in enumerate(kernels.numpy()):
        linear = one_hot[task].numpy()

        def objective(flat: np.ndarray, kernel: np.ndarray = kernel, linear: np.ndarray = linear) -> float:
            dual = flat.reshape(6, 3)
            return 0.5 * float((dual * (kernel @ dual)).sum() - 2 * (dual * linear).sum())

        rows = {"type": "eq", "fun": lambda flat: flat.reshape(6, 3).sum(axis=1)}
        bounds = [(None, C * upper) for upper in linear.ravel()]
        solved = minimize(objective, np.zeros(18), bounds=bounds, constraints=rows, method="SLSQP", tol=1e-12)
        assert objective(found[task].numpy().ravel()) <= solved.fun + 1e-8
        np.testing.assert_allclose(found[task], solved.x.reshape(6, 3), atol=1e-4)


@pytest.mark.parametrize("C", [0.05, 1.0])
@pytest.mark.parametrize(("n_features", "step", "tolerance"), [(3, 1e-3, 1e-4), (8, 1e-5, 1e-6)])
def test_the_gradient_through_the_solution_equals_finite_differences(
    n_features: int, step: float, tolerance: float, C: float
) -> None:
    support = clouds(3, 3, 2, n_features)
    one_hot, x = support.one_hot(), support.x.clone().requires_grad_()
    mask = torch.tensor([[True] * 6, [True] * 6, [True] * 5 + [False]]).unsqueeze(-1)
    torch.manual_seed(0)
    along, seen = torch.randn_like(x), torch.randn(3, 3, n_features, dtype=DOUBLE)

    def function(x: Tensor) -> Tensor:
        return (weights_of(x * mask, one_hot * mask, C) * seen).sum(dim=(1, 2))

    (gradient,) = torch.autograd.grad(function(x).sum(), x)
    with torch.no_grad():
        slope = (function(x + step * along) - function(x - step * along)) / (2 * step)
    assert not gradient[2, 5].any()
    torch.testing.assert_close((gradient * along).sum(dim=(1, 2)), slope, rtol=tolerance, atol=tolerance)


def test_no_step_of_the_solver_is_recorded() -> None:
    support = clouds(3, 3, 2)
    kernel = (support.x @ support.x.mT).requires_grad_()
    recorded = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal recorded
        recorded += 1
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        solve_dual(kernel, support.one_hot(), 0.1)
    assert 0 < recorded < 25
    with torch.no_grad():
        assert not solve_dual(kernel, support.one_hot(), 0.1).requires_grad


def test_padded_rows_and_absent_classes_do_not_count() -> None:
    support = clouds(3, 3, 4)
    alone = weights_of(support.x, support.one_hot(), 0.3)
    x = functional.pad(support.x, (0, 0, 0, 3))
    one_hot = functional.pad(support.one_hot(), (1, 1, 0, 3))
    together = weights_of(x, one_hot, 0.3)
    torch.testing.assert_close(together[:, 1:4], alone, rtol=1e-6, atol=1e-8)
    assert not together[:, [0, 4]].any()


@pytest.mark.parametrize("case", ["copies", "contradiction", "zeros", "one class"])
def test_degenerate_support_sets_give_finite_weights_and_gradients(case: str) -> None:
    support = clouds(3, 3, 4)
    x, y = support.x.clone(), support.y
    if case == "copies":
        x = x[:, :3].repeat(1, 4, 1)
    elif case == "contradiction":
        x = torch.ones_like(x)
    elif case == "zeros":
        x = torch.zeros_like(x)
    else:
        y = torch.ones_like(y)
    x.requires_grad_()
    weights = weights_of(x, functional.one_hot(y, 3).to(DOUBLE), 0.1)
    weights.square().sum().backward()
    assert weights.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_a_larger_c_violates_margins_less() -> None:
    support = clouds(3, 3, 4)
    learner = am.make_learner("svm_head", backbone="identity")
    module = learner.build(info()).double()

    def violations(C: float) -> Tensor:
        adapted = learner.set_params(C=C).adapt(module, support)
        outputs = support.x @ adapted["weights"].mT
        own = outputs.gather(2, support.y.unsqueeze(-1))
        return (outputs + 1 - support.one_hot() - own).amax(dim=2).sum()

    assert violations(10.0) < violations(0.1) < violations(0.01)


def test_regression_is_refused_and_impossible_values_are_named() -> None:
    learner = am.make_learner("svm_head")
    with pytest.raises(am.Incompatible, match="Try 'ridge'"):
        learner.build(info("regression"))
    for C in (0.0, float("nan")):
        with pytest.raises(am.InvalidParameter, match=f"C={C} of learner 'svm_head'"):
            am.make_learner("svm_head", C=C).build(info())


def test_any_number_of_classes_may_follow_meta_training() -> None:
    learner = am.make_learner("svm_head", backbone="identity")
    module = learner.build(info()).double()
    support = clouds(3, 9, 3)
    outputs = learner.predict(module, learner.adapt(module, support), support.x)
    assert outputs.shape == (3, 27, 9)
    new_name = torch.arange(9).roll(4)
    renamed = am.Examples(support.x, new_name[support.y])
    again = learner.predict(module, learner.adapt(module, renamed), support.x)
    torch.testing.assert_close(again[..., new_name], outputs, rtol=1e-5, atol=1e-6)


def test_twenty_classes_need_no_larger_systems_than_one_class_and_few_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    support, sizes, factorize = clouds(2, 20, 5, 64), [], torch.linalg.cholesky_ex

    def watch(matrices: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(matrices.shape[-1])
        return factorize(matrices)

    monkeypatch.setattr(torch.linalg, "cholesky_ex", watch)
    solve_dual((support.x @ support.x.mT).requires_grad_(), support.one_hot(), 0.1).sum().backward()
    assert set(sizes) == {100}  # the number of examples
    assert len(sizes) <= 60


@pytest.mark.slow
def test_meta_training_tells_new_glyphs_apart() -> None:
    tasks = am.make_tasks("glyphs", size=8, n_way=5, n_shot=1, n_query=5)
    learner = am.make_learner("svm_head", backbone=am.make_backbone("conv4", n_filters=16))
    update = am.make_meta_optimizer("gradient", lr=3e-3)
    before, after = untrained_and_trained(learner, update, tasks, n_steps=60)
    assert_better(after, before, tasks.info)
    assert_better(after, 1.5 * chance(tasks.info), tasks.info)

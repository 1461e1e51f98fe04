"""Functions from Gaussian processes are drawn as told, and the best possible prediction of them is the true one."""

from __future__ import annotations

import doctest
import importlib
from typing import Any

import numpy as np
import pytest
import torch
from autometa_plugins.tasks.gaussian_process import KERNELS, GaussianProcess
from sklearn.gaussian_process.kernels import RBF, ExpSineSquared, Matern

import autometa as am
from autometa.testing.expectations import same_task

EVERY_KERNEL = pytest.mark.parametrize("kernel", sorted(KERNELS))


def sizes(batch: am.TaskBatch) -> tuple[torch.Tensor, torch.Tensor]:
    return batch.support.mask.sum(1), batch.query.mask.sum(1)


# what is drawn


@pytest.mark.parametrize(
    ("kernel", "reference"),
    [("rbf", RBF(0.3)), ("matern", Matern(0.3, nu=2.5)), ("periodic", ExpSineSquared(0.3, 0.45))],
)
def test_kernels_are_those_of_scikit_learn(kernel: str, reference: Any) -> None:
    x = np.linspace(-2, 2, 9)[:, None]
    found = KERNELS[kernel](np.abs(x - x.T), np.array(0.3), np.array(0.45))
    np.testing.assert_allclose(found, reference(x), rtol=1e-10, atol=1e-15)


@EVERY_KERNEL
def test_targets_have_the_variance_of_the_prior(kernel: str) -> None:
    batch = GaussianProcess(kernel=kernel, n_shot=2, n_query=1).sample(6000, seed=0)  # type: ignore[arg-type]
    squares = batch.support.y.square().mean((1, 2))
    # E[s²] for s ~ U[0.1, 1] is 0.37; the noise adds 0.0004.
    assert abs(float(squares.mean()) - 0.3704) < 4 * float(squares.std()) / len(squares) ** 0.5
    x = batch.support.x
    assert isinstance(x, torch.Tensor)
    assert x.min() > -2
    assert x.max() < 2
    assert abs(float(x.mean())) < 0.05


def test_noise_is_what_is_added_to_the_function() -> None:
    noisy, quiet = (GaussianProcess(n_shot=40, n_query=9, noise=noise) for noise in (0.3, 0.0))
    # Points so close that the function hardly differs between them.
    a, b = (sampler.sample(300, seed=1).support for sampler in (noisy, quiet))
    assert torch.equal(a.x, b.x)
    order = a.x.argsort(dim=1)
    gaps = a.x.gather(1, order).diff(dim=1) < 0.002
    for examples, wanted in ((a, 2 * 0.3**2), (b, 0.0)):
        steps = examples.y.gather(1, order).diff(dim=1)[gaps]
        assert len(steps) > 100
        assert abs(float(steps.square().mean()) - wanted) < 0.2 * wanted + 1e-3


@pytest.mark.thorough
def test_sizes_follow_the_protocol() -> None:
    n_shot, n_query = sizes(GaussianProcess().sample(4000, seed=2))
    assert (n_shot.min(), n_shot.max()) == (3, 46)
    assert n_query.min() == 3
    assert (n_shot + n_query).max() == 49
    np.testing.assert_allclose(np.bincount(n_shot)[3:] / 4000, 1 / 44, atol=0.013)
    many = n_query[n_shot == 3]
    assert many.max() == 46
    assert abs(float(many.double().mean()) - 24.5) < 5


def test_sizes_may_be_fixed_or_between_bounds() -> None:
    n_shot, n_query = sizes(GaussianProcess(n_shot=4, n_query=7).sample(9, seed=0))
    assert (set(n_shot.tolist()), set(n_query.tolist())) == ({4}, {7})
    n_shot, n_query = sizes(GaussianProcess(n_shot=(2, 5), n_query=(60, 62)).sample(200, seed=0))
    assert (set(n_shot.tolist()), set(n_query.tolist())) == ({2, 3, 4, 5}, {60, 61, 62})
    n_shot, n_query = sizes(GaussianProcess(n_shot=40).sample(200, seed=0))
    assert (set(n_shot.tolist()), set(n_query.tolist())) == ({40}, set(range(3, 10)))


@EVERY_KERNEL
def test_a_task_does_not_depend_on_how_many_are_drawn(kernel: str) -> None:
    sampler = GaussianProcess(kernel=kernel)  # type: ignore[arg-type]
    few, many = (sampler.sample(n, split="valid", seed=3) for n in (3, 40))
    assert all(same_task(few, i, many, i) for i in range(3))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kernel": "linear"}, "kernel='linear' of task sampler 'gaussian_process' must be one of"),
        ({"n_shot": 0}, "n_shot=0 must be a positive integer"),
        ({"n_shot": True}, "n_shot=True"),
        ({"n_query": (5, 2)}, r"n_query=\(5, 2\) must be .* low <= high"),
        ({"n_query": "some"}, "n_query='some' .* 'varied'"),
        ({"n_shot": 47}, "n_shot=47 must not exceed 46, or n_query be given"),
        ({"noise": -0.1}, "noise=-0.1"),
    ],
)
def test_impossible_parameters_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(am.InvalidParameter, match=message):
        GaussianProcess(**wrong).sample(1, seed=0)


# the best possible prediction


@pytest.mark.parametrize("parameters", [{}, {"kernel": "matern", "n_shot": (1, 4), "n_query": 3, "noise": 0.1}])
def test_the_oracle_conditions_the_joint_distribution_on_the_support(parameters: dict[str, Any]) -> None:
    sampler = GaussianProcess(**parameters)
    mean, std = sampler.oracle(8, split="valid", seed=4)
    drawn = sampler._draw(8, "valid", 4)
    for i, (n, m) in enumerate(zip(drawn.n_shot, drawn.n_query, strict=True)):
        known, asked = slice(0, n), slice(n, n + m)
        among, between = drawn.covariance[i, known, known], drawn.covariance[i, asked, known]
        solved = np.linalg.solve(among, np.c_[drawn.y[i, known], between.T])
        np.testing.assert_allclose(mean[i, :m, 0], between @ solved[:, 0], atol=1e-8)
        variance = np.diag(drawn.covariance[i, asked, asked] - between @ solved[:, 1:])
        np.testing.assert_allclose(std[i, :m, 0] ** 2, variance, rtol=1e-6, atol=1e-9)
        assert not mean[i, m:].any()


@pytest.mark.thorough
@EVERY_KERNEL
def test_the_error_of_the_oracle_is_the_one_it_tells(kernel: str) -> None:
    sampler = GaussianProcess(kernel=kernel)  # type: ignore[arg-type]
    query = sampler.sample(1500, split="test", seed=5).query
    mean, std = sampler.oracle(1500, split="test", seed=5)
    ratio = (((query.y - mean) / std).square().squeeze(-1) * query.mask).sum(1) / query.mask.sum(1)
    assert abs(float(ratio.mean()) - 1) < 4 * float(ratio.std()) / len(ratio) ** 0.5


def test_the_oracles_log_likelihood_on_the_protocol_is_the_known_one() -> None:
    found = GaussianProcess().oracle_log_likelihood(2000, split="test", seed=0)
    assert found.shape == (2000,)
    assert abs(float(found.mean()) - 1.512) < 0.06  # standard error 0.02


@EVERY_KERNEL
def test_functions_without_noise_can_be_drawn_and_predicted(kernel: str) -> None:
    sampler = GaussianProcess(kernel=kernel, noise=0.0, n_shot=46)  # type: ignore[arg-type]
    mean, std = sampler.oracle(200, seed=0)
    assert mean.isfinite().all()
    assert (std > 0).all()
    assert sampler.oracle_log_likelihood(200, seed=0).isfinite().all()


def test_reports_tell_what_no_learner_beats() -> None:
    facts = GaussianProcess().describe()
    assert abs(facts["best possible log-likelihood"] - 1.51) < 0.15
    assert 0.02 < facts["best possible mse"] < 0.08


def test_the_example_in_the_docstring_holds() -> None:
    assert not doctest.testmod(importlib.import_module(GaussianProcess.__module__)).failed

"""Harmonics, and linear tasks whose best possible score is known: distributions as told, and learners against it."""

from __future__ import annotations

import doctest
import importlib
from typing import Any

import numpy as np
import pytest
import torch
from autometa_plugins.tasks.harmonics import Harmonics
from autometa_plugins.tasks.linear import Linear
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct
from sklearn.linear_model import Ridge
from torch import Tensor

import autometa as am
from autometa.cli.task_pictures import draw_task
from learning import STANDARD_ERRORS, assert_better, judged, margin, trained, untrained_and_trained

# harmonics


def test_harmonics_are_two_sine_waves_of_related_frequency() -> None:
    sampler = Harmonics(n_shot=60, n_query=40, noise=0.0)
    batch = sampler.sample(30, seed=0)
    x, y = (torch.cat([getattr(part, name) for part in (batch.support, batch.query)], 1).double() for name in "xy")
    # For each frequency tried the best amplitudes and phases are a least-squares fit; the true one leaves nothing.
    left = []
    frequencies = torch.linspace(5, 7, 801, dtype=torch.float64)
    for w in frequencies:
        basis = torch.cat([(w * x).sin(), (w * x).cos(), (2 * w * x).sin(), (2 * w * x).cos()], -1)
        left.append((basis @ torch.linalg.lstsq(basis, y).solution - y).square().mean((1, 2)))
    least, best = torch.stack(left).min(0)
    assert (least < 1e-4).all()
    assert 0.4 < frequencies[best].std() < 0.8  # 0.577 for U[5, 7]


def test_harmonics_have_the_moments_they_tell() -> None:
    batch = Harmonics(n_shot=50, n_query=1).sample(4000, seed=1)
    x, y = batch.support.x, batch.support.y
    assert isinstance(x, Tensor)
    centres = x.mean((1, 2))
    assert abs(float(centres.std()) - 8 / 12**0.5) < 0.1
    assert abs(float((x - x.mean(1, keepdim=True)).std()) - 1) < 0.03
    assert abs(float(y.square().mean()) - (1 + 0.1**2)) < 0.06  # two waves of E[A²] / 2 each, and the noise
    quiet = Harmonics(n_shot=50, n_query=1, noise=0.0).sample(4000, seed=1)
    assert torch.equal(quiet.support.x, batch.support.x)
    assert abs(float((y - quiet.support.y).std()) - 0.1) < 0.002


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"n_shot": 0}, "n_shot=0"), ({"n_query": 1.5}, "n_query=1.5"), ({"noise": -1}, "noise=-1")],
)
@pytest.mark.parametrize("kind", [Harmonics, Linear])
def test_impossible_parameters_are_named(kind: type[am.TaskSampler], wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(am.InvalidParameter, match=message):
        kind(**wrong).sample(1, seed=0)


# linear

ODD = {"n_features": 3, "prior_mean": (1.0, -2.0, 0.5), "prior_scale": (2.0, 0.3, 0.0), "intercept_scale": 1.5}


def test_the_bayes_optimal_prediction_is_that_of_ridge_regression_from_the_prior_mean() -> None:
    sampler = Linear(n_features=4, n_shot=6, prior_mean=2.0, prior_scale=0.7, intercept_scale=0.7, noise=0.3)
    batch = sampler.sample(5, seed=0).to(dtype=torch.float64)
    found = sampler.bayes_optimal(batch).numpy()
    mean = np.array([2.0] * 4 + [0.0])
    for i in range(5):
        x, query = (np.c_[part.x[i].numpy(), np.ones(part.x.shape[1])] for part in (batch.support, batch.query))
        ridge = Ridge(alpha=0.3**2 / 0.7**2, fit_intercept=False).fit(x, batch.support.y[i, :, 0].numpy() - x @ mean)
        np.testing.assert_allclose(found[i, :, 0], ridge.predict(query) + query @ mean, rtol=1e-8)


def test_mean_and_variance_are_those_of_the_gaussian_process_with_a_linear_kernel() -> None:
    sampler = Linear(n_features=2, n_shot=4, prior_scale=0.8, intercept_scale=0.8 * 1.7, noise=0.4)
    batch = sampler.sample(3, seed=0).to(dtype=torch.float64)
    found, mse = sampler.bayes_optimal(batch), sampler.bayes_mse(batch)
    kernel = ConstantKernel(0.8**2) * DotProduct(sigma_0=1.7)
    for i in range(3):
        process = GaussianProcessRegressor(kernel, alpha=0.4**2, optimizer=None)
        process.fit(batch.support.x[i].numpy(), batch.support.y[i, :, 0].numpy())
        mean, deviation = process.predict(batch.query.x[i].numpy(), return_std=True)
        np.testing.assert_allclose(found[i, :, 0], mean, rtol=1e-7)
        np.testing.assert_allclose(mse[i], (deviation**2).mean() + 0.4**2, rtol=1e-7)


def test_weights_that_do_not_vary_are_known() -> None:
    sampler = Linear(**ODD, n_shot=300, n_query=300, noise=0.1)
    batch = sampler.sample(20, seed=0)
    x, y = batch.support.x.double(), batch.support.y.double()
    fitted = torch.linalg.lstsq(torch.cat([x, torch.ones_like(x[..., :1])], -1), y).solution[..., 0]
    torch.testing.assert_close(fitted[:, 2], torch.full((20,), 0.5).double(), atol=0.03, rtol=0)
    known = Linear(n_features=1, prior_mean=3.0, prior_scale=0.0, intercept_scale=0.0)
    batch = known.sample(2, seed=0)
    torch.testing.assert_close(known.bayes_optimal(batch), 3 * batch.query.x)
    torch.testing.assert_close(known.bayes_mse(batch), torch.full((2,), 0.25))


@pytest.mark.parametrize("parameters", [{}, ODD, {"n_features": 20, "n_shot": 5}], ids=["default", "odd", "wide"])
def test_the_expected_error_is_the_one_met(parameters: dict[str, Any]) -> None:
    sampler = Linear(**parameters)
    batch = sampler.sample(4000, split="test", seed=0)
    found = (sampler.bayes_optimal(batch) - batch.query.y).square().mean((1, 2))
    expected = sampler.bayes_mse(batch)
    z = (found - expected).mean() / ((found - expected).std() / len(found) ** 0.5)
    assert abs(float(z)) < 3


def test_padded_rows_do_not_count() -> None:
    sampler = Linear(n_features=3, n_shot=6, n_query=5)
    batch = sampler.sample(2, seed=0).to(dtype=torch.float64)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    query_mask = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    support = am.Examples(batch.support.x + 100 * ~mask[..., None], batch.support.y + 9 * ~mask[..., None], mask)
    query = am.Examples(batch.query.x, batch.query.y, query_mask)
    ragged = am.TaskBatch(support=support, query=query)
    alone = am.TaskBatch(support=batch.support.select(slice(4))[1:], query=batch.query[1:])
    torch.testing.assert_close(sampler.bayes_optimal(ragged)[1:], sampler.bayes_optimal(alone))
    torch.testing.assert_close(sampler.bayes_mse(ragged)[1:], sampler.bayes_mse(alone))
    fewer = am.TaskBatch(support=batch.support[:1], query=batch.query.select(slice(3))[:1])
    torch.testing.assert_close(sampler.bayes_mse(ragged)[:1], sampler.bayes_mse(fewer))


def test_predictions_keep_the_type_of_the_inputs() -> None:
    sampler = Linear()
    batch = sampler.sample(2, seed=0)
    assert sampler.bayes_optimal(batch).dtype == sampler.bayes_mse(batch).dtype == torch.float32
    assert sampler.bayes_optimal(batch).shape == batch.query.y.shape
    assert sampler.bayes_optimal(batch.to(dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_features": 0}, "n_features=0"),
        (
            {"prior_mean": (1.0, 2.0)},
            r"prior_mean=\(1.0, 2.0\) of task sampler 'linear' must be a number, or n_features=4 of them",
        ),
        ({"prior_scale": -1.0}, "prior_scale=-1.0 of task sampler 'linear' must not be negative"),
        ({"intercept_scale": -1.0}, "intercept_scale=-1.0"),
        ({"noise": 0.0}, "noise=0.0 of task sampler 'linear' must be a positive number"),
    ],
)
def test_an_impossible_prior_is_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(am.InvalidParameter, match=message):
        _ = Linear(**wrong).info


def best_possible(sampler: Linear, n_tasks: int) -> Tensor:
    """Squared errors of the best possible predictions of the tasks that :func:`judged` draws."""
    best = []
    for start in range(0, n_tasks, 25):
        batch = sampler.sample(25, split="test", seed=am.derive_seed(0, "test", start))
        best.append((sampler.bayes_optimal(batch) - batch.query.y).square().mean((1, 2)))
    return torch.cat(best)


@pytest.mark.thorough
@pytest.mark.parametrize(("prior_mean", "most"), [(0.0, 0.1), (1.0, 0.5)])
def test_ridge_comes_close_to_the_best_and_not_below_it(prior_mean: float, most: float) -> None:
    sampler, learner = Linear(prior_mean=prior_mean), am.make_learner("ridge", backbone="identity")
    training = trained(learner, am.make_meta_optimizer("gradient", lr=1e-2), sampler, n_steps=200, tasks_per_step=16)
    errors, best = judged(learner, training.module, sampler, n_tasks=1000), best_possible(sampler, 1000)
    assert_better(errors, best + most * best.mean(), sampler.info)
    assert margin(best, errors) < STANDARD_ERRORS


def test_maml_learns_the_prior_mean() -> None:
    sampler, learner = Linear(prior_mean=1.0), am.make_learner("maml", backbone="identity", inner_lr=0.05)
    gradient = am.make_meta_optimizer("gradient", lr=3e-2)
    untrained, errors = untrained_and_trained(learner, gradient, sampler, n_steps=150, tasks_per_step=16, n_tasks=1000)
    best = best_possible(sampler, 1000).numpy()
    assert_better(errors, best + (untrained - best) / 1.5, sampler.info)
    assert margin(best, errors) < STANDARD_ERRORS


# both


@pytest.mark.parametrize("name", ["autometa_plugins.tasks.linear"])
def test_examples_in_docstrings_run(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted
    assert not outcome.failed


@pytest.mark.parametrize("sampler", [Harmonics(), Linear(), Linear(n_features=1), Linear(**ODD)], ids=repr)
def test_samplers_conform_and_can_be_shown(sampler: am.TaskSampler) -> None:
    from rich.console import Console

    frame = am.check_plugin(sampler)
    assert not (frame["status"] == "failed").any(), frame.to_string()
    console = Console(width=80, record=True, quiet=True)
    draw_task(console, sampler.sample(1, seed=0), 0)

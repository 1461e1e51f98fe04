"""Mixed effects: a pooled model, corrected for every task by random effects."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from autometa_plugins.tabular.effects import choice, inducing, newcomers
from autometa_plugins.tabular.effects.calibration import n_independent, widening
from autometa_plugins.tabular.effects.choice import Candidate, Losses, choose
from autometa_plugins.tabular.effects.components import Likelihood
from autometa_plugins.tabular.effects.episodes import simulate
from autometa_plugins.tabular.effects.kernels import EffectColumns, grouped, kernel, kernels, self_kernel
from autometa_plugins.tabular.effects.memory import Rows
from autometa_plugins.tabular.effects.newcomers import Model, deviations, learn, means
from autometa_plugins.tabular.effects.pools import Pool
from autometa_plugins.tabular.effects.posterior import class_scores
from autometa_plugins.tabular.effects.remembered import Index
from autometa_plugins.tabular.effects.training_rows import TrainingRows, mixed_coefficients
from autometa_plugins.tabular.effects.variances import Covariance
from scipy.optimize import brentq, check_grad, minimize
from scipy.stats import norm
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import LinearSVC

import autometa as am
from autometa.contracts.forward import forward
from autometa.training import MetaTraining
from learning import assert_lower
from tiers import first_by_default

TWO = EffectColumns(((0,), (1,)), (False, False))
"""Two numeric columns."""


def double(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def model(weights: list[float], has_classes: bool = False, n_outputs: int = 1, degrees: float = 1e9) -> Model:
    n_features = (len(weights) - 1) // 2
    columns = EffectColumns(tuple((i,) for i in range(n_features)), (False,) * n_features)
    nothing = Pool(coefficients=np.zeros((1 + n_features, n_outputs)), has_classes=has_classes)
    given = torch.tensor(weights, dtype=torch.float64)
    return Model(
        pool=nothing,
        population=nothing,
        weights=given,
        mixed_weights=given,
        noise=torch.ones(n_outputs, dtype=torch.float64),
        degrees=degrees,
        calibration=torch.ones(5, dtype=torch.float64),
        columns=columns,
        has_classes=has_classes,
    )


def answered(made: Model, x: torch.Tensor, y: torch.Tensor, asked: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    base = torch.zeros_like(y)
    known = learn(made, x, base, y, torch.ones(x.shape[:2], dtype=torch.bool))
    return means(made, known, asked, y.new_zeros(*asked.shape[:2], y.shape[-1])), deviations(made, known, asked)


# In closed form


def test_a_random_intercept_shrinks_the_mean_as_the_textbook_says() -> None:
    x, y, asked = double(3, 7, 1), double(3, 7, 1, seed=1), double(3, 4, 1, seed=2)
    found, std = answered(model([0.4, 0, 0]), x, y, asked)
    torch.testing.assert_close(found, (7 * 0.4 / (1 + 7 * 0.4) * y.mean(1, keepdim=True)).expand(3, 4, 1))
    torch.testing.assert_close(std, torch.full((3, 4, 1), 1 + 0.4 / (1 + 7 * 0.4), dtype=torch.float64).sqrt())


def test_a_random_slope_is_ridge_regression_through_the_origin() -> None:
    x, y, asked = double(2, 6, 1), double(2, 6, 1, seed=1), double(2, 4, 1, seed=2)
    found, std = answered(model([0, 0.5, 0]), x, y, asked)
    square = x.square().sum(1, keepdim=True) + 1 / 0.5
    torch.testing.assert_close(found, asked * (x * y).sum(1, keepdim=True) / square)
    torch.testing.assert_close(std, (1 + asked.square() / square).sqrt())


def test_an_entity_of_wider_scatter_has_wider_intervals() -> None:
    x, y, asked = double(2, 12, 1), double(2, 12, 1, seed=1), double(2, 4, 1, seed=2)
    y[1] *= 5
    _, std = answered(model([0.4, 0, 0], degrees=6.0), x, y, asked)
    assert (std[1] > 3 * std[0]).all()


def test_effects_on_log_odds_are_the_most_likely_ones() -> None:
    x, weights = double(1, 8, 2), torch.tensor([0.7, 0.5, 0.2, 0.3, 0.6], dtype=torch.float64)
    y, base = torch.eye(3, dtype=torch.float64)[torch.tensor([[0, 1, 2, 0, 1, 0, 2, 0]])], double(1, 8, 3, seed=1)
    gram = kernel(x, x, weights, TWO)
    scores = class_scores(gram, base, y, torch.ones(1, 8, dtype=torch.bool))
    factor = torch.linalg.cholesky(gram[0]).numpy()

    def loss(free: np.ndarray) -> float:
        odds = base[0] + torch.from_numpy(factor @ free.reshape(8, 3))
        return float(-(odds.log_softmax(-1) * y[0]).sum()) + 0.5 * float(np.square(free).sum())

    best = minimize(loss, np.zeros(24), tol=1e-12).x.reshape(8, 3)
    torch.testing.assert_close((gram @ scores)[0], torch.from_numpy(factor @ best), atol=2e-5, rtol=0)


@pytest.mark.parametrize("variance", [1.0, 3.0, 400.0])
@pytest.mark.parametrize("n_classes", first_by_default(1, [2, 5]))
def test_effects_of_many_rows_of_one_class_are_the_root_of_their_equation(variance: float, n_classes: int) -> None:
    n, rest = 300, n_classes - 1
    gram = variance * torch.ones(2, n, n, dtype=torch.float64)
    mask = torch.arange(n) < torch.tensor([[n], [7]])
    y = torch.nn.functional.one_hot(torch.zeros(2, n, dtype=torch.int64), n_classes).double() * mask.unsqueeze(-1)
    scores = class_scores(gram, torch.zeros_like(y), y, mask)
    assert not scores[1, 7:].any()
    effects = (gram @ scores)[:, 0]
    for effect, size in zip(effects, (n, 7), strict=True):

        def left(e: float, size: int = size) -> float:
            """The others share what one loses."""
            return e - variance * size * rest * np.exp(-e / rest) / (np.exp(e) + rest * np.exp(-e / rest))

        root = brentq(left, 0, 60, xtol=1e-12)
        np.testing.assert_allclose(effect, [root, *[-root / rest] * rest], rtol=1e-6)


def test_kernels_are_counted_by_column_and_levels_are_alike_or_not() -> None:
    columns = EffectColumns(((0,), (1, 2)), (False, True, True))
    x = torch.tensor([[0.0, 1, 0], [2, 1, 0], [0, 0, 1]], dtype=torch.float64)
    every = torch.stack([values for _, values in kernels(x, x, columns)])
    assert every.shape == (5, 3, 3)
    torch.testing.assert_close(every[2], torch.tensor([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.float64))
    torch.testing.assert_close(every[4, 0], torch.tensor([1.0, 1, np.exp(-3)], dtype=torch.float64))
    weights = torch.rand(5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(kernel(x, x, weights, columns), torch.einsum("g,gnm->nm", weights, every))
    torch.testing.assert_close(self_kernel(x, weights, columns), kernel(x, x, weights, columns).diagonal())
    groups = torch.tensor([0, 1, 1, 2, 2])
    torch.testing.assert_close(grouped(x, x, columns, groups)[1], every[1] + every[2])


# Variance components


@pytest.mark.parametrize("known_noise", [False, True])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_the_likelihood_has_the_slope_of_finite_differences(known_noise: bool, n_outputs: int) -> None:
    x, mask = double(6, 5, 2), torch.arange(5) < torch.tensor([5, 5, 4, 3, 2, 1])[:, None]
    parts = grouped(x, x, TWO, torch.tensor([0, 1, 1, 2, 2]))
    noise = double(n_outputs, 6, 5, seed=1).abs() + 0.5 if known_noise else None
    likelihood = Likelihood(double(n_outputs, 6, 5, seed=2) * mask, mask, parts, noise, 0.3)
    theta = np.log([0.3, 0.1, 0.4, *([] if known_noise else [0.7, 8.0])])
    assert check_grad(lambda t: likelihood.loss(t)[0], lambda t: likelihood.loss(t)[1], theta) < 1e-6


def test_variances_of_balanced_data_are_those_of_the_analysis_of_variance() -> None:
    n, effects = 6, 1.5 * double(60, 1, seed=3)
    residuals = effects + 0.8 * double(60, n, seed=4)
    mask = torch.ones(60, n, dtype=torch.bool)
    found = Likelihood(residuals[None], mask, torch.ones(1, 60, n, n, dtype=torch.float64)).largest(torch.tensor([0.3]))
    within = float(residuals.var(1).mean())
    between = float(residuals.mean(1).square().mean()) - within / n
    assert found.degrees > 30  # no entity is an outlier
    assert found.noise == pytest.approx(within, rel=0.05)
    assert float(found.weights[0]) == pytest.approx(between / within, rel=0.05)


def test_an_outlier_among_entities_does_not_decide_for_all() -> None:
    residuals = 0.5 * double(40, 1, seed=3) + double(40, 6, seed=4)
    mask, parts = torch.ones(40, 6, dtype=torch.bool), torch.ones(1, 40, 6, 6, dtype=torch.float64)
    clean = Likelihood(residuals[None], mask, parts).largest(torch.tensor([0.3]))
    residuals[0] = 100 + 30 * double(6, seed=5)
    spoilt = Likelihood(residuals[None], mask, parts).largest(torch.tensor([0.3]))
    assert spoilt.degrees < clean.degrees
    assert spoilt.noise == pytest.approx(clean.noise, rel=0.3)
    assert float(spoilt.weights[0]) < 2 * float(clean.weights[0])


def test_a_mixed_pool_tells_what_varies_within_from_what_entities_differ_by() -> None:
    level = 2 * double(50, 1, seed=1)
    x = (level + 0.5 * double(50, 8, seed=2)).flatten()  # within an entity y grows with x, between entities it falls
    y = x.reshape(50, 8) - 2 * level + 0.1 * double(50, 8, seed=3)
    rows = TrainingRows(
        x=x.numpy()[:, None],
        targets=y.reshape(-1, 1).numpy(),
        entity=np.repeat(np.arange(50), 8),
        columns=EffectColumns(((0,),), (False,)),
        has_classes=False,
    )
    weights = torch.tensor([400.0, 0, 0], dtype=torch.float64)
    assert Ridge().fit(rows.x, rows.targets).coef_[0] < 0
    assert mixed_coefficients(rows, weights)[1, 0] == pytest.approx(1, abs=0.05)


# Remembering


def batch(x: torch.Tensor, y: torch.Tensor, ids: list[int] | None = None) -> am.TaskBatch:
    return am.TaskBatch(
        support=am.Examples(x[:, :2], y[:, :2]),
        query=am.Examples(x[:, 2:], y[:, 2:]),
        ids=None if ids is None else torch.tensor(ids),
    )


def test_equal_rows_of_one_task_are_kept_and_rows_seen_again_are_not() -> None:
    x, y = torch.zeros(2, 4, 1), torch.zeros(2, 4, 1)
    memory = Rows(1, 1, max_rows=100)
    assert memory.keep(batch(x, y, [5, 3])) == 8
    assert memory.keep(batch(x[:, :3], y[:, :3], [3, 5])) == 0
    assert memory.keep(batch(x + 1, y, [3, 5])) == 8
    assert memory.keep(batch(x, y)) == 8  # without ids every task is a new one


def test_a_memory_takes_no_more_than_it_may() -> None:
    memory, other = Rows(1, 1, max_rows=5), double(2, 4, 1, seed=1).float()
    assert memory.keep(batch(other, other, [0, 1])) == 5
    assert memory.keep(batch(other + 1, other, [0, 1])) == 0


# As a learner


def entities(
    n: int, n_rows: int, *, intercept: float = 1.0, slope: float = 0.0, noise: float = 0.5, seed: int = 0
) -> pd.DataFrame:
    """A table whose entities have one rule, but for an intercept and a slope of their own."""
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(0, spread, (n, 1)) for spread in (intercept, slope))
    x, z = rng.normal(size=(2, n, n_rows))
    y = a + (2 + b) * x - z + rng.normal(0, noise, (n, n_rows))
    names = np.repeat([f"e{i}" for i in range(n)], n_rows)
    return pd.DataFrame({"x": x.ravel(), "z": z.ravel(), "entity": names, "y": y.ravel()})


def table(frame: pd.DataFrame, **settings: Any) -> am.TaskSampler:
    return am.make_tasks("table", **{"data": frame, "task": "entity", "target": "y", "n_shot": 5, **settings})


def settled(tasks: am.TaskSampler, **settings: Any) -> MetaTraining:
    training = MetaTraining(
        am.make_learner("mixed_effects", **settings),
        am.make_meta_optimizer("collect"),
        tasks,
        n_steps=10,
        tasks_per_step=4,
        seed=0,
    )
    training.run_to()
    return training


def emptied(support: am.Examples) -> am.Examples:
    return support.with_parts(
        x=torch.zeros_like(support.x), y=torch.zeros_like(support.y), mask=torch.zeros_like(support.mask)
    )


def mse(outputs: torch.Tensor, query: am.Examples) -> np.ndarray:
    errors = (outputs - query.y).square().squeeze(-1) * query.mask
    return (errors.sum(1) / query.mask.sum(1)).double().numpy()


def test_one_step_sees_a_whole_table_and_a_linear_pool_leaves_no_row() -> None:
    training = settled(table(entities(20, 8)), pool="mixed")
    assert training.step_count == 1
    assert training.progress == 1.0
    assert len(training.module.memory) == 0
    assert training.module.state_dict()["memory.x"].numel() == 0


def test_it_learns_an_intercept_and_a_slope_of_a_new_entity() -> None:
    tasks = table(entities(160, 12, intercept=2.0, slope=1.0, noise=0.3), test_fraction=0.6)
    training = settled(tasks, pool="linear")
    drawn = tasks.sample(90, split="test", seed=0)
    own = forward(training.learner, training.module, drawn.support, drawn.query.x)
    without = forward(training.learner, training.module, emptied(drawn.support), drawn.query.x)
    assert_lower(mse(own, drawn.query), mse(without, drawn.query) / 2)


@pytest.mark.parametrize("n_shot", [0, 1, 5])
def test_where_entities_share_one_rule_it_is_no_worse_than_the_pool(n_shot: int) -> None:
    frame = entities(80, 12, intercept=0.0, noise=1.0)
    tasks = table(frame, n_shot=max(1, n_shot), test_fraction=0.5)
    training = settled(tasks, pool="linear")
    drawn = tasks.sample(40, split="test", seed=0)
    support = drawn.support if n_shot else emptied(drawn.support)
    own = mse(forward(training.learner, training.module, support, drawn.query.x), drawn.query)
    pooled = mse(forward(training.learner, training.module, emptied(drawn.support), drawn.query.x), drawn.query)
    gap = own - pooled
    assert gap.mean() <= 4 * gap.std(ddof=1) / len(gap) ** 0.5


def test_intervals_of_new_entities_hold_nine_of_ten() -> None:
    tasks = table(entities(120, 14, intercept=1.0, slope=0.5), n_shot=4, test_fraction=0.5)
    training = settled(tasks, pool="linear")
    drawn = tasks.sample(60, split="test", seed=0)
    for support in (drawn.support, drawn.support.select(slice(1)), emptied(drawn.support)):
        adapted = training.learner.adapt(training.module, support)
        mean, std = training.learner.predict_distribution(training.module, adapted, drawn.query.x)
        within = ((drawn.query.y - mean).abs() < 1.6449 * std).squeeze(-1)[drawn.query.mask].double().mean()
        assert 0.85 <= within <= 0.95


@pytest.mark.parametrize("has_classes", [False, True])
def test_what_makes_intervals_right_holds_on_beyond_the_largest_entity(has_classes: bool) -> None:
    x, entity = double(200, 2).numpy(), np.repeat(np.arange(40), 5)
    y = double(40, seed=1).numpy()[entity] + x[:, 0] + 0.5 * double(200, seed=2).numpy()
    targets = np.eye(2)[(y > 0).astype(int)] if has_classes else y[:, None]
    found = choose(TrainingRows(x=x, targets=targets, entity=entity, columns=TWO, has_classes=has_classes), "linear")
    assert found.calibration[2] != 1
    assert (found.calibration[3:] == found.calibration[2]).all()


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("n_entities", first_by_default(1, [8, 12, 20, 50]))
def test_a_factor_measured_on_few_entities_covers_nine_of_ten_rows_of_others(n_entities: int, share: float) -> None:
    rng, entity, covered = np.random.default_rng(n_entities), np.repeat(np.arange(n_entities), 10), []
    for _ in range(300):
        own, rest = rng.normal(size=(n_entities, 1)), rng.normal(size=(n_entities, 10))
        distances = (share**0.5 * own + (1 - share) ** 0.5 * rest).reshape(-1, 1)
        covered.append(2 * norm.cdf(1.6448536 * widening(distances, np.arange(len(entity)), entity)) - 1)
    assert 0.87 < np.mean(covered) < 0.93


def test_values_of_one_entity_count_as_far_as_they_differ() -> None:
    rng, entity = np.random.default_rng(0), np.repeat(np.arange(200), 10)
    own, places = rng.normal(size=(200, 1)), np.arange(2000)
    assert n_independent(own[entity], places, entity) == pytest.approx(200)
    assert 1500 < n_independent(rng.normal(size=(2000, 1)), places, entity) <= 2000
    half = 0.7**0.5 * own[entity] + 0.3**0.5 * rng.normal(size=(2000, 1))
    once = n_independent(half, places, entity)
    assert 250 < once < 600
    often = np.tile(places, 5)
    assert n_independent(half[often], often, entity[often]) == pytest.approx(once, rel=0.02)


@pytest.mark.parametrize("has_classes", [False, True])
def test_what_is_chosen_without_an_entity_does_not_see_it(has_classes: bool) -> None:
    x, entity = double(60, 2).numpy(), np.repeat(np.arange(6), 10)
    y = 2 * double(6, seed=1).numpy()[entity] + x[:, 0] + double(60, seed=2).numpy()
    targets = np.eye(2)[(y > 0).astype(int)] if has_classes else y[:, None]
    rows = TrainingRows(x=x, targets=targets, entity=entity, columns=TWO, has_classes=has_classes)
    answers = {"mean": np.zeros_like(targets), "linear": x[:, [0]] * np.linspace(-1, 1, targets.shape[1] + 1)[1:]}
    noise = torch.ones(targets.shape[1], dtype=torch.float64)
    candidates = [
        Candidate(name, Covariance(weights=a * torch.eye(5, dtype=torch.float64)[0], noise=noise, degrees=9.0))
        for name in answers
        for a in (0.0, 1.0, 4.0)
    ]
    drawn = list(simulate(entity, 0))
    found = Losses(rows, answers, candidates, drawn).without_each()
    for number in range(6):
        others = [few.take(entity[few.query[:, 0]] != number) for few in drawn]
        assert found[number, 0] == Losses(rows, answers, candidates, others).best()
        left = {name: values[entity != number] for name, values in answers.items()}
        fewer = rows.take(np.flatnonzero(entity != number))
        assert found[number, 1] == Losses(fewer, left, candidates, []).least()


DRAWS = {"intercept": (2, 1.0, 0.0), "slopes": (4, 1.0, 0.5), "no effect": (3, 0.0, 0.0), "wide": (10, 2.0, 0.3)}
"""Columns, and standard deviations of an entity's intercept and slopes."""


@pytest.mark.slow
@pytest.mark.parametrize("n_entities", [8, 12, 20, 50])
@pytest.mark.parametrize("drawn", DRAWS)
def test_intervals_hold_nine_of_ten_however_few_entities_train(drawn: str, n_entities: int) -> None:
    p, intercept, slope = DRAWS[drawn]
    columns, shots = EffectColumns(tuple((i,) for i in range(p)), (False,) * p), (0, 1, 2, 5, 10)
    covered = []
    for seed in range(20):
        rng = np.random.default_rng([seed, n_entities])
        x = rng.normal(size=(n_entities + 60, 30, p))
        slopes = np.linspace(1, -1, p) + rng.normal(0, slope, (len(x), 1, p))
        y = (x * slopes).sum(-1) + rng.normal(0, intercept, (len(x), 1)) + rng.normal(0, 0.7, x.shape[:2])
        y = (y / y.std())[..., None]
        train = TrainingRows(
            x=x[:n_entities, :15].reshape(-1, p),
            targets=y[:n_entities, :15].reshape(-1, 1),
            entity=np.repeat(np.arange(n_entities), 15),
            columns=columns,
            has_classes=False,
        )
        made = choose(train, "linear")
        new, truth = torch.from_numpy(x[n_entities:]), torch.from_numpy(y[n_entities:])
        for k in shots:
            mask, has_rows = torch.ones(60, k, dtype=torch.bool), torch.full((60,), k > 0)
            base = newcomers.ask(made, new, has_rows)
            known = learn(made, new[:, :k], base[:, :k], truth[:, :k], mask)
            mean, std = means(made, known, new[:, 10:], base[:, 10:]), deviations(made, known, new[:, 10:])
            covered.append(((mean - truth[:, 10:]).abs() < 1.6448536 * std).double().mean().item())
    found = np.reshape(covered, (20, len(shots))).mean(0)
    assert (found > 0.85).all(), found
    assert (found < 0.95).all(), found


def curves(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """20 rows of each of 40 entities; the level of an entity does not depend on the seed."""
    rng, level, entity = np.random.default_rng(seed), 1.5 * double(40).numpy(), np.repeat(np.arange(40), 20)
    x = rng.uniform(-2, 2, (800, 3))
    return x, 2 * np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + level[entity] + rng.normal(size=800), entity.astype(str)


@pytest.mark.thorough
def test_intervals_of_training_entities_hold_nine_of_ten(tmp_path: Path) -> None:
    (x, y, entity), (asked, truth, whose) = curves(1), curves(2)
    estimator = am.FewShotRegressor(am.make_learner("mixed_effects", pool="boosting"), random_state=0)
    estimator.fit(x, y, task=entity)
    mean, std = estimator.predict(asked, task=whose, return_std=True)
    assert 0.87 < (np.abs(mean - truth) < 1.6449 * std).mean() < 0.93
    assert np.square(mean - truth).mean() < 2.1
    own = entity == "7"
    expected = estimator.predict(asked[whose == "7"], task=whose[whose == "7"])
    estimator.save(tmp_path / "model.autometa")
    for known in (estimator, am.load(tmp_path / "model.autometa")):
        np.testing.assert_allclose(known.fit(x[own], y[own]).predict(asked[whose == "7"]), expected, rtol=1e-5)


@pytest.mark.thorough
def test_numbers_saved_without_what_pools_told_are_loaded() -> None:
    run = settled(table(entities(10, 6)), pool="boosting")
    numbers = run.module.state_dict()
    assert len(numbers["memory.told"]) == len(numbers["memory.x"]) == 36  # of 6 entities, as 4 are held out
    del numbers["memory.told"]
    fresh = run.learner.build(run.sampler.info)
    fresh.load_state_dict(numbers)
    support = double(1, 3, 2).float()
    assert run.learner.adapt(fresh, am.Examples(support, support[..., 0]))["solved"].isfinite().all()


@pytest.mark.parametrize("has_classes", [False, True])
def test_no_covariance_is_tried_twice(has_classes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    losses = choice.Losses
    monkeypatch.setattr(choice, "Losses", lambda *given: (seen.extend(given[2]), losses(*given))[1])
    x, entity = double(60, 2).numpy(), np.repeat(np.arange(12), 5)
    targets = np.eye(2)[(x[:, 0] > 0).astype(int)] if has_classes else x[:, :1]
    choose(TrainingRows(x=x, targets=targets, entity=entity, columns=TWO, has_classes=has_classes), "linear")
    tried = [tuple(one.covariance.weights.tolist()) for one in seen]
    assert len(set(tried)) == len(tried) == (13 if has_classes else 4)


@pytest.mark.parametrize("has_classes", [False, True])
def test_predicting_factors_nothing_and_pieces_of_rows_change_nothing(
    has_classes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, mask = model([0.7, 0.5, 0.3], has_classes, n_outputs=2), torch.arange(6) < torch.tensor([[6], [4], [0]])
    x, y, asked = double(3, 6, 1), double(3, 6, 2, seed=1), double(3, 20, 1, seed=2)
    y = (torch.eye(2, dtype=torch.float64)[y[..., 0].sign().clamp_min(0).long()] if has_classes else y) * mask[
        ..., None
    ]
    known, base = learn(made, x, torch.zeros_like(y), y, mask), double(3, 20, 2, seed=3)
    whole = means(made, known, asked, base), deviations(made, known, asked)

    def refused(*_: Any) -> None:
        raise AssertionError("factored again")

    monkeypatch.setattr(torch.linalg, "cholesky", refused)
    monkeypatch.setattr(newcomers, "_MOST_PLACES", 40)
    for together, pieces in zip(whole, (means(made, known, asked, base), deviations(made, known, asked)), strict=True):
        torch.testing.assert_close(pieces, together)


def many_rows(has_classes: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows of three entities with 300, 120 and no rows, their targets, and the mask."""
    x, noise = double(3, 300, 2), double(3, 300, 1, seed=1)
    y = 1 + x[..., :1] - (2 * x[..., 1:]).sin() + noise
    if has_classes:
        y = torch.eye(2, dtype=torch.float64)[(y[..., 0] > 0).long()]
    mask = torch.arange(300) < torch.tensor([[300], [120], [0]])
    return x * mask[..., None], y * mask[..., None], mask


def told(made: Model, x: torch.Tensor, y: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    known = learn(made, x, torch.zeros_like(y), y, mask)
    asked = double(1, 50, 2, seed=2).expand(len(x), -1, -1)
    return means(made, known, asked, torch.zeros(len(x), 50, y.shape[-1])), deviations(made, known, asked)


def few_rows_factored(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (inducing, newcomers):
        monkeypatch.setattr(module, "MOST_ROWS", 100)


@pytest.mark.parametrize("has_classes", [False, True])
@pytest.mark.parametrize("weights", [[0.8, 0, 0, 0, 0], [0.8, 0.5, 0.3, 0, 0], [0.0] * 5, [1e4, 1e-5, 0, 0, 0]])
def test_intercepts_and_slopes_of_many_rows_are_learned_at_a_few_of_them_exactly(
    weights: list[float], has_classes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, given = model(weights, has_classes, n_outputs=1 + has_classes, degrees=9.0), many_rows(has_classes)
    exact = told(made, *given)
    few_rows_factored(monkeypatch)
    for found, expected in zip(told(made, *given), exact, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    assert learn(made, given[0], torch.zeros_like(given[1]), given[1], given[2])["factor"].shape[-1] <= 3


@pytest.mark.parametrize("has_classes", [False, True])
def test_curves_of_many_rows_are_learned_at_some_of_them_nearly_as_well(
    has_classes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, given = model([0.8, 0.3, 0.2, 0.4, 0.4], has_classes, n_outputs=1 + has_classes), many_rows(has_classes)
    exact = told(made, *given)
    few_rows_factored(monkeypatch)
    means_found, deviations_found = told(made, *given)
    spread = exact[0][0].std()
    assert (means_found - exact[0])[0].square().mean().sqrt() < 0.05 * spread
    assert (deviations_found / exact[1] - 1).abs().mean() < 0.01
    torch.testing.assert_close(deviations_found, exact[1], rtol=0.1, atol=0)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    for again in (
        told(made, *(part[:, order] for part in given)),
        tuple(
            torch.cat(parts)
            for parts in zip(*(told(made, *(p[i : i + 1] for p in given)) for i in range(3)), strict=True)
        ),
    ):
        torch.testing.assert_close(again[0], means_found, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(again[1], deviations_found, atol=1e-6, rtol=1e-6)


def test_what_is_kept_of_an_entity_does_not_grow_beyond_a_thousand_rows() -> None:
    made, x = model([0.8, 0.3, 0.4]), double(1, 1300, 1)
    known = learn(made, x, torch.zeros_like(x), x, torch.ones(1, 1300, dtype=torch.bool))
    assert known["factor"].shape[-1] <= 1000
    assert known["n_rows"] == 1300


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_what_is_known_of_an_entity_is_kept_in_single_precision_at_least(dtype: torch.dtype) -> None:
    run = settled(table(entities(10, 6)), pool="linear")
    support = am.Examples(double(1, 4, 2).to(dtype), double(1, 4, 1, seed=1).to(dtype))
    known = run.learner.adapt(run.module, support)
    assert {value.dtype for value in known.values()} == {torch.float32, torch.bool, torch.int64}
    assert run.learner.predict(run.module, known, support.x).dtype == dtype


def test_an_entity_is_known_by_most_of_its_rows() -> None:
    x, entity = torch.tensor([[1.0], [2], [1], [3], [1]]), torch.tensor([0, 0, 1, 1, 2])
    index = Index(x, torch.zeros(5, 1), entity)
    asked = torch.tensor([[[1.0], [3], [9]], [[1], [2], [0]], [[1], [8], [0]], [[7], [-0.0], [0]]])
    mask = torch.tensor([[True, True, True], [True, True, False], [True, True, False], [True, True, False]])
    found = index.find(asked, torch.zeros(4, 3, 1), mask)
    assert found.tolist() == [[2, 3, -1], [0, 1, -1], [0, -1, -1], [-1, -1, -1]]


def test_a_task_without_rows_is_answered_by_the_pool() -> None:
    frame = entities(20, 8)
    tasks = table(frame)
    training = settled(tasks, pool="linear")
    drawn = tasks.sample(3, split="test", seed=0)
    rows = [whole.support for whole in tasks.whole_tasks("train")]
    x = np.concatenate([part.x[part.mask].double().numpy() for part in rows])
    y = np.concatenate([part.y[part.mask].double().numpy() for part in rows])
    found = forward(training.learner, training.module, emptied(drawn.support), drawn.query.x)
    alone = Ridge().fit(x, y).predict(drawn.query.x.flatten(0, 1).double().numpy())
    np.testing.assert_allclose(found.flatten().numpy(), alone.ravel(), atol=1e-5)


@pytest.mark.parametrize("pool", [pytest.param("mixed_average", marks=pytest.mark.thorough), RandomForestRegressor(5)])
def test_names_and_order_of_entities_and_rows_change_nothing(pool: Any) -> None:
    rng = np.random.default_rng(0)
    frame = entities(12, 8)
    learner = am.make_learner("mixed_effects", pool=pool)
    info = table(frame).info
    x = torch.tensor(frame[["x", "z"]].to_numpy(np.float32).reshape(12, 8, 2))
    y = torch.tensor(frame[["y"]].to_numpy(np.float32).reshape(12, 8, 1))
    outputs = []
    for order, within in ((np.arange(12), np.arange(8)), (rng.permutation(12), rng.permutation(8))):
        module = learner.build(info)
        given = batch(x[order][:, within], y[order][:, within], order.tolist() if not outputs else list(range(12)))
        learner.remember(module, given)
        learner.settle(module)
        outputs.append(forward(learner, module, am.Examples(x[:2, :3], y[:2, :3]), x[:2]))
    assert torch.equal(*outputs)


@pytest.mark.parametrize(
    "pool", first_by_default(1, ["linear", "boosting", "mixed_boosting", RandomForestRegressor(5, random_state=0)])
)
def test_a_saved_estimator_answers_as_before(pool: Any, tmp_path: Path) -> None:
    frame = entities(14, 8)
    x, y = frame[["x", "z"]], frame["y"]
    made = am.FewShotRegressor(am.make_learner("mixed_effects", pool=pool), random_state=0, device="cpu")
    made.meta_fit(x, y, task=frame["entity"], n_shot=3)
    made.fit(x[:4], y[:4])
    made.save(tmp_path / "made.autometa")
    again, unpickled = am.load(tmp_path / "made.autometa"), pickle.loads(pickle.dumps(made))
    for copied in (again, unpickled):
        for mine, other in zip(made.predict(x, return_std=True), copied.predict(x, return_std=True), strict=True):
            np.testing.assert_array_equal(mine, other)
    again.fit(x[8:12], y[8:12])
    made.fit(x[8:12], y[8:12])
    np.testing.assert_array_equal(made.predict(x), again.predict(x))
    assert (len(made.module_.memory) == 0) == (pool == "linear")


def test_without_meta_training_it_is_a_gaussian_process_on_the_rows_at_hand() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (60, 2))
    y = np.sin(2 * x[:, 0]) + x[:, 1]
    made = am.FewShotRegressor("mixed_effects").fit(x[:40], y[:40])
    assert made.score(x[40:], y[40:]) > 0.8
    labels = np.where(y > 0, "high", "low")
    assert am.FewShotClassifier("mixed_effects").fit(x[:40], labels[:40]).score(x[40:], labels[40:]) > 0.8


@pytest.mark.parametrize("problem", ["regression", "classification"])
@pytest.mark.parametrize(("n_entities", "n_rows"), first_by_default(1, [(1, 1), (1, 7), (2, 1), (2, 2), (20, 1)]))
@pytest.mark.parametrize("constant", [False, True])
def test_tables_of_hardly_any_rows_are_answered(problem: str, n_entities: int, n_rows: int, constant: bool) -> None:
    has_classes = problem == "classification"
    learner = am.make_learner("mixed_effects", pool="average")
    info = am.TaskInfo(
        problem=problem, input_shape=(2,), n_outputs=1 + has_classes, n_shot=2, n_query=2, shared_classes=True
    )
    module = learner.build(info)
    x, y = double(n_entities, n_rows, 2).float(), 0.0 if constant else double(n_entities, n_rows, 1, seed=1).float()
    y = y + torch.zeros(n_entities, n_rows, 1)
    rows = am.Examples(x, (y > 0).long()[..., 0] if has_classes else y, n_classes=2 * has_classes)
    learner.remember(module, am.TaskBatch(support=rows, query=rows.select([]), ids=torch.arange(n_entities)))
    learner.settle(module)
    for support in (rows, rows.select([])):
        assert forward(learner, module, support, x).isfinite().all()
        if not has_classes:
            _, std = learner.predict_distribution(module, learner.adapt(module, support), x)
            assert std.isfinite().all()
            assert (std > 0).all()


def test_several_targets_have_effects_of_their_own() -> None:
    learner = am.make_learner("mixed_effects", pool="linear")
    info = am.TaskInfo(problem="regression", input_shape=(1,), n_outputs=2, n_shot=4, n_query=4)
    module = learner.build(info)
    level, x = double(30, 1, 2, seed=1).float() * torch.tensor([1.0, 100.0]), double(30, 8, 1).float()
    y = level + x + 0.1 * double(30, 8, 2, seed=2).float() * torch.tensor([1.0, 100.0])
    learner.remember(module, batch(x[:25], y[:25], list(range(25))))
    learner.settle(module)
    outputs = forward(learner, module, am.Examples(x[25:, :4], y[25:, :4]), x[25:, 4:])
    errors = (outputs - y[25:, 4:]).square().mean((0, 1)) / torch.tensor([1.0, 1e4])
    assert (errors < 0.05).all()


# Classes


def shifted(n: int, n_rows: int, seed: int = 0) -> pd.DataFrame:
    """Two classes that lie on either side of a line, which every entity shifts."""
    rng = np.random.default_rng(seed)
    x, shift = rng.normal(size=(n, n_rows)), rng.normal(0, 3, (n, 1))
    share = 1 / (1 + np.exp(-(2 * x + shift)))
    names = np.repeat([f"e{i}" for i in range(n)], n_rows)
    label = np.where(rng.random((n, n_rows)) < share, "yes", "no").ravel()
    return pd.DataFrame({"x": x.ravel(), "entity": names, "y": label, "share": share.ravel()})


@pytest.mark.thorough
def test_probabilities_of_new_entities_are_right() -> None:
    frame = shifted(180, 24)
    new = frame["entity"].isin([f"e{i}" for i in range(60, 180)])
    made = am.FewShotClassifier(am.make_learner("mixed_effects", pool="linear"), random_state=0, device="cpu")
    made.meta_fit(frame[["x"]][~new], frame["y"][~new], task=frame["entity"][~new], n_shot=2)
    own, pooled, truth = [], [], []
    for _, rows in frame[new].groupby("entity"):
        if rows["y"][:8].nunique() < 2:
            continue
        made.fit(rows[["x"]][:8], rows["y"][:8])
        own.append(made.predict_proba(rows[["x"]][8:])[:, 1])
        pooled.append(1 / (1 + np.exp(-rows["x"][8:])))
        truth.append((rows["y"][8:] == "yes").to_numpy(float))
    told, right = np.stack(own), np.stack(truth)
    assert_lower(np.square(told - right).mean(1), np.square(np.stack(pooled) - right).mean(1))
    for low, high in ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0)):
        chosen = (told >= low) & (told < high)
        error = np.sqrt(0.25 / chosen.sum())
        assert abs(told[chosen].mean() - right[chosen].mean()) < 4 * error


def test_a_class_that_the_support_lacks_may_be_predicted() -> None:
    frame = shifted(30, 12)
    made = am.FewShotClassifier(am.make_learner("mixed_effects", pool="average"), random_state=0, device="cpu")
    made.meta_fit(frame[["x"]], frame["y"], task=frame["entity"], n_shot=2)
    support = am.Examples(torch.zeros(1, 2, 1), torch.zeros(1, 2, dtype=torch.int64), n_classes=2)
    outputs = forward(made.learner_, made.module_, support, torch.tensor([[[-3.0], [12.0]]]))
    assert outputs.argmax(-1).tolist() == [[0, 1]]


# Refused


@pytest.mark.parametrize(
    ("settings", "problem", "named"),
    [
        ({"pool": "forest"}, "regression", "'forest'"),
        ({"pool": "mixed"}, "classification", "'mixed'"),
        ({"pool": LogisticRegression()}, "regression", "scikit-learn regressor"),
        ({"pool": Ridge()}, "classification", "scikit-learn classifier"),
        ({"pool": LinearSVC()}, "classification", "predict_proba"),
        ({"max_rows": 0}, "regression", "max_rows=0"),
    ],
)
def test_what_cannot_work_is_named(settings: dict[str, Any], problem: str, named: str) -> None:
    info = am.TaskInfo(problem=problem, input_shape=(2,), n_outputs=2, n_shot=4, n_query=4, shared_classes=True)
    with pytest.raises(am.InvalidParameter, match=named):
        am.make_learner("mixed_effects", **settings).build(info)


def test_classes_drawn_anew_for_each_task_are_refused() -> None:
    info = am.TaskInfo(problem="classification", input_shape=(2,), n_outputs=2, n_shot=4, n_query=4)
    with pytest.raises(am.Incompatible, match="shared_classes"):
        am.make_learner("mixed_effects").build(info)


# On real tables

BENCHMARK = Path(__file__).parents[1] / "examples" / "benchmarks" / "tables" / "entities.py"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:column 'livch' is taken as categories")
@pytest.mark.parametrize("name", ["cigarette_sales_states", "texas_housing_cities", "verbal_aggression"])
def test_on_real_tables_it_is_ahead_of_the_best_baseline_of_every_cell(
    data_root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = data_root / "tables"
    if not (folder / "grouped").is_dir():
        pytest.skip("the grouped tables are not here")
    monkeypatch.syspath_prepend(BENCHMARK.parent)
    spec = importlib.util.spec_from_file_location("entities", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    protocol = benchmark.load_protocol(folder)
    ((_, _, frame),) = protocol.load_pack(folder, ("grouped",), [name])
    best = benchmark.best_baselines(folder).loc[name]
    for row in benchmark.score_table(protocol, frame, "mixed_effects"):
        assert row["own_score"] > best.loc[row["shots"], "best"]
        assert row.get("own_coverage", 0.9) >= 0.85


@pytest.mark.thorough
@am.parametrize_with_plugin_checks(am.make_learner("mixed_effects", pool="linear"))
def test_with_one_pool_it_conforms(check: Any) -> None:
    check()

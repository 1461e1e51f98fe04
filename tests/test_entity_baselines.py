"""Baselines that know entities: shrunken offsets, target-encoded entities, a linear mixed model, GPBoost."""

from __future__ import annotations

import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from autometa_plugins.baselines.encoded import cross_fitted
from autometa_plugins.baselines.linear_mixed import fit_one
from autometa_plugins.baselines.memory import EntityRows, TrainingRows
from autometa_plugins.baselines.shrinkage import log_odds_variance, pseudo_rows, shrunken_log_odds
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold
from torch import nn

import autometa as am
from autometa.comparison.plan.plan import make_plan
from autometa.comparison.plan.settings import Settings
from tiers import first_by_default

NAMES = ("sklearn_offset", "sklearn_encoded", "linear_mixed", "gpboost")
EACH = pytest.mark.parametrize("name", NAMES)
N_ENTITIES, N_ROWS, N_FEATURES = 12, 10, 3
BETA = np.array([1.0, -2.0, 0.5])


def entities(
    spread: float = 1.5, n_entities: int = N_ENTITIES, n_outputs: int = 1, slopes: float = 0.0, seed: int = 0
) -> TrainingRows:
    rng = np.random.default_rng(seed)
    entity = np.repeat(np.arange(n_entities), N_ROWS)
    x = rng.normal(size=(len(entity), N_FEATURES))
    own = slopes * rng.normal(size=(n_entities, N_FEATURES))
    y = (x * (BETA + own[entity])).sum(1) + spread * rng.normal(size=n_entities)[entity] + rng.normal(size=len(entity))
    targets = np.stack([(-1) ** j * y + 2 * j for j in range(n_outputs)], axis=1)
    # as single precision keeps them
    x, targets = (a.astype(np.float32).astype(np.float64) for a in (x, targets))
    return TrainingRows(x=x, targets=targets, entity=entity, has_classes=False)


def in_classes(rows: TrainingRows, n_classes: int = 2) -> TrainingRows:
    edges = np.quantile(rows.targets[:, 0], np.arange(1, n_classes) / n_classes)
    labels = np.searchsorted(edges, rows.targets[:, 0])
    return TrainingRows(x=rows.x, targets=np.eye(n_classes)[labels], entity=rows.entity, has_classes=True)


def batch(rows: TrainingRows) -> am.TaskBatch:
    """All rows as support sets, one task for each entity."""
    n, n_outputs = rows.n_entities, rows.targets.shape[1]
    x = torch.tensor(rows.x.reshape(n, -1, rows.x.shape[1]), dtype=torch.float32)
    if rows.has_classes:
        support = am.Examples(x, torch.tensor(rows.targets.argmax(1).reshape(n, -1)), n_classes=n_outputs)
    else:
        support = am.Examples(x, torch.tensor(rows.targets.reshape(n, -1, n_outputs), dtype=torch.float32))
    return am.TaskBatch(support=support, query=support.select(slice(0)), ids=torch.arange(n))


def learned(name: str, rows: TrainingRows, **parameters: Any) -> tuple[am.Learner, nn.Module]:
    learner = am.make_learner(name, **parameters)
    task_info = am.TaskInfo(
        problem="classification" if rows.has_classes else "regression",
        input_shape=(rows.x.shape[1],),
        n_outputs=rows.targets.shape[1],
        n_shot=5,
        n_query=5,
        shared_classes=rows.has_classes,
    )
    module = learner.build(task_info).double()
    learner.remember(module, batch(rows))
    learner.settle(module)
    return learner, module


def told(learner: am.Learner, module: nn.Module, support: am.Examples, x: np.ndarray) -> np.ndarray:
    adapted = learner.adapt(module, support)
    return learner.predict(module, adapted, torch.tensor(x).expand(len(support), *x.shape)).numpy()


def newcomer(k: int, rows: TrainingRows, seed: int = 7) -> tuple[am.Examples, np.ndarray, np.ndarray]:
    """A new entity with k rows: its support set, and the rows and targets in it."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(max(k, 1), N_FEATURES))
    mask = torch.full((1, max(k, 1)), k > 0)
    if rows.has_classes:
        labels = rng.integers(rows.targets.shape[1], size=len(x))
        support = am.Examples(torch.tensor(x)[None], torch.tensor(labels)[None], mask, rows.targets.shape[1])
        return support, x, np.eye(rows.targets.shape[1])[labels]
    y = (x @ BETA + 2 + rng.normal(size=len(x)))[:, None] * np.ones(rows.targets.shape[1])
    return am.Examples(torch.tensor(x)[None], torch.tensor(y)[None], mask), x, y


QUERY = np.random.default_rng(9).normal(size=(6, N_FEATURES))


# how much entities differ


def test_variances_within_and_between_are_those_of_an_analysis_of_variance() -> None:
    values = np.array([[1.0], [3.0], [2.0], [8.0], [10.0], [4.0]])
    rows = TrainingRows(x=np.zeros((6, 0)), targets=values, entity=np.array([0, 0, 0, 1, 1, 2]), has_classes=False)
    within = (1 + 1 + 0 + 1 + 1) / 3  # about the means 2, 9 and 4
    mean = 28 / 6
    spread = (3 * (2 - mean) ** 2 + 2 * (9 - mean) ** 2 + (4 - mean) ** 2) / 2
    between = (spread - within) / ((6 - 14 / 6) / 2)
    np.testing.assert_allclose(pseudo_rows(rows, values), within / between)


def test_one_row_of_each_entity_is_noise_and_entity_together() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 2)), rng.normal(size=200)
    _, variances = fit_one(x, y, np.arange(200), slopes=False)
    assert variances[:2].sum() == pytest.approx(y.var(), rel=0.05)


def test_small_units_change_no_share_of_the_entities() -> None:
    rows = entities(n_entities=30)
    plain, small = (fit_one(rows.x, unit * rows.targets[:, 0], rows.entity, slopes=False)[1] for unit in (1.0, 1e-9))
    np.testing.assert_allclose(small / small[0], plain / plain[0], rtol=1e-3)


def test_entities_that_do_not_differ_are_not_moved_from_the_population() -> None:
    values = np.tile([[1.0], [-1.0]], (6, 1))
    rows = TrainingRows(x=np.zeros((12, 0)), targets=values, entity=np.repeat(np.arange(6), 2), has_classes=False)
    assert np.isinf(pseudo_rows(rows, values)).all()
    even = TrainingRows(x=rows.x, targets=np.tile(np.eye(2), (6, 1)), entity=rows.entity, has_classes=True)
    assert log_odds_variance(even, np.zeros((12, 2))) == 0


def test_the_variance_of_log_odds_is_found_from_many_entities() -> None:
    rng = np.random.default_rng(0)
    entity, offsets = np.repeat(np.arange(4000), 10), rng.normal(0, 0.3, 4000)
    # two classes have offsets of half each, so that those of the pair vary by twice the variance of one
    second = rng.random(40000) < 1 / (1 + np.exp(-2 * offsets[entity] / 2**0.5))
    rows = TrainingRows(x=np.zeros((40000, 0)), targets=np.eye(2)[second.astype(int)], entity=entity, has_classes=True)
    # the offset of one class counts with its own curvature alone, half of it with that of the other class
    assert log_odds_variance(rows, np.zeros((40000, 2))) == pytest.approx(2 * 0.09, rel=0.15)


def test_offsets_of_log_odds_are_the_most_probable_ones() -> None:
    rng = np.random.default_rng(0)
    for n_classes in (2, 4):
        log_odds, targets = 3 * rng.normal(size=(5, n_classes)), np.eye(n_classes)[rng.integers(n_classes, size=5)]

        def loss(offset: np.ndarray, log_odds: np.ndarray = log_odds, targets: np.ndarray = targets) -> float:
            return float(-(log_softmax(log_odds + offset, axis=1) * targets).sum() + (offset**2).sum() / (2 * 0.7))

        best = minimize(loss, np.zeros(n_classes), tol=1e-10).x
        np.testing.assert_allclose(shrunken_log_odds(log_odds, targets, 0.7), best, atol=1e-5)


# what is answered


@pytest.mark.parametrize("k", [0, 1, 4])
def test_the_offset_is_the_shrunken_mean_of_what_the_pool_leaves(k: int) -> None:
    rows = entities(n_outputs=2)
    learner, module = learned("sklearn_offset", rows, estimator=Ridge())
    support, x, y = newcomer(k, rows)
    pool = Ridge().fit(rows.x, rows.targets)
    residuals = np.zeros_like(rows.targets)
    for known, asked in GroupKFold(5).split(rows.x, groups=rows.entity):
        residuals[asked] = rows.targets[asked] - Ridge().fit(rows.x[known], rows.targets[known]).predict(rows.x[asked])
    offset = (y - pool.predict(x)).sum(0) / (k + pseudo_rows(rows, residuals)) if k else 0
    assert (pseudo_rows(rows, residuals) > 0).all()
    assert (pseudo_rows(rows, residuals) < 2).all()
    np.testing.assert_allclose(told(learner, module, support, QUERY)[0], pool.predict(QUERY) + offset, rtol=1e-6)


@pytest.mark.parametrize("k", [0, 1, 4])
def test_classes_get_the_most_probable_offset_of_their_log_odds(k: int) -> None:
    rows = in_classes(entities(), 3)
    estimator = LogisticRegression(max_iter=1000)
    learner, module = learned("sklearn_offset", rows, estimator=estimator)
    support, x, y = newcomer(k, rows)
    labels = rows.targets.argmax(1)
    pool, answers = estimator.fit(rows.x, labels), np.zeros_like(rows.targets)
    query, known = pool.predict_log_proba(QUERY), pool.predict_log_proba(x)
    for others, asked in GroupKFold(5).split(rows.x, groups=rows.entity):
        answers[asked] = estimator.fit(rows.x[others], labels[others]).predict_log_proba(rows.x[asked])
    offset = shrunken_log_odds(known, y, log_odds_variance(rows, answers)) if k else 0
    np.testing.assert_allclose(told(learner, module, support, QUERY)[0], query + offset, rtol=1e-6)


@pytest.mark.parametrize("k", [0, 1, 4])
def test_a_new_entity_is_encoded_by_its_rows_and_the_population(k: int) -> None:
    rows = entities()
    learner, module = learned("sklearn_encoded", rows, estimator=Ridge())
    support, _, y = newcomer(k, rows)
    pseudo = pseudo_rows(rows, rows.targets)
    level = rows.targets.mean(0)
    code = (y.sum(0) + pseudo * level) / (k + pseudo) if k else level
    fitted = Ridge().fit(np.c_[rows.x, cross_fitted(rows, pseudo)], rows.targets)
    expected = fitted.predict(np.c_[QUERY, np.tile(code, (len(QUERY), 1))])
    np.testing.assert_allclose(told(learner, module, support, QUERY)[0].ravel(), expected.ravel(), rtol=1e-6)


def test_no_row_tells_its_own_target_in_the_encoded_column() -> None:
    rows = entities()
    before = cross_fitted(rows, np.ones(1))
    changed = rows.targets.copy()
    changed[17] += 100
    after = cross_fitted(TrainingRows(x=rows.x, targets=changed, entity=rows.entity, has_classes=False), np.ones(1))
    assert after[17] == before[17]
    assert (after[rows.entity == rows.entity[17]] != before[rows.entity == rows.entity[17]]).sum() >= N_ROWS // 2


@pytest.mark.parametrize("spread", first_by_default(1, [1.5, 0.3]))
def test_the_linear_mixed_model_is_that_of_statsmodels(spread: float) -> None:
    from statsmodels.regression.mixed_linear_model import MixedLM

    rows = entities(spread, n_entities=60)
    learner, module = learned("linear_mixed", rows)
    model = MixedLM(rows.targets[:, 0], np.c_[np.ones(len(rows)), rows.x], groups=rows.entity)
    expected = model.fit(reml=True, method=["powell"])
    np.testing.assert_allclose(module.coefficients[0], expected.fe_params, rtol=1e-3)
    noise, between, slopes = module.variances[0].numpy()
    np.testing.assert_allclose([noise, between], [expected.scale, expected.cov_re[0, 0]], rtol=5e-3)
    assert slopes == 0
    # an entity of the training rows is moved as statsmodels moves it
    support, x = batch(rows).support[4:5], QUERY
    effect = expected.random_effects[4].iloc[0]
    outputs = told(learner, module, support.to(dtype=torch.float64), x)[0, :, 0]
    np.testing.assert_allclose(outputs, np.c_[np.ones(6), x] @ expected.fe_params + effect, rtol=1e-3)


@pytest.mark.parametrize("effects", first_by_default(1, ["intercept", "slopes"]))
@pytest.mark.parametrize("k", [0, 1, 5])
def test_a_new_entity_gets_its_best_linear_unbiased_prediction(effects: str, k: int) -> None:
    rows = entities(n_entities=30, n_outputs=2, slopes=0.7)
    learner, module = learned("linear_mixed", rows, effects=effects)
    support, x, y = newcomer(k, rows)
    adapted = learner.adapt(module, support)
    mean, deviation = learner.predict_distribution(module, adapted, torch.tensor(QUERY)[None])
    design, asked = (np.c_[np.ones(len(part)), part] for part in (x[:k], QUERY))
    for j in range(2):
        noise, between, slope = module.variances[j].numpy()
        assert (slope > 0.1) == (effects == "slopes")
        beta, prior = module.coefficients[j].numpy(), np.diag([between, *[slope] * N_FEATURES])
        inverse = np.linalg.inv(design @ prior @ design.T + noise * np.eye(k))
        effect = prior @ design.T @ inverse @ (y[:k, j] - design @ beta)
        left = prior - prior @ design.T @ inverse @ design @ prior
        np.testing.assert_allclose(mean[0, :, j], asked @ (beta + effect), rtol=1e-8)
        expected = np.sqrt(np.einsum("nf,fg,ng->n", asked, left, asked) + noise)
        np.testing.assert_allclose(deviation[0, :, j], expected, rtol=1e-8)


def test_columns_that_others_tell_do_not_stop_a_mixed_model() -> None:
    rows = entities(n_entities=30)
    plain = fit_one(rows.x, rows.targets[:, 0], rows.entity, slopes=False)
    more = np.c_[rows.x, 1 - rows.x[:, :1], np.ones(len(rows)), rows.x[:, 1] + rows.x[:, 2]]
    found = fit_one(more, rows.targets[:, 0], rows.entity, slopes=False)
    np.testing.assert_allclose(found[1], plain[1], rtol=1e-3)
    told_by = [np.c_[np.ones(len(part)), part] for part in (rows.x, more)]
    np.testing.assert_allclose(told_by[1] @ found[0], told_by[0] @ plain[0], rtol=1e-3, atol=1e-3)
    assert (found[0] == 0).sum() == 3


@pytest.mark.parametrize(("n_entities", "n_rows"), [(1, 10), (10, 1), (2, 1), (1, 1)])
def test_a_mixed_model_of_hardly_any_rows_is_finite(n_entities: int, n_rows: int) -> None:
    rng = np.random.default_rng(0)
    entity = np.repeat(np.arange(n_entities), n_rows)
    for y in (rng.normal(size=len(entity)), np.ones(len(entity))):
        coefficients, variances = fit_one(rng.normal(size=(len(entity), 3)), y, entity, slopes=True)
        assert np.isfinite(coefficients).all()
        assert (variances >= 0).all()
        assert variances[0] > 0


def test_entities_that_do_not_differ_are_least_squares() -> None:
    rng = np.random.default_rng(0)
    entity, x, noise = np.repeat(np.arange(8), 5), rng.normal(size=(40, 2)), rng.normal(size=(8, 5))
    y = x @ [1.0, 2.0] + (noise - noise.mean(axis=1, keepdims=True)).ravel()  # not by as much as chance would have it
    for slopes in (False, True):
        coefficients, variances = fit_one(x, y, entity, slopes=slopes)
        design = np.column_stack([np.ones(40), x])
        np.testing.assert_allclose(coefficients, np.linalg.lstsq(design, y, rcond=None)[0], atol=0.05)
        assert variances[1] < 1e-3 * variances[0]


@pytest.mark.parametrize("k", [0, 1, 4])
def test_gpboost_moves_its_trees_by_the_shrunken_mean_of_what_they_leave(k: int) -> None:
    import gpboost

    rows = entities(n_entities=30)
    learner, module = learned("gpboost", rows, n_trees=20)
    model = gpboost.GPModel(group_data=rows.entity, likelihood="gaussian", num_parallel_threads=1)
    settings = {"learning_rate": 0.1, "max_depth": 3, "min_data_in_leaf": 20, "num_threads": 1, "verbose": -1}
    settings |= {"deterministic": True, "seed": 0}
    data = gpboost.Dataset(rows.x, rows.targets[:, 0], params={"verbose": -1})
    trees = gpboost.train(params=settings, train_set=data, gp_model=model, num_boost_round=20)
    noise, between = np.ravel(model.get_cov_pars())
    support, x, y = newcomer(k, rows)
    left = y[:k, 0] - trees.predict(data=x, ignore_gp_model=True)[:k]
    expected = trees.predict(data=QUERY, ignore_gp_model=True) + left.sum() / (k + noise / between)
    np.testing.assert_allclose(told(learner, module, support, QUERY)[0, :, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_gpboost_shifts_the_log_odds_of_classes(n_classes: int) -> None:
    rows = in_classes(entities(n_entities=30, spread=3.0), n_classes)
    learner, module = learned("gpboost", rows, n_trees=20)
    _, x, _ = newcomer(6, rows)
    outputs = []
    for k, label in ((0, 1), (6, 1), (6, 0)):
        one = am.Examples(torch.tensor(x)[None], torch.full((1, 6), label), torch.arange(6)[None] < k, n_classes)
        outputs.append(told(learner, module, one, QUERY)[0])
    odds = [each[:, 1] - each[:, 0] for each in outputs]
    shift = odds[1] - odds[0]
    assert shift.min() > 0.5
    np.testing.assert_allclose(shift, shift[0], rtol=1e-6)
    assert (odds[2] < odds[0] - 0.5).all()
    population = told(learner, module, newcomer(0, rows)[0], rows.x)[0]
    np.testing.assert_allclose(softmax(population, axis=1).mean(0), rows.targets.mean(0), atol=0.1)


@EACH
def test_the_numbers_of_threads_are_left_as_they_are(name: str) -> None:
    rows, before = entities(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        learner, module = learned(name, rows)
        told(learner, module, newcomer(3, rows)[0], QUERY)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# with estimators


def frame(n_entities: int = 20, seed: int = 0) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    rows = entities(n_entities=n_entities, seed=seed)
    columns = pd.DataFrame(rows.x, columns=["a", "b", "c"])
    columns["kind"] = np.where(rows.x[:, 0] > 0, "x", "y")
    return columns, pd.Series(50 + 10 * rows.targets[:, 0]), pd.Series(rows.entity.astype(str))


@pytest.mark.thorough
@EACH
def test_few_rows_bring_an_entity_from_the_population_to_itself(name: str) -> None:
    x, y, entity = frame(40)
    known = entity.astype(int) < 30
    estimator = am.FewShotRegressor(name, random_state=0, device="cpu")
    estimator.meta_fit(x[known], y[known], task=entity[known], n_shot=5)
    errors: dict[int, list[float]] = {0: [], 1: [], 5: []}
    for one in range(30, 40):
        own = np.flatnonzero(entity == str(one))
        for k, found in errors.items():
            estimator.fit(x.iloc[own[:k]], y.iloc[own[:k]])
            found.append(float(np.mean((estimator.predict(x.iloc[own[5:]]) - y.iloc[own[5:]]) ** 2)))
    assert np.mean(errors[5]) < 0.8 * np.mean(errors[0])
    assert np.mean(errors[1]) < 1.1 * np.mean(errors[0])
    assert np.mean(errors[0]) < 1000


@EACH
def test_a_file_and_a_pickle_answer_alike(name: str, tmp_path: Path) -> None:
    x, y, entity = frame(8)
    estimator = am.FewShotRegressor(name, random_state=0, device="cpu").meta_fit(x, y, task=entity, n_shot=5)
    estimator.fit(x[:3], y[:3])
    expected = estimator.predict(x[3:20])
    estimator.save(tmp_path / "model.autometa")
    for other in (am.load(tmp_path / "model.autometa"), pickle.loads(pickle.dumps(estimator))):
        np.testing.assert_array_equal(other.predict(x[3:20]), expected)
        np.testing.assert_array_equal(other.fit(x[:3], y[:3]).predict(x[3:20]), expected)


def test_a_file_of_a_mixed_model_holds_no_rows() -> None:
    _, module = learned("linear_mixed", entities())
    assert len(module) == 0
    _, module = learned("sklearn_offset", entities())
    assert len(module) == N_ENTITIES * N_ROWS


def test_rows_seen_again_are_remembered_once_and_equal_rows_of_an_entity_stay_as_many() -> None:
    memory = EntityRows(False, 1, 1, 100)
    x = torch.tensor([[[1.0], [1.0], [2.0]], [[1.0], [3.0], [3.0]]])
    examples = am.Examples(x, 2 * x)
    shown = am.TaskBatch(support=examples, query=examples.select(slice(0)), ids=torch.tensor([4, 9]))
    assert [memory.keep(shown) for _ in range(2)] == [6, 0]
    assert memory.content().entity.tolist() == [0, 0, 0, 1, 1, 1]


# what is not installed


@pytest.mark.parametrize(("name", "package", "extra"), [("linear_mixed", "statsmodels", "mixed"), ("gpboost",) * 3])
def test_without_its_package_a_learner_names_the_extra(
    name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(am.MissingData, match=f"needs the package {package}; .* the extra '{extra}'"):
        am.make_learner(name).build(am.make_tasks("sinusoid").info)


def test_a_comparison_of_all_learners_leaves_out_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gpboost", None)
    tasks = {"schools": am.make_tasks("table", data=pd.concat(frame(), axis=1), task=1, target=0, n_shot=5)}
    plan = make_plan(tasks, "all", Settings(n_trials=1), name="all")
    reasons = {skipped.learner: skipped.reason for skipped in plan.skipped}
    assert "install autometa with the extra 'gpboost'" in reasons["gpboost"]
    assert {"sklearn_offset", "sklearn_encoded", "linear_mixed"} <= {pair.learner for pair in plan.pairs}


@pytest.mark.parametrize("name", ["sklearn_offset", "sklearn_encoded", "gpboost", "linear_mixed"])
def test_classes_drawn_anew_for_each_task_are_refused(name: str) -> None:
    with pytest.raises(am.Incompatible, match="shared_classes|regression"):
        am.make_learner(name).build(am.make_tasks("digits").info)


def test_nothing_warns_where_entities_do_not_differ() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in NAMES:
            learner, module = learned(name, entities(spread=0.0))
            assert np.isfinite(told(learner, module, newcomer(2, entities())[0], QUERY)).all()

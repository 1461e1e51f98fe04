"""Rows of related tasks as a context, and the synthetic tables whose entities are related."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from autometa_plugins.tabular.priors.entities import PriorEntities
from autometa_plugins.tabular.related.context import _entity_left_out, _left_out
from autometa_plugins.tabular.related.newcomer import Newcomer, _without

import autometa as am
from tiers import first_by_default

PROBLEMS = ("classification", "regression")
SMALL: dict[str, Any] = {"weights": None, "max_context": 60}


def trained(problem: str, **params: Any) -> tuple[am.Learner, Any, am.TaskSampler]:
    tasks = PriorEntities(problem=problem, n_entities=40, n_rows=16, n_shot=4, n_query=6, **params)
    learner = am.make_learner("pfn_related", **SMALL)
    torch.manual_seed(0)
    module = learner.build(tasks.info).double().eval()
    for batch in tasks.whole_tasks("train") or ():
        learner.remember(module, batch.to(dtype=torch.float64))
    learner.settle(module)
    return learner, module, tasks


def drawn(tasks: am.TaskSampler, n: int = 6, split: str = "test") -> am.TaskBatch:
    return tasks.sample(n, split=split, seed=3).to(dtype=torch.float64)


def answer(learner: am.Learner, module: Any, support: am.Examples, x: torch.Tensor) -> torch.Tensor:
    return learner.predict(module, learner.adapt(module, support), x)


def rows(examples: am.Examples, tasks: slice | torch.Tensor, n: int | None = None) -> am.Examples:
    return am.Examples(examples.x[tasks, :n], examples.y[tasks, :n], n_classes=examples.n_classes)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_process_given_the_context_is_the_process_of_all_rows_together(problem: str) -> None:
    _, module, tasks = trained(problem)
    context, scale = module.context()
    batch = drawn(tasks, 1)
    newcomer = Newcomer(module.own, context, scale)
    kept = newcomer.learn(batch.support, [None], 60)
    cells = module.own.columns.read
    support, query = (context.encode(cells(part.x)) for part in (batch.support, batch.query))
    targets = batch.support.targets().double()
    targets = (targets if newcomer.has_classes else scale.standardise(targets))[0] - context.centre
    together = torch.zeros(6, len(context.centre), dtype=torch.float64)
    for place, process in enumerate(context.processes):
        other, own = (context.compare(support, part)[process.kernel] for part in (context.rows, support))
        across, shared = process.mark.across(other), torch.linalg.inv(process.inverse)
        matrix = torch.cat([
            torch.cat([shared, across.mT], 1),
            torch.cat([across, process.mark.within(own) + process.ridge * torch.eye(4)], 1),
        ])  # fmt: skip
        other, own = (context.compare(query, part)[process.kernel] for part in (context.rows, support))
        asked = torch.cat([process.mark.across(other), process.mark.within(own)], 1)
        solved = torch.linalg.solve(matrix, torch.cat([context.targets, targets]))
        together += kept["shares"][0, place] * (asked @ solved + context.centre)
        assert kept["alpha"][0, place] == pytest.approx(solved[-4:], abs=1e-6)
    found = newcomer._answer(cells(batch.query.x), {name: value[0] for name, value in kept.items()})
    assert found == pytest.approx(together, abs=1e-6)


def test_rows_and_entities_are_left_out_without_another_fit() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(12, 12, dtype=torch.float64, generator=generator)
    covariance, y = root @ root.mT + torch.eye(12), torch.randn(12, 2, dtype=torch.float64, generator=generator)
    entity = torch.arange(12) // 4
    inverse = torch.linalg.inv(covariance)
    for number in range(3):
        own, other = entity == number, entity != number
        fit = covariance[own][:, other] @ torch.linalg.solve(covariance[other][:, other], y[other])
        assert _entity_left_out(inverse, y, entity)[own] == pytest.approx(fit)
        rest = _without(inverse, torch.nonzero(own)[:, 0])
        assert rest[other][:, other] == pytest.approx(torch.linalg.inv(covariance[other][:, other]))
        assert rest[own] == pytest.approx(torch.zeros(4, 12), abs=1e-9)
    assert _left_out(inverse, y) == pytest.approx(_entity_left_out(inverse, y, torch.arange(12)))


@pytest.mark.parametrize("problem", first_by_default(1, PROBLEMS))
def test_tasks_are_learned_as_each_alone_and_rows_in_any_order(problem: str) -> None:
    learner, module, tasks = trained(problem)
    batch = drawn(tasks)
    whole = answer(learner, module, batch.support, batch.query.x)
    alone = [answer(learner, module, rows(batch.support, one), batch.query.x[one]) for one in torch.arange(6).split(1)]
    assert whole == pytest.approx(torch.cat(alone), abs=1e-6)
    order = torch.tensor([2, 0, 3, 1])
    turned = am.Examples(batch.support.x[:, order], batch.support.y[:, order], n_classes=batch.support.n_classes)
    assert whole == pytest.approx(answer(learner, module, turned, batch.query.x), abs=1e-6)
    again = learner.build(tasks.info).double().eval()
    again.own.load_state_dict(module.own.state_dict())
    for batch_of in tasks.whole_tasks("train") or ():
        for part in torch.arange(len(batch_of)).flip(0).split(7):
            learner.remember(again, batch_of[part].to(dtype=torch.float64))
    learner.settle(again)
    assert whole == pytest.approx(answer(learner, again, batch.support, batch.query.x), abs=1e-6)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_task_of_more_rows_than_are_read_is_left_to_its_own(problem: str) -> None:
    learner, module, tasks = trained(problem)
    learner.set_params(max_context=3)
    batch = drawn(tasks)
    fewer = torch.arange(4) < 3
    mask = torch.ones(6, 4, dtype=torch.bool)
    mask[0] = fewer
    support = am.Examples(batch.support.x, batch.support.y, mask=mask, n_classes=batch.support.n_classes)
    whole = answer(learner, module, support, batch.query.x)
    with torch.no_grad():
        alone = answer(am.make_learner("pfn"), module.own, rows(batch.support, slice(1, 6)), batch.query.x[1:])
    if problem == "classification":
        whole, alone = whole.log_softmax(dim=-1), alone.log_softmax(dim=-1)
    assert whole[1:] == pytest.approx(alone, abs=1e-6)
    few = answer(learner, module, rows(batch.support, slice(0, 1), 3), batch.query.x[:1])
    few = few.log_softmax(dim=-1) if problem == "classification" else few
    assert whole[:1] == pytest.approx(few, abs=1e-6)


def test_rows_that_many_tasks_hold_tell_no_task() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(0, 2, (30, 12, 3), generator=rng).float()
    y = torch.randint(0, 2, (30, 12, 1), generator=rng).float()
    learner = am.make_learner("pfn_related", max_context=200)
    module = learner.build(am.TaskInfo(problem="regression", input_shape=(3,), n_outputs=1, n_shot=5, n_query=6))
    learner.remember(
        module, am.TaskBatch(support=am.Examples(x[:20], y[:20]), query=am.Examples(x[:20, :0], y[:20, :0]))
    )
    mask = torch.ones(10, 12, dtype=torch.bool)
    assert module.returning(x[20:], y[20:], mask) == [None] * 10


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_task_that_comes_back_is_answered_as_if_new(problem: str) -> None:
    learner, module, tasks = trained(problem)
    whole = next(iter(tasks.whole_tasks("train") or ())).to(dtype=torch.float64)
    own = module.memory.entity
    back = int(own[0])
    support, asked = rows(whole.support, slice(back, back + 1), 14), whole.support.x[back : back + 1, 8:]
    found = answer(learner, module, support, asked)
    context, _ = module.context()
    newcomer = Newcomer(module.own, *module.context())
    kept = newcomer.learn(support, module.returning(support.x, support.targets(), support.mask), 60)
    new = newcomer.learn(support, [None], 60)
    number = module.returning(support.x, support.targets(), support.mask)[0]
    assert number is not None
    assert (context.entity == number).any()
    assert not kept["beta"][0, :, context.entity == number].abs().max() > 1e-6, "its rows in the context count twice"
    assert new["beta"][0, :, context.entity == number].abs().max() > 1e-3
    assert found.shape == (1, 8, tasks.info.n_outputs)


def alike(n_entities: int, seed: int, own_rules: bool = False) -> pd.DataFrame:
    """Entities that share one rule, but for their level; or have each its own."""
    rng = np.random.default_rng(seed)
    entity = np.repeat(np.arange(n_entities), 16)
    X = rng.normal(size=(len(entity), 3))
    signs = rng.normal(size=(n_entities, 2)) if own_rules else np.ones((n_entities, 2))
    first, second = signs[entity].T
    y = (
        first * X[:, 0]
        + second * np.sin(2 * X[:, 1])
        + rng.normal(size=n_entities)[entity]
        + 0.2 * rng.normal(size=len(entity))
    )
    return pd.DataFrame(X, columns=["a", "b", "c"]).assign(entity=entity, y=y)


def entities(table: pd.DataFrame) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs [entities, 16, 3] and targets [entities, 16, 1] of a table."""
    x = torch.tensor(table[["a", "b", "c"]].to_numpy(np.float32)).reshape(-1, 16, 3)
    return x, torch.tensor(table["y"].to_numpy(np.float32)).reshape(-1, 16, 1)


def errors(learner: am.Learner, module: Any, table: pd.DataFrame, n_rows: int) -> torch.Tensor:
    """Mean squared error of every entity's last six rows."""
    x, y = entities(table)
    found = answer(learner, module, am.Examples(x[:, :n_rows], y[:, :n_rows]), x[:, 10:])
    return (found - y[:, 10:]).square().mean(dim=(1, 2))


def remembering(table: pd.DataFrame) -> tuple[am.Learner, Any]:
    learner = am.make_learner("pfn_related", max_context=150)
    info = am.TaskInfo(problem="regression", input_shape=(3,), n_outputs=1, n_shot=5, n_query=6)
    module = learner.build(info).eval()
    x, y = entities(table)
    learner.remember(module, am.TaskBatch(support=am.Examples(x, y), query=am.Examples(x[:, :0], y[:, :0])))
    learner.settle(module)
    return learner, module


@pytest.mark.thorough
def test_related_tasks_help_and_unrelated_ones_do_little_harm() -> None:
    train, test = alike(40, 0), alike(60, 1)
    learner, module = remembering(train)
    alone = {n_rows: errors(am.make_learner("pfn"), module.own, test, n_rows) for n_rows in (2, 5, 10)}
    together = {n_rows: errors(learner, module, test, n_rows) for n_rows in (0, 2, 5)}
    for n_rows in (2, 5):
        gain = alone[n_rows] - together[n_rows]
        assert gain.mean() > 4 * gain.std() / len(gain) ** 0.5
    assert together[0].mean() < 0.8 * test["y"].var(), "without any row the others answer"
    gain = together[0] - together[5]
    assert gain.mean() > 4 * gain.std() / len(gain) ** 0.5, "rows of its own help too"
    strangers, others = alike(40, 2, own_rules=True), alike(60, 3, own_rules=True)
    learner, module = remembering(strangers)
    loss = errors(learner, module, others, 10) - errors(am.make_learner("pfn"), module.own, others, 10)
    assert loss.mean() < 0.1 * others["y"].var(), "entities that have nothing in common cost little"


@pytest.mark.parametrize("problem", ["classification", pytest.param("regression", marks=pytest.mark.slow)])
def test_files_and_pickles_answer_the_same(problem: str, tmp_path: Path) -> None:
    table = alike(20, 0)
    if problem == "classification":
        table = table.assign(y=np.where(table["y"] > 0, "high", "low"))
    kind = am.FewShotClassifier if problem == "classification" else am.FewShotRegressor
    estimator = kind(am.make_learner("pfn_related", max_context=50), device="cpu", random_state=0)
    estimator.meta_fit(table[table["entity"] < 15], "y", task="entity", n_shot=3)
    own = table[table["entity"] == 16]
    features = own[["a", "b", "c"]]
    estimator.fit(features[:5], own["y"][:5])
    ask = estimator.predict_proba if problem == "classification" else estimator.predict
    estimator.save(tmp_path / "model")
    for again in (am.load(tmp_path / "model"), pickle.loads(pickle.dumps(estimator))):
        same = again.predict_proba if problem == "classification" else again.predict
        np.testing.assert_allclose(same(features), ask(features), atol=1e-6)
        assert len(again.module_.memory) == 50, "only rows that are read are kept"


@pytest.mark.parametrize(
    ("params", "said"),
    [({"max_context": 1}, "max_context=1"), ({"max_rows": 0}, "max_rows=0"), ({"weights": 3}, "weights=3")],
)
def test_a_wrong_parameter_is_named(params: dict[str, Any], said: str) -> None:
    with pytest.raises(am.InvalidParameter, match=said):
        am.make_learner("pfn_related", **params).build(PriorEntities(problem="regression").info)


def test_classes_that_are_drawn_anew_are_refused() -> None:
    with pytest.raises(am.Incompatible, match="labels that mean the same in every task"):
        am.make_learner("pfn_related").build(am.make_tasks("prior_tables").info)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_entities_of_a_prior_keep_to_their_part_and_depart_from_what_they_share(problem: str) -> None:
    tasks = PriorEntities(problem=problem, n_entities=40)
    parts = [set(tasks.sample(200, split=split, seed=0).ids.tolist()) for split in ("train", "valid", "test")]
    assert [len(part) for part in parts] == [20, 10, 10]
    assert set.union(*parts) == set(range(40))
    batch = tasks.sample(40, seed=1)
    assert batch.support.y.shape[:2] == (40, 5)
    assert batch.query.y.shape[:2] == (40, 15)
    other = tasks.varied(1)
    assert (other.table, other.problem) != (tasks.table, "")
    spread = []
    for seed in range(30):
        y = next(iter(PriorEntities(problem="regression", table=seed).whole_tasks("train"))).support.y[..., 0]
        spread.append(float(y.mean(dim=1).var() / y.var()))
    assert min(spread) < 0.12, "in some tables entities have one level: 1 in 20 rows is chance"
    assert max(spread) > 0.5, "in others their levels are far apart"


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"problem": "ranking"}, "problem="),
        ({"n_entities": 7}, "n_entities=7"),
        ({"n_shot": 20}, "n_shot=20"),
        ({"n_columns": 0}, "n_columns=0"),
        ({"table": -1}, "table=-1"),
    ],
)
def test_a_wrong_size_of_a_prior_is_named(params: dict[str, Any], said: str) -> None:
    with pytest.raises(am.InvalidParameter, match=said):
        PriorEntities(**params).sample(2, seed=0)

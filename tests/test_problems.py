"""A problem is a record: all that is asked about it is read there, so one more record is one more problem."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import autometa as am
from autometa.contracts.problems import PROBLEMS, Problem, find_problem
from autometa.engine.random_state import fresh_module
from autometa.estimators.assemble import resolve_learner
from autometa.host.catalog import find
from autometa.testing.toys import TOYS, Lines, Shifts
from autometa.training import MetaTraining, evaluate

SUPERVISED = [problem for problem in PROBLEMS.values() if not problem.acts]


@pytest.mark.parametrize("problem", SUPERVISED, ids=lambda problem: problem.name)
def test_everything_that_a_record_names_is_there_and_fits(problem: Problem) -> None:
    assert PROBLEMS[problem.name] is problem
    assert problem.name in find("learner", problem.rows_learner or "").spec.problems
    assert problem.estimator.problem == problem.name
    assert problem.estimator.__name__ == problem.estimator_name
    for tasks in TOYS[problem.name]:
        assert tasks.info.problem_record is problem
        assert tasks.info.metric == problem.metric
        query = tasks.sample(3, seed=0).query
        assert query.problem_record is problem
        assert query.is_classification == problem.has_classes
        outputs = torch.zeros(*query.y.shape[:2], tasks.info.n_outputs)
        assert problem.score(outputs, query).shape == problem.loss(outputs, query.y).shape == (3,)


def test_records_have_names_and_metrics_of_their_own() -> None:
    for field in ("name", "metric", "metric_title", "estimator_name"):
        assert len({getattr(problem, field) for problem in PROBLEMS.values()}) == len(PROBLEMS)


def test_the_default_learner_of_rows_is_that_of_their_problem() -> None:
    for problem in SUPERVISED:
        made = problem.estimator()
        X, y = torch.randn(12, 2).numpy(), [0, 1] * 6
        assert type(made.fit(X, y).learner_) is find("learner", problem.rows_learner or "").spec.resolve()


def test_a_problem_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(am.InvalidParameter, match=r"problem='ranking' must be one of 'classification', 'regression'"):
        am.TaskInfo(problem="ranking", input_shape=(2,), n_outputs=1, n_shot=1, n_query=1)
    with pytest.raises(am.InvalidParameter, match="problem='ranking'"):
        am.Examples(torch.zeros(1, 2, 3), torch.zeros(1, 2), problem="ranking").problem_record  # noqa: B018


def test_examples_made_of_others_are_of_the_same_problem() -> None:
    mask = torch.tensor([[True, False], [True, True]])
    examples = am.Examples(torch.zeros(2, 2, 3), torch.tensor([[0, 0], [1, 0]]), mask, 4, problem="classification")
    features, labels = torch.ones(2, 2, 5), torch.tensor([[7, 0], [8, 9]])
    assert not examples.is_full
    seen, renamed = examples.with_parts(x=features), examples.with_parts(y=labels, n_classes=10)
    whole = examples.with_parts(mask=torch.ones_like(mask))
    assert {made.problem for made in (seen, renamed, whole, examples[:1], examples.select([1]))} == {"classification"}
    assert seen.x is features
    assert (seen.y is examples.y, seen.n_classes, seen.is_full) == (True, 4, False)
    assert (renamed.y is labels, renamed.n_classes, renamed.mask is mask) == (True, 10, True)
    assert whole.is_full


def test_scores_are_told_in_the_units_of_the_targets() -> None:
    lines, shifts = replace(Lines().info, target_scale=3.0), replace(Shifts().info, target_scale=3.0)
    torch.testing.assert_close(lines.in_target_units(torch.tensor([2.0])), torch.tensor([18.0]))
    torch.testing.assert_close(shifts.in_target_units(torch.tensor([0.5])), torch.tensor([0.5]))


# ---------------------------------------------------------------- one more problem


def absolute_loss(outputs: Tensor, y: Tensor) -> Tensor:
    absent = y.isnan()
    return (outputs - y).masked_fill(absent, 0).abs().flatten(1).sum(1) / (~absent).flatten(1).sum(1).clamp(min=1)


def closeness(outputs: Tensor, query: am.Examples) -> Tensor:
    """Larger is better, so that whatever takes real targets for squared errors gets the order wrong."""
    return -((outputs - query.targets()).abs().mean(dim=-1) * query.mask).sum(dim=1) / query.mask.sum(dim=1)


class AbsoluteRegressor(am.FewShotRegressor):
    problem = "absolute"


class AbsoluteLines(Lines):
    """Lines whose queries are judged by their absolute distance."""

    @property
    def info(self) -> am.TaskInfo:
        return replace(super().info, problem="absolute", target_scale=5.0)

    def sample(self, n_tasks: int, *, split: Any = "train", seed: int) -> am.TaskBatch:
        batch = super().sample(n_tasks, split=split, seed=seed)
        parts = (replace(part, problem="absolute") for part in (batch.support, batch.query))
        return am.TaskBatch(**dict(zip(("support", "query"), parts, strict=True)), ids=batch.ids)


class OwnRidge(type(am.make_learner("ridge"))):
    """A learner that no plugin offers claims no problem and may try any."""


@pytest.fixture
def absolute(monkeypatch: pytest.MonkeyPatch) -> Problem:
    module = ModuleType("absolute_problem")
    vars(module).update(loss=absolute_loss, score=closeness, AbsoluteRegressor=AbsoluteRegressor)
    monkeypatch.setitem(sys.modules, "absolute_problem", module)
    record = Problem(
        name="absolute",
        metric="closeness",
        metric_title="closeness",
        higher_is_better=True,
        is_share=False,
        unit_power=1,
        has_classes=False,
        loss_path="absolute_problem:loss",
        score_path="absolute_problem:score",
        learner="optimization/ridge",
        estimator_path="absolute_problem:AbsoluteRegressor",
    )
    monkeypatch.setitem(PROBLEMS, "absolute", record)
    return record


def test_one_more_record_is_meta_trained_and_judged_by_its_own_loss_and_score(absolute: Problem) -> None:
    tasks, learner = AbsoluteLines(), resolve_learner(OwnRidge(), "absolute")
    assert find_problem("absolute") is absolute
    run = MetaTraining(learner, am.make_meta_optimizer("gradient"), tasks, n_steps=1, tasks_per_step=4, seed=0)
    with torch.no_grad():
        batch = tasks.sample(25, split="test", seed=3)
        module = fresh_module(learner, tasks.info, seed=0)
        outcome = am.judge(learner, module, batch)
        distance = (outcome.outputs - batch.query.y).abs().mean(dim=(1, 2))
        torch.testing.assert_close(outcome.losses, distance)
        torch.testing.assert_close(outcome.scores, -distance)
        torch.testing.assert_close(outcome.errors, distance)
        fitness = am.PopulationLosses(learner, module, fitness="score")
        population = {name: value.expand(2, *value.shape) for name, value in module.named_parameters()}
        torch.testing.assert_close(fitness(population, batch), distance.expand(2, -1))
    run.run_to()
    judged = evaluate(learner, run.module, tasks, split="test", n_tasks=30, seed=0)
    assert (judged.scores < 0).all()
    assert judged.scores.mean() == pytest.approx(-5 * judged.losses.mean(), rel=1e-5)


def test_one_more_record_has_its_estimator_and_the_others_refuse_its_tasks(absolute: Problem) -> None:
    estimator = absolute.estimator(OwnRidge(), max_steps=1, random_state=0).meta_fit(AbsoluteLines())
    assert estimator.task_info_.problem == "absolute"
    with pytest.raises(am.Incompatible, match=r"AbsoluteLines are absolute.*use AbsoluteRegressor"):
        am.FewShotRegressor(max_steps=1).meta_fit(AbsoluteLines())

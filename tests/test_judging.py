"""There is one judge: what it tells of many tasks is what each of them alone tells, padded or not."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import autometa as am
from autometa.contracts.forward import present_classes
from autometa.contracts.problems import TASKS_AT_ONCE
from autometa.contracts.seeding import derive_seed
from autometa.engine.judging import timed
from autometa.engine.random_state import fresh_module
from autometa.testing.toys import Blobs, Lines, Shifts
from autometa.training.evaluation import evaluate, judge_all

PAIRS = [("prototypical", Blobs()), ("ridge", Lines()), ("maml", Lines()), ("in_context", Shifts())]


def built(name: str, tasks: am.TaskSampler, n_tasks: int = 4) -> tuple[am.Learner, nn.Module, am.TaskBatch]:
    learner = am.make_learner(name)
    module = fresh_module(learner, tasks.info, seed=0).double().eval()
    return learner, module, tasks.sample(n_tasks, split="test", seed=0).to(dtype=torch.float64)


def padded(examples: am.Examples, lengths: list[int]) -> am.Examples:
    """The first examples of every task, as many as it has; zeros in the place of the others."""
    mask = torch.arange(examples.y.shape[1]) < torch.tensor(lengths)[:, None]

    def cut(values: Tensor) -> Tensor:
        return values * mask.reshape(*mask.shape, *[1] * (values.dim() - 2))

    return am.Examples(cut(examples.x), cut(examples.y), mask, examples.n_classes)


@pytest.mark.parametrize(("name", "tasks"), PAIRS, ids=lambda value: str(value))
def test_many_tasks_are_judged_as_each_alone_by_hand(name: str, tasks: am.TaskSampler) -> None:
    learner, module, batch = built(name, tasks)
    with torch.no_grad():
        outcome = am.judge(learner, module, batch)
        for i in range(len(batch)):
            task = batch[i : i + 1]
            adapted = learner.adapt(module, task.support)
            outputs = learner.predict(module, adapted, task.query.x)
            present = present_classes(task.support)
            if present is not None and not learner.predicts_unseen_classes:
                outputs = outputs.masked_fill(~present.unsqueeze(1), torch.finfo(outputs.dtype).min)
            torch.testing.assert_close(outcome.outputs[i], outputs[0])
            torch.testing.assert_close(outcome.losses[i], am.task_losses(learner, outputs, task.query)[0])
            if task.query.is_classification:
                score = (outputs[0].argmax(dim=-1) == task.query.y[0]).double().mean()
            else:
                score = (outputs[0] - task.query.y[0]).square().mean()
            torch.testing.assert_close(outcome.scores[i], score)


@pytest.mark.parametrize(("name", "tasks"), [("prototypical", Blobs()), ("ridge", Lines())])
def test_padded_places_count_neither_in_losses_nor_in_scores(name: str, tasks: am.TaskSampler) -> None:
    learner, module, batch = built(name, tasks)
    shots, queries = [8, 6, 7, 8], [5, 1, 8, 3]
    ragged = am.TaskBatch(support=padded(batch.support, shots), query=padded(batch.query, queries))
    with torch.no_grad():
        together = am.judge(learner, module, ragged)
        for i, (n_support, n_query) in enumerate(zip(shots, queries, strict=True)):
            alone = am.TaskBatch(
                support=batch[i : i + 1].support.select(slice(n_support)),
                query=batch[i : i + 1].query.select(slice(n_query)),
            )
            judged = am.judge(learner, module, alone)
            torch.testing.assert_close(together.outputs[i, :n_query], judged.outputs[0])
            torch.testing.assert_close(together.losses[i], judged.losses[0])
            torch.testing.assert_close(together.scores[i], judged.scores[0])


@pytest.mark.parametrize(("name", "tasks"), PAIRS[:3], ids=lambda value: str(value))
def test_the_losses_are_those_that_meta_training_descends(name: str, tasks: am.TaskSampler) -> None:
    learner, module, batch = built(name, tasks)
    parameters = list(module.parameters())
    mine = torch.autograd.grad(am.judge(learner, module, batch).losses.sum(), parameters)
    theirs = torch.autograd.grad(am.query_losses(learner, module, batch).sum(), parameters)
    for slope, wanted in zip(mine, theirs, strict=True):
        torch.testing.assert_close(slope, wanted)


class Spied(am.Learner):
    """Another learner, which counts how often it adapts and keeps what it was told to judge."""

    def __init__(self, inner: am.Learner) -> None:
        self.inner = inner
        self.n_adapted = 0
        self.judged: list[Tensor] = []

    def build(self, info: am.TaskInfo) -> nn.Module:
        return self.inner.build(info)

    def adapt(self, module: nn.Module, support: am.Examples) -> Any:
        self.n_adapted += 1
        return self.inner.adapt(module, support)

    def predict(self, module: nn.Module, adapted: Any, x: Tensor) -> Tensor:
        return self.inner.predict(module, adapted, x)

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        self.judged.append(outputs)
        return 3 * self.inner.loss(outputs, y)


def test_a_learner_is_judged_by_its_own_loss_where_it_has_one() -> None:
    learner, module, batch = built("ridge", Lines())
    plain, own = am.judge(learner, module, batch), am.judge(Spied(learner), module, batch)
    torch.testing.assert_close(own.losses, 3 * plain.losses)
    torch.testing.assert_close(own.scores, plain.scores)
    assert not learner.has_own_loss
    assert Spied(learner).has_own_loss


def test_what_has_been_adapted_already_is_not_adapted_again() -> None:
    learner, module, batch = built("maml", Lines())
    spied = Spied(learner)
    outcome = am.judge(spied, module, batch, adapted=learner.adapt(module, batch.support))
    assert spied.n_adapted == 0
    torch.testing.assert_close(outcome.outputs, am.judge(learner, module, batch).outputs)


class Unadapted(Spied):
    """Answers zero whatever the support holds, so there is nothing to adapt."""

    def adapt(self, module: nn.Module, support: am.Examples) -> None:
        self.n_adapted += 1

    def predict(self, module: nn.Module, adapted: None, x: Tensor) -> Tensor:
        assert adapted is None
        return x.new_zeros(*x.shape[:2], 1)


def test_none_may_be_an_adapted_state() -> None:
    learner, module, batch = built("ridge", Lines())
    unadapted = Unadapted(learner)
    adapted = unadapted.adapt(module, batch.support)
    outcome = am.judge(unadapted, module, batch, adapted=adapted)
    torch.testing.assert_close(outcome.scores, batch.query.y.square().mean(dim=(1, 2)))
    am.query_losses(unadapted, module, batch, adapted=adapted)
    assert unadapted.n_adapted == 1
    timed(unadapted, module, batch)
    assert unadapted.n_adapted == 2


def test_evaluation_builds_no_graph_and_leaves_the_mode_as_it_was() -> None:
    learner, module, batch = built("maml", Lines())
    spied = Spied(learner)
    module.train()
    judge_all(spied, module, [batch, batch], Lines().info)
    assert module.training
    assert [outputs.requires_grad for outputs in spied.judged] == [False, False]
    assert am.judge(learner, module, batch).losses.requires_grad


def test_errors_are_scores_turned_round_where_larger_ones_are_better() -> None:
    outcome = am.judge(*built("prototypical", Blobs()))
    torch.testing.assert_close(outcome.errors, 1 - outcome.scores)
    outcome = am.judge(*built("ridge", Lines()))
    torch.testing.assert_close(outcome.errors, outcome.scores)


def test_an_evaluation_is_the_judge_on_its_tasks_in_the_units_of_the_targets() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"school": np.repeat([f"school {i}" for i in range(30)], 12), "hours": rng.normal(size=360)})
    frame["score"] = 50 * frame["hours"] + 20 * rng.normal(size=360)
    tasks = am.make_tasks("table", data=frame, task="school", target="score", n_shot=5)
    assert tasks.info.target_scale > 20
    learner = am.make_learner("ridge")
    module = fresh_module(learner, tasks.info, seed=0).eval()
    judged = evaluate(learner, module, tasks, split="test", n_tasks=TASKS_AT_ONCE, seed=4)
    batch = tasks.sample(TASKS_AT_ONCE, split="test", seed=derive_seed(4, "test", 0))
    with torch.no_grad():
        outcome = am.judge(learner, module, batch)
    np.testing.assert_allclose(judged.scores, tasks.info.target_scale**2 * outcome.scores.numpy(), rtol=1e-6)
    np.testing.assert_allclose(judged.losses, outcome.losses.numpy(), rtol=1e-6)


def test_adapting_and_predicting_take_time() -> None:
    learner, module, batch = built("maml", Lines())
    spied = Spied(learner)
    seconds = timed(spied, module, batch)
    assert seconds.adapt > 0
    assert seconds.predict > 0
    assert spied.n_adapted == 1
    assert not spied.judged


def test_another_number_of_targets_than_predicted_is_refused() -> None:
    learner, module, batch = built("ridge", Lines())
    wide = am.Examples(batch.query.x, batch.query.y.expand(-1, -1, 3), batch.query.mask)
    with pytest.raises(am.Incompatible, match="Ridge predicts 1 real targets and the tasks have 3"):
        am.judge(learner, module, am.TaskBatch(support=batch.support, query=wide))


@pytest.mark.parametrize(
    ("place", "value", "text"),
    [
        (0, None, "learner=None of judge must be an autometa.Learner object"),
        (0, "ridge", "learner='ridge' of judge must be"),
        (0, am.Learner, "learner=<class .* of judge must be"),
        (1, None, "module=None of judge must be a torch.nn.Module object"),
        (1, am.make_backbone("mlp"), "module=MLP.* of judge must be a torch.nn.Module object"),
        (2, None, "batch=None of judge must be an autometa.TaskBatch object"),
        (2, am.make_tasks("sinusoid"), "batch=Sinusoid.* of judge must be"),
    ],
)
def test_what_cannot_be_judged_is_refused_by_name(place: int, value: object, text: str) -> None:
    tasks, learner = am.make_tasks("sinusoid"), am.make_learner("ridge")
    given: list[Any] = [learner, learner.build(tasks.info), tasks.sample(2, seed=0)]
    given[place] = value
    with pytest.raises(am.InvalidParameter, match=text):
        inspect.unwrap(am.judge)(*given)

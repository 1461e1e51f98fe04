"""What is not finite is never a score: the run, the evaluation or the estimator fails, with its reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from torch import Tensor, nn

import autometa as am
from autometa.comparison.execution.adaptation_curve import adaptation_curve
from autometa.comparison.plan.domains import Domain
from autometa.comparison.plan.settings import Settings
from autometa.contracts.forward import task_scores
from autometa.contracts.step_sizes import advice_on_steps
from autometa.testing.toys import Blobs, Lines
from autometa.training import MetaTraining, evaluate
from tiers import first_by_default

pytestmark = pytest.mark.reports


class Broken(am.Learner):
    """Answers well, but for some queries of some tasks; ``where`` says which."""

    def __init__(self, value: float = torch.nan, after: int = 0, predicts_unseen_classes: bool = False) -> None:
        self.value = value
        self.after = after
        self.predicts_unseen_classes = predicts_unseen_classes

    def build(self, info: am.TaskInfo) -> nn.Module:
        network = nn.Linear(info.input_shape[0], info.n_outputs)
        network.register_buffer("calls", torch.zeros(()))
        return network

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        module.calls += module.training
        return support.targets().mean(dim=1, keepdim=True)

    def predict(self, module: nn.Module, adapted: Tensor, x: Tensor) -> Tensor:
        outputs = module(x) + adapted
        broken = torch.zeros(outputs.shape[:2], dtype=torch.bool)
        broken[-1, 0] = bool(module.calls >= self.after)
        return outputs.masked_fill(broken.unsqueeze(-1), self.value)


class HidesIt(Broken):
    """Has a loss of its own that makes a number of anything."""

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return outputs.nan_to_num(0, 0, 0).square().flatten(1).mean(1)


def trained(learner: am.Learner, tasks: am.TaskSampler, n_steps: int = 3, meta_optimizer: Any = None) -> MetaTraining:
    meta_optimizer = meta_optimizer or am.make_meta_optimizer("gradient")
    return MetaTraining(learner, meta_optimizer, tasks, n_steps=n_steps, tasks_per_step=2, seed=0)


@pytest.mark.parametrize("tasks", [Blobs(), Lines()], ids=["classes", "numbers"])
@pytest.mark.parametrize("made_by", [Broken, HidesIt])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_one_query_without_a_finite_answer_makes_loss_and_score_of_its_task_nan(
    tasks: am.TaskSampler, made_by: type[Broken], value: float
) -> None:
    learner = made_by(value)
    batch = tasks.sample(3, split="valid", seed=0)
    outcome = am.judge(learner, learner.build(tasks.info), batch)
    for found in (outcome.losses, outcome.scores, outcome.errors):
        assert found[:2].isfinite().all()
        assert not found[2].isfinite()
    padding = torch.ones_like(batch.query.mask)
    padding[:, 0] = False
    outcome = am.judge(learner, learner.build(tasks.info), replace(batch, query=batch.query.with_parts(mask=padding)))
    assert outcome.losses.isfinite().all()
    assert outcome.scores.isfinite().all()


@pytest.mark.parametrize("predicts_unseen_classes", [False, True])
def test_a_class_may_be_impossible_but_not_all_and_not_the_right_one(predicts_unseen_classes: bool) -> None:
    logits = torch.tensor([[[0.0, -torch.inf], [1.0, 2.0]], [[-torch.inf, 0.0], [1.0, 2.0]]], requires_grad=True)
    query = am.Examples(torch.zeros(2, 2, 1), torch.tensor([[0, 1], [0, 1]]))
    learner = Broken(predicts_unseen_classes=predicts_unseen_classes)
    losses = am.task_losses(learner, logits, query)
    assert losses[0].isfinite()
    assert losses[1] == torch.inf
    assert task_scores(logits, query).tolist() == [1.0, 0.5]
    losses[0].backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("meta_optimizer", ["gradient", "evolution_strategy"])
@pytest.mark.parametrize("tasks", [Blobs(), Lines()], ids=["classes", "numbers"])
def test_training_fails_at_the_step_where_an_answer_is_not_finite(tasks: am.TaskSampler, meta_optimizer: str) -> None:
    run = trained(Broken(after=3), tasks, 5, am.make_meta_optimizer(meta_optimizer))
    step = 3 if meta_optimizer == "gradient" else 2
    with pytest.raises(am.TrainingDiverged, match=f"Broken is nan at outer step {step};"):
        run.run_to()


@pytest.mark.parametrize("learner", first_by_default(1, ["maml", "boil"]))
def test_a_bundled_learner_that_diverges_is_no_chance_score(learner: str) -> None:
    wild = am.make_learner(learner, inner_lr=1e30, steps=5)
    run = trained(wild, am.make_tasks("digits", n_way=3))
    with pytest.raises(am.TrainingDiverged, match=r"at outer step \d; lower inner_lr of \w+, or clip or lr of"):
        run.run_to()
    judged = evaluate(wild, run.module, run.sampler, split="valid", n_tasks=5, seed=0)
    assert not np.isfinite(judged.scores).any()


@pytest.mark.parametrize(
    ("learner", "meta_optimizer", "advice"),
    [
        ("mixed_effects", "collect", "scale X"),
        ("prototypical", "gradient", "lower clip or lr of Gradient"),
        ("maml", "reptile", "lower inner_lr of MAML, or step_size of Reptile"),
        ("fine_tune", "pooled", "lower lr or network_lr of FineTune, or clip or lr of Pooled"),
    ],
)
def test_advice_names_what_there_is_to_lower(learner: str, meta_optimizer: str, advice: str) -> None:
    components = am.make_learner(learner), am.make_meta_optimizer(meta_optimizer)
    assert advice_on_steps(*components, otherwise="scale X") == advice


def test_weights_that_the_last_step_broke_are_found_without_another_loss() -> None:
    run = trained(am.make_learner("prototypical"), am.make_tasks("digits", n_way=3), 1)
    finite = run.meta_optimizer.step

    def step(batch: am.TaskBatch) -> dict[str, Tensor]:
        metrics = finite(batch)
        next(run.module.parameters()).data.fill_(torch.nan)
        return metrics

    run.meta_optimizer.step = step
    with pytest.raises(am.TrainingDiverged, match=r"weights that are not finite after outer step 1"):
        run.run_to()


class Holes(Blobs):
    """Draws inputs of which one is no number, from the third batch on."""

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        batch = super().sample(n_tasks, split=split, seed=seed)
        x = batch.query.x.clone()
        x[0, 0, 0] = torch.nan
        return replace(batch, query=batch.query.with_parts(x=x))


class UnknownTargets(Lines):
    """Draws targets of which one is no number."""

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        batch = super().sample(n_tasks, split=split, seed=seed)
        y = batch.query.y.clone()
        y[0, 0] = torch.nan
        return replace(batch, query=batch.query.with_parts(y=y))


@pytest.mark.parametrize(
    ("tasks", "what"), [(Holes(), "inputs of the query set"), (UnknownTargets(), "targets of the query set")]
)
def test_what_a_sampler_drew_wrong_is_told_of_the_sampler(tasks: am.TaskSampler, what: str) -> None:
    run = trained(am.make_learner("prototypical" if "inputs" in what else "ridge"), tasks)
    message = f"task sampler {type(tasks).__name__} drew tasks of split '{{}}' with {what}"
    with pytest.raises(am.InvalidData, match=message.format("train")):
        run.run_to()
    with pytest.raises(am.InvalidData, match=message.format("valid")):
        evaluate(run.learner, run.module, tasks, split="valid", n_tasks=30, seed=0)


@pytest.mark.thorough
def test_a_trial_that_diverges_fails_with_its_step_and_never_has_a_score() -> None:
    wild = am.make_learner("maml", inner_lr=1e30, steps=5, backbone="mlp")
    with pytest.warns(UserWarning, match="1 trial or final run failed"):
        comparison = am.compare(
            {"blobs": Blobs()}, {"wild": wild, "tame": "prototypical"},
            n_trials=1, max_steps=2, n_test_tasks=5, n_seeds=1,
        )  # fmt: skip
    assert "tame" in set(comparison.scores["learner"])
    assert "wild" not in set(comparison.scores["learner"])
    (reason,) = set(comparison.failures["reason"])
    assert reason.startswith("TrainingDiverged: the loss of MAML is nan at outer step")


class Doubling(am.Learner):
    """Its answers grow with every step, beyond all numbers."""

    def __init__(self, steps: int = 10) -> None:
        self.steps = steps

    @property
    def adaptation_parameters(self) -> frozenset[str]:
        return frozenset({"steps"})

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.Linear(info.input_shape[0], info.n_outputs)

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        return torch.full((len(support), 1, 1), 1e4, dtype=support.x.dtype) ** self.steps

    def predict(self, module: nn.Module, adapted: Tensor, x: Tensor) -> Tensor:
        return module(x) * adapted


def test_a_point_of_an_adaptation_curve_that_diverges_is_no_score() -> None:
    tasks = Blobs()
    domain = Domain(label="blobs", sampler=tasks, settings=Settings(n_test_tasks=5))
    points = dict(adaptation_curve(trained(Doubling(), tasks, 0), domain)["adaptation"])
    assert np.isfinite([points[steps] for steps in (0, 1, 3, 5)]).all()
    assert np.isnan(points[10])


class OneClassOnly(am.Learner):
    """Knows nothing of the class 1."""

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.Identity()

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        return torch.zeros(1, 1, support.n_classes)

    def predict(self, module: nn.Module, adapted: Tensor, x: Tensor) -> Tensor:
        logits = adapted.expand(*x.shape[:2], -1).clone()
        logits[..., 1] = -torch.inf
        return logits


def test_an_estimator_takes_a_class_that_is_impossible() -> None:
    X, y = load_iris(return_X_y=True)
    model = am.FewShotClassifier(OneClassOnly()).fit(X, y)
    assert set(model.predict(X)) == {0}
    np.testing.assert_allclose(model.predict_proba(X)[0], [0.5, 0, 0.5])

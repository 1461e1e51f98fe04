"""The outer loop and the evaluation: seeded, resumable, without leaks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import autometa as am
from autometa.contracts.forward import forward, task_losses, task_scores
from autometa.testing.toys import Shifts
from autometa.training import MetaTraining, check_compatible, evaluate
from learning import assert_alike, assert_better, chance, judged, training_seed


def training(**changes):
    options = {"n_steps": 12, "tasks_per_step": 4, "seed": 3} | changes
    return MetaTraining(
        am.make_learner("ridge"), am.make_meta_optimizer("gradient", lr=1e-2), am.make_tasks("sinusoid"), **options
    )


def parameters(run):
    return torch.cat([p.detach().flatten() for p in run.module.parameters()])


def test_the_same_seed_gives_the_same_parameters_and_another_seed_others():
    first, again, other = training(), training(), training(seed=4)
    for run in (first, again, other):
        run.run_to(1.0)
    assert torch.equal(parameters(first), parameters(again))
    assert not torch.equal(parameters(first), parameters(other))


def test_the_global_random_state_neither_matters_nor_changes():
    reference = training()
    reference.run_to(1.0)
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    run = training()
    run.run_to(1.0)
    evaluate(run.learner, run.module, run.sampler, split="test", n_tasks=5, seed=0)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(parameters(reference), parameters(run))


def test_a_run_continued_from_a_checkpoint_equals_one_that_was_never_stopped():
    whole, first, second = training(), training(), training()
    whole.run_to(1.0)
    first.run_to(0.5)
    second.load_state_dict(first.state_dict())
    second.run_to(1.0)
    assert second.step_count == whole.step_count == 12
    assert torch.equal(parameters(whole), parameters(second))
    assert list(second.history["step"]) == list(range(1, 13))
    np.testing.assert_array_equal(second.history["loss"], whole.history["loss"])


def test_meta_training_lowers_the_error_on_held_out_tasks():
    run = training(n_steps=150, tasks_per_step=16, seed=training_seed(3))
    before = judged(run.learner, run.module, run.sampler)
    run.run_to(1.0)
    assert_better(judged(run.learner, run.module, run.sampler), before / 2, run.sampler.info)


def test_a_run_bounded_by_seconds_ends_before_its_steps():
    run = training(n_steps=10_000_000, max_seconds=0.2)
    run.run_to(1.0)
    assert 0 < run.step_count < 10_000_000
    assert run.progress == 1.0


def test_a_diverging_loss_is_an_error_that_names_learner_and_step():
    run = MetaTraining(
        am.make_learner("ridge"),
        am.make_meta_optimizer("gradient", optimizer="SGD", lr=1e30),
        am.make_tasks("sinusoid"),
        n_steps=20,
        tasks_per_step=2,
        seed=0,
    )
    with pytest.raises((am.TrainingDiverged), match=r"Ridge.*outer step"):
        run.run_to(1.0)


def test_evaluation_gives_the_same_tasks_to_everybody_and_changes_nothing():
    run = training()
    state = {key: value.clone() for key, value in run.module.state_dict().items()}
    run.module.train()
    first = evaluate(run.learner, run.module, run.sampler, split="valid", n_tasks=30, seed=7)
    again = evaluate(run.learner, run.module, run.sampler, split="valid", n_tasks=30, seed=7)
    np.testing.assert_array_equal(first.scores, again.scores)
    assert run.module.training
    assert all(torch.equal(value, state[key]) for key, value in run.module.state_dict().items())


def test_the_first_tasks_of_a_longer_evaluation_are_those_of_a_shorter_one():
    run = training()
    short = evaluate(run.learner, run.module, run.sampler, split="test", n_tasks=30, seed=1)
    long = evaluate(run.learner, run.module, run.sampler, split="test", n_tasks=60, seed=1)
    np.testing.assert_allclose(short.scores, long.scores[:30], rtol=1e-5)


@pytest.mark.thorough
def test_a_thousand_evaluation_episodes_leave_no_tensor_behind(live_tensors):
    learner, sampler = am.make_learner("maml", steps=3, strategy="vmap"), am.make_tasks("sinusoid")
    run = MetaTraining(learner, am.make_meta_optimizer("gradient"), sampler, n_steps=2, tasks_per_step=4, seed=0)
    run.run_to(1.0)

    evaluate(learner, run.module, sampler, split="test", n_tasks=25, seed=0)
    before = live_tensors()
    for seed in range(40):
        evaluate(learner, run.module, sampler, split="test", n_tasks=25, seed=seed)
    assert live_tensors() == before


def test_labels_permuted_within_tasks_score_chance():
    class Permuted(am.TaskSampler):
        def __init__(self, inner):
            self.inner = inner

        @property
        def info(self):
            return self.inner.info

        def sample(self, n_tasks, *, split="train", seed):
            batch = self.inner.sample(n_tasks, split=split, seed=seed)
            generator = torch.Generator().manual_seed(seed % 2**32)
            order = torch.rand(batch.query.y.shape, generator=generator).argsort(dim=1)
            query = batch.query.with_parts(y=batch.query.y.gather(1, order))
            return am.TaskBatch(support=batch.support, query=query, classes=batch.classes)

    learner = am.make_learner("prototypical", backbone="identity")
    sampler = am.make_tasks("digits", n_shot=5)
    module = learner.build(sampler.info)
    assert_better(judged(learner, module, sampler), chance(sampler.info) + 0.3, sampler.info)
    assert_alike(judged(learner, module, Permuted(sampler)), chance(sampler.info))


def test_an_incompatible_meta_optimizer_is_refused_before_any_work():
    with pytest.raises(am.Incompatible, match=r"Reptile needs a learner that provides \['inner_gradient'\].*use meta_"):
        check_compatible(am.make_learner("ridge"), am.make_meta_optimizer("reptile"))


@pytest.mark.parametrize("learner", ["prototypical", "ridge", "maml", "relation", "in_context"])
def test_queries_of_a_class_that_the_support_lacks_count_as_wrong_and_teach_nothing(learner: str) -> None:
    tasks, optimizer = Shifts(n_shot=2, n_query=6), am.make_meta_optimizer("gradient")
    assert (tasks.sample(16, seed=0).support.y.sum(dim=1) == 0).any()
    run = MetaTraining(am.make_learner(learner), optimizer, tasks, n_steps=5, tasks_per_step=16, seed=0)
    run.run_to()
    assert run.history["loss"].max() < 10
    batch = tasks.sample(50, split="test", seed=0)
    with torch.no_grad():
        outputs = forward(run.learner, run.module.eval(), batch.support, batch.query.x)
    known = batch.support.one_hot().any(dim=1)
    answerable = known.gather(1, batch.query.y).float().mean(dim=1)
    assert (answerable < 0.5).any()
    assert (task_scores(outputs, batch.query) <= answerable).all()
    assert task_losses(run.learner, outputs, batch.query).max() < 20

"""Weightings of training tasks: conflicts are projected away, noise is weighed by its best variance."""

from __future__ import annotations

import pytest
import torch
from autometa_plugins.multitask.weighting import projected_weights, uncertainty_weighted
from torch import Tensor, nn

import autometa as am
from autometa.testing.toys import Blobs, Lines
from learning import assert_lower, training_seed
from tiers import first_by_default
from toy_tasks import Offsets

DOUBLE = torch.float64
MLP = am.make_backbone("mlp", hidden=(5,))


def learner_and_batch(weighting: str, seed: int = 0) -> tuple[am.Learner, nn.Module, am.TaskBatch]:
    learner, tasks = am.make_learner("multitask", weighting=weighting, backbone=MLP), Lines()
    torch.manual_seed(seed)
    module = learner.build(tasks.info).to(DOUBLE)
    return learner, module, tasks.sample(8, seed=seed).to(dtype=DOUBLE)


def gradients(loss: Tensor, module: nn.Module) -> dict[str, Tensor]:
    module.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in module.named_parameters()}


def task_gradients(module: nn.Module, batch: am.TaskBatch) -> Tensor:
    """Return each distinct task's part of the trunk's gradient of the mean loss, by the definition."""
    plain = am.make_learner("multitask", backbone=MLP)
    rows = []
    for task in batch.ids.unique():
        own = (batch.ids == task).nonzero().flatten()
        loss = plain.pooled_loss(module, batch[own], 0.5) * len(own) / len(batch)
        parts = torch.autograd.grad(loss, list(module.backbone.parameters()))
        rows.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(rows)


def test_of_two_opposed_gradients_neither_goes_against_the_other_once_projected() -> None:
    a, b = torch.tensor([1.0, 0.2], dtype=DOUBLE), torch.tensor([-1.0, 0.3], dtype=DOUBLE)
    a_projected, b_projected = a - (a @ b) / (b @ b) * b, b - (a @ b) / (a @ a) * a
    assert a @ b < 0
    assert a_projected @ b > -1e-15
    assert b_projected @ a > -1e-15
    found = projected_weights(torch.stack([a, b])) @ torch.stack([a, b])
    torch.testing.assert_close(found, a_projected + b_projected)
    assert min(found @ a, found @ b) >= -1e-15


def test_exactly_opposed_gradients_cancel() -> None:
    both = torch.tensor([[1.0, -2.0], [-3.0, 6.0]], dtype=DOUBLE)
    torch.testing.assert_close(projected_weights(both) @ both, torch.zeros(2, dtype=DOUBLE))


def test_projections_are_those_of_the_algorithm() -> None:
    torch.manual_seed(3)
    g = torch.randn(6, 4, dtype=DOUBLE)
    torch.manual_seed(7)
    found = projected_weights(g) @ g
    torch.manual_seed(7)
    orders = torch.rand(6, 6).argsort(dim=1)
    total = torch.zeros(4, dtype=DOUBLE)
    for i, order in enumerate(orders):
        own = g[i].clone()
        for j in order.tolist():
            if j != i and own @ g[j] < 0:
                own = own - (own @ g[j]) / (g[j] @ g[j]) * g[j]
        total += own
    torch.testing.assert_close(found, total)


def test_without_conflict_every_gradient_counts_once() -> None:
    g = torch.rand(5, 3, dtype=DOUBLE)
    torch.testing.assert_close(projected_weights(g), torch.ones(5, dtype=DOUBLE))


def test_a_task_without_gradient_changes_nothing() -> None:
    g = torch.tensor([[1.0, 0.0], [-1.0, 1.0], [0.0, 0.0]], dtype=DOUBLE)
    torch.testing.assert_close(projected_weights(g) @ g, projected_weights(g[:2]) @ g[:2])


def test_pcgrad_is_the_mean_loss_with_a_projected_gradient_in_the_trunk_alone() -> None:
    conflicts = 0
    for seed in range(3):
        learner, module, batch = learner_and_batch("pcgrad", seed)
        equal = am.make_learner("multitask", backbone=MLP).pooled_loss(module, batch, 0.5)
        torch.manual_seed(11)
        loss = learner.pooled_loss(module, batch, 0.5)
        torch.testing.assert_close(loss, equal)
        found, plain = gradients(loss, module), gradients(equal, module)
        for name in ("weight", "bias"):
            torch.testing.assert_close(found[name], plain[name])
        of_tasks = task_gradients(module, batch)
        torch.manual_seed(11)
        expected = projected_weights(of_tasks) @ of_tasks
        in_trunk = [found[name] for name in found if name.startswith("backbone")]
        torch.testing.assert_close(torch.cat([g.flatten() for g in in_trunk]), expected)
        conflicts += int((of_tasks @ of_tasks.mT < 0).any())
    assert conflicts


def test_the_best_learned_variance_of_a_task_is_its_loss_on_a_fixed_trunk() -> None:
    learner, module, batch = learner_and_batch("uncertainty")
    one = am.TaskBatch(support=batch.support[:1], query=batch.query[:1], ids=batch.ids[:1])
    module.requires_grad_(False)
    module.log_variances.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [module.log_variances], max_iter=100, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = learner.pooled_loss(module, one, 0.5)
        loss.backward()
        return loss

    optimizer.step(closure)
    plain = am.make_learner("multitask", backbone=MLP).pooled_loss(module, one, 0.5)
    torch.testing.assert_close(module.log_variances[one.ids[0]].exp(), plain, rtol=1e-4, atol=0)
    others = torch.arange(len(module.log_variances)) != one.ids[0]
    assert not module.log_variances[others].any()


def test_the_best_variance_of_a_cross_entropy_is_twice_the_loss() -> None:
    loss = torch.tensor([0.7], dtype=DOUBLE)
    log_variance = (2 * loss).log().requires_grad_()
    weighted = uncertainty_weighted(loss, log_variance, classification=True)
    assert torch.autograd.grad(weighted.sum(), log_variance)[0].abs() < 1e-12


@pytest.mark.parametrize("weighting", first_by_default(1, ["uncertainty", "pcgrad"]))
@pytest.mark.parametrize("tasks", [Offsets(), Blobs()], ids=["offsets", "blobs"])
def test_pooled_training_lowers_the_loss_of_its_tasks_and_adapts_to_new_ones(
    weighting: str, tasks: am.TaskSampler
) -> None:
    learner = am.make_learner("multitask", weighting=weighting, n_tasks=24, backbone=MLP)
    equal = am.make_learner("multitask", n_tasks=24, backbone=MLP)
    torch.manual_seed(training_seed())
    module = learner.build(tasks.info)
    pooled = am.make_meta_optimizer("pooled", lr=0.02)
    pooled.start(learner, module, tasks.info)
    batch = pooled.draw(tasks, 200, seed=0)
    own = [(batch.ids == task).nonzero()[0] for task in batch.ids.unique()]

    def losses() -> Tensor:
        with torch.no_grad():
            return torch.stack([equal.pooled_loss(module, batch[place], 0.5) for place in own])

    before = losses()
    for step in range(60):
        pooled.step(pooled.draw(tasks, 8, seed=training_seed(step)))
    assert_lower(losses(), before)
    new = tasks.sample(200, split="test", seed=0)
    others = am.TaskBatch(support=new.support[torch.arange(200).roll(1)], query=new.query)
    with torch.no_grad():
        assert_lower(am.query_losses(learner, module, new), am.query_losses(learner, module, others))


@pytest.mark.parametrize("weighting", ["uncertainty", "pcgrad"])
def test_training_goes_on_from_a_checkpoint_as_if_never_stopped(weighting: str) -> None:
    from autometa.training import MetaTraining

    def training() -> MetaTraining:
        learner = am.make_learner("multitask", weighting=weighting, backbone=MLP)
        pooled = am.make_meta_optimizer("pooled")
        return MetaTraining(learner, pooled, Lines(), n_steps=6, tasks_per_step=5, seed=0)

    whole, half, rest = training(), training(), training()
    whole.run_to()
    half.run_to(0.5)
    rest.load_state_dict(half.state_dict())
    rest.run_to()
    torch.testing.assert_close(whole.module.state_dict(), rest.module.state_dict(), rtol=0, atol=0)


def test_without_a_trunk_to_share_there_is_no_conflict() -> None:
    batch = Lines().sample(3, seed=0).to(dtype=DOUBLE)
    losses = []
    for weighting in ("equal", "pcgrad"):
        learner = am.make_learner("multitask", weighting=weighting, backbone="identity")
        torch.manual_seed(0)
        losses.append(learner.pooled_loss(learner.build(Lines().info).to(DOUBLE), batch, 0.5))
    torch.testing.assert_close(*losses)


def test_an_unknown_weighting_is_named() -> None:
    with pytest.raises(am.InvalidParameter, match="weighting='fair' of learner 'multitask' must be one of"):
        am.make_learner("multitask", weighting="fair").build(Lines().info)

"""What a learner promises in ``provides`` and ``replayable``."""

from __future__ import annotations

import functools
from unittest import SkipTest

import torch
from sklearn.base import clone
from torch import Tensor, nn

from autometa.contracts.examples import TaskBatch
from autometa.engine.random_state import fresh_module, seeded
from autometa.engine.replay import PLAIN_CALLS, Replay
from autometa.testing.distribution_checks import expect_distribution
from autometa.testing.expectations import copied, draw, expect, expect_close, same_state
from autometa.testing.learner_case import LearnerCase


def check_provides(case: LearnerCase) -> None:
    """The learner has what ``provides`` promises to meta-optimizers and estimators."""
    batch, module, provides = draw(case.tasks, 2, split="train"), case.module(), case.learner.provides
    named = dict(module.named_parameters())
    if "gradient" in provides and any(p.requires_grad for p in named.values()):
        _expect_gradient(case.learner.meta_loss(module, batch, 0.5).mean(), module, "meta_loss()")
    if "inner_gradient" in provides:
        with torch.no_grad():
            adapted = case.learner.adapt(module, batch.support)
        expect(
            isinstance(adapted, dict), f"adapt() returned a {type(adapted).__name__}; 'inner_gradient' promises a dict."
        )
        unknown = sorted(set(adapted) - set(named))
        expect(not unknown, f"adapt() returned {unknown}, which are no parameters of θ.")
    if "inner_objective" in provides:
        _check_inner_objective(case, batch, module)
    expect(
        "distribution" in provides or "quantiles" not in provides,
        "provides names 'quantiles' without 'distribution': estimators ask for means and deviations, too.",
    )
    expect(
        "distribution" in provides or "density" not in provides,
        "provides names 'density' without 'distribution': estimators ask for means and deviations, too.",
    )
    if "distribution" in provides and not batch.query.is_classification:
        expect_distribution(case.learner, module, batch)
    if "pooled" in provides and case.learner.n_pooled_tasks(case.tasks.info) is None:
        _expect_gradient(case.learner.pooled_loss(module, batch, 0.5), module, "pooled_loss()")
    if "memory" in provides:
        module = fresh_module(clone(case.learner), case.tasks.info, seed=0).double()
        before = copied(module.state_dict())
        case.learner.remember(module, draw(case.tasks, 2, seed=5, split="train"))
        expect(not same_state(before, module.state_dict()), "remember() leaves θ as it was.")


def _check_inner_objective(case: LearnerCase, batch: TaskBatch, module: nn.Module) -> None:
    with torch.no_grad():
        adapted = case.learner.adapt(module, batch.support)
    real = isinstance(adapted, dict) and all(value.is_floating_point() for value in adapted.values())
    expect(real, "adapt() returned no dict of real tensors; 'inner_objective' promises one.")
    for value in adapted.values():
        value.requires_grad_()
    own = case.learner.inner_objective(module, adapted, batch.support)
    expect(own.shape == (2,), f"inner_objective() of 2 tasks returned {tuple(own.shape)}; it must return [tasks].")
    slopes = torch.autograd.grad(own.sum(), list(adapted.values()), create_graph=True, materialize_grads=True)
    expect(any(slope.requires_grad for slope in slopes), "inner_objective() is not twice differentiable in `adapted`.")
    with torch.no_grad():
        swapped = {name: value.flip(0) for name, value in adapted.items()}
        other = case.learner.inner_objective(module, swapped, batch.support)
    expect(
        (own <= other).all(),
        "adapted to another task, inner_objective() is lower than adapted to its own: adapt() does not minimize it.",
    )


def _expect_gradient(loss: Tensor, module: nn.Module, what: str) -> None:
    expect(loss.dim() == 0 and loss.requires_grad, f"{what} is not differentiable in θ.")
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    expect(
        gradients and all(g.isfinite().all() for g in gradients), f"the gradient of {what} is missing or not finite."
    )
    expect(any(g.any() for g in gradients), f"the gradient of {what} is zero in all of θ.")


def check_replays(case: LearnerCase) -> None:
    """A replayable learner gives the same loss and gradients when a CUDA device repeats its operations."""
    if not case.learner.replayable:
        return
    if not torch.cuda.is_available():
        raise SkipTest("there is no CUDA device here")
    device, meta_optimizer = torch.device("cuda"), case.meta_optimizer()
    module = case.module().float().to(device).train()
    twin = copied(module).to(device)  # which lays out what recurrent networks want in one piece
    if meta_optimizer is not None:
        meta_optimizer.start(case.learner, module, case.tasks.info)
    loss = case.learner.pooled_loss if "pooled" in case.learner.provides else case.learner.meta_loss

    def differentiate(module: nn.Module, batch: TaskBatch) -> list[Tensor | None]:
        value = loss(module, batch, 0.5).mean()
        learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
        return [value.detach(), *torch.autograd.grad(value, learned, allow_unused=True)]

    replay: Replay[Tensor | None] = Replay(True)
    for seed in range(PLAIN_CALLS + 3):
        drawn = case.tasks.sample(4, seed=seed) if meta_optimizer is None else meta_optimizer.draw(case.tasks, 4, seed)
        batch = drawn.to(device, torch.float32)
        with seeded(seed, device):
            found = replay(functools.partial(differentiate, module), batch)
        with seeded(seed, device):
            wanted = differentiate(twin, batch)
        for mine, other in zip(found, wanted, strict=True):
            expect((mine is None) == (other is None), "repeating reaches other parameters than calling.")
            if mine is not None and other is not None:
                expect_close(mine, other, "a repeated gradient differs from the one called", 1e-3)
    expect(replay.n_recorded > 0, "it says that it is replayable, and waits for the device.")

"""What rl2 reaches with its defaults in worlds whose best return is known: minutes each."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import autometa as am
from autometa.training import MetaTraining

pytestmark = pytest.mark.slow


def mean_returns(name: str, n_steps: int) -> Tensor:
    """Mean return of every episode in 1,000 held-out worlds, after meta-training with the defaults."""
    tasks = am.make_tasks(name)
    learner, optimizer = am.make_learner("rl2"), am.make_meta_optimizer("policy_gradient")
    run = MetaTraining(learner, optimizer, tasks, n_steps=n_steps, tasks_per_step=16, seed=0)
    run.run_to()
    with torch.no_grad():
        outcome = am.judge(learner, run.module.eval(), tasks.sample(1000, split="test", seed=1))
    return outcome.returns.mean(0)


def test_rl2_finds_out_which_side_a_cart_goes_to() -> None:
    """A memoryless policy falls about ten times."""
    assert float(mean_returns("cartpole_flip", 120)[0]) >= -0.5

"""The suite checks shapes and types in signatures: a mistake is met where it is made."""

from __future__ import annotations

import pytest
import torch

import autometa as am
from autometa.contracts.forward import forward
from autometa.contracts.scores import mean_squared_error
from autometa.testing.toys import Lines
from autometa.training import evaluate


def test_shapes_in_signatures_are_checked_while_tests_run() -> None:
    learner, batch = am.make_learner("ridge"), Lines().sample(2, seed=0)
    module = learner.build(Lines().info)
    with pytest.raises(TypeError, match="Type-check error"):
        forward(learner, module, batch.support, batch.query)
    with pytest.raises(TypeError, match="Type-check error"):
        mean_squared_error(torch.zeros(3), batch.query)
    with pytest.raises(TypeError, match="Type-check error"):
        learner.adapt(module, batch)
    with pytest.raises(TypeError, match="Type-check error"):
        evaluate(learner, module, Lines(), split="test", n_tasks=2.5, seed=0)

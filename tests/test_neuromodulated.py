"""A policy whose connections learn while it acts: what it is made of, and who can train it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import autometa as am
from autometa.engine.random_state import fresh_module
from autometa.training import MetaTraining

GRID = am.make_tasks("gridnavi", size=3, steps=4, n_shot=1)


@pytest.mark.parametrize("modulated", [True, False])
def test_it_is_rl2_with_the_plastic_reader(modulated: bool) -> None:
    params = {"hidden_size": 8, "decay": 0.9, "modulated": modulated}
    decided, states = [], []
    for learner in (
        am.make_learner("neuromodulated", **params),
        am.make_learner("rl2", reader=am.make_learner("plastic", **params)),
    ):
        module = fresh_module(learner, GRID.info, seed=0)
        with torch.no_grad():
            seen, memory = am.collect(learner, module, GRID.sample(5, seed=1), n_episodes=2, horizon=4)
        decided.append(seen.log_prob)
        states.append(memory["state"]["fast"])
    assert torch.equal(*decided)
    assert torch.equal(*states)
    assert states[0].any()


def test_the_strength_of_an_association_depends_on_what_is_seen_only_where_it_is_modulated() -> None:
    seen = torch.randn(6, 8)
    for modulated in (True, False):
        learner = am.make_learner("neuromodulated", hidden_size=8, modulated=modulated)
        module: Any = fresh_module(learner, GRID.info, seed=0)
        strength = module.cell.modulation(seen)[:, 0]
        assert (len(strength.unique()) > 1) == modulated


def test_evolution_trains_it_too() -> None:
    learner = am.make_learner("neuromodulated", hidden_size=4)
    optimizer = am.make_meta_optimizer("evolution_strategy", population=8)
    run = MetaTraining(learner, optimizer, am.make_tasks("bandit"), n_steps=1, tasks_per_step=4, seed=0)
    before = [parameter.clone() for parameter in run.module.parameters()]
    run.run_to()
    assert any(not torch.equal(old, new) for old, new in zip(before, run.module.parameters(), strict=True))


@pytest.mark.parametrize(
    ("params", "text"),
    [({"hidden_size": 0}, "hidden_size=0"), ({"decay": 1.5}, "decay=1.5"), ({"modulated": 1}, "modulated=1")],
)
def test_parameters_that_cannot_be_are_named(params: dict[str, Any], text: str) -> None:
    with pytest.raises(am.InvalidParameter, match=f"{text} of learner 'neuromodulated'"):
        am.make_learner("neuromodulated", **params).build(GRID.info)

"""Worlds may tell anything after the end of an episode: nothing that is learned or told depends on it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
import torch
from autometa_plugins.control.policy_gradient import advantages
from torch import Tensor
from torch.utils import _pytree as pytree

import autometa as am
from autometa.engine.random_state import fresh_module
from autometa.sampling.tensor_environments import State
from autometa.testing.toy_worlds import DoorEnvironments, Doors
from autometa.training import MetaTraining

NUMBERS = ("observation", "action", "reward", "next_observation", "log_prob")


@dataclass(frozen=True, kw_only=True)
class Collapsing(DoorEnvironments):
    """Doors behind which there is nothing: who goes on after the end is shown and paid NaN."""

    def initial(self, noise: Tensor) -> State:
        state = super().initial(noise)
        return {**state, "out": torch.zeros_like(self.key, dtype=torch.bool)}

    def change(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Tensor, Tensor]:
        after, reward, out = super().change(state, action, noise)
        seen = after["seen"].masked_fill(state["out"].unsqueeze(1), torch.nan)
        return {"seen": seen, "out": state["out"] | out}, reward.masked_fill(state["out"], torch.nan), out


class CollapsingDoors(Doors):
    """Draws them."""

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> DoorEnvironments:
        drawn = super().sample(n_tasks, split=split, seed=seed)
        return Collapsing(**{field.name: getattr(drawn, field.name) for field in fields(drawn)})


SOUND, COLLAPSING = Doors(n_shot=4, n_query=2), CollapsingDoors(n_shot=4, n_query=2)


def spoiled(seen: am.Experience) -> am.Experience:
    """The same with NaN, or a choice that does not exist, where padded."""
    parts = {}
    for name in NUMBERS:
        value = getattr(seen, name)
        mask = seen.mask.view(*seen.mask.shape, *[1] * (value.dim() - 2))
        parts[name] = value.masked_fill(~mask, torch.nan if value.is_floating_point() else 99)
    return replace(seen, **parts)


@pytest.mark.parametrize("name", ["maml_policy", "scratch", "fine_tuned_policy", "es_policy"])
def test_an_adaptation_learns_nothing_from_after_the_end(name: str) -> None:
    learner = am.make_learner(name)
    module, found = fresh_module(learner, SOUND.info, seed=0), []
    for tasks in (SOUND, COLLAPSING):
        with torch.no_grad():
            outcome = am.judge(learner, module, tasks.sample(8, seed=0))
        found.append(outcome)
        padded = ~outcome.experience.mask
        assert padded.any(), "some trials end early"
        assert all((getattr(outcome.experience, one)[padded] == 0).all() for one in NUMBERS)
    sound, collapsing = found
    assert torch.equal(sound.returns, collapsing.returns)
    learned = [pytree.tree_leaves(outcome.memory) for outcome in found]
    assert all(torch.equal(here, there) for here, there in zip(*learned, strict=True))


@pytest.mark.parametrize("name", ["maml_policy", "fine_tuned_policy", "multitask_policy"])
def test_meta_training_learns_nothing_from_after_the_end(name: str) -> None:
    found = []
    for tasks in (SOUND, COLLAPSING):
        learner = am.make_learner(name)
        optimizer = am.make_meta_optimizer(str(learner.default_meta_optimizer), trials=6, epochs=1)
        run = MetaTraining(learner, optimizer, tasks, n_steps=1, tasks_per_step=6, seed=0)
        run.run_to()
        found.append(run.module.state_dict())
    for key, value in found[0].items():
        assert torch.equal(value, found[1][key]), key


def test_imitation_learns_nothing_from_what_an_adviser_shows_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    actor, found = am.make_learner("control/random"), []
    for change in (lambda seen: seen, spoiled):
        monkeypatch.setattr(
            DoorEnvironments,
            "demonstrations",
            lambda worlds, slips, change=change: change(am.judge(actor, actor.build(worlds.info), worlds).experience),
        )
        optimizer = am.make_meta_optimizer("imitation", trials=6)
        run = MetaTraining(am.make_learner("imitated"), optimizer, SOUND, n_steps=1, tasks_per_step=6, seed=0)
        run.run_to()
        found.append(run.module.state_dict())
    for key, value in found[0].items():
        assert torch.equal(value, found[1][key]), key


def test_a_part_of_a_trial_holds_zeros_where_padded() -> None:
    learner = am.make_learner("control/random")
    with torch.no_grad():
        seen = am.judge(learner, learner.build(SOUND.info), SOUND.sample(20, seed=0)).experience
    part = seen.episodes(1, 2)
    assert not part.mask.all()
    assert all((getattr(part, name)[~part.mask] == 0).all() for name in NUMBERS)


@pytest.mark.parametrize("name", ["rl2", "maml_policy", "scratch"])
def test_given_transitions_may_hold_anything_where_padded(name: str) -> None:
    agent = am.MetaAgent(name, max_steps=0, device="cpu", random_state=0).meta_fit(SOUND)
    actor = am.make_learner("control/random")
    with torch.no_grad():
        seen = am.judge(actor, actor.build(SOUND.info), SOUND.sample(6, seed=0)).experience
    assert not seen.mask.all()
    returns, memories = [], []
    for given in (seen, spoiled(seen)):
        returns.append(agent.fit(transitions=given).returns_)
        _, (state,) = agent.predict(np.full((6, 2), 0.3), episode_start=np.ones(6, bool))
        memories.append(pytree.tree_leaves(state["memory"]))
    assert np.array_equal(returns[0], returns[1])
    assert all(torch.equal(here, there) for here, there in zip(*memories, strict=True))


def test_values_of_steps_that_do_not_exist_count_for_nothing() -> None:
    reward, value = torch.rand(2, 5), torch.rand(2, 5)
    mask = torch.arange(5) < torch.tensor([[3], [5]])
    value[~mask] = torch.nan
    found = advantages(reward.masked_fill(~mask, 0), value, mask, 0.9, 0.9)
    assert torch.equal(found[0, :3], advantages(reward[:1, :3], value[:1, :3], mask[:1, :3], 0.9, 0.9)[0])
    assert (found[~mask] == 0).all()

"""Policies without a memory of steps: one for all worlds, one that goes on learning, and one from scratch."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from autometa_plugins.control.linear_baseline import episode_advantages
from autometa_plugins.control.policy_descent import improved
from autometa_plugins.control.policy_gradient import advantages

import autometa as am
from autometa.engine.random_state import fresh_module
from autometa.testing.toy_worlds import Doors
from autometa.training import MetaTraining
from learning import assert_lower, training_seed
from tiers import first_by_default

DOORS = Doors(n_shot=10, n_query=2)
PLANES = am.make_tasks("navigation_2d", steps=5, n_shot=4)


def lived(learner: Any, module: Any, tasks: am.TaskSampler, n_tasks: int, **options: Any) -> am.Experience:
    worlds, info = tasks.sample(n_tasks, seed=1).to(dtype=torch.float64), tasks.info
    with torch.no_grad():
        return am.collect(learner, module, worlds, n_episodes=info.n_episodes, horizon=info.horizon, **options)[0]


def meta_trained(name: str, tasks: am.TaskSampler, n_steps: int, **options: Any) -> MetaTraining:
    optimizer = am.make_meta_optimizer("policy_gradient", **options)
    training = MetaTraining(
        am.make_learner(name), optimizer, tasks, n_steps=n_steps, tasks_per_step=8, seed=training_seed()
    )
    training.run_to()
    return training


def test_advantages_of_who_forgets_end_with_the_episode() -> None:
    torch.manual_seed(0)
    reward, value = torch.randn(3, 9), torch.randn(3, 9)
    mask = torch.arange(9) < torch.tensor([9, 7, 4])[:, None]
    ends = torch.zeros(3, 9, dtype=torch.bool)
    ends[:, 3] = ends[0, 6] = True
    found = advantages(reward, value, mask, 0.9, 0.7, ends)
    for task, borders in enumerate(([0, 4, 7, 9], [0, 4, 7], [0, 4])):
        for first, stop in itertools.pairwise(borders):
            part = slice(first, stop)
            alone = advantages(*(t[task : task + 1, part] for t in (reward, value, mask)), 0.9, 0.7)
            torch.testing.assert_close(found[task, part], alone[0])
    assert (found[~mask] == 0).all()


@pytest.mark.parametrize("tasks", first_by_default(1, [PLANES, DOORS]), ids=["normal", "choice"])
def test_meta_training_adapts_to_no_world(tasks: am.TaskSampler) -> None:
    """So that fine-tuning starts from what the policy for all worlds is."""
    found = [meta_trained(name, tasks, 3, trials=20) for name in ("multitask_policy", "fine_tuned_policy")]
    multitask, fine_tuned = (training.module.state_dict() for training in found)
    assert multitask.keys() == fine_tuned.keys()
    for name, value in multitask.items():
        torch.testing.assert_close(value, fine_tuned[name], rtol=1e-3, atol=1e-4)
    assert found[0].history["environment_steps"].iloc[-1] > 3 * 20


def test_nobody_has_weights_of_his_own_before_he_adapts(monkeypatch: pytest.MonkeyPatch) -> None:
    """To act and learn by the same weights in all tasks is faster than by copies."""
    learner = am.make_learner("fine_tuned_policy", episodes=4)
    module = fresh_module(learner, DOORS.info, seed=0).double()
    seen = lived(learner, module, DOORS, 5)
    weights = am.per_task(module, 5, module.own)
    found, expected = (learner.along(module, replace(seen, n_shot=0), memory)[0].policy.logits
                       for memory in (None, {"weights": weights, "rounds": torch.zeros(5)}))  # fmt: skip
    torch.testing.assert_close(found, expected)
    calls: list[Any] = []
    monkeypatch.setattr(type(module), "decide", lambda *arguments: calls.append(arguments))
    meta_trained("fine_tuned_policy", DOORS, 1, trials=5)
    assert not calls


def test_one_policy_for_all_worlds_stays_as_it_is() -> None:
    learner = am.make_learner("multitask_policy")
    agent = am.MetaAgent(learner, max_steps=0, device="cpu", random_state=0).meta_fit(DOORS)
    curve = agent.adaptation_curve(DOORS, n_tasks=20)
    before, after = (curve.loc[curve["episode"] == k, "return"].to_numpy() for k in (0, 1))
    assert np.array_equal(before, after)
    assert agent.value_ is not None


@pytest.mark.parametrize("tasks", [PLANES, DOORS], ids=["normal", "choice"])
def test_a_round_makes_what_paid_more_probable_in_each_task_by_itself(tasks: am.TaskSampler) -> None:
    learner = am.make_learner("scratch", episodes="auto")
    module = fresh_module(learner, tasks.info, seed=0).double()
    seen = lived(learner, module, tasks, 5).episodes(0, 4)
    start = learner.start(module, 5)["weights"]
    weights = improved(module, start, seen, steps=5, lr=1e-3)
    advantage = episode_advantages(seen, 0.99, 0.97)
    before, after = (module.decide(w, seen.observation).log_prob(seen.action) for w in (start, weights))
    gain = (torch.where(seen.mask, after - before, 0) * advantage).sum(1)
    assert (gain >= 0).all()
    assert gain.max() > 0
    for task in range(5):
        rows = slice(task, task + 1)
        alone = improved(module, {name: value[rows] for name, value in start.items()}, seen[rows], steps=5, lr=1e-3)
        for name, value in alone.items():
            torch.testing.assert_close(weights[name][rows], value, rtol=1e-4, atol=1e-7)


def test_the_first_step_of_adam_has_the_size_of_the_learning_rate() -> None:
    learner = am.make_learner("scratch")
    module = fresh_module(learner, PLANES.info, seed=0).double()
    seen = lived(learner, module, PLANES, 3).episodes(0, 4)
    start = learner.start(module, 3)["weights"]
    weights = improved(module, start, seen, steps=1, lr=0.01)
    moved = weights["policy.bias"] - start["policy.bias"]
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 0.01), rtol=1e-3, atol=0)


@pytest.mark.thorough
def test_scratch_learns_a_world_that_it_lives_in() -> None:
    tasks = Doors(n_shot=20, n_query=4)
    learner = am.make_learner("scratch", lr=0.02)
    module = fresh_module(learner, tasks.info, seed=training_seed())
    worlds = tasks.sample(150, split="test", seed=0)
    untaught = am.make_learner("scratch", steps=0)
    with torch.no_grad():
        after, before = (am.judge(one, module, worlds).scores for one in (learner, untaught))
    assert_lower(before, after)


@pytest.mark.thorough
def test_going_on_in_the_new_world_is_better_than_one_policy_for_all() -> None:
    training = meta_trained("fine_tuned_policy", DOORS, 10, trials=50, lr=0.01)
    worlds = DOORS.sample(200, split="test", seed=0)
    learner, still = (am.make_learner("fine_tuned_policy", lr=0.02, steps=steps) for steps in (20, 0))
    with torch.no_grad():
        after, before = (am.judge(one, training.module, worlds).scores for one in (learner, still))
    assert_lower(before, after)


def test_what_is_adapted_may_change_after_meta_training() -> None:
    agent = am.MetaAgent("fine_tuned_policy", max_steps=0, device="cpu", random_state=0).meta_fit(DOORS)
    agent.set_params(learner__steps=0)
    curve = agent.adaptation_curve(DOORS, n_tasks=20)
    before, after = (curve.loc[curve["episode"] == k, "return"].to_numpy() for k in (0, 1))
    assert np.array_equal(before, after)


@pytest.mark.parametrize("name", ["fine_tuned_policy", "scratch"])
@pytest.mark.parametrize(("params", "text"), [({"steps": -1}, "steps=-1"), ({"lr": 0}, "lr=0")])
def test_parameters_that_cannot_be_are_named(name: str, params: dict[str, Any], text: str) -> None:
    with pytest.raises(am.InvalidParameter, match=f"{text} of learner '{name}'"):
        am.make_learner(name, **params).build(DOORS.info)

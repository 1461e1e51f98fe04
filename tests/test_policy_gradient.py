"""RL² and the policy gradient that trains it: derivatives, memory, and what they learn."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from autometa_plugins.control.policy_gradient import PolicyGradient, advantages
from torch import Tensor

import autometa as am
from autometa.contracts.keys import uniform
from autometa.engine.random_state import fresh_module
from autometa.training import MetaTraining, evaluate

GRID = am.make_tasks("gridnavi", size=3, steps=4, n_shot=1)
READERS = ("gru", "lstm", "mann", "plastic", "snail")


def trained(tasks: am.TaskSampler, n_steps: int, *, seed: int = 0, **params: Any) -> MetaTraining:
    learner, optimizer = am.make_learner("rl2"), am.make_meta_optimizer("policy_gradient", **params)
    run = MetaTraining(learner, optimizer, tasks, n_steps=n_steps, tasks_per_step=16, seed=seed)
    run.run_to()
    return run


def collected(learner: Any, module: Any, tasks: am.TaskSampler, n: int, **kwargs: Any) -> tuple[am.Experience, Any]:
    info = tasks.info
    with torch.no_grad():
        return am.collect(
            learner, module, tasks.sample(n, seed=1), n_episodes=info.n_episodes, horizon=info.horizon, **kwargs
        )


# ---------------------------------------------------------------- rl2


@pytest.mark.parametrize("reader", READERS)
def test_reading_in_one_pass_decides_as_acting_did_with_every_reader(reader: str) -> None:
    learner = am.make_learner("rl2", reader=am.make_learner(reader))
    module = fresh_module(learner, GRID.info, seed=0).eval()
    experience, memory = collected(learner, module, GRID, 5, blind=0.5)
    with torch.no_grad():
        decision, after = learner.along(module, experience)
    torch.testing.assert_close(decision.policy.log_prob(experience.action), experience.log_prob)
    torch.testing.assert_close(after["last"], memory["last"])
    for name, value in memory["state"].items():
        torch.testing.assert_close(after["state"][name], value)


def test_the_memory_of_one_episode_serves_the_next() -> None:
    learner = am.make_learner("rl2")
    module = fresh_module(learner, GRID.info, seed=0)
    experience, _ = collected(learner, module, GRID, 5)
    first, second = (
        am.Experience(**{
            name: value[:, part] if isinstance(value, Tensor) and name != "hidden" else value
            for name, value in vars(experience).items()
        })
        for part in (slice(0, 4), slice(4, 8))
    )  # fmt: skip
    with torch.no_grad():
        _, memory = learner.along(module, first)
        resumed, _ = learner.along(module, second, memory)
        whole, _ = learner.along(module, experience)
        forgotten, _ = learner.along(module, second)
    torch.testing.assert_close(resumed.policy.logits, whole.policy.logits[:, 4:])
    assert not torch.allclose(resumed.policy.logits, forgotten.policy.logits)


def test_a_reward_that_is_not_told_changes_nothing() -> None:
    learner = am.make_learner("rl2")
    module = fresh_module(learner, GRID.info, seed=0)
    memory = learner.start(module, 3)
    zeros, no = torch.zeros(3), torch.zeros(3, dtype=torch.bool)
    told = [
        am.Transition(torch.zeros(3, 6), torch.zeros(3, dtype=torch.int64), reward, no, no, torch.zeros(3, 6), told)
        for reward, told in ((zeros, no), (zeros + 1, no), (zeros + 1, ~no))
    ]
    quiet, paid, heard = (learner.observe(module, memory, transition)["last"] for transition in told)
    assert torch.equal(quiet, paid)
    assert not torch.equal(paid, heard)


def test_only_a_privileged_critic_sees_the_hidden_parameters() -> None:
    for privileged in (False, True):
        learner = am.make_learner("rl2", privileged=privileged)
        module = fresh_module(learner, GRID.info, seed=0)
        experience, _ = collected(learner, module, GRID, 4)
        other = am.Experience(**{**vars(experience), "hidden": 1 - experience.hidden})
        with torch.no_grad():
            (policy, value, _), (same, changed, _) = (learner.along(module, seen)[0] for seen in (experience, other))
        assert torch.equal(policy.logits, same.logits)
        assert torch.equal(value, changed) != privileged


def test_what_reads_no_sequences_is_no_reader() -> None:
    with pytest.raises(am.InvalidParameter, match="reader='ridge' of learner 'rl2' reads no sequences; use 'gru'"):
        am.make_learner("rl2", reader="ridge", hidden_size=None).build(GRID.info)


def test_real_actions_start_in_the_middle_of_their_bounds() -> None:
    info = am.TaskInfo(
        problem="control", input_shape=(2,), n_outputs=2, n_shot=0, n_query=1, horizon=3,
        action_bounds=((-2.0, 0.0), (2.0, 10.0)),
    )  # fmt: skip
    learner = am.make_learner("rl2")
    module = fresh_module(learner, info, seed=0)
    decision, _ = learner.act(module, learner.start(module, 1), torch.randn(1, 2))
    torch.testing.assert_close(decision.policy.mode, torch.tensor([[0.0, 5.0]]), atol=0.2, rtol=0)
    torch.testing.assert_close(decision.policy.log_std.exp()[0], torch.tensor([2.0, 5.0]) * math.exp(-0.5))


# ---------------------------------------------------------------- the gradient


def test_advantages_are_discounted_sums_of_surprises() -> None:
    torch.manual_seed(0)
    reward, value = torch.randn(4, 6), torch.randn(4, 6)
    mask = torch.arange(6) < torch.tensor([6, 4, 1, 5])[:, None]
    found = advantages(reward, value, mask, 0.9, 0.7)
    for task in range(4):
        length = int(mask[task].sum())
        for start in range(length):
            total = 0.0
            for step in range(start, length):
                later = float(value[task, step + 1]) if step + 1 < length else 0.0
                surprise = float(reward[task, step]) + 0.9 * later - float(value[task, step])
                total += (0.9 * 0.7) ** (step - start) * surprise
            assert float(found[task, start]) == pytest.approx(total, abs=1e-5)
        assert (found[task, length:] == 0).all()


def test_without_trust_in_the_critic_advantages_are_returns_to_go() -> None:
    reward, value = torch.rand(2, 5), torch.rand(2, 5)
    found = advantages(reward, value, torch.ones(2, 5, dtype=torch.bool), 1.0, 1.0)
    torch.testing.assert_close(found + value, reward.flip(1).cumsum(1).flip(1))


def surrogate_gradient(module: Any, learner: Any, seen: am.Experience, optimizer: Any) -> dict[str, Tensor]:
    value = learner.along(module, seen)[0].value.detach()
    advantage = advantages(seen.reward, value, seen.mask, 1.0, 1.0) + value
    loss, _ = optimizer._loss(seen, advantage, value)
    module.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def test_the_gradient_of_the_surrogate_is_that_of_the_expected_return() -> None:
    """Where old and new policy agree, it is the score-function gradient: compared with all that may happen."""
    tasks = am.make_tasks("bandit", arms=2, pulls=1)
    learner = am.make_learner("rl2", hidden_size=4)
    module = fresh_module(learner, tasks.info, seed=1).double()
    optimizer = PolicyGradient(entropy=0.0, value_weight=0.0, discount=1.0, trace=1.0)
    optimizer.start(learner, module, tasks.info)
    environments = tasks.sample(20_000, seed=2).to(dtype=torch.float64)
    environments = replace(environments, mean=torch.tensor([0.2, 0.9], dtype=torch.float64).expand(20_000, 2))
    with torch.no_grad():
        seen, _ = am.collect(learner, module, environments, n_episodes=1, horizon=1)
    found = surrogate_gradient(module, learner, seen, optimizer)["policy.bias"]
    policy = learner.along(module, seen)[0].policy
    p = policy.logits.softmax(-1)[0, 0].detach()
    means = environments.mean.mean(0)
    expected = -p * (means - (p * means).sum())  # derivative of the negative expected reward in the logits
    torch.testing.assert_close(found, expected, atol=4 * 0.5 / math.sqrt(20_000), rtol=0)


def test_the_surrogate_has_the_derivative_that_finite_differences_tell() -> None:
    learner = am.make_learner("rl2", hidden_size=3)
    module = fresh_module(learner, GRID.info, seed=0).double()
    optimizer = PolicyGradient()
    optimizer.start(learner, module, GRID.info)
    environments = GRID.sample(6, seed=3).to(dtype=torch.float64)
    with torch.no_grad():
        seen, _ = am.collect(learner, module, environments, n_episodes=2, horizon=4)
    torch.manual_seed(0)
    advantage, target = torch.randn(6, 8).double(), torch.randn(6, 8).double()
    weight = module.policy.weight

    def loss() -> Tensor:
        return optimizer._loss(seen, advantage, target)[0]

    (gradient,) = torch.autograd.grad(loss(), [weight])
    for place in ((0, 0), (3, 2)):
        with torch.no_grad():
            ends = []
            for step in (1e-6, -1e-6):
                weight[place] += step
                ends.append(float(loss()))
                weight[place] -= step
        assert float(gradient[place]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-8)


def test_an_action_far_outside_the_clip_moves_nothing() -> None:
    learner = am.make_learner("rl2", hidden_size=4)
    module = fresh_module(learner, GRID.info, seed=0)
    optimizer = PolicyGradient(entropy=0.0, value_weight=0.0)
    optimizer.start(learner, module, GRID.info)
    seen, _ = collected(learner, module, GRID, 4)
    moved = am.Experience(**{**vars(seen), "log_prob": seen.log_prob - 1.0})
    loss, _ = optimizer._loss(moved, torch.ones_like(seen.reward), torch.zeros_like(seen.reward))
    gradient = torch.autograd.grad(loss, module.policy.weight, allow_unused=True)[0]
    assert gradient is None or not gradient.any()


# ---------------------------------------------------------------- meta-training


def test_a_run_follows_from_its_seed_and_continues_where_it_was_stored() -> None:
    tasks = am.make_tasks("bandit", arms=2, pulls=3)
    whole, again = (trained(tasks, 4, trials=20) for _ in range(2))
    half = MetaTraining(
        am.make_learner("rl2"), am.make_meta_optimizer("policy_gradient", trials=20), tasks,
        n_steps=4, tasks_per_step=16, seed=0,
    )  # fmt: skip
    half.run_to(0.5)
    rest = MetaTraining(
        am.make_learner("rl2"), am.make_meta_optimizer("policy_gradient", trials=20), tasks,
        n_steps=4, tasks_per_step=16, seed=0,
    )  # fmt: skip
    rest.load_state_dict(half.state_dict())
    rest.run_to()
    for other in (again, rest):
        for name, value in whole.module.state_dict().items():
            assert torch.equal(value, other.module.state_dict()[name]), name
    assert whole.history["environment_steps"].tolist() == [60, 120, 180, 240]
    assert rest.history["environment_steps"].tolist() == [60, 120, 180, 240]


def test_tasks_of_a_step_are_as_many_as_a_policy_gradient_needs() -> None:
    optimizer = am.make_meta_optimizer("policy_gradient")
    for tasks, expected in ((am.make_tasks("bandit"), 1000), (am.make_tasks("gridnavi"), 666)):
        optimizer.start(am.make_learner("rl2"), fresh_module(am.make_learner("rl2"), tasks.info, 0), tasks.info)
        assert len(optimizer.draw(tasks, 16, 0)) == expected
    optimizer.set_params(trials=7)
    assert len(optimizer.draw(tasks, 16, 0)) == 7


@pytest.mark.parametrize(
    ("params", "text"),
    [({"epochs": 0}, "epochs=0"), ({"discount": 1.5}, "discount=1.5"), ({"trials": "many"}, "trials='many'")],
)
def test_parameters_that_cannot_be_are_named(params: dict[str, Any], text: str) -> None:
    optimizer = am.make_meta_optimizer("policy_gradient", **params)
    learner = am.make_learner("rl2")
    with pytest.raises(am.InvalidParameter, match=f"{text} of meta-optimizer 'policy_gradient'"):
        optimizer.start(learner, fresh_module(learner, GRID.info, 0), GRID.info)


def test_a_learner_without_a_policy_to_improve_is_refused() -> None:
    with pytest.raises(am.Incompatible, match=r"PolicyGradient needs a learner that provides \['policy'\], and Ridge"):
        MetaTraining(
            am.make_learner("ridge"), PolicyGradient(), am.make_tasks("sinusoid"), n_steps=1, tasks_per_step=1, seed=0
        )


def test_rl2_learns_to_find_the_better_arm() -> None:
    """Better than random by four standard errors after seconds of meta-training."""
    tasks = am.make_tasks("bandit", arms=2, pulls=6)
    run = trained(tasks, 25, lr=0.01, trials=200, minibatches=2)
    scores = evaluate(run.learner, run.module, tasks, split="test", n_tasks=1000, seed=0).scores
    random = am.make_learner("control/random")
    chance = evaluate(random, random.build(tasks.info), tasks, split="test", n_tasks=1000, seed=0).scores
    gap = scores - chance
    assert gap.mean() > 4 * gap.std() / math.sqrt(len(gap))


@pytest.mark.slow
def test_the_gates_of_gridnavi_are_reached() -> None:
    tasks = am.make_tasks("gridnavi")
    run = trained(tasks, 200)
    with torch.no_grad():
        outcome = am.judge(run.learner, run.module.eval(), tasks.sample(2000, split="test", seed=1))
    episodes = outcome.returns.mean(0)
    assert float(episodes[0]) >= 3.5
    assert float(episodes[3]) >= 10.8


@pytest.mark.slow
def test_the_gate_of_the_bandit_is_reached() -> None:
    run = trained(am.make_tasks("bandit"), 420)
    judged = evaluate(run.learner, run.module, am.make_tasks("bandit"), split="test", n_tasks=20_000, seed=0)
    assert np.mean(judged.scores) >= 6.55


def test_choices_of_an_actor_come_from_the_keys_of_its_tasks() -> None:
    learner = am.make_learner("control/random")
    tasks = am.make_tasks("bandit")
    environments = tasks.sample(30, seed=0)
    seen, _ = am.collect(learner, learner.build(tasks.info), environments, n_episodes=1, horizon=10)
    drawn = torch.stack([(5 * uniform(environments.key, time, "act", 1)[:, 0]).long() for time in range(10)], 1)
    assert torch.equal(seen.action, drawn)

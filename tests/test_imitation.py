"""Imitation: its loss, what it needs, what it teaches; and the actors that know bandits."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from autometa_plugins.control.bandit_actor import Counts
from autometa_plugins.control.thompson import posterior
from torch import Tensor

import autometa as am
from autometa.engine.random_state import fresh_module
from autometa.testing.toy_worlds import Coins, Doors
from autometa.training import MetaTraining, evaluate

ARMS = am.make_tasks("bandit", arms=2, pulls=6)


def trained(tasks: am.TaskSampler, n_steps: int, *, learner: str = "imitated", seed: int = 0, **params: Any) -> Any:
    optimizer = am.make_meta_optimizer("imitation", **params)
    run = MetaTraining(am.make_learner(learner), optimizer, tasks, n_steps=n_steps, tasks_per_step=16, seed=seed)
    run.run_to()
    return run


def started(tasks: am.TaskSampler, learner: Any, dtype: torch.dtype = torch.float64) -> tuple[Any, Any]:
    module = fresh_module(learner, tasks.info, seed=0).to(dtype)
    optimizer = am.make_meta_optimizer("imitation")
    optimizer.start(learner, module, tasks.info)
    return module, optimizer


def lived(tasks: am.TaskSampler, learner: Any, module: Any, n_tasks: int) -> tuple[am.Experience, am.Environments]:
    info, place = tasks.info, next(module.parameters())
    environments = tasks.sample(n_tasks, seed=3).to(dtype=place.dtype)
    with torch.no_grad():
        seen, _ = am.collect(learner, module, environments, n_episodes=info.n_episodes, horizon=info.horizon)
    return seen, environments


# ---------------------------------------------------------------- the loss


def test_the_loss_has_the_derivative_that_finite_differences_tell() -> None:
    learner = am.make_learner("imitated", hidden_size=3)
    module, optimizer = started(ARMS, learner)
    seen, environments = lived(ARMS, learner, module, 5)
    advice = environments.advice(seen)

    def loss() -> Tensor:
        return optimizer._loss(seen, advice)

    weights = [p for p in module.parameters() if p.dim() == 2]
    gradients = torch.autograd.grad(loss(), weights)
    assert all(gradient.any() for gradient in gradients)
    for weight, gradient in zip(weights, gradients, strict=True):
        with torch.no_grad():
            ends = []
            for step in (1e-6, -1e-6):
                weight[0, 1] += step
                ends.append(float(loss()))
                weight[0, 1] -= step
        assert float(gradient[0, 1]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-9)


def test_the_loss_is_the_mean_surprise_at_the_advice_over_steps_that_exist() -> None:
    tasks = Doors(n_shot=2)
    learner = am.make_learner("imitated", hidden_size=3)
    module, optimizer = started(tasks, learner)
    seen, environments = lived(tasks, learner, module, 8)
    assert not seen.mask.all()
    advice = environments.advice(seen)
    with torch.no_grad():
        logits = learner.along(module, seen)[0].policy.logits
        found = float(optimizer._loss(seen, advice))
    each = [-float(logits[i, t].log_softmax(0)[advice[i, t]]) for i, t in seen.mask.nonzero().tolist()]
    assert found == pytest.approx(sum(each) / len(each))


def test_real_actions_are_imitated_by_their_density() -> None:
    info = am.TaskInfo(
        problem="control", input_shape=(1,), n_outputs=2, n_shot=0, n_query=1, horizon=3,
        action_bounds=((-1.0, -1.0), (1.0, 1.0)), adviser="who knows",
    )  # fmt: skip
    learner = am.make_learner("imitated", hidden_size=3)
    module = fresh_module(learner, info, seed=0)
    optimizer = am.make_meta_optimizer("imitation")
    optimizer.start(learner, module, info)
    zeros, no = torch.zeros(4, 3), torch.zeros(4, 3, dtype=torch.bool)
    seen = am.Experience(
        observation=torch.ones(4, 3, 1), action=torch.zeros(4, 3, 2), reward=zeros, terminated=no, truncated=no,
        next_observation=torch.ones(4, 3, 1), told=~no, log_prob=zeros, episode=no.long(), mask=~no,
        hidden=torch.zeros(4, 0), is_full=True,
    )  # fmt: skip
    right, wrong = (float(optimizer._loss(seen, torch.full((4, 3, 2), value)).detach()) for value in (0.0, 0.9))
    assert right < wrong


# ---------------------------------------------------------------- meta-training


def test_a_run_follows_from_its_seed_and_continues_where_it_was_stored() -> None:
    whole, again = (trained(ARMS, 4, trials=20) for _ in range(2))
    half, rest = (
        MetaTraining(
            am.make_learner("imitated"), am.make_meta_optimizer("imitation", trials=20), ARMS,
            n_steps=4, tasks_per_step=16, seed=0,
        )
        for _ in range(2)
    )  # fmt: skip
    half.run_to(0.5)
    rest.load_state_dict(half.state_dict())
    rest.run_to()
    for other in (again, rest):
        for name, value in whole.module.state_dict().items():
            assert torch.equal(value, other.module.state_dict()[name]), name
    assert whole.history["environment_steps"].tolist() == [120, 240, 360, 480]
    assert {"loss", "followed", "return_1"} <= set(rest.history.columns)


def test_an_actor_learns_to_find_the_better_arm() -> None:
    """Better than random by four standard errors after seconds of meta-training."""
    run = trained(ARMS, 15, lr=0.02, trials=100)
    scores = evaluate(run.learner, run.module, ARMS, split="test", n_tasks=500, seed=0).scores
    random = am.make_learner("control/random")
    gap = scores - evaluate(random, random.build(ARMS.info), ARMS, split="test", n_tasks=500, seed=0).scores
    assert gap.mean() > 4 * gap.std() / math.sqrt(len(gap))
    assert run.history["followed"].iloc[-1] > run.history["followed"].iloc[0] + 0.1


@pytest.mark.thorough
def test_who_is_advised_by_somebody_who_knows_the_task_explores_all_the_same() -> None:
    """The adviser of the doors always tells the way out; the second episode is the actor's, from what it saw."""
    run = trained(Doors(), 40, lr=0.02, trials=60)
    worlds = Doors().sample(300, split="test", seed=0)
    with torch.no_grad():
        returns = am.judge(run.learner, run.module.eval(), worlds).returns.mean(0)
    assert float(returns[1]) > 0.95  # at once through the right door
    assert 0.7 < float(returns[0]) < 0.95  # a guess first: 1, 0.8 and 0.6 are equally likely


def test_actors_that_explore_by_reward_can_be_taught_as_well() -> None:
    run = trained(ARMS, 1, learner="rl2", trials=8)
    assert math.isfinite(run.history["loss"].iloc[0])


def test_an_imitated_actor_has_no_critic_and_is_refused_by_a_policy_gradient() -> None:
    learner = am.make_learner("imitated")
    module = fresh_module(learner, ARMS.info, seed=0)
    assert not hasattr(module, "value")
    assert not any("value" in name for name in module.state_dict())
    with pytest.raises(am.Incompatible, match=r"needs a learner that provides \['policy'\], and Imitated provides"):
        MetaTraining(learner, am.make_meta_optimizer("policy_gradient"), ARMS, n_steps=1, tasks_per_step=1, seed=0)


def test_tasks_that_tell_nothing_are_refused_before_any_work() -> None:
    with pytest.raises(
        am.Incompatible, match="'imitation' needs tasks that tell what to do, and these name no adviser"
    ):
        MetaTraining(
            am.make_learner("imitated"), am.make_meta_optimizer("imitation"), Coins(),
            n_steps=1, tasks_per_step=1, seed=0,
        )  # fmt: skip
    with pytest.raises(am.Incompatible, match="name no adviser"):
        am.MetaAgent("imitated", max_steps=1).meta_fit(Coins())


def test_advice_of_another_shape_is_refused() -> None:
    learner = am.make_learner("imitated", hidden_size=3)
    _, optimizer = started(ARMS, learner, torch.float32)
    environments = ARMS.sample(3, seed=0)

    class Terse(type(environments)):  # type: ignore[misc]
        def advice(self, experience: am.Experience) -> Tensor:
            return super().advice(experience)[:, 0]

    terse = Terse(info=environments.info, key=environments.key, mean=environments.mean)
    with pytest.raises(am.PluginError, match=r"advice\(\) of Terse returned \(3,\); it must be \(3, 6\)"):
        optimizer.step(terse)


@pytest.mark.parametrize(
    ("params", "text"),
    [({"epochs": 0}, "epochs=0"), ({"blind": 1.5}, "blind=1.5"), ({"trials": "many"}, "trials='many'")],
)
def test_parameters_that_cannot_be_are_named(params: dict[str, Any], text: str) -> None:
    optimizer = am.make_meta_optimizer("imitation", **params)
    learner = am.make_learner("imitated")
    with pytest.raises(am.InvalidParameter, match=f"{text} of meta-optimizer 'imitation'"):
        optimizer.start(learner, fresh_module(learner, ARMS.info, 0), ARMS.info)


@pytest.mark.thorough
def test_an_imitated_agent_is_stored_and_loaded(tmp_path: Path) -> None:
    agent = am.MetaAgent("imitated", am.make_meta_optimizer("imitation", trials=8), max_steps=1, random_state=0)
    agent.meta_fit(ARMS).save(tmp_path / "agent.autometa")
    loaded = am.load(tmp_path / "agent.autometa")
    curves = [one.adaptation_curve(ARMS, n_tasks=20, seed=0)["return"] for one in (agent, loaded)]
    assert curves[0].equals(curves[1])


@pytest.mark.slow
def test_the_gate_of_the_long_bandit_is_reached() -> None:
    tasks = am.make_tasks("bandit", arms=5, pulls=100)
    run = trained(tasks, 200)
    judged = evaluate(run.learner, run.module, tasks, split="test", n_tasks=20_000, seed=0)
    assert judged.scores.mean() >= 78.2


@pytest.mark.slow
def test_the_search_on_a_grid_is_learned() -> None:
    """Optimal from ignorance: 4 in the first episode, and the shortest way in the others."""
    tasks = am.make_tasks("gridnavi")
    run = trained(tasks, 100)
    with torch.no_grad():
        outcome = am.judge(run.learner, run.module.eval(), tasks.sample(2000, split="test", seed=1))
    lost = outcome.environments.reference["best"].unsqueeze(1) - outcome.returns
    assert float(outcome.returns[:, 0].mean()) >= 3.9
    assert float(lost[:, 1:].mean()) <= 0.1


@pytest.mark.slow
def test_the_search_of_a_dark_room_is_learned() -> None:
    """The adviser gets 14.852 in the fourth episode, of 16.543 with the goal known."""
    tasks = am.make_tasks("dark_room")
    run = trained(tasks, 280)
    with torch.no_grad():
        outcome = am.judge(run.learner, run.module.eval(), tasks.sample(2000, split="test", seed=1))
    assert float(outcome.returns[:, 0].mean()) >= 2.0
    assert float(outcome.returns[:, 3].mean()) >= 14.3


# ---------------------------------------------------------------- actors that know bandits


@pytest.mark.parametrize("rewards", ["bernoulli", "gaussian"])
def test_gittins_does_what_is_advised(rewards: str) -> None:
    tasks = am.make_tasks("bandit", arms=3, pulls=8, rewards=rewards)
    learner = am.make_learner("gittins")
    module = learner.build(tasks.info)
    environments = tasks.sample(50, seed=0)
    seen, _ = am.collect(learner, module, environments, n_episodes=1, horizon=8, greedy=True)
    assert torch.equal(environments.advice(seen), seen.action)


@pytest.mark.parametrize("rewards", ["bernoulli", "gaussian"])
def test_thompson_pulls_arms_as_often_as_draws_from_the_posterior_find_them_best(rewards: str) -> None:
    info = am.make_tasks("bandit", arms=3, pulls=30, rewards=rewards).info
    learner = am.make_learner("thompson")
    module = learner.build(info)
    pulls, paid = torch.tensor([[4.0, 1.0, 0.0]]), torch.tensor([[3.0, 0.0, 0.0]])
    found = learner.logits(module, Counts(pulls, paid, pulls.sum(1))).exp()[0]
    assert float(found.sum()) == pytest.approx(1, abs=1e-3)
    torch.manual_seed(0)
    if rewards == "bernoulli":
        drawn = torch.distributions.Beta(1 + paid[0], 1 + pulls[0] - paid[0]).sample((100_000,))
    else:
        drawn = torch.distributions.Normal(paid[0] / (pulls[0] + 1), (pulls[0] + 1) ** -0.5).sample((100_000,))
    share = torch.bincount(drawn.argmax(1), minlength=3) / len(drawn)
    torch.testing.assert_close(found, share, atol=4 * 0.5 / math.sqrt(100_000), rtol=0)


def test_posterior_means_are_those_of_the_conjugate_priors() -> None:
    counts = Counts(torch.tensor([5.0, 0.0]), torch.tensor([4.0, 0.0]), torch.tensor(5.0))
    step = (torch.arange(1000) + 0.5) / 1000
    assert (posterior("bernoulli", counts) @ step).tolist() == pytest.approx([5 / 7, 1 / 2], abs=1e-4)
    assert (posterior("gaussian", counts) @ (10 * step - 5)).tolist() == pytest.approx([4 / 6, 0.0], abs=1e-4)


def test_upper_bounds_by_hand() -> None:
    info = am.make_tasks("bandit", arms=3, pulls=30).info
    learner = am.make_learner("ucb", width=1.0)
    module = learner.build(info)

    def chosen(pulls: list[float], paid: list[float]) -> int:
        counts = Counts(torch.tensor([pulls]), torch.tensor([paid]), torch.tensor([sum(pulls)]))
        return int(learner.logits(module, counts).argmax())

    assert chosen([1.0, 0.0, 0.0], [1.0, 0.0, 0.0]) == 1  # what was never pulled comes first
    assert chosen([8.0, 1.0, 1.0], [8.0, 0.0, 1.0]) == 2  # 1 + .76, 0 + 2.15, 1 + 2.15
    assert chosen([8.0, 1.0, 1.0], [8.0, 0.0, 0.0]) == 1  # the first of two


@pytest.mark.parametrize("name", ["gittins", "thompson", "ucb"])
def test_actors_that_know_bandits_refuse_other_worlds(name: str) -> None:
    with pytest.raises(am.Incompatible, match=f"learner '{name}' is for bandits"):
        am.make_learner(name).build(am.make_tasks("gridnavi").info)


def test_no_index_is_known_for_very_long_bandits() -> None:
    with pytest.raises(am.Incompatible, match="200 pulls at most, and the tasks have 300"):
        am.make_learner("gittins").build(am.make_tasks("bandit", pulls=300).info)
    assert am.make_learner("thompson").build(am.make_tasks("bandit", pulls=300).info) is not None


def test_rewards_that_are_not_told_teach_nothing() -> None:
    info = ARMS.info
    for name in ("gittins", "thompson", "ucb"):
        learner = am.make_learner(name)
        module = learner.build(info)
        no = torch.zeros(1, dtype=torch.bool)
        quiet = am.Transition(torch.ones(1, 1), no.long(), torch.ones(1), no, no, torch.ones(1, 1), no)
        counts = learner.observe(module, learner.start(module, 1), quiet)
        assert not counts["pulls"].any()
        assert not counts["paid"].any()
        heard = learner.observe(module, learner.start(module, 1), quiet._replace(told=~no))
        assert heard["pulls"].tolist() == [[1, 0]]


def test_the_best_rules_for_bandits_come_in_the_known_order() -> None:
    tasks = am.make_tasks("bandit", arms=5, pulls=20)
    found = {}
    for name in ("gittins", "ucb", "thompson", "random"):
        learner = am.make_learner(f"control/{name}")
        found[name] = evaluate(learner, learner.build(tasks.info), tasks, split="test", n_tasks=400, seed=0).scores
    for better, worse in itertools.pairwise(found):
        gap = found[better] - found[worse]
        assert gap.mean() > 2 * gap.std() / math.sqrt(len(gap)), (better, worse)


def test_a_replaced_reward_changes_no_earlier_advice() -> None:
    learner = am.make_learner("control/random")
    environments = ARMS.sample(20, seed=0)
    seen, _ = am.collect(learner, learner.build(ARMS.info), environments, n_episodes=1, horizon=6)
    reward = seen.reward.clone()
    reward[:, 3] = 1 - reward[:, 3]
    before, after = environments.advice(seen), environments.advice(replace(seen, reward=reward))
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.equal(before, after)

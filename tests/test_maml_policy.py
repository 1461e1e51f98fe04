"""maml_policy adapts by its own policy gradient, and promp's meta-gradient goes through that exactly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from autometa_plugins.control.linear_baseline import age, discounted_sums, episode_advantages, fitted_values
from autometa_plugins.control.maml_policy import MAMLPolicy, surrogate
from autometa_plugins.control.promp import ProMP
from autometa_plugins.control.sequence_actor import Critic
from torch import Tensor, nn

import autometa as am
from autometa.engine.random_state import fresh_module
from autometa.testing.toy_worlds import Doors
from autometa.training import MetaTraining
from derivatives import build_moved, finite_differences
from learning import assert_lower, training_seed
from tiers import first_by_default

PLANES = am.make_tasks("navigation_2d", steps=5, n_shot=4)
DOORS = Doors(n_shot=4, n_query=2)
SMALL = am.make_backbone("mlp", hidden=(4,), activation="tanh")


def small(**parameters: Any) -> MAMLPolicy:
    return MAMLPolicy(**{"episodes": 2, "backbone": SMALL, **parameters})


def lived(learner: MAMLPolicy, module: nn.Module, tasks: am.TaskSampler, n_tasks: int, after: int = 2) -> am.Experience:
    """Rounds and the episodes after them, in double precision."""
    worlds, info = tasks.sample(n_tasks, seed=1).to(dtype=torch.float64), tasks.info
    with torch.no_grad():
        return am.collect(learner, module, worlds, n_episodes=info.n_shot + after, horizon=info.horizon)[0]


# ---------------------------------------------------------------- advantages


def test_discounted_sums_are_those_of_a_loop() -> None:
    torch.manual_seed(0)
    values, factor = torch.randn(3, 13).double(), torch.rand(3, 13).double()
    later, expected = torch.zeros(3).double(), []
    for time in reversed(range(13)):
        later = values[:, time] + factor[:, time] * later
        expected.append(later)
    torch.testing.assert_close(discounted_sums(values, factor), torch.stack(expected[::-1], 1))


@pytest.mark.parametrize(("discount", "trace"), [(0.99, 1.0), (0.9, 0.5), (1.0, 0.0)])
def test_advantages_are_taken_within_episodes(discount: float, trace: float) -> None:
    learner = small()
    module = fresh_module(learner, DOORS.info, seed=0).double()
    seen = lived(learner, module, DOORS, 5).episodes(0, 4)
    assert not seen.mask.all(), "some trials end early"
    found = episode_advantages(seen, discount, trace)
    assert (found[~seen.mask] == 0).all()
    for task in range(5):
        mask = seen.mask[task]
        reward, episode = seen.reward[task, mask], seen.episode[task, mask]
        later, returns = torch.zeros(()), []
        for time in reversed(range(len(reward))):
            is_last = time + 1 == len(reward) or episode[time + 1] != episode[time]
            later = reward[time] + discount * later * (not is_last)
            returns.append(later)
        target = torch.zeros(1, seen.n_steps).double()
        target[0, mask] = to_go = torch.stack(returns[::-1])
        value = fitted_values(seen[task : task + 1], target)[0, mask]
        ahead, expected = torch.zeros(()), []
        for time in reversed(range(len(reward))):
            is_last = time + 1 == len(reward) or episode[time + 1] != episode[time]
            following = 0.0 if is_last else value[time + 1]
            ahead = reward[time] + discount * following - value[time] + discount * trace * ahead * (not is_last)
            expected.append(ahead)
        wanted = torch.stack(expected[::-1])
        wanted = (wanted - wanted.mean()) / (wanted.std(correction=0) + 1e-5 * to_go.square().mean().sqrt() + 1e-8)
        torch.testing.assert_close(found[task, mask], wanted)


def test_values_are_linear_in_what_is_seen_and_in_time() -> None:
    learner = small()
    module = fresh_module(learner, PLANES.info, seed=0).double()
    seen = lived(learner, module, PLANES, 3, after=400)
    time = age(seen) / 100
    assert (age(seen)[seen.mask] <= 4).all()
    target = 2 + 3 * seen.observation[..., 0] - seen.observation[..., 1].square() + 40 * time.square()
    found = fitted_values(seen, target)
    unexplained = (found - target)[seen.mask].square().mean() / target[seen.mask].var()
    assert float(unexplained) < 1e-3


def test_rewards_that_are_not_told_adapt_nothing() -> None:
    learner = small()
    module = fresh_module(learner, PLANES.info, seed=0).double()
    seen = lived(learner, module, PLANES, 3).episodes(0, 2)
    untold = replace(seen, told=torch.zeros_like(seen.told))
    start = learner.start(module, 3)
    with torch.no_grad():
        after = learner.adapt(module, start, untold)
    for name, value in after["weights"].items():
        assert torch.equal(value, start["weights"][name].detach())


# ---------------------------------------------------------------- derivatives


@pytest.mark.parametrize("steps", first_by_default(1, [1, 2]))
@pytest.mark.parametrize("tasks", [PLANES, DOORS], ids=["normal", "choice"])
def test_the_meta_gradient_is_that_of_finite_differences(tasks: am.TaskSampler, steps: int) -> None:
    """In fixed experience, through two rounds and into the episodes after them."""
    learner = small(steps=steps, inner_lr=0.5)
    module = build_moved(learner, tasks.info, spread=0.3)
    optimizer = ProMP(kl=0.1, clip=10.0)
    optimizer.start(learner, module, tasks.info)
    seen = lived(learner, module, tasks, 6)
    rounds, after = [seen.episodes(0, 2), seen.episodes(2, 4)], seen.episodes(4, 6)
    advantage = episode_advantages(after, 0.99, 0.97)

    def loss() -> Tensor:
        return optimizer._loss(rounds, after, advantage)[0]

    parameters = dict(module.named_parameters())
    gradients = torch.autograd.grad(loss(), list(parameters.values()))
    for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        with torch.no_grad():
            expected = finite_differences(lambda: loss().detach(), parameter)
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-7, msg=lambda text, name=name: name + text)
        assert gradient.any(), name


def test_the_divergence_is_that_of_who_explores_before_each_round() -> None:
    learner = small()
    module = build_moved(learner, DOORS.info, spread=0.3)
    optimizer = ProMP(kl=2.0)
    optimizer.start(learner, module, DOORS.info)
    seen = lived(learner, module, DOORS, 6)
    assert not seen.mask.all()
    rounds, after = [seen.episodes(0, 2), seen.episodes(2, 4)], seen.episodes(4, 6)
    unknown, nothing = replace(after, log_prob=after.log_prob + 1), torch.zeros_like(after.reward)
    torch.testing.assert_close(optimizer._loss(rounds, unknown, nothing)[0], torch.zeros(()).double())
    with torch.no_grad():
        for value in module.parameters():
            value += 0.2 * torch.randn_like(value)
        memory, expected = learner.start(module, 6), []
        for part in rounds:
            policy = learner.decide(module, memory, part.observation, part.episode).policy
            gap = (policy.log_prob(part.action) - part.log_prob)[part.mask]
            expected.append((gap.exp() - 1 - gap).mean())
            memory = learner.adapt(module, memory, part)
    loss, metrics = optimizer._loss(rounds, unknown, nothing)
    assert min(expected) > 1e-3
    torch.testing.assert_close(metrics["divergence"], (expected[0] + expected[1]) / 2)
    torch.testing.assert_close(loss.detach(), expected[0] + expected[1])


def adapted_along(module: nn.Module, seen: am.Experience, gain: Any, direction: list[Tensor]) -> list[Tensor]:
    """Derivative in θ of ``direction`` times a gradient step of size 1 on a gain."""
    values = list(module.parameters())
    slopes = torch.autograd.grad(gain(), values, create_graph=True)
    moved = sum(((v + s) * d).sum() for v, s, d in zip(values, slopes, direction, strict=True))
    return list(torch.autograd.grad(moved, values))


def test_the_surrogate_knows_how_the_start_changes_what_is_experienced() -> None:
    """It differs from ``log π`` times advantages by the products of scores, step by step."""
    learner = small(learn_lr=False)
    module = build_moved(learner, PLANES.info, spread=0.3)
    seen = lived(learner, module, PLANES, 1).episodes(0, 2)
    advantage = episode_advantages(seen, 0.99, 1.0)
    torch.manual_seed(0)
    values = list(module.parameters())
    direction = [torch.randn_like(value) for value in values]

    def log_probs() -> Tensor:
        return module.decide(learner.start(module, 1)["weights"], seen.observation).log_prob(seen.action)

    def low_variance() -> Tensor:
        policy = module.decide(learner.start(module, 1)["weights"], seen.observation)
        return surrogate(policy, seen, advantage).sum()

    def naive() -> Tensor:
        return (log_probs() * advantage).sum() / seen.mask.sum()

    found, without = (adapted_along(module, seen, gain, direction) for gain in (low_variance, naive))
    expected = [torch.zeros_like(value) for value in values]
    for step in range(seen.n_steps):
        if bool(seen.mask[0, step]):
            score = torch.autograd.grad(log_probs()[0, step], values)
            along = sum((s * d).sum() for s, d in zip(score, direction, strict=True))
            expected = [e + advantage[0, step] * s * along for e, s in zip(expected, score, strict=True)]
    for here, there, product in zip(found, without, expected, strict=True):
        torch.testing.assert_close(here - there, product / seen.mask.sum())
    assert max(float(product.abs().max()) for product in expected) > 0.1


def test_the_second_derivative_of_the_surrogate_is_that_of_the_expected_return() -> None:
    """Of two arms, drawn exactly as often as the policy says: the Hessian of Σ p r in the logits is known."""
    logits = torch.tensor([3.0, 1.0], dtype=torch.float64).log().requires_grad_()
    action = torch.tensor([[0, 0, 0, 1]])
    reward = torch.tensor([0.2, 0.9], dtype=torch.float64)
    yes = torch.ones(1, 4, dtype=torch.bool)
    policy = am.Choice(logits.expand(1, 4, 2))
    zeros = torch.zeros(1, 4, dtype=torch.float64)
    seen = am.Experience(
        observation=zeros.unsqueeze(2), action=action, reward=reward[action], terminated=yes, truncated=~yes,
        next_observation=zeros.unsqueeze(2), told=yes, log_prob=policy.log_prob(action).detach(),
        episode=torch.arange(4).expand(1, 4), mask=yes, hidden=zeros[:, :0],
    )  # fmt: skip

    def expected_return(values: Tensor) -> Tensor:
        return (values.softmax(0) * reward).sum()

    def gain(values: Tensor) -> Tensor:
        return surrogate(am.Choice(values.expand(1, 4, 2)), seen, seen.reward).sum()

    hessian = torch.autograd.functional.hessian
    torch.testing.assert_close(hessian(gain, logits.detach()), hessian(expected_return, logits.detach()))


# ---------------------------------------------------------------- adapting


@pytest.mark.parametrize("tasks", [PLANES, DOORS], ids=["normal", "choice"])
def test_all_tasks_adapt_as_each_does_by_itself(tasks: am.TaskSampler) -> None:
    learner = small(steps=2)
    module = build_moved(learner, tasks.info, spread=0.3)
    seen = lived(learner, module, tasks, 4).episodes(0, 2)
    with torch.no_grad():
        together = learner.adapt(module, learner.start(module, 4), seen)
        again = learner.adapt(module, together, seen)
        for task in range(4):
            rows = slice(task, task + 1)
            alone = learner.adapt(module, learner.start(module, 1), seen[rows])
            twice = learner.adapt(module, alone, seen[rows])
            for name in together["weights"]:
                torch.testing.assert_close(together["weights"][name][rows], alone["weights"][name])
                torch.testing.assert_close(again["weights"][name][rows], twice["weights"][name])


def test_steps_after_the_first_are_half_as_large() -> None:
    learner = small(learn_lr=False, inner_lr=0.1)
    module = build_moved(learner, PLANES.info, spread=0.3)
    seen = lived(learner, module, PLANES, 3).episodes(0, 2)
    advantage = episode_advantages(seen, learner.discount, learner.trace)
    memory = learner.start(module, 3)
    for share in (1.0, 0.5, 0.5):
        weights = {name: value.detach().requires_grad_() for name, value in memory["weights"].items()}
        gain = surrogate(module.decide(weights, seen.observation), seen, advantage).sum()
        slopes = torch.autograd.grad(gain, list(weights.values()))
        with torch.no_grad():
            memory = learner.adapt(module, memory, seen)
        for (name, value), slope in zip(weights.items(), slopes, strict=True):
            torch.testing.assert_close(memory["weights"][name], value + 0.1 * share * slope)


def test_an_adaptation_makes_what_paid_more_probable() -> None:
    learner = small(inner_lr=5.0, episodes="auto")
    module = fresh_module(learner, DOORS.info, seed=0).double()
    seen = lived(learner, module, DOORS, 50)
    first = seen.episodes(0, 4)
    with torch.no_grad():
        before = learner.start(module, 50)
        after = learner.adapt(module, before, first)
        found = [learner.decide(module, memory, first.observation).policy.logits for memory in (before, after)]
    way_out = seen.hidden.argmax(1)
    before_, after_ = (logits.softmax(-1).mean(1).gather(1, way_out[:, None])[:, 0] for logits in found)
    assert_lower(before_, after_)


@pytest.mark.parametrize("name", ["maml_policy", "scratch", "fine_tuned_policy"])
def test_what_was_done_with_unknown_probability_is_refused_by_who_divides_by_it(name: str) -> None:
    tasks = am.make_tasks("maze", size=4, steps=12, n_shot=1)
    shown = tasks.sample(3, split="test", seed=0).demonstrations()
    agent = am.MetaAgent(am.make_learner(name, backbone=SMALL), max_steps=1, tasks_per_step=2, device="cpu")
    optimizer = {"maml_policy": "promp", "fine_tuned_policy": "policy_gradient"}.get(name)
    if optimizer:
        agent.set_params(meta_optimizer=am.make_meta_optimizer(optimizer, trials=2, epochs=1))
    agent.meta_fit(tasks)
    with pytest.raises(am.InvalidData, match="log_prob of what happened is NaN in 3 of 3 tasks, as in demonstrations"):
        agent.fit(transitions=shown)
    known = shown.log_prob.clone()
    known[:2] = 0
    with pytest.raises(am.InvalidData, match="in 1 of 3 tasks"):
        agent.fit(transitions=replace(shown, log_prob=known))
    agent.fit(transitions=replace(shown, log_prob=torch.zeros_like(known)))


def test_what_a_policy_did_that_has_diverged_is_not_taken_for_a_demonstration() -> None:
    learner = small()
    module = fresh_module(learner, PLANES.info, seed=0).double()
    seen = lived(learner, module, PLANES, 2).episodes(0, 2)
    start, yes = learner.start(module, 2), torch.ones_like(seen.reward)
    broken = {name: torch.full_like(value, torch.nan) for name, value in start["weights"].items()}
    seen = replace(seen, log_prob=torch.full_like(seen.log_prob, torch.nan))
    assert surrogate(module.decide(broken, seen.observation), seen, yes).isnan().all()
    with pytest.raises(am.InvalidData, match="log_prob"):
        surrogate(module.decide(start["weights"], seen.observation), seen, yes)


def test_a_critic_that_sees_hidden_parameters_must_get_them() -> None:
    features = torch.randn(2, 3, 4)
    blind, sees = Critic(4, 0), Critic(4, 2)
    assert torch.equal(blind(features), blind(features, torch.randn(2, 5)))
    with pytest.raises(ValueError, match="this critic sees 2 hidden parameters of each task"):
        sees(features)


# ---------------------------------------------------------------- meta-training


def meta_trained(n_steps: int, until: float = 1.0) -> MetaTraining:
    tasks = am.make_tasks("navigation_2d", steps=20, n_shot=10)
    learner, optimizer = am.make_learner("maml_policy"), am.make_meta_optimizer("promp", trials=10, lr=0.01)
    training = MetaTraining(learner, optimizer, tasks, n_steps=n_steps, tasks_per_step=4, seed=training_seed())
    training.run_to(until)
    return training


def test_an_outer_step_judges_as_many_episodes_as_a_round_has_and_enough_to_compare() -> None:
    optimizer = ProMP(trials=3, episodes=2)
    learner = small()
    optimizer.start(learner, fresh_module(learner, PLANES.info, 0), PLANES.info)
    assert optimizer.n_after_ == 2
    assert optimizer.rounds_ == [(0, 2), (2, 4)]
    assert len(optimizer.draw(PLANES, 16, 0)) == 3
    metrics = optimizer.step(optimizer.draw(PLANES, 16, 0))
    assert set(metrics) == {"loss", "divergence", "environment_steps", "return_1", "return_2", "return_3"}
    assert float(metrics["environment_steps"]) <= 3 * 6 * 5
    optimizer.set_params(episodes="auto", trials="auto")
    for size, expected in ((2, 10), (13, 13)):
        optimizer.start(small(episodes=size), fresh_module(learner, PLANES.info, 0), PLANES.info)
        assert optimizer.n_after_ == expected
        assert len(optimizer.draw(PLANES, 16, 0)) == 40_000 // (5 * (4 + expected))


@pytest.mark.thorough
def test_it_learns_a_start_from_which_an_adaptation_leads_to_the_goal() -> None:
    training = meta_trained(12)
    tasks = am.make_tasks("navigation_2d", steps=20, n_shot=10)
    worlds = tasks.sample(200, split="test", seed=0)
    fresh = fresh_module(training.learner, tasks.info, training_seed())
    with torch.no_grad():
        before, after = (am.judge(training.learner, one, worlds).scores for one in (fresh, training.module))
    still = -20 * worlds.goal.norm(dim=1)
    assert_lower(before, after)
    assert_lower(still, after)


@pytest.mark.slow
def test_the_gate_of_navigation_is_reached() -> None:
    """Standing still brings -38.26; MAML's own curve is -40.4, -11.7, -3.3 and -3.2 (Finn et al. 2017, figure 4)."""
    tasks = am.make_tasks("navigation_2d")
    learner = am.make_learner("maml_policy", greedy=True)  # what it draws brings 0.5 less, as little as the gate allows
    agent = am.MetaAgent(learner, max_steps=120, device="cpu", random_state=training_seed()).meta_fit(tasks)
    curve = agent.adaptation_curve(tasks, n_tasks=1000).groupby("episode")["return"].mean()
    assert curve[0] < -30
    assert curve[1] >= -12.5


def test_an_agent_tells_returns_before_and_after_each_adaptation() -> None:
    tasks = am.make_tasks("navigation_2d", steps=5, n_shot=4)
    optimizer = am.make_meta_optimizer("promp", trials=2, epochs=1)
    agent = am.MetaAgent(small(), optimizer, max_steps=1, device="cpu", random_state=0).meta_fit(tasks)
    curve = agent.adaptation_curve(tasks, n_tasks=10)
    assert curve["episode"].unique().tolist() == [0, 1, 2]
    agent.fit(tasks.sample(1, split="test", seed=0), episodes=4)
    assert agent.returns_.shape == (1, 4)
    action, _ = agent.predict([0.0, 0.0], deterministic=True)
    assert action.shape == (2,)


@pytest.mark.parametrize(
    ("params", "text"), [({"steps": -1}, "steps=-1"), ({"inner_lr": 0}, "inner_lr=0"), ({"episodes": 0}, "episodes=0")]
)
def test_parameters_that_cannot_be_are_named(params: dict[str, Any], text: str) -> None:
    with pytest.raises(am.InvalidParameter, match=f"{text} of learner 'maml_policy'"):
        MAMLPolicy(**params).build(PLANES.info)


def test_a_learner_that_adapts_in_no_rounds_is_refused() -> None:
    with pytest.raises(am.Incompatible, match=r"ProMP needs a learner that provides \['rounds'\], and RL2"):
        MetaTraining(am.make_learner("rl2"), ProMP(), PLANES, n_steps=1, tasks_per_step=1, seed=0)

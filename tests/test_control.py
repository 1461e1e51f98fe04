"""Worlds to act in: what is drawn, what a step does, how trials are collected and judged."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from autometa_plugins.control.bandit_optimum import bernoulli_optimum
from torch import Tensor, nn

import autometa as am
from autometa.cli import main
from autometa.contracts.keys import uniform
from autometa.training import evaluate

SAMPLERS = [am.make_tasks("bandit"), am.make_tasks("bandit", rewards="gaussian"), am.make_tasks("gridnavi")]
ids = [f"{type(tasks).__name__}-{i}" for i, tasks in enumerate(SAMPLERS)]
each_sampler = pytest.mark.parametrize("tasks", SAMPLERS, ids=ids)


# ---------------------------------------------------------------- an actor and worlds to look at


class Counter(am.Actor):
    """Remembers what it read and was told; its policy and value follow from that alone."""

    greedy = False

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.Linear(3, info.n_outputs + 1)

    def start(self, module: nn.Module, n_tasks: int) -> dict[str, Tensor]:
        return {"sums": module.weight.new_zeros(n_tasks, 3)}

    def act(self, module: nn.Module, memory: Any, observation: Tensor) -> tuple[am.Decision, Any]:
        sums = memory["sums"] + torch.stack([observation.flatten(1).sum(1)] + [torch.zeros(len(observation))] * 2, 1)
        outputs = module(sums.tanh())
        return am.Decision(am.Choice(outputs[:, :-1]), outputs[:, -1]), {"sums": sums}

    def observe(self, module: nn.Module, memory: Any, transition: am.Transition) -> Any:
        told = torch.stack([0 * transition.reward, transition.reward * transition.told, transition.action / 5], 1)
        return {"sums": 0.9 * memory["sums"] + told}


class Doors(am.TaskSampler):
    """Episodes that end early: action 1 leaves for good, action 0 waits; `patience` steps are allowed at most."""

    def __init__(self, *, patience: int = 4, n_shot: int = 1, n_query: int = 2) -> None:
        self.patience = patience
        self.n_shot = n_shot
        self.n_query = n_query

    @property
    def info(self) -> am.TaskInfo:
        return am.TaskInfo(
            problem="control",
            input_shape=(1,),
            n_outputs=2,
            n_shot=self.n_shot,
            n_query=self.n_query,
            horizon=self.patience,
        )

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> DoorEnvironments:
        am.check_draw(n_tasks, split, seed)
        price = torch.from_numpy(am.draw_uniform((n_tasks,), seed, split)).float()
        return DoorEnvironments(info=self.info, key=am.draw_keys(n_tasks, seed, split), price=price)


@dataclass(frozen=True, kw_only=True)
class DoorEnvironments(am.TensorEnvironments):
    price: Tensor
    n_noise = 1

    @property
    def hidden(self) -> Tensor:
        return self.price.new_zeros(len(self), 0)

    def initial(self, noise: Tensor) -> dict[str, Tensor]:
        return {"waited": noise[:, 0].to(self.price)}

    def observation(self, state: dict[str, Tensor]) -> Tensor:
        return state["waited"].unsqueeze(1)

    def change(
        self, state: dict[str, Tensor], action: Tensor, noise: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        leaves = action == 1
        return {"waited": state["waited"] + 1}, torch.where(leaves, self.price, -0.1 * noise[:, 0]), leaves


def trial(actor: am.Actor, module: nn.Module, environments: am.Environments, **kwargs: Any) -> tuple[Any, Any]:
    info = environments.info
    return am.collect(actor, module, environments, n_episodes=info.n_episodes, horizon=info.horizon, **kwargs)


def counter_on(tasks: am.TaskSampler) -> tuple[Counter, nn.Module]:
    torch.manual_seed(3)
    return Counter(), Counter().build(tasks.info)


def same(a: am.Experience, b: am.Experience) -> bool:
    names = ("observation", "action", "reward", "terminated", "truncated", "told", "log_prob", "episode", "mask")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


# ---------------------------------------------------------------- samplers


@each_sampler
def test_environments_follow_from_the_seed_and_a_task_from_its_place_alone(tasks: am.TaskSampler) -> None:
    state = torch.random.get_rng_state()
    many, again, other = (tasks.sample(7, seed=seed) for seed in (1, 1, 2))
    few = tasks.sample(3, seed=1)
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(many.hidden, again.hidden)
    assert torch.equal(many.key, again.key)
    assert not torch.equal(many.key, other.key)
    assert torch.equal(many.hidden[:3], few.hidden)
    assert torch.equal(many.key[:3], few.key)
    for split in ("valid", "test"):
        assert not torch.equal(many.key, tasks.sample(7, split=split, seed=1).key)
    assert tasks.info.n_hidden == many.hidden.shape[1]


@pytest.mark.parametrize("tasks", [*SAMPLERS, Doors()], ids=[*ids, "Doors"])
def test_a_trial_does_not_depend_on_the_tasks_beside_it_nor_on_earlier_acting(tasks: am.TaskSampler) -> None:
    actor, module = counter_on(tasks)
    environments = tasks.sample(9, seed=4)
    with torch.no_grad():
        experience, memory = trial(actor, module, environments)
        again, _ = trial(actor, module, environments)
        alone, remembered = trial(actor, module, environments[4:5])
    assert same(experience, again)
    steps = alone.n_steps
    one = experience[4:5]
    assert torch.equal(one.action[:, :steps], alone.action)
    assert torch.equal(one.reward[:, :steps], alone.reward)
    assert not one.mask[:, steps:].any()
    torch.testing.assert_close(one.log_prob[:, :steps], alone.log_prob)
    torch.testing.assert_close(memory["sums"][4:5], remembered["sums"])


def test_environments_are_cast_and_taken_apart() -> None:
    environments = am.make_tasks("gridnavi").sample(6, seed=0)
    double = environments.to(dtype=torch.float64)[torch.tensor([1, 4])]
    assert (len(double), double.one.dtype, double.goal.dtype) == (2, torch.float64, torch.int64)
    assert double.begin().reset().dtype == torch.float64
    assert torch.equal(double.hidden, environments.hidden[[1, 4]].double())


def test_uniform_numbers_are_uniform_and_streams_are_independent() -> None:
    keys = am.draw_keys(20_000, 0, "train")
    assert keys.unique().numel() == len(keys)
    columns = [uniform(keys, time, stream, 2) for time in (0, 1) for stream in ("act", "step")]
    values = torch.cat(columns, 1)
    assert 0 < float(values.min()) < float(values.max()) < 1
    torch.testing.assert_close(values.mean(0), torch.full((8,), 0.5), atol=0.01, rtol=0)
    torch.testing.assert_close(values.var(0), torch.full((8,), 1 / 12), atol=0.002, rtol=0)
    off_diagonal = np.corrcoef(values.T.numpy()) - np.eye(8)
    assert abs(off_diagonal).max() < 5 / math.sqrt(len(keys))
    assert torch.equal(uniform(keys[5:9], 1, "act", 2), uniform(keys, 1, "act", 2)[5:9])


# ---------------------------------------------------------------- worlds


def test_no_uniform_number_is_rounded_to_an_end() -> None:
    key = am.draw_keys(2_000_000, 0, "train")[890_972:890_973]
    assert 0 < float(uniform(key, 0, "step", 1)) < 1, "whose 24 highest bits are ones"
    largest = torch.tensor(2**23 - 1, dtype=torch.float32) + 0.5
    assert float(largest * 2.0**-23) < 1


def test_a_masked_reset_begins_again_in_these_tasks_only() -> None:
    environments = Doors().sample(4, seed=0)
    worlds = environments.begin()
    first = worlds.reset()
    after = worlds.step(torch.zeros(4, dtype=torch.int64)).observation
    assert torch.equal(after, first + 1)
    mask = torch.tensor([True, False, False, True])
    seen = worlds.reset(mask)
    assert torch.equal(seen[~mask], after[~mask])
    assert (seen[mask] < 1).all()
    ends = [worlds.step(torch.zeros(4, dtype=torch.int64)).truncated.tolist() for _ in range(4)]
    assert ends[2] == [False, True, True, False]
    assert ends[3] == [True, True, True, True]


def test_an_episode_that_ends_in_the_world_was_not_cut_off() -> None:
    environments = Doors(patience=2).sample(2, seed=0)
    worlds = environments.begin()
    worlds.reset()
    worlds.step(torch.tensor([0, 0]))
    result = worlds.step(torch.tensor([1, 0]))
    assert result.terminated.tolist() == [True, False]
    assert result.truncated.tolist() == [False, True]


def test_trials_of_unequal_length_are_padded_and_the_memory_is_that_of_their_own_end() -> None:
    tasks = Doors()
    actor, module = counter_on(tasks)
    with torch.no_grad():
        experience, memory = trial(actor, module, tasks.sample(50, seed=2))
    lengths = experience.mask.sum(1)
    assert len(lengths.unique()) > 1
    assert torch.equal(experience.mask, torch.arange(experience.n_steps) < lengths[:, None])
    ended = (experience.ended & experience.mask).sum(1)
    assert (ended == tasks.info.n_episodes).all()
    for i in (0, 1, 2):
        rewards = [0.0] * 3
        for step in range(int(lengths[i])):
            rewards[int(experience.episode[i, step])] += float(experience.reward[i, step])
        torch.testing.assert_close(experience.returns(3)[i], torch.tensor(rewards))
        own = replace(experience[i : i + 1])
        own = am.Experience(**{
            name: value[:, : lengths[i]] if isinstance(value, Tensor) and name != "hidden" else value
            for name, value in vars(own).items()
        })  # fmt: skip
        torch.testing.assert_close(actor.along(module, own)[1]["sums"], memory["sums"][i : i + 1])


def test_reading_what_happened_decides_as_acting_did() -> None:
    for tasks in (am.make_tasks("gridnavi", n_shot=1), Doors()):
        actor, module = counter_on(tasks)
        with torch.no_grad():
            experience, memory = trial(actor, module, tasks.sample(20, seed=2), blind=0.5)
            decision, after = actor.along(module, experience)
        mask = experience.mask
        torch.testing.assert_close(decision.policy.log_prob(experience.action)[mask], experience.log_prob[mask])
        torch.testing.assert_close(after["sums"], memory["sums"])
        assert decision.value is not None
        assert decision.value.shape == mask.shape


def test_a_memory_that_changes_its_shape_must_read_for_itself() -> None:
    class Growing(Counter):
        def observe(self, module: nn.Module, memory: Any, transition: am.Transition) -> Any:
            return {"sums": memory["sums"][:, :1].expand(-1, 3), "all": transition.reward.unsqueeze(1)}

        def start(self, module: nn.Module, n_tasks: int) -> Any:
            return {"sums": torch.zeros(n_tasks, 3), "all": torch.zeros(n_tasks, 0)}

        def act(self, module: nn.Module, memory: Any, observation: Tensor) -> Any:
            decision, after = super().act(module, memory, observation)
            return decision, {**memory, **after}

    tasks = Doors()
    actor, module = Growing(), Growing().build(tasks.info)
    with torch.no_grad(), pytest.raises(am.PluginError, match=r"memory of actor Growing.*override along"):
        trial(actor, module, tasks.sample(20, seed=2))


def test_rewards_are_withheld_in_judged_episodes_of_some_tasks_alone() -> None:
    tasks = am.make_tasks("gridnavi", n_shot=1, n_query=1)
    actor, module = counter_on(tasks)
    with torch.no_grad():
        experience, _ = trial(actor, module, tasks.sample(400, seed=0), blind=0.25)
    blind = ~experience.told[:, -1]
    assert 0.15 < float(blind.float().mean()) < 0.35
    assert torch.equal(experience.told, ~(blind[:, None] & (experience.episode == 1)))


def test_a_world_whose_rewards_have_another_shape_is_named() -> None:
    class Wide(DoorEnvironments):
        def change(self, state: Any, action: Tensor, noise: Tensor) -> Any:
            state, reward, ended = super().change(state, action, noise)
            return state, reward.unsqueeze(1), ended

    tasks = Doors()
    actor, module = counter_on(tasks)
    drawn = tasks.sample(3, seed=0)
    wide = Wide(info=drawn.info, key=drawn.key, price=drawn.price)
    with pytest.raises(am.PluginError, match=r"worlds of Wide returned reward of shape \(3, 1\); it must be \(3,\)"):
        trial(actor, module, wide)


# ---------------------------------------------------------------- policies


def test_choices_are_drawn_by_their_probabilities() -> None:
    policy = am.Choice(torch.tensor([[0.1, 0.2, 0.7]]).log().expand(30_000, 3))
    action = policy.draw(uniform(am.draw_keys(30_000, 0), 0, "act", policy.n_noise))
    torch.testing.assert_close(action.bincount() / 30_000, torch.tensor([0.1, 0.2, 0.7]), atol=0.01, rtol=0)
    known = torch.distributions.Categorical(logits=policy.logits)
    torch.testing.assert_close(policy.log_prob(action), known.log_prob(action))
    torch.testing.assert_close(policy.entropy, known.entropy())
    assert (policy.mode == 2).all()


def test_normal_actions_are_drawn_by_their_density() -> None:
    mean, log_std = torch.tensor([1.0, -2.0]).expand(30_000, 2), torch.tensor([0.5, -1.0])
    policy = am.Normal(mean, log_std.expand_as(mean))
    action = policy.draw(uniform(am.draw_keys(30_000, 0), 0, "act", policy.n_noise))
    torch.testing.assert_close(action.mean(0), mean[0], atol=0.03, rtol=0)
    torch.testing.assert_close(action.std(0), log_std.exp(), atol=0.03, rtol=0)
    known = torch.distributions.Normal(mean, log_std.exp())
    torch.testing.assert_close(policy.log_prob(action), known.log_prob(action).sum(1))
    torch.testing.assert_close(policy.entropy, known.entropy().sum(1))


# ---------------------------------------------------------------- known returns


def best_of_all_plans(tasks: am.TaskSampler, index: int) -> float:
    """Best return of an episode over all sequences of actions."""
    info = tasks.info
    plans = torch.tensor(list(itertools.product(range(info.n_outputs), repeat=info.horizon)))
    environments = tasks.sample(index + 1, seed=0)[torch.full((len(plans),), index)]
    worlds = environments.begin()
    worlds.reset()
    return float(sum(worlds.step(plans[:, time]).reward for time in range(info.horizon)).max())


@pytest.mark.parametrize("index", range(4))
def test_the_best_return_of_a_grid_is_that_of_the_best_of_all_walks(index: int) -> None:
    tasks = am.make_tasks("gridnavi", size=4, steps=6, n_shot=0)
    known = float(tasks.sample(index + 1, seed=0).reference["best"][index])
    assert best_of_all_plans(tasks, index) == pytest.approx(known, abs=1e-5)


def expected_of(choose: Callable[[Tensor], Tensor], n_tasks: int = 40_000) -> Tensor:
    tasks = am.make_tasks("bandit", arms=3, pulls=4)
    environments = tasks.sample(1, seed=5)[torch.zeros(n_tasks, dtype=torch.int64)]
    environments = replace(environments, key=am.draw_keys(n_tasks, 8))
    worlds = environments.begin()
    worlds.reset()
    pulls = [worlds.step(choose(uniform(environments.key, time, "act", 1)[:, 0])).reward for time in range(4)]
    return torch.stack(pulls).sum(0).mean()


def test_the_references_of_a_bandit_are_what_its_arms_pay() -> None:
    environments = am.make_tasks("bandit", arms=3, pulls=4).sample(1, seed=5)
    reference = {name: float(value) for name, value in environments.reference.items()}
    arm = environments.mean.argmax(1)
    assert float(expected_of(lambda u: (3 * u).long())) == pytest.approx(reference["random"], abs=0.02)
    assert float(expected_of(lambda u: arm.expand(len(u)))) == pytest.approx(reference["best"], abs=0.02)


@pytest.mark.parametrize("tasks", SAMPLERS, ids=ids)
def test_the_random_actor_gets_the_return_that_is_known_of_it(tasks: am.TaskSampler) -> None:
    actor = am.make_learner("control/random")
    environments = tasks.sample(4000, seed=0)
    outcome = am.judge(actor, actor.build(tasks.info), environments)
    gap = outcome.returns - environments.reference["random"].unsqueeze(1)
    assert (gap.mean(0).abs() < 4 * gap.std(0) / math.sqrt(len(gap))).all()
    normalized = outcome.normalized
    assert normalized is not None
    assert (normalized.mean(0).abs() < 4 * normalized.std(0) / math.sqrt(len(gap))).all()


def brute_force_bandit(arms: int, pulls: int, seen: tuple[tuple[int, int], ...] = ()) -> float:
    seen = seen or ((0, 0),) * arms
    if pulls == 0:
        return 0.0
    values = []
    for arm, (wins, losses) in enumerate(seen):
        p = (wins + 1) / (wins + losses + 2)
        won, lost = list(seen), list(seen)
        won[arm], lost[arm] = (wins + 1, losses), (wins, losses + 1)
        values.append(
            p * (1 + brute_force_bandit(arms, pulls - 1, tuple(won)))
            + (1 - p) * brute_force_bandit(arms, pulls - 1, tuple(lost))
        )
    return max(values)


def test_the_optimum_of_a_bandit_is_exact() -> None:
    assert bernoulli_optimum(3, 5) == pytest.approx(brute_force_bandit(3, 5))
    assert bernoulli_optimum(5, 10) == pytest.approx(6.660, abs=5e-4)


# ---------------------------------------------------------------- judging


def test_an_actor_is_judged_by_the_episodes_after_its_adaptation() -> None:
    tasks = Doors()
    actor, module = counter_on(tasks)
    outcome = am.judge(actor, module, tasks.sample(30, seed=1))
    torch.testing.assert_close(outcome.scores, outcome.returns[:, 1:].mean(1))
    torch.testing.assert_close(outcome.errors, -outcome.scores)
    torch.testing.assert_close(outcome.losses, -outcome.returns.sum(1))
    assert outcome.normalized is None


def test_held_out_tasks_of_a_seed_are_judged_alike_and_counted() -> None:
    tasks = am.make_tasks("gridnavi")
    actor = am.make_learner("control/random")
    module = actor.build(tasks.info)
    judged = evaluate(actor, module, tasks, split="test", n_tasks=300, seed=1)
    again = evaluate(actor, module, tasks, split="test", n_tasks=300, seed=1)
    assert np.array_equal(judged.scores, again.scores)
    assert judged.scores.shape == judged.losses.shape == judged.tasks.shape == (300,)
    assert set(judged.queries) == {1}


def test_worlds_that_pay_what_is_no_number_are_their_samplers_fault() -> None:
    class Broken(Doors):
        def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> DoorEnvironments:
            drawn = super().sample(n_tasks, split=split, seed=seed)
            return replace(drawn, price=drawn.price + torch.nan)

    class Leaving(Broken):
        def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> Any:
            drawn = super().sample(n_tasks, split=split, seed=seed)
            return Free(info=drawn.info, key=drawn.key, price=drawn.price)

    class Free(DoorEnvironments):
        def change(self, state: Any, action: Tensor, noise: Tensor) -> Any:
            return state, self.price, action == 1

    actor, module = counter_on(Doors())
    with pytest.raises(am.InvalidData, match="Leaving drew environments of split 'test' with rewards"):
        evaluate(actor, module, Leaving(), split="test", n_tasks=4, seed=0)


def test_a_learner_that_cannot_act_is_not_judged_on_environments() -> None:
    learner = am.make_learner("ridge")
    with pytest.raises(am.InvalidParameter, match=r"must be an autometa\.Actor"):
        am.judge(learner, nn.Identity(), am.make_tasks("bandit").sample(2, seed=0))


def test_candidates_for_θ_are_judged_in_the_same_worlds() -> None:
    tasks = Doors()
    actor, module = counter_on(tasks)
    environments = tasks.sample(5, seed=0)
    population = {name: torch.stack([value, 1 + value]) for name, value in module.named_parameters()}
    losses = am.PopulationLosses(actor, module, fitness="score")(population, environments)
    torch.testing.assert_close(losses[0], am.judge(actor, module, environments).errors)
    assert losses.shape == (2, 5)


# ---------------------------------------------------------------- on the command line


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gridnavi", ("S . .", "G", "horizon", "observation [10], hidden [10]", "return of an episode, best: 1")),
        ("bandit", ("arm 4", "horizon", "return of an episode, random: ")),
        ("sinusoid", ("support [10, 1], query [10, 1]",)),
    ],
)
def test_the_command_line_draws_worlds(name: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", name, "-n", "2"]) == 0
    shown = capsys.readouterr().out
    for word in words:
        assert word in shown
    assert ("horizon" in shown) == (name != "sinusoid")

"""Actors that know they are in a Markov decision process: their plans by a slow loop, their numbers, their refusals."""

from __future__ import annotations

import copy
import itertools
import math
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import torch
from autometa_plugins.control import value_iteration
from autometa_plugins.control.beb import BEB
from autometa_plugins.control.tabular_actor import Counts, first_of_best
from autometa_plugins.control.value_iteration import action_values, first_action_values
from torch import Tensor, nn

import autometa as am
import learning
from autometa.engine.device import place_of
from autometa.testing import checks_of
from autometa.testing.toy_worlds import Stairs
from autometa.training import evaluate

SMALL = am.make_tasks("mdp", states=3, actions=2, steps=4, n_shot=1, n_query=2)


def lived(learner: am.Actor, tasks: am.TaskSampler, n_tasks: int, blind: float = 0.0) -> tuple[Any, am.Experience, Any]:
    """The module, and what happened to an actor, in double precision."""
    info = tasks.info
    torch.manual_seed(0)
    module = learner.build(info).double()
    worlds = tasks.sample(n_tasks, split="test", seed=2).to(dtype=torch.float64)
    seen, memory = am.collect(
        learner, module, worlds, n_episodes=info.n_episodes, horizon=info.horizon, greedy=learner.greedy, blind=blind
    )
    return module, seen, memory


# ---------------------------------------------------------------- a slow loop


def plan_by_hand(chance: list[Any], reward: list[Any], steps: int) -> list[list[int]]:
    """The best actions of every step and state, in lists of lists."""
    states, actions = range(len(reward)), range(len(reward[0]))
    later, plan = [0.0 for _ in states], []
    for _ in range(steps):
        values = [[reward[s][a] + sum(chance[s][a][z] * later[z] for z in states) for a in actions] for s in states]
        plan.insert(0, [next(a for a in actions if values[s][a] > max(values[s]) - 1e-5) for s in states])
        later = [max(values[s]) for s in states]
    return plan


class Book:
    """What a task's actor counted, one step after the other."""

    def __init__(self, info: am.TaskInfo) -> None:
        self.states, self.actions = info.input_shape[0], info.n_outputs
        n, m = range(self.states), range(self.actions)
        self.led = [[[0] * (self.states + 1) for _ in m] for _ in n]
        self.paid = [[[] for _ in m] for _ in n]

    def write(self, seen: am.Experience, i: int, t: int) -> None:
        state, action = int(seen.observation[i, t].argmax()), int(seen.action[i, t])
        after = self.states if seen.terminated[i, t] else int(seen.next_observation[i, t].argmax())
        self.led[state][action][after] += 1
        if seen.told[i, t]:
            self.paid[state][action].append(float(seen.reward[i, t]))

    @property
    def counts(self) -> Counts:
        told = [[float(len(one)) for one in row] for row in self.paid]
        paid = [[sum(one) for one in row] for row in self.paid]
        return Counts(*(torch.tensor([part], dtype=torch.float64) for part in (self.led, told, paid)))

    def plan(self, bonus: float, steps: int) -> list[list[int]]:
        chance, reward = [], []
        for s, a in itertools.product(range(self.states), range(self.actions)):
            total = sum(self.led[s][a]) + self.states
            chance.append([(1 + n) / total for n in self.led[s][a][:-1]])
            known = self.paid[s][a]
            reward.append((1 + sum(known)) / (1 + len(known)) + bonus / (1 + len(known)))
        split = range(0, len(reward), self.actions)
        rows = [[part[k : k + self.actions] for k in split] for part in (chance, reward)]
        return plan_by_hand(rows[0], rows[1], steps)


def steps_of(seen: am.Experience, i: int) -> Iterator[tuple[int, int]]:
    """Times of a task that exist, each with its age in its episode."""
    age = 0
    for t in range(int(seen.mask[i].sum())):
        yield t, age
        age = 0 if seen.ended[i, t] else age + 1


@pytest.mark.parametrize("tasks", [SMALL, Stairs()], ids=["mdp", "Stairs"])
@pytest.mark.parametrize("replan", ["step", "episode"])
@pytest.mark.parametrize("bonus", [0.0, 0.7])
def test_plans_with_a_bonus_are_those_of_a_slow_loop(tasks: am.TaskSampler, replan: Any, bonus: float) -> None:
    learner = am.make_learner("beb", bonus=bonus, replan=replan)
    _, seen, memory = lived(learner, tasks, 6, blind=0.5)
    info = tasks.info
    for i in range(6):
        book, plan = Book(info), []
        for t, age in steps_of(seen, i):
            if age == 0 or replan == "step":
                plan = [[]] * age + book.plan(bonus, info.horizon - age)
            assert int(seen.action[i, t]) == plan[age][int(seen.observation[i, t].argmax())]
            book.write(seen, i, t)
        for name, wanted in book.counts._asdict().items():
            torch.testing.assert_close(memory[name][i], wanted[0])


def pasts(learner: Any, module: Any, seen: am.Experience) -> Tensor:
    """The number by which each planning draws, before every step [tasks, time]."""
    memory, found = learner.start(module, len(seen)), []
    for time in range(seen.n_steps):
        found.append(memory["past"])
        memory = learner.observe(module, memory, seen.at(time))
    return torch.stack(found, 1)


@pytest.mark.parametrize("tasks", [SMALL, Stairs()], ids=["mdp", "Stairs"])
def test_posterior_sampling_follows_the_processes_that_agree_with_the_episode_so_far(tasks: am.TaskSampler) -> None:
    learner = am.make_learner("psrl", draws=5)
    module, seen, _ = lived(learner, tasks, 6)
    info, past = tasks.info, pasts(learner, module, seen)
    said_before = 0
    for i in range(6):
        book, plans, agree = Book(info), [], []
        for t, age in steps_of(seen, i):
            if age == 0:
                found = learner.supposed(module, book.counts, past[i : i + 1, t])
                chance, reward = (part[0].tolist() for part in found)
                plans = [plan_by_hand(chance[k], reward[k], info.horizon) for k in range(5)]
                agree = list(range(5))
            state, action = int(seen.observation[i, t].argmax()), int(seen.action[i, t])
            those = [k for k in agree if plans[k][age][state] == action]
            assert float(seen.log_prob[i, t].exp()) == pytest.approx(len(those) / len(agree))
            said_before += len(agree) < 5
            agree = those
            book.write(seen, i, t)
    assert said_before


def test_what_no_drawn_process_would_do_rules_none_of_them_out() -> None:
    learner = am.make_learner("psrl", draws=1)
    module, seen, _ = lived(learner, SMALL, 4)
    memory = learner.start(module, 4)
    _, memory = learner.act(module, memory, seen.observation[:, 0])
    other = seen.at(0)._replace(action=1 - seen.action[:, 0])
    assert learner.observe(module, memory, other)["agrees"].all()


# ---------------------------------------------------------------- the posterior


def test_every_planning_draws_from_numbers_of_its_own() -> None:
    """From the same numbers it would draw the same quantiles of what is believed, in all episodes and tasks."""
    tasks = am.make_tasks("mdp", states=3, actions=2, steps=4, n_shot=0, n_query=20)
    learner = am.make_learner("psrl", draws=1)
    module, seen, memory = lived(learner, tasks, 50)
    starts = pasts(learner, module, seen)[:, ::4]
    assert len(starts[:, 0].unique()) == 1
    assert len(starts[:, 4:].unique()) > 0.99 * starts[:, 4:].numel(), "of 12 ** 16 that may have happened"
    counts = Counts(*(memory[name][:1] for name in Counts._fields))
    around = [
        (learner.supposed(module, counts, past[None]).reward[0, 0] - counts.mean_paid[0])
        * (1 + counts.told[0]).sqrt()
        for past in starts[:, 4:].flatten()
    ]  # fmt: skip
    numbers = torch.stack(around).view(50, 16, 6)
    assert scipy.stats.kstest(numbers.flatten().numpy(), scipy.stats.norm.cdf).pvalue > 1e-3
    for one, other in ((numbers[:, 1:], numbers[:, :-1]), (numbers[1:], numbers[:-1])):
        assert scipy.stats.pearsonr(one.flatten().numpy(), other.flatten().numpy()).pvalue > 1e-3


@pytest.mark.thorough
def test_one_drawn_process_learns_as_many_do() -> None:
    """With the same numbers in all episodes it would believe for good what it has drawn too low."""
    tasks = am.make_tasks("mdp", states=3, actions=3, steps=5, n_shot=0, n_query=25)
    late = []
    for draws in (1, 16):
        learner = am.make_learner("psrl", draws=draws)
        found = []
        for seed in range(2):
            torch.manual_seed(seed)
            worlds = tasks.sample(80, split="test", seed=1)
            found.append(am.judge(learner, learner.build(tasks.info), worlds).returns[:, 10:].mean(1))
        late.append(torch.stack(found).mean(0))
    gap = late[0] - late[1]
    error = float(gap.std()) / len(gap) ** 0.5
    assert abs(float(gap.mean())) < learning.STANDARD_ERRORS * error
    assert error < 0.1, "of 0.7 that it would bring less"


def test_drawn_processes_are_spread_as_the_posterior() -> None:
    learner = am.make_learner("psrl", draws=1000)
    info = am.make_tasks("mdp", states=3, actions=2, steps=1).info
    torch.manual_seed(1)
    module = learner.build(info).double()
    led = torch.tensor([4.0, 0.0, 1.0, 2.0], dtype=torch.float64).expand(1, 3, 2, 4)
    told, paid = torch.full((1, 3, 2), 3.0, dtype=torch.float64), torch.full((1, 3, 2), 7.0, dtype=torch.float64)
    past = torch.zeros(1, dtype=torch.int64)
    chance, reward = learner.supposed(module, Counts(led, told, paid), past)
    chance, reward = chance[0].flatten(0, 2), reward[0].flatten()
    known = scipy.stats.dirichlet([5, 1, 2, 2])
    for column in range(3):
        error = 4 * known.var()[column] ** 0.5 / len(chance) ** 0.5
        assert float(chance[:, column].mean()) == pytest.approx(known.mean()[column], abs=error)
        assert float(chance[:, column].var()) == pytest.approx(known.var()[column], rel=0.1)
    assert scipy.stats.kstest(reward.numpy(), scipy.stats.norm(8 / 4, 0.5).cdf).pvalue > 1e-3
    nothing = learner.supposed(module, Counts(0 * led, 0 * told, 0 * paid), past).chance
    torch.testing.assert_close(nothing.sum(-1), torch.ones_like(nothing[..., 0]))  # no end is expected yet


def test_choices_equal_but_for_rounding_are_decided_by_their_order() -> None:
    values = torch.tensor([[1.0, 1.0 + 1e-7, 0.9], [0.0, 2.0, 2.0], [-1.0, -1.1, 3.0]])
    assert first_of_best(values).tolist() == [0, 1, 2]


# ---------------------------------------------------------------- what they get


def totals(name: str, n_tasks: int, episodes: int, seed: int = 0, **params: Any) -> Tensor:
    """Sum of the returns of all episodes, of each task."""
    tasks = am.make_tasks("mdp", n_query=episodes)
    learner = am.make_learner(f"control/{name}", **params)
    torch.manual_seed(seed)
    return am.judge(learner, learner.build(tasks.info), tasks.sample(n_tasks, split="test", seed=1)).returns.sum(1)


@pytest.mark.thorough
def test_who_plans_by_what_he_saw_comes_in_the_known_order() -> None:
    info = SMALL.info
    order = [("beb", {}), ("beb", {"replan": "episode"}), ("psrl", {}), ("random", {})]
    found = [totals(name, 300, 10, **params) for name, params in order]
    for better, worse in itertools.pairwise(found):
        learning.assert_better(better, worse, info)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "params", "episodes", "known"),
    [
        ("random", {}, 10, 99.9),
        ("beb", {"bonus": 0.0, "replan": "episode"}, 10, 149.5),
        ("beb", {"bonus": 0.5, "replan": "episode"}, 10, 152.3),
        ("beb", {"bonus": 1.0, "replan": "episode"}, 10, 147.1),
        ("random", {}, 50, 496.0),
        ("beb", {"bonus": 0.0, "replan": "episode"}, 50, 899.0),
        ("beb", {"bonus": 0.5, "replan": "episode"}, 50, 946.0),
        ("beb", {"bonus": 1.0, "replan": "episode"}, 50, 964.0),
        ("psrl", {}, 50, 905.0),
    ],
)
def test_the_known_numbers_are_met(name: str, params: dict[str, Any], episodes: int, known: float) -> None:
    """Those of another program, of standard error 0.5 and 4."""
    found = totals(name, 2000 if episodes == 10 else 400, episodes, **params)
    error = math.hypot(float(found.std()) / len(found) ** 0.5, 0.5 if episodes == 10 else 4.0)
    assert float(found.mean()) == pytest.approx(known, abs=4 * error)


@pytest.mark.slow
def test_many_drawn_processes_stand_for_one_drawn_by_every_task_for_itself() -> None:
    """Each task draws a process of its own at the start of every episode, by torch's own distributions."""
    n = 4000
    tasks = am.make_tasks("mdp")
    worlds = tasks.sample(n, split="test", seed=1).begin()
    rows, generator = torch.arange(n), torch.Generator().manual_seed(0)
    led, told, paid, total = torch.ones(n, 10, 5, 10), torch.zeros(n, 10, 5), torch.zeros(n, 10, 5), torch.zeros(n)
    for _ in range(10):
        weight = torch._standard_gamma(led, generator=generator)
        reward = (1 + paid) / (1 + told) + torch.randn(n, 10, 5, generator=generator) / (1 + told).sqrt()
        plan = action_values(weight / weight.sum(3, keepdim=True), reward, 10).argmax(3)
        state = worlds.reset().argmax(1)
        for time in range(10):
            action = plan[rows, time, state]
            after, pay, _, _ = worlds.step(action)
            led[rows, state, action, after.argmax(1)] += 1
            told[rows, state, action] += 1
            paid[rows, state, action] += pay
            state, total = after.argmax(1), total + pay
    ours = torch.stack([totals("psrl", 1000, 10, seed=seed).mean() for seed in range(6)])
    error = math.hypot(float(total.std()) / n**0.5, float(totals("psrl", 1000, 10).std()) / 1000**0.5)
    assert float(ours.mean()) == pytest.approx(float(total.mean()), abs=4 * error)
    assert float(total.mean()) == pytest.approx(133.9, abs=4 * math.hypot(0.5, float(total.std()) / n**0.5))


# ---------------------------------------------------------------- the adviser of mdp


def test_the_adviser_of_a_process_plans_by_what_was_known() -> None:
    tasks = am.make_tasks("mdp", states=4, actions=3, steps=5, n_query=3)
    worlds, random = tasks.sample(30, seed=0), am.make_learner("control/random")
    seen, _ = am.collect(random, random.build(tasks.info), worlds, n_episodes=3, horizon=5)
    advice = worlds.advice(seen)
    beb = am.make_learner("beb")
    followed, _ = am.collect(beb, beb.build(tasks.info), worlds, n_episodes=3, horizon=5, greedy=True)
    assert torch.equal(worlds.advice(followed), followed.action)
    other = tasks.sample(30, seed=9)
    assert torch.equal(other.advice(seen), advice), "who advises does not know the process"


def test_large_processes_have_no_adviser_and_no_planner() -> None:
    tasks = am.make_tasks("mdp", states=100, actions=20, steps=100)
    assert tasks.info.adviser is None
    assert am.make_tasks("mdp").info.adviser is not None
    with pytest.raises(am.Incompatible, match=r"'beb' would go through 2,000,000,000 probabilities in an episode"):
        am.make_learner("beb").build(tasks.info)
    am.make_learner("beb", replan="episode").build(tasks.info)
    with pytest.raises(am.Incompatible, match="'psrl' would go through"):
        am.make_learner("psrl").build(tasks.info)


def test_plans_that_would_fill_the_memory_are_refused() -> None:
    """Few states make little work of plans that are many and long."""
    learner = am.make_learner("psrl", draws=1000)
    long, short = (am.make_tasks("mdp", states=2, actions=2, steps=steps).info for steps in (1000, 125))
    with pytest.raises(am.Incompatible, match="'psrl' would keep 2,000,000 planned actions of each task"):
        learner.build(long)
    learner.build(short)


# ---------------------------------------------------------------- values


def test_values_of_the_first_step_are_kept_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    process = am.make_tasks("mdp", states=4, actions=2, steps=50).sample(2, seed=0)
    all_of_them = [action_values(process.chance, process.reward, 50, at_random=flag)[:, 0] for flag in (False, True)]
    alive, kept = weakref.WeakSet[Tensor](), []
    tell = value_iteration.from_the_last

    def watched(*args: Any, **params: Any) -> Iterator[Tensor]:
        for values in tell(*args, **params):
            found = values.clone()
            alive.add(found)
            kept.append(sum(1 for _ in alive))
            yield found

    monkeypatch.setattr(value_iteration, "from_the_last", watched)
    for flag, wanted in zip((False, True), all_of_them, strict=True):
        assert torch.equal(first_action_values(process.chance, process.reward, 50, at_random=flag), wanted)
    assert len(kept) == 100
    assert max(kept) <= 4


# ---------------------------------------------------------------- what they refuse


@pytest.mark.parametrize("name", ["psrl", "beb"])
@pytest.mark.parametrize("tasks", ["gridnavi", "bandit", "cartpole", "navigation_2d", "maze"])
def test_other_worlds_are_refused(name: str, tasks: str) -> None:
    with pytest.raises(am.Incompatible, match=f"learner '{name}' is for Markov decision processes whose state is seen"):
        am.make_learner(name).build(am.make_tasks(tasks).info)


@pytest.mark.parametrize(
    ("name", "params", "text"),
    [
        ("psrl", {"draws": 0}, "draws=0"),
        ("beb", {"bonus": -1.0}, "bonus=-1.0"),
        ("beb", {"replan": "never"}, "replan='never'"),
    ],
)
def test_parameters_that_cannot_be_are_named(name: str, params: dict[str, Any], text: str) -> None:
    with pytest.raises(am.InvalidParameter, match=f"{text} of learner '{name}' must be"):
        am.make_learner(name, **params).build(SMALL.info)


@pytest.mark.parametrize("name", ["psrl", "beb"])
def test_what_is_known_of_a_process_is_saved(name: str, tmp_path: Path) -> None:
    agent = am.MetaAgent(name, device="cpu", random_state=0).meta_fit(SMALL).fit(SMALL.sample(2, split="test", seed=0))
    agent.save(tmp_path / "agent")
    loaded = am.load(tmp_path / "agent")
    curves = [one.adaptation_curve(SMALL, n_tasks=20, seed=0)["return"] for one in (agent, loaded)]
    assert curves[0].equals(curves[1])


class Blurred(Stairs):
    """Says that states are seen, and shows other numbers."""

    def sample(self, n_tasks: int, *, split: Any = "train", seed: int) -> Any:
        drawn = super().sample(n_tasks, split=split, seed=seed)
        return type("Other", (type(drawn),), {"observation": lambda here, state: 0.5 * here.up})(**vars(drawn))


def test_who_says_that_states_are_seen_must_show_them() -> None:
    (check,) = [one for one in checks_of(Blurred()) if one.name == "check_shapes"]
    with pytest.raises(AssertionError, match=r"info\.tabular says that states are seen, one-hot"):
        check()


@am.parametrize_with_plugin_checks(Stairs())
def test_the_stairs_of_the_kit_pass_it(check: Any) -> None:
    check()


# ---------------------------------------------------------------- where they are


def test_a_module_is_where_its_parameters_or_buffers_are() -> None:
    buffers = nn.BatchNorm1d(3, affine=False)
    for module, dtype in ((nn.Linear(2, 3), torch.float32), (buffers, torch.float32), (nn.Identity(), torch.float32)):
        assert place_of(module) == (torch.device("cpu"), dtype)
    assert place_of(copy.deepcopy(buffers).double()) == (torch.device("cpu"), torch.float64)
    assert place_of(buffers.to("meta")) == (torch.device("meta"), torch.float32)


def test_worlds_are_drawn_where_an_actor_without_parameters_is() -> None:
    seen: set[torch.dtype] = set()

    class Noting(BEB):
        def act(self, module: nn.Module, memory: Any, observation: Tensor) -> Any:
            seen.add(observation.dtype)
            return super().act(module, memory, observation)

    learner = Noting()
    module = learner.build(SMALL.info).double()
    evaluate(learner, module, SMALL, split="test", n_tasks=2, seed=0)
    assert seen == {torch.float64}
    agent = am.MetaAgent(learner, device="cpu", precision="64", random_state=0).meta_fit(SMALL)
    seen.clear()
    agent.adaptation_curve(SMALL, n_tasks=2)
    agent.predict([1.0, 0.0, 0.0])
    assert seen == {torch.float64}

"""Actors that learn in rounds: their episodes side by side are those in turn, and judged episodes teach nothing."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar
from unittest import SkipTest

import pytest
import torch
from torch import Tensor, nn

import autometa as am
from autometa.contracts.keys import uniform
from autometa.engine import rounds
from autometa.engine.acting import live
from autometa.engine.rounds import returns_by_round
from autometa.sampling.tensor_environments import TensorWorlds
from autometa.testing.actor_checks import ACTOR_CHECKS, ActorCase
from autometa.testing.toy_worlds import DoorEnvironments, Doors


class Averages(am.RoundActor):
    """Prefers actions by their mean reward in the rounds so far; each episode of a round favours another one."""

    default_meta_optimizer: ClassVar[str | None] = None
    provides: ClassVar[frozenset[str]] = frozenset()
    greedy = True

    def __init__(self, size: int = 2) -> None:
        self.size = size

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.ParameterDict({"favour": nn.Parameter(3 * torch.eye(info.n_outputs), requires_grad=False)})

    def start(self, module: nn.Module, n_tasks: int) -> dict[str, Tensor]:
        nothing = module["favour"].new_zeros(n_tasks, len(module["favour"]))
        return {"sum": nothing, "count": nothing, "rounds": nothing[:, :1]}

    def round_size(self, module: nn.Module) -> int:
        return self.size

    def decide(
        self, module: nn.Module, memory: dict[str, Tensor], observation: Tensor, episode: Tensor | None = None
    ) -> am.Decision:
        logits = (memory["sum"] / memory["count"].clamp(min=1)).unsqueeze(1).expand(-1, observation.shape[1], -1)
        if episode is not None:
            logits = logits + module["favour"][episode % len(module["favour"])]
        return am.Decision(am.Choice(logits), None)

    def adapt(self, module: nn.Module, memory: dict[str, Tensor], experience: am.Experience) -> dict[str, Tensor]:
        taken = nn.functional.one_hot(experience.action, memory["sum"].shape[1]) * experience.mask.unsqueeze(2)
        reward = (experience.reward * experience.told).unsqueeze(2)
        counted = taken * experience.told.unsqueeze(2)
        return {
            "sum": memory["sum"] + (taken * reward).sum(1),
            "count": memory["count"] + counted.sum(1),
            "rounds": memory["rounds"] + 1,
        }


@dataclass(frozen=True, kw_only=True)
class OneByOne(DoorEnvironments):
    """Doors that must not be tried after an episode has ended."""

    may_go_past_end: ClassVar[bool] = False


def drawn(tasks: Doors, n_tasks: int, *, one_by_one: bool = False) -> DoorEnvironments:
    worlds = tasks.sample(n_tasks, seed=3)
    values = {field.name: getattr(worlds, field.name) for field in fields(worlds)}
    return OneByOne(**values) if one_by_one else worlds


def lived(worlds: am.Environments, size: int, **options: Any) -> tuple[am.Experience, dict[str, Tensor]]:
    actor, info = Averages(size), worlds.info
    module = actor.build(info)
    return am.collect(actor, module, worlds, n_episodes=info.n_episodes, horizon=info.horizon, **options)


def same(a: am.Experience, b: am.Experience) -> bool:
    """Whether as much as exists is the same; one may be padded further."""
    n_steps = min(a.n_steps, b.n_steps)
    for name in ("mask", "action", "reward", "episode", "observation", "log_prob", "terminated", "truncated"):
        here, there = getattr(a, name), getattr(b, name)
        mask = a.mask[:, :n_steps]
        if bool(a.mask[:, n_steps:].any() | b.mask[:, n_steps:].any()):
            return False
        if not torch.equal(here[:, :n_steps][mask], there[:, :n_steps][mask]):
            return False
    return torch.equal(a.mask[:, :n_steps], b.mask[:, :n_steps])


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_episodes_side_by_side_are_those_in_turn(size: int) -> None:
    tasks = Doors(n_shot=5, n_query=2)
    together, memory = lived(drawn(tasks, 9), size)
    in_turn, after = lived(drawn(tasks, 9, one_by_one=True), size)
    assert same(together, in_turn)
    assert all(torch.equal(memory[name], after[name]) for name in memory)
    assert memory["rounds"].eq(-(-5 // size)).all()


def test_as_many_episodes_are_lived_through_at_once_as_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parameters of a task are copied for each of them."""
    tasks, sizes = Doors(n_shot=7, n_query=3), []
    monkeypatch.setattr(rounds, "live", lambda actor, module, here, *rest, **options: (
        sizes.append(len(here)), live(actor, module, here, *rest, **options))[1])  # fmt: skip
    together, memory = lived(drawn(tasks, 9), 7)
    assert sizes == [63, 27]
    for most, expected in ((30, [27, 27, 9, 27]), (5, [9] * 10)):
        sizes.clear()
        monkeypatch.setattr(rounds, "_MOST_ROWS", most)
        in_parts, after = lived(drawn(tasks, 9), 7)
        assert sizes == expected
        assert same(together, in_parts)
        assert all(torch.equal(memory[name], after[name]) for name in memory)


def test_nobody_goes_on_after_all_have_ended_unless_nothing_may_depend_on_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """Doors are tried for 20 steps at most, and nobody takes so long."""
    tasks, steps = Doors(patience=20, n_shot=4, n_query=2), []
    step = TensorWorlds.step
    monkeypatch.setattr(
        TensorWorlds, "step", lambda worlds, action: (steps.append(len(action)), step(worlds, action))[1]
    )
    stopped, memory = lived(drawn(tasks, 9), 4)
    assert stopped.n_steps == stopped.mask.sum(1).max() < 6 * 20
    assert len(steps) < 2 * 20
    steps.clear()
    padded, after = lived(drawn(tasks, 9), 4, may_wait=False)
    assert padded.n_steps == 6 * 20
    assert len(steps) == 2 * 20
    assert same(stopped, padded)
    assert all(torch.equal(memory[name], after[name]) for name in memory)


def test_a_trial_does_not_depend_on_the_tasks_beside_it() -> None:
    tasks = Doors(n_shot=4, n_query=1)
    together, _ = lived(drawn(tasks, 8), 2)
    for task in range(8):
        alone, _ = lived(drawn(tasks, 8)[task : task + 1], 2)
        assert same(together[task : task + 1], alone)


def test_steps_of_a_trial_stand_one_after_the_other() -> None:
    seen, _ = lived(drawn(Doors(n_shot=4, n_query=2), 50), 2)
    assert not seen.mask.all(), "some trials end early"
    assert (seen.mask[:, :-1] >= seen.mask[:, 1:]).all(), "padded steps come last"
    number = seen.episode.masked_fill(~seen.mask, 99)
    assert (number[:, :-1] <= number[:, 1:]).all()
    ends = seen.ended & seen.mask
    assert ends.sum(1).eq(6).all()


def test_episodes_of_a_round_are_not_the_same_one() -> None:
    seen, _ = lived(drawn(Doors(n_shot=20, n_query=1), 1), 20)
    noise = {round(value, 6) for value in seen.observation[0, :, 1].tolist()}
    assert len(noise) > seen.n_steps // 4


def test_judged_episodes_neither_explore_nor_teach() -> None:
    worlds = drawn(Doors(n_shot=3, n_query=3), 40)
    seen, memory = lived(worlds, 3, greedy=True)
    taught, only = lived(worlds, 3, greedy=True, n_shot=3)
    assert same(seen, taught)
    first = seen.episodes(0, 3)
    actor = Averages(3)
    module = actor.build(worlds.info)
    again = actor.adapt(module, actor.start(module, len(worlds)), first)
    assert torch.equal(memory["sum"], again["sum"])
    assert torch.equal(memory["sum"], only["sum"])
    assert (seen.returns(6)[:, 3:] == 1).all(), "three episodes that favour a door each have found the way out"
    assert (seen.returns(6)[:, :3] < 1).any(), "adapting explores although what is judged is greedy"


def test_rewards_that_are_withheld_are_noted_and_change_nothing() -> None:
    worlds = drawn(Doors(n_shot=3, n_query=3), 40)
    heard, memory = lived(worlds, 3)
    assert heard.told[heard.mask].all()
    for share in (0.5, 1.0):
        blind, after = lived(worlds, 3, blind=share)
        judged = (blind.episode >= 3) & blind.mask
        assert blind.told[blind.mask & ~judged].all(), "adapting is from rewards"
        is_blind = uniform(worlds.key, 0, "told", 1)[:, 0] < share
        assert 0 < is_blind.sum() <= 40
        assert torch.equal(blind.told[judged], ~is_blind.unsqueeze(1).expand_as(judged)[judged])
        assert same(heard, blind)
        assert all(torch.equal(memory[name], after[name]) for name in memory)


def test_a_curve_of_rounds_ends_where_the_judge_does() -> None:
    worlds, actor = drawn(Doors(n_shot=3, n_query=2), 30), Averages(1)
    module = actor.build(worlds.info)
    curve = returns_by_round(actor, module, worlds)
    assert curve.shape == (30, 4)
    assert torch.equal(curve[:, -1], am.judge(actor, module, worlds).scores)
    assert curve[:, -1].mean() > curve[:, 0].mean()


def test_only_judged_episodes_count_in_the_loss() -> None:
    worlds, actor = drawn(Doors(n_shot=3, n_query=2), 30), Averages(3)
    outcome = am.judge(actor, actor.build(worlds.info), worlds)
    assert torch.equal(outcome.losses, -outcome.returns[:, 3:].sum(1))


def test_a_part_of_an_experience_counts_its_episodes_anew() -> None:
    seen, _ = lived(drawn(Doors(n_shot=3, n_query=2), 12), 3)
    part = seen.episodes(2, 4)
    assert part.n_shot == 1
    assert part.episode[part.mask].unique().tolist() == [0, 1]
    assert torch.equal(part.returns(2), seen.returns(5)[:, 2:4])
    assert torch.equal(seen.episodes(0, 5).returns(5), seen.returns(5))


def test_an_agent_that_learns_in_rounds_tells_returns_after_each() -> None:
    tasks = Doors(n_shot=3, n_query=2)
    agent = am.MetaAgent(Averages(1), max_steps=0, device="cpu", random_state=0).meta_fit(tasks)
    curve = agent.adaptation_curve(tasks, n_tasks=60)
    assert curve["episode"].unique().tolist() == [0, 1, 2, 3]
    mean = curve.groupby("episode")["return"].mean()
    assert mean[3] > mean[0]
    agent.fit(tasks.sample(1, split="test", seed=0), episodes=3)
    assert agent.returns_.shape == (1, 3)
    assert agent.score(tasks.sample(1, split="test", seed=0), episodes=5) == 1.0


@pytest.mark.parametrize("check", ACTOR_CHECKS, ids=lambda check: check.__name__)
def test_the_kit_knows_rounds(check: Any) -> None:
    try:
        check(ActorCase(Averages(1), Doors(n_shot=2, n_query=1)))
    except SkipTest as reason:
        pytest.skip(str(reason))


class Wrong(Averages):
    """An actor with a fault."""

    def __init__(self, fault: str = "") -> None:
        super().__init__(2)
        self.fault = fault

    def round_size(self, module: nn.Module) -> int:
        return 0 if self.fault == "size" else 2

    def decide(
        self, module: nn.Module, memory: dict[str, Tensor], observation: Tensor, episode: Tensor | None = None
    ) -> am.Decision:
        policy = super().decide(module, memory, observation, episode).policy
        if self.fault == "kind":
            return am.Decision(am.Normal(policy[0], policy[0]), None)
        if self.fault == "more actions":
            return am.Decision(am.Choice(torch.cat([policy[0], policy[0]], -1)), None)
        return am.Decision(policy, None)

    def adapt(self, module: nn.Module, memory: dict[str, Tensor], experience: am.Experience) -> Any:
        if self.fault == "nothing":
            return None
        if self.fault == "fewer tasks":
            return {name: value[:1] for name, value in memory.items()}
        if self.fault == "no number":
            return {name: value * float("nan") for name, value in memory.items()}
        return super().adapt(module, memory, experience)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("size", "round_size() of actor Wrong returned 0; it must be 1 or more"),
        ("kind", "decided by a Normal"),
        ("more actions", "whose parts are"),
        ("nothing", "adapt() of actor Wrong returned a memory of ['NoneType']"),
        ("fewer tasks", "lead with the 5 tasks"),
    ],
)
def test_a_fault_of_an_actor_is_named(fault: str, words: str) -> None:
    worlds, actor = drawn(Doors(n_shot=2, n_query=1), 5), Wrong(fault)
    with pytest.raises(am.PluginError) as found:
        am.judge(actor, actor.build(worlds.info), worlds)
    assert words in str(found.value)


def test_an_actor_that_decides_by_no_number_has_no_score() -> None:
    worlds, actor = drawn(Doors(n_shot=2, n_query=1), 5), Wrong("no number")
    assert am.judge(actor, actor.build(worlds.info), worlds).scores.isnan().all()
    tasks = {"doors": Doors(n_shot=2, n_query=1)}
    with pytest.raises(am.AutometaError, match="not finite"):
        am.compare(tasks, {"wrong": actor}, baselines=False, n_trials=1, n_seeds=1, n_test_tasks=5, verbose=0)

"""Advisers: what they say by hand, and what following them brings."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from autometa_plugins.control.bandit_optimum import bernoulli_optimum
from autometa_plugins.control.dark_room import best_blind_return
from autometa_plugins.control.gittins_indices import bernoulli_indices, gaussian_indices
from autometa_plugins.control.grid_search import _quarters, quarter_by_quarter
from torch import Tensor, nn

import autometa as am
from tiers import first_by_default


class Obedient(am.Actor):
    """Does what the environments advise; it needs to be told all, so it is no competitor."""

    default_meta_optimizer = None
    provides = frozenset()
    greedy = True

    def __init__(self, environments: am.Environments | None = None) -> None:
        self.environments = environments

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.Identity()

    def start(self, module: nn.Module, n_tasks: int) -> tuple[am.Transition, ...]:
        return ()

    def act(self, module: nn.Module, memory: Any, observation: Tensor) -> tuple[am.Decision, Any]:
        assert self.environments is not None
        nothing = torch.zeros(len(observation))
        no = nothing.bool()
        now = am.Transition(observation, no.long(), nothing, no, no, observation, no)
        columns = (torch.stack(part, 1) for part in zip(*memory, now, strict=True))
        parts = dict(zip(am.Transition._fields, columns, strict=True))
        seen = am.Experience(
            **parts, log_prob=parts["reward"], episode=parts["action"], mask=~parts["told"] | True,
            hidden=self.environments.hidden, is_full=True,
        )  # fmt: skip
        wanted = self.environments.advice(seen)[:, -1]
        return am.Decision(am.Choice(torch.nn.functional.one_hot(wanted, 5).float()), None), memory

    def observe(self, module: nn.Module, memory: Any, transition: am.Transition) -> Any:
        return (*memory, transition)


def told(environments: am.Environments, action: list[int], reward: list[float], knows: bool = True) -> am.Experience:
    """Experience of the first task in which these actions brought these rewards."""
    learner = am.make_learner("control/random")
    info = environments.info
    seen, _ = am.collect(learner, learner.build(info), environments, n_episodes=1, horizon=len(action))
    paid, done = torch.tensor([reward]), torch.tensor([action])
    return replace(seen, action=done, reward=paid, told=torch.full_like(seen.told, knows))


# ---------------------------------------------------------------- bandits


def test_indices_of_one_and_two_pulls_by_hand() -> None:
    found = bernoulli_indices(3)
    assert float(found[0, 0, 0]) == pytest.approx(1 / 2)  # the last pull: its mean
    assert float(found[0, 2, 0]) == pytest.approx(3 / 4)
    assert float(found[1, 0, 0]) == pytest.approx(5 / 9, abs=1e-4)  # 1/2 - x + 1/2 (2/3 - x) = 0
    assert float(found[1, 0, 1]) == pytest.approx(3 / 8, abs=1e-4)  # 1/3 - x + 1/3 (1/2 - x) = 0
    assert float(gaussian_indices(2)[0, 0]) == pytest.approx(0, abs=1e-6)
    lead = float(gaussian_indices(2)[1, 0])
    z = torch.distributions.Normal(0.0, 1.0)
    spread, place = 0.5**0.5, torch.tensor(-lead / 0.5**0.5)
    gain = spread * (z.log_prob(place).exp() + place * z.cdf(place))  # mean of what is positive of N(-lead, 1/2)
    assert float(gain) == pytest.approx(lead, abs=2e-3)


def test_an_arm_is_worth_more_the_longer_it_may_be_pulled_and_the_less_is_known_of_it() -> None:
    bernoulli, gaussian = bernoulli_indices(12), gaussian_indices(12)
    assert (bernoulli[1:, 0, 0] > bernoulli[:-1, 0, 0]).all()
    assert (gaussian[1:, 0] > gaussian[:-1, 0]).all()
    assert (gaussian[6, :5] > gaussian[6, 1:6]).all()
    assert (bernoulli[6, 0, 0] > bernoulli[6, 1, 1]) & (bernoulli[6, 1, 1] > bernoulli[6, 2, 2])


def test_advice_in_a_tiny_bandit_by_hand() -> None:
    environments = am.make_tasks("bandit", arms=2, pulls=3).sample(1, seed=0)
    assert environments.advice(told(environments, [0, 0, 0], [1.0, 1.0, 1.0])).tolist() == [[0, 0, 0]]
    assert environments.advice(told(environments, [0, 1, 1], [0.0, 1.0, 0.0])).tolist() == [[0, 1, 1]]
    assert environments.advice(told(environments, [0, 1, 0], [0.0, 0.0, 0.0])).tolist() == [[0, 1, 0]]
    assert environments.advice(told(environments, [0, 0, 0], [0.0, 0.0, 0.0], knows=False)).tolist() == [[0, 0, 0]]


def test_who_follows_the_indices_gets_the_optimum() -> None:
    """Exact values of both, over all that may happen in 2 arms and 4 pulls."""

    def value(seen: tuple[tuple[int, int], ...], left: int) -> float:
        if left == 0:
            return 0.0
        table = bernoulli_indices(4)
        arm = max(range(2), key=lambda a: float(table[left - 1, seen[a][0], seen[a][1]]))
        wins, losses = seen[arm]
        p = (wins + 1) / (wins + losses + 2)
        won, lost = (
            tuple(new if a == arm else seen[a] for a in range(2)) for new in ((wins + 1, losses), (wins, losses + 1))
        )
        return p * (1 + value(won, left - 1)) + (1 - p) * value(lost, left - 1)

    assert value(((0, 0), (0, 0)), 4) == pytest.approx(bernoulli_optimum(2, 4), abs=1e-9)


def test_longer_bandits_have_no_adviser() -> None:
    tasks = am.make_tasks("bandit", pulls=201)
    assert tasks.info.adviser is None
    environments = tasks.sample(1, seed=0)
    with pytest.raises(am.Incompatible, match="nobody can tell which arm to pull in 201 pulls"):
        environments.advice(told(environments, [0], [1.0]))


# ---------------------------------------------------------------- grids


@pytest.mark.thorough
def test_who_follows_the_search_does_the_best_that_can_be_done_from_ignorance() -> None:
    """4 in the first episode, and the shortest way in all others: no goal is left out of the way to another."""
    tasks = am.make_tasks("gridnavi")
    drawn = tasks.sample(400, seed=0)
    first = {tuple(goal): row for row, goal in enumerate(drawn.goal.tolist())}
    worlds = drawn[torch.tensor(list(first.values()))]
    assert len(worlds) == 21
    actor = Obedient(worlds)
    returns = am.judge(actor, actor.build(tasks.info), worlds).returns
    assert returns[:, 0].mean() == pytest.approx(4.0, abs=1e-4)
    torch.testing.assert_close(returns[:, 1:], worlds.reference["best"].unsqueeze(1).expand(-1, 3))


@pytest.mark.thorough
def test_on_grids_of_any_size_the_goal_is_found() -> None:
    for size in (3, 6):
        tasks = am.make_tasks("gridnavi", size=size, steps=20, n_shot=3)
        worlds = tasks.sample(60, seed=0)
        actor = Obedient(worlds)
        returns = am.judge(actor, actor.build(tasks.info), worlds).returns
        torch.testing.assert_close(returns[:, 3], worlds.reference["best"])


def returns_in_the_dark(**params: int) -> Any:
    """Returns of who follows the search of dark rooms, [goals, episodes], and the rooms, a goal in each cell."""
    tasks = am.make_tasks("dark_room", **params)
    size = tasks.size
    goal = torch.tensor(list(itertools.product(range(size), repeat=2)))
    rooms = replace(tasks.sample(size**2, seed=0), goal=goal)
    actor = Obedient(rooms)
    return am.judge(actor, actor.build(tasks.info), rooms).returns, rooms


@pytest.mark.thorough
def test_who_follows_the_search_of_a_dark_room_knows_sixty_cells_after_three_episodes() -> None:
    """Exact values over the 81 goals."""
    returns, rooms = returns_in_the_dark()
    assert float(returns[:, 0].mean()) == pytest.approx(best_blind_return(9, 20))
    assert [int(total) for total in returns.sum(0)] == [210, 543, 873, 1203]
    best = rooms.reference["best"]
    assert int((returns[:, :3] > 0).any(1).sum()) == 60
    assert int((returns[:, 3] == best).sum()) >= 60
    assert int((returns[:, 3] > 0).sum()) == 80


@pytest.mark.parametrize("size", [3, 5, 7])
def test_each_episode_searches_a_quarter_without_a_detour(size: int) -> None:
    steps = size**2 // 4
    returns, _ = returns_in_the_dark(size=size, steps=steps)
    assert float(returns[:, 0].mean()) == pytest.approx(best_blind_return(size, steps))
    assert int((returns[:, :3] > 0).any(1).sum()) == 3 * steps


@pytest.mark.parametrize(
    ("size", "steps", "n_shot"), first_by_default(2, [(2, 4, 3), (4, 12, 3), (5, 20, 3), (6, 12, 4)])
)
def test_in_dark_rooms_of_any_size_the_goal_is_found(size: int, steps: int, n_shot: int) -> None:
    returns, rooms = returns_in_the_dark(size=size, steps=steps, n_shot=n_shot)
    torch.testing.assert_close(returns[:, -1], rooms.reference["best"])


def test_who_is_off_the_plan_goes_on_from_where_he_is() -> None:
    quarter, rank = _quarters(9)
    plan = quarter_by_quarter(9)
    everything = torch.ones(81, 81, dtype=torch.bool)
    target = plan(torch.arange(81), everything)
    assert torch.equal(quarter[target], quarter)
    is_last = rank == 19
    assert torch.equal(rank[target][~is_last & (quarter < 4)], rank[~is_last & (quarter < 4)] + 1)
    assert (rank[target][is_last] == 0).all()
    steps = torch.stack([target // 9 - torch.arange(81) // 9, target % 9 - torch.arange(81) % 9]).abs().sum(0)
    assert (steps[~is_last & (quarter < 4)] == 1).all(), "each cell of the plan is beside the one before"


def test_what_was_not_told_is_not_known_to_the_searcher() -> None:
    tasks = am.make_tasks("gridnavi", size=3, steps=6, n_shot=0)
    environments = tasks.sample(8, seed=0)
    learner = am.make_learner("control/random")
    seen, _ = am.collect(learner, learner.build(tasks.info), environments, n_episodes=1, horizon=6)
    quiet = replace(seen, told=torch.zeros_like(seen.told))
    assert torch.equal(environments.advice(quiet), environments.advice(replace(quiet, reward=1 - quiet.reward)))


# ---------------------------------------------------------------- the contract


def test_environments_without_an_adviser_say_so() -> None:
    from autometa.testing.toy_worlds import Coins

    environments = Coins().sample(2, seed=0)
    with pytest.raises(am.Incompatible, match="CoinEnvironments cannot tell what to do"):
        environments.advice(told(environments, [0], [1.0]))

"""Rooms, mazes, planes and Markov chains: what a step pays, and what is the best that can be done."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from autometa_plugins.control.dark_room import best_blind_return
from torch import Tensor

import autometa as am


def lived(environments: am.Environments, actions: Tensor) -> Tensor:
    """Rewards [tasks, time] of an episode under actions [time] or [tasks, time]."""
    worlds = environments.begin()
    worlds.reset()
    actions = actions.expand(len(environments), -1)
    return torch.stack([worlds.step(action).reward for action in actions.unbind(1)], 1)


# ---------------------------------------------------------------- dark_room

STAY, EAST, SOUTH, WEST, NORTH = range(5)


def every_goal(**params: int) -> Any:
    """A room with a goal in each of its cells."""
    tasks = am.make_tasks("dark_room", **params)
    size, n = tasks.size, tasks.size**2
    goal = torch.tensor(list(itertools.product(range(size), repeat=2)))
    return replace(tasks.sample(n, seed=0), goal=goal)


def searched(rooms: Any, plan: Tensor) -> float:
    """Mean return of who follows a plan until it is paid, and stays from then on."""
    paid = lived(rooms, plan) > 0
    first = torch.where(paid.any(1), paid.int().argmax(1), plan.numel())
    return float((plan.numel() - first).float().mean())


def spiral(steps: int) -> Tensor:
    """Stay once, then go round and round, ever further out."""
    turns = [[way] * (1 + i // 2) for i, way in enumerate([EAST, SOUTH, WEST, NORTH] * steps)]
    return torch.tensor([STAY, *itertools.chain.from_iterable(turns)][:steps])


def test_who_knows_the_goal_of_a_dark_room_and_who_does_not_get_the_best_that_is_known() -> None:
    rooms = every_goal()
    assert float(rooms.reference["best"].mean()) == pytest.approx(16.543, abs=5e-4)
    assert best_blind_return(9, 20) == pytest.approx(2.593, abs=5e-4)
    assert searched(rooms, spiral(20)) == pytest.approx(best_blind_return(9, 20))
    row, column = (rooms.goal - 4).unbind(1)
    actions = torch.full((81, 20), STAY)
    for time in range(20):  # down or up first, then to the side
        vertical, horizontal = time < row.abs(), (time >= row.abs()) & (time < row.abs() + column.abs())
        actions[:, time] = torch.where(vertical, torch.where(row > 0, SOUTH, NORTH), actions[:, time])
        actions[:, time] = torch.where(horizontal, torch.where(column > 0, EAST, WEST), actions[:, time])
    assert torch.equal(lived(rooms, actions).sum(1), rooms.reference["best"])


def test_no_plan_searches_a_small_dark_room_better_and_no_walk_is_better_than_the_straight_one() -> None:
    for size, steps in ((3, 4), (2, 5)):
        rooms = every_goal(size=size, steps=steps)
        plans = torch.tensor(list(itertools.product(range(5), repeat=steps)))
        all_of_them = rooms[torch.arange(size**2).repeat(len(plans))]
        rewards = lived(all_of_them, plans.repeat_interleave(size**2, 0)).view(len(plans), size**2, steps)
        assert torch.equal(rewards.sum(2).amax(0), rooms.reference["best"])
        torch.testing.assert_close(rewards.sum(2).mean(0), rooms.reference["random"], atol=1e-5, rtol=0)
        paid = rewards.cummax(2).values.sum(2).mean(1)  # stops where it is paid
        assert float(paid.max()) == pytest.approx(best_blind_return(size, steps))


def test_goals_of_dark_rooms_are_anywhere_and_nothing_is_seen_of_them() -> None:
    rooms = am.make_tasks("dark_room").sample(4000, seed=0)
    assert rooms.goal.unique(dim=0).shape == (81, 2)
    seen = rooms.begin().reset()
    assert (seen == seen[0]).all()
    assert seen[0].nonzero().flatten().tolist() == [4, 9 + 4]
    picture = replace(rooms, goal=torch.zeros_like(rooms.goal)).picture(0).splitlines()
    assert picture[0] == "G . . . . . . . ."
    assert picture[4] == ". . . . S . . . ."


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("name", "params", "text"),
    [("dark_room", {"size": 1}, "size=1"), ("dark_room", {"n_query": 0}, "n_query=0")],
)
def test_sizes_that_cannot_be_are_named(name: str, params: dict[str, Any], text: str) -> None:
    with pytest.raises(am.InvalidParameter, match=f"{text} of task sampler '{name}' must be"):
        am.make_tasks(name, **params).sample(1, seed=0)

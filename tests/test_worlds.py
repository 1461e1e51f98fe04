"""Rooms, mazes, planes and Markov chains: what a step pays, and what is the best that can be done."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from autometa_plugins.control.dark_room import best_blind_return
from autometa_plugins.control.maze_map import cells_after, sight
from autometa_plugins.control.value_iteration import action_values
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


# ---------------------------------------------------------------- navigation_2d


def walked(environments: am.Environments, choose: Any) -> Tensor:
    """Return of an episode, which may end early, of who goes where ``choose(places)`` says."""
    worlds = environments.begin()
    place = worlds.reset()
    total, is_open = torch.zeros(len(environments)), torch.ones(len(environments), dtype=torch.bool)
    for _ in range(environments.info.horizon):
        place, reward, terminated, _ = worlds.step(choose(place))
        total = total + reward * is_open
        is_open = is_open & ~terminated
    return total


@pytest.mark.parametrize(("rewards", "best", "still"), [("dense", -0.506, -38.26), ("sparse", 13.385, 0.0)])
def test_the_best_of_a_plane_is_to_go_straight_to_the_goal(rewards: str, best: float, still: float) -> None:
    planes = am.make_tasks("navigation_2d", rewards=rewards).sample(20_000, seed=0)
    known = planes.reference["best"]
    torch.testing.assert_close(walked(planes, lambda place: planes.goal - place), known, atol=1e-4, rtol=0)
    assert float(known.mean()) == pytest.approx(best, abs=4 * float(known.std()) / 141 + 1e-3)
    stood = walked(planes, torch.zeros_like)
    assert float(stood.mean()) == pytest.approx(still, abs=4 * float(stood.std()) / 141)


def test_no_plan_crosses_a_plane_better() -> None:
    moves = torch.tensor(list(itertools.product((-0.1, -0.05, 0.0, 0.05, 0.1), repeat=2)))
    plans = moves[torch.cartesian_prod(*[torch.arange(25)] * 3)]
    near = {"dense": [[0.15, -0.3], [0.1, 0.05], [0.25, 0.25]], "sparse": [[0.35, 0.2], [0.0, -0.3]]}
    for rewards, goals in near.items():
        planes = am.make_tasks("navigation_2d", rewards=rewards, steps=3).sample(1, seed=0)
        for goal in goals:
            here = replace(planes, goal=torch.tensor([goal]))
            many, steps = here[torch.zeros(len(plans), dtype=torch.int64)], iter(plans.unbind(1))
            found = walked(many, lambda place, steps=steps: next(steps))
            assert float(found.max()) == pytest.approx(float(here.reference["best"]), abs=1e-5)


def test_a_step_in_a_plane_is_cut_to_its_reach_and_costs_the_distance() -> None:
    drawn = am.make_tasks("navigation_2d").sample(3, seed=0)
    planes = replace(drawn, goal=torch.tensor([[0.4, 0.5], [0.1, -0.1], [0.105, -0.095]]))
    state = planes.initial(torch.zeros(3, 0))
    after, reward, ended = planes.change(state, torch.tensor([[1.0, 0.1], [0.1, -7.0], [0.1, -0.1]]), torch.zeros(3, 0))
    torch.testing.assert_close(after["place"], torch.tensor([[0.1, 0.1], [0.1, -0.1], [0.1, -0.1]]))
    torch.testing.assert_close(reward, torch.tensor([-0.5, 0.0, -0.005 * 2**0.5]))
    assert ended.tolist() == [False, True, True]


def test_sparse_rewards_are_felt_near_the_goal_alone() -> None:
    drawn = am.make_tasks("navigation_2d", rewards="sparse").sample(3, seed=0)
    torch.testing.assert_close(drawn.goal.norm(dim=1), torch.ones(3))
    assert (drawn.goal[:, 1] >= 0).all()
    reward, ended = drawn.pay(torch.tensor([[0.0, 0.0], [0.12, -0.16], [0.15, 0.15]]))
    torch.testing.assert_close(reward, torch.tensor([1.0, 0.8, 0.0]))
    assert not ended.any()
    assert am.make_tasks("navigation_2d", rewards="sparse").info.horizon == 20


# ---------------------------------------------------------------- mdp


def worth(chance: Tensor, reward: Tensor, policy: Tensor) -> Tensor:
    """Return of a policy [time, states] in one process, by the chances of being in each state."""
    states = torch.arange(len(chance))
    here, total = torch.nn.functional.one_hot(torch.tensor(0), len(chance)).to(reward), reward.new_zeros(())
    for action in policy:
        total = total + (here * reward[states, action]).sum()
        here = here @ chance[states, action]
    return total


def test_the_values_of_a_process_are_those_of_the_best_of_all_policies_and_of_their_mean() -> None:
    processes = am.make_tasks("mdp", states=3, actions=2, steps=3).sample(2, seed=0).to(dtype=torch.float64)
    policies = [torch.tensor(plan).view(3, 3) for plan in itertools.product(range(2), repeat=9)]
    for i in range(2):
        chance, reward = processes.chance[i], processes.reward[i]
        worths = torch.stack([worth(chance, reward, policy) for policy in policies])
        torch.testing.assert_close(processes.reference["best"][i], worths.max())
        torch.testing.assert_close(processes.reference["random"][i], worths.mean())


def test_a_picture_of_a_process_marks_the_best_actions() -> None:
    processes = am.make_tasks("mdp", states=2, actions=2, steps=1).sample(1, seed=0)
    process = replace(processes, reward=torch.tensor([[[1.0, -0.5], [0.25, 2.0]]]))
    assert process.picture(0).splitlines() == ["  0   1.00*  -0.50 ", "  1   0.25    2.00*"]


def test_processes_are_as_hard_as_the_ones_of_the_paper() -> None:
    reference = am.make_tasks("mdp").sample(4000, split="test", seed=0).reference
    assert 10 * float(reference["best"].mean()) == pytest.approx(218.5, abs=1.5)
    assert 10 * float(reference["random"].mean()) == pytest.approx(100.0, abs=1.0)


def test_what_happens_in_a_process_follows_its_chances_and_its_rewards() -> None:
    n = 40_000
    drawn = am.make_tasks("mdp", states=4, actions=3).sample(1, seed=1)
    torch.testing.assert_close(drawn.chance.sum(3), torch.ones(1, 4, 3))
    process = replace(drawn[torch.zeros(n, dtype=torch.int64)], key=am.draw_keys(n, 5))
    worlds, best = process.begin(), action_values(drawn.chance, drawn.reward, 10)[0].argmax(2)
    state, total = worlds.reset().argmax(1), torch.zeros(n)
    assert (state == 0).all()
    for time in range(10):
        action = best[time][state]
        after, reward, _, truncated = worlds.step(action)
        if time == 0:
            torch.testing.assert_close(after.mean(0), drawn.chance[0, 0, action[0]], atol=0.01, rtol=0)
            torch.testing.assert_close(reward.mean(), drawn.reward[0, 0, action[0]], atol=0.02, rtol=0)
            torch.testing.assert_close(reward.std(), torch.tensor(1.0), atol=0.02, rtol=0)
        state, total = after.argmax(1), total + reward
    assert truncated.all()
    assert float(total.mean()) == pytest.approx(float(drawn.reference["best"]), abs=4 * float(total.std()) / 200)


# ---------------------------------------------------------------- maze


def ways_through(maze: Any) -> tuple[list[int], list[int]]:
    """Steps from the middle to every cell, found breadth first in the picture, and cells that were found twice."""
    rows, size = maze.picture(0).splitlines(), maze.size
    far, again, front = {12: 0}, [], [(12, -1)]
    while front:
        (cell, before), front = front[0], front[1:]
        y, x = 1 + 2 * (cell // size), 1 + 2 * (cell % size)
        for dy, dx, step in ((0, 1, 1), (1, 0, size), (0, -1, -1), (-1, 0, -size)):
            if rows[y + dy][x + dx] == "#" or cell + step == before:
                continue
            again += [cell + step] if cell + step in far else []
            far[cell + step] = far[cell] + 1
            front.append((cell + step, cell))
    return [far[cell] for cell in range(size**2)], again


@pytest.mark.parametrize("index", range(4))
def test_one_way_leads_to_each_cell_of_a_maze_and_the_best_return_is_that_of_the_shortest(index: int) -> None:
    maze = am.make_tasks("maze").sample(index + 1, seed=0)[index : index + 1]
    far, again = ways_through(maze)
    assert not again
    assert len(far) == 25
    goal = int(maze.goal)
    assert goal != 12
    assert float(maze.reference["best"]) == pytest.approx(1 - 0.04 * (far[goal] - 1))


def test_a_step_in_a_maze_goes_where_the_picture_is_open_and_ends_at_the_goal() -> None:
    mazes = am.make_tasks("maze", steps=30).sample(200, seed=1)
    worlds, cell = mazes.begin(), torch.full((200,), 12)
    worlds.reset()
    is_open = torch.ones(200, dtype=torch.bool)
    pictures = [mazes.picture(i).splitlines() for i in range(200)]
    for time in range(30):
        action = (torch.arange(200) * 7 + time * time) % 4
        _, reward, terminated, _ = worlds.step(action)
        for i in is_open.nonzero().flatten().tolist():
            dy, dx = ((0, 1), (1, 0), (0, -1), (-1, 0))[int(action[i])]
            y, x = 1 + 2 * (int(cell[i]) // 5), 1 + 2 * (int(cell[i]) % 5)
            if pictures[i][y + dy][x + dx] != "#":
                cell[i] += 5 * dy + dx
        there = cell == mazes.goal
        assert torch.equal(terminated[is_open], there[is_open])
        torch.testing.assert_close(reward[is_open], torch.where(there, 1.0, -0.04)[is_open])
        is_open &= ~terminated
    assert 0 < is_open.sum() < 200


def test_who_is_in_a_maze_sees_how_far_it_goes_and_where_the_goal_is() -> None:
    is_open = torch.zeros(1, 24, dtype=torch.bool)
    is_open[0, [0, 1, 2, 12]] = True  # the first row of a maze of 4 x 4, and one step down from its first cell
    after = cells_after(is_open, 4)
    seen = sight(after, torch.tensor([2]), 4)[0]
    assert seen[0].tolist() == [0.75, 0.25, 0, 0, 1, 0, 0, 0]
    assert seen[2].tolist() == [0.25, 0, 0.5, 0, 0, 0, 0, 0]
    assert seen[3].tolist() == [0, 0, 0.75, 0, 0, 0, 1, 0]
    assert seen[4].tolist() == [0, 0, 0, 0.25, 0, 0, 0, 0]


def test_mazes_turn_all_ways_alike() -> None:
    mazes = am.make_tasks("maze").sample(3000, seed=0)
    assert (mazes.passages.sum(1) == 24).all()
    east, south = mazes.passages.view(3000, 2, 20).mean((0, 2))
    assert float(east) == pytest.approx(0.6, abs=0.01)
    assert float(south) == pytest.approx(0.6, abs=0.01)
    assert mazes.goal.unique().tolist() == [cell for cell in range(25) if cell != 12]


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("name", "params", "text"),
    [
        ("dark_room", {"size": 1}, "size=1"),
        ("dark_room", {"n_query": 0}, "n_query=0"),
        ("maze", {"size": 3}, "size=3"),
        ("mdp", {"actions": 1}, "actions=1"),
        ("navigation_2d", {"rewards": "rare"}, "rewards='rare'"),
        ("navigation_2d", {"steps": "all"}, "steps='all'"),
    ],
)
def test_sizes_that_cannot_be_are_named(name: str, params: dict[str, Any], text: str) -> None:
    with pytest.raises(am.InvalidParameter, match=f"{text} of task sampler '{name}' must be"):
        am.make_tasks(name, **params).sample(1, seed=0)

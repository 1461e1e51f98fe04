"""How to look for the goal of a maze, and take the shortest way to it once it was found."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import autometa as am

_FAR = 10_000
"""Steps to a cell to which no way is known."""


def search_maze(experience: am.Experience, size: int) -> Tensor:
    """Tell the moves of somebody who looks for the goal, and takes the shortest way to it once he has seen it.

    He knows what was seen so far, that every episode starts in the middle, and that there is one way between any two
    cells. He draws a map of it. While the goal is not on it, he goes to the nearest cell from which an unseen one may
    be seen. Of several he takes that to the east before south, west and north.

    Parameters
    ----------
    experience : Experience
        Observations are those of ``maze_map.sight``.
    size : int
        Cells along a side.

    Returns
    -------
    Tensor of shape [tasks, time], int64
    """
    searcher = Searcher(experience.action[:, 0], size)
    advice = []
    for time in range(experience.n_steps):
        step = experience.at(time)
        advice.append(searcher.advise(step.observation))
        searcher.follow(step)
    return torch.stack(advice, 1)


def searched(mazes: am.Environments, size: int, slips: float) -> am.Experience:
    """Return trials in which somebody does what :func:`search_maze` tells, but for a share of steps at random."""
    n_episodes, worlds = mazes.info.n_episodes, mazes.begin()
    searcher, observation = Searcher(mazes.key, size), worlds.reset()
    episode = torch.zeros_like(mazes.key)
    told = torch.ones_like(episode, dtype=torch.bool)
    columns: list[tuple[Tensor, ...]] = []
    noise = _noise_of(mazes) if slips else torch.empty(0)
    while bool((active := episode < n_episodes).any()):
        action = searcher.advise(observation)
        if slips:
            chance, other = noise[:, len(columns)].unbind(1)
            action = torch.where(chance < slips, (4 * other).long(), action)
        after, reward, terminated, truncated = worlds.step(action)
        step = am.Transition(observation, action, reward, terminated, truncated, after, told)
        searcher.follow(step)
        columns.append((*step, torch.full_like(reward, torch.nan), episode, active))
        episode = episode + (step.ended & active)
        observation = worlds.reset(step.ended) if bool(step.ended.any()) else after
    names = (*am.Transition._fields, "log_prob", "episode", "mask")
    parts: dict[str, Any] = {
        name: torch.stack(part, 1) for name, part in zip(names, zip(*columns, strict=True), strict=True)
    }
    return am.Experience(**parts, hidden=mazes.hidden)


def _noise_of(mazes: am.Environments) -> Tensor:
    """Two uniform numbers for each step of every trial, [tasks, steps, 2], which follow from the task's key alone."""
    shape = (mazes.info.n_steps, 2)
    each = [torch.from_numpy(am.draw_uniform(shape, key & (2**62 - 1), "slips")) for key in mazes.key.tolist()]
    return torch.stack(each).to(mazes.key.device)


class Searcher:
    """Who looks for the goals of mazes, with a map of each; it changes while he is told what happens.

    Parameters
    ----------
    like : Tensor of shape [tasks], int64
        Any, on the device of the mazes.
    size : int
        Cells along a side.
    """

    def __init__(self, like: Tensor, size: int) -> None:
        self.size, self.middle = size, size // 2 * size + size // 2
        self.cell = torch.full_like(like, self.middle)
        self.map = _Map(self.cell, size)

    def advise(self, observation: Tensor) -> Tensor:
        """Draw what is seen [tasks, 8], and tell the next step [tasks]."""
        self.map.look(self.cell, self._far(observation), observation[:, 4:] > 0)
        return self.map.way_on(self.cell)

    def follow(self, step: am.Transition) -> None:
        """Walk along with whoever took a step, and note where the goal was reached."""
        moves = self._far(step.observation).gather(1, step.action.unsqueeze(1))[:, 0] > 0
        cell = torch.where(moves, self.cell + self.map.step[step.action], self.cell)
        self.map.stand(cell, step.terminated)
        self.cell = torch.where(step.ended, self.middle, cell)

    def _far(self, observation: Tensor) -> Tensor:
        return (observation[:, :4] * self.size).round().long()


class _Map:
    """What is known of mazes.

    Parameters
    ----------
    start : Tensor of shape [tasks]
        Cells that are known to begin with.
    size : int
    """

    def __init__(self, start: Tensor, size: int) -> None:
        n_tasks, n_cells, device = len(start), size**2, start.device
        self.size, self.tasks = size, torch.arange(n_tasks, device=device)
        self.step = torch.tensor((1, size, -1, -size), device=device)
        self.steps = torch.full((n_tasks, n_cells, n_cells), _FAR, dtype=torch.int16, device=device)
        """Between any two cells."""
        self.first = torch.zeros(n_tasks, n_cells, n_cells, dtype=torch.int8, device=device)
        """The direction of the first of these steps."""
        self.steps[self.tasks, start, start] = 0
        self.seen = torch.zeros(n_tasks, n_cells, dtype=torch.bool, device=device)
        self.seen[self.tasks, start] = True
        self.may_be_goal = ~self.seen
        places = torch.arange(n_cells, device=device)
        rows, columns = places // size, places % size
        self.is_edge = torch.stack([columns == size - 1, rows == size - 1, columns == 0, rows == 0], 1)
        self.tried = self.is_edge.expand(n_tasks, n_cells, 4).clone()
        """Where it is known whether one may go from a cell in a direction."""

    def look(self, cell: Tensor, far: Tensor, shows_goal: Tensor) -> None:
        """Draw what is seen from ``cell`` [tasks]: how ``far`` one may go and whether the goal is there, [tasks, 4]."""
        self.tried[self.tasks, cell] = True
        self.may_be_goal[self.tasks, cell] = False
        for way in range(4):
            back, here = (way + 2) % 4, cell
            on_way = torch.zeros_like(self.seen)
            for distance in range(1, self.size):
                reaches = (distance <= far[:, way]).nonzero()[:, 0]
                if len(reaches) == 0:
                    break
                one, other = here[reaches], here[reaches] + self.step[way]
                self.tried[reaches, one, way] = self.tried[reaches, other, back] = True
                on_way[reaches, other] = True
                self._join(reaches, one, other, way)
                here = here.index_put((reaches,), other)
            self.tried[self.tasks, here, way] = True
            self.may_be_goal &= torch.where(shows_goal[:, way, None], on_way, ~on_way)

    def _join(self, tasks: Tensor, one: Tensor, other: Tensor, way: int) -> None:
        """Draw passages from known cells to others, as far as those are new."""
        new = ~self.seen[tasks, other]
        tasks, one, other = tasks[new], one[new], other[new]
        if len(tasks) == 0:
            return
        steps = self.steps[tasks, one] + 1
        steps = steps.clamp(max=_FAR)
        first = self.first[tasks, :, one]
        first[torch.arange(len(tasks), device=one.device), one] = way
        self.steps[tasks, other] = steps
        self.steps[tasks, :, other] = steps
        self.steps[tasks, other, other] = 0
        self.first[tasks, :, other] = first
        self.first[tasks, other] = (way + 2) % 4
        self.seen[tasks, other] = True

    def stand(self, cell: Tensor, on_goal: Tensor) -> None:
        """Note where the goal was reached, [tasks]."""
        here = torch.zeros_like(self.seen)
        here[self.tasks, cell] = True
        self.may_be_goal = torch.where(on_goal.unsqueeze(1), here, self.may_be_goal)

    def way_on(self, cell: Tensor) -> Tensor:
        """Return the next step [tasks] from ``cell`` [tasks] to the goal, or to where something is to be seen."""
        aim = self.may_be_goal & self.seen
        aim = torch.where(aim.any(1, keepdim=True), aim, self._worth_a_look())
        steps, first = self.steps[self.tasks, cell].long(), self.first[self.tasks, cell].long()
        cost = (4 * steps + first).masked_fill(~aim, 4 * _FAR + 4)
        return first.gather(1, cost.argmin(1, keepdim=True))[:, 0]

    def _worth_a_look(self) -> Tensor:
        """Tell which known cells may lead to an unseen neighbour; a passage to a known one would be a second way."""
        places = torch.arange(self.size**2, device=self.step.device)
        beside = torch.where(self.is_edge, places.unsqueeze(1), places.unsqueeze(1) + self.step)
        return self.seen & (~self.tried & ~self.seen[:, beside]).any(2)

"""Mazes, seen from within."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

import autometa as am
from autometa_plugins.control.grid import WALK_KEY
from autometa_plugins.control.maze_map import cells_after, draw_passages, draw_walls, edges_of, sight
from autometa_plugins.control.maze_search import search_maze, searched

_ON_GOAL, _ELSEWHERE = 1.0, -0.04


class Maze(am.TaskSampler):
    """Find the way to the goal through a maze that is new in every task, and take the shortest one from then on.

    Between any two cells there is one way. Every episode starts in the middle; the goal is in any other cell, and both
    maze and goal are the same in all episodes of a trial. A step costs 0.04; the one that reaches the goal pays 1
    instead and ends the episode (Duan et al. 2016, section 3.3). The actor does not know where it is. It sees how far
    it may go to the east, south, west and north, as a share of the side, and on which of these ways the goal lies.

    Parameters
    ----------
    size : int, default=5
        Cells along a side, 4 to 20.
    steps : int, default=50
        Most steps of an episode.
    n_shot : int, default=2
        Episodes before those that are judged.
    n_query : int, default=1
        Episodes that are judged.
    """

    def __init__(self, *, size: int = 5, steps: int = 50, n_shot: int = 2, n_query: int = 1) -> None:
        self.size = size
        self.steps = steps
        self.n_shot = n_shot
        self.n_query = n_query

    @property
    def info(self) -> am.TaskInfo:
        """Shapes and sizes of the tasks drawn.

        Raises
        ------
        InvalidParameter
            A size is not a whole number within its bounds, which the error tells.
        """
        for name, least, most in (("size", 4, 20), ("steps", 1, 1000), ("n_shot", 0, 1000), ("n_query", 1, 1000)):
            am.check_int(name, getattr(self, name), least=least, most=most, of="task sampler 'maze'")
        return am.TaskInfo(
            problem="control",
            input_shape=(8,),
            n_outputs=4,
            n_shot=self.n_shot,
            n_query=self.n_query,
            horizon=self.steps,
            n_hidden=self.size**2 + 2 * self.size * (self.size - 1),
            adviser="a map of what was seen: look where something is unseen, then the shortest way",
        )

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> Mazes:
        """Draw mazes, see :meth:`autometa.TaskSampler.sample`."""
        am.check_draw(n_tasks, split, seed)
        info, cells = self.info, self.size**2
        n_edges = len(edges_of(self.size))
        weights = torch.from_numpy(am.draw_uniform((n_tasks, n_edges), seed, split, "passages"))
        place = torch.from_numpy((cells - 1) * am.draw_uniform((n_tasks,), seed, split, "goal")).long()
        is_open, goal = draw_passages(weights, self.size), place + (place >= middle_of(self.size))
        after = cells_after(is_open, self.size)
        return Mazes(
            info=info,
            key=am.draw_keys(n_tasks, seed, split),
            passages=is_open.float(),
            goal=goal,
            after=after,
            seen=sight(after, goal, self.size),
        )


def middle_of(size: int) -> int:
    """Return the number of the cell in the middle, counted row by row."""
    return size // 2 * size + size // 2


@dataclass(frozen=True, kw_only=True)
class Mazes(am.TensorEnvironments):
    """Mazes with a goal each; cells are counted row by row.

    Parameters
    ----------
    passages : Tensor of shape [tasks, edges]
        1 where a step leads from a cell to its neighbour, else 0, in the order of ``edges_of``.
    goal : Tensor of shape [tasks], int64
    after : Tensor of shape [tasks, cells, 4], int64
        Where steps to the east, south, west and north lead.
    seen : Tensor of shape [tasks, cells, 8]
        What is seen from every cell.
    """

    passages: Tensor
    goal: Tensor
    after: Tensor
    seen: Tensor

    picture_key: ClassVar[str] = WALK_KEY

    @property
    def size(self) -> int:
        """Cells along a side."""
        return math.isqrt(self.after.shape[1])

    @property
    def hidden(self) -> Tensor:
        """The goal, one-hot, and all passages."""
        return torch.cat([F.one_hot(self.goal, self.size**2).to(self.passages), self.passages], 1)

    @property
    def reference(self) -> Mapping[str, Tensor]:
        """Expected returns of walking at random, and of the shortest way."""
        after = self.after
        there = after == self.goal[:, None, None]
        reward = torch.where(there, _ON_GOAL, _ELSEWHERE).double()
        at_random = best = reward.new_zeros(len(self), self.size**2)
        for _ in range(self.info.horizon):
            at_random, best = (
                reward + ~there * value.gather(1, after.flatten(1)).view_as(reward) for value in (at_random, best)
            )
            at_random, best = at_random.mean(2), best.amax(2)
        start = middle_of(self.size)
        return {"random": at_random[:, start].to(self.passages), "best": best[:, start].to(self.passages)}

    def advice(self, experience: am.Experience) -> Tensor:
        """Tell how to look for the goal by what was seen, and the shortest way to it once it was."""
        return search_maze(experience, self.size)

    def demonstrations(self, slips: float = 0.0) -> am.Experience:
        """Look for the goal and go to it, as :meth:`advice` tells, but for some steps at random."""
        return searched(self, self.size, slips)

    def picture(self, task: int) -> str:
        """Draw the maze, the first row at the top, with S where episodes start and G for the goal."""
        return draw_walls(
            self.passages[task].cpu() > 0, self.size, {middle_of(self.size): "S", int(self.goal[task]): "G"}
        )

    def picture_of(self, experience: am.Experience, task: int, episode: int) -> str:
        """Draw the maze with the step that first ended in each cell; that on the goal stands in brackets."""
        cell, goal, after = middle_of(self.size), int(self.goal[task]), self.after[task].tolist()
        marks = {cell: "S", goal: "G"}
        first: dict[int, str] = {}
        for step, action in enumerate(experience.of_episode(task, episode).action.tolist(), start=1):
            cell = after[cell][action]
            first.setdefault(cell, f"[{step}]" if cell == goal else str(step))
        return draw_walls(self.passages[task].cpu() > 0, self.size, marks | first, width=4)

    def initial(self, noise: Tensor) -> dict[str, Tensor]:
        """Start in the middle."""
        return {"cell": torch.full_like(self.goal, middle_of(self.size))}

    def observation(self, state: dict[str, Tensor]) -> Tensor:
        """Look to all four sides."""
        return self.seen[torch.arange(len(self), device=self.goal.device), state["cell"]]

    def change(
        self, state: dict[str, Tensor], action: Tensor, noise: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Walk, if there is no wall."""
        cell = self.after[torch.arange(len(self), device=action.device), state["cell"], action]
        there = cell == self.goal
        return {"cell": cell}, torch.where(there, _ON_GOAL, _ELSEWHERE).to(self.passages), there

"""A grid with a goal somewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

import autometa as am
from autometa_plugins.control.grid import MOVES, WALK_KEY, cells_in, code, draw_walk, drawn, moved, random_visits
from autometa_plugins.control.grid_search import nearest_from_the_corner, search

_ON_GOAL, _ELSEWHERE = 1.0, -0.1


class GridNavi(am.TaskSampler):
    """Find the goal on a grid of cells, and stay there; every episode starts in the corner (0, 0).

    A step pays 1 on the goal and costs 0.1 elsewhere. The goal is in any cell but the four around the corner, and the
    same in all episodes of a trial; the actor sees its own cell only. There are few goals, so they recur in all splits.
    With 5 x 5 cells and 15 steps the best returns are 4.000 in the first episode and 11.071 in the last, on average.

    Parameters
    ----------
    size : int, default=5
        Cells along a side.
    steps : int, default=15
        Of an episode.
    n_shot : int, default=3
        Episodes before those that are judged.
    n_query : int, default=1
        Episodes that are judged.
    """

    tasks_recur: ClassVar[bool] = True

    def __init__(self, *, size: int = 5, steps: int = 15, n_shot: int = 3, n_query: int = 1) -> None:
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
        for name, least, most in (("size", 3, 100), ("steps", 1, 10_000), ("n_shot", 0, 1000), ("n_query", 1, 1000)):
            am.check_int(name, getattr(self, name), least=least, most=most, of="task sampler 'gridnavi'")
        return am.TaskInfo(
            problem="control",
            input_shape=(2 * self.size,),
            n_outputs=len(MOVES),
            n_shot=self.n_shot,
            n_query=self.n_query,
            horizon=self.steps,
            n_hidden=2 * self.size,
            adviser="search for the nearest cell, then the shortest way",
        )

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> Grids:
        """Draw goals, see :meth:`autometa.TaskSampler.sample`."""
        am.check_draw(n_tasks, split, seed)
        info = self.info
        cells = torch.tensor([(x, y) for x in range(self.size) for y in range(self.size) if max(x, y) > 1])
        uniform = torch.from_numpy(am.draw_uniform((n_tasks,), seed, split, "goal"))
        return Grids(
            info=info,
            key=am.draw_keys(n_tasks, seed, split),
            goal=cells[(uniform * len(cells)).long()],
            one=torch.ones(n_tasks),
        )


@dataclass(frozen=True, kw_only=True)
class Grids(am.TensorEnvironments):
    """Grids with a goal each.

    Parameters
    ----------
    goal : Tensor of shape [tasks, 2], int64
    one : Tensor of shape [tasks]
        Ones of the type that numbers have.
    """

    goal: Tensor
    one: Tensor

    has_fixed_length: ClassVar[bool] = True
    picture_key: ClassVar[str] = WALK_KEY

    @property
    def size(self) -> int:
        """Cells along a side."""
        return self.info.input_shape[0] // 2

    @property
    def hidden(self) -> Tensor:
        """The goal, coded as a cell is."""
        return self._code(self.goal)

    @property
    def reference(self) -> Mapping[str, Tensor]:
        """Expected returns of walking at random, and of going straight to the goal."""
        far, steps = self.goal.sum(1).to(self.one), self.info.horizon
        stay = (steps - far + 1).clamp(min=0)
        best = _ON_GOAL * stay + _ELSEWHERE * (steps - stay)
        visits = random_visits(self.size, steps, (0, 0)).to(self.one)[self.goal[:, 0], self.goal[:, 1]]
        return {"random": _ON_GOAL * visits + _ELSEWHERE * (steps - visits), "best": best}

    def advice(self, experience: am.Experience) -> Tensor:
        """Tell how to look for the goal by what was known, and the way to it once it was found."""
        possible = torch.ones(self.size, self.size, dtype=torch.bool)
        possible[:2, :2] = False
        return search(experience, possible, MOVES, nearest_from_the_corner(self.size))

    def picture(self, task: int) -> str:
        """Draw the grid, the first row at the top, with S where episodes start and G for the goal."""
        row, column = self.goal[task].tolist()
        return drawn(self.size, {(0, 0): "S", (row, column): "G"})

    def picture_of(self, experience: am.Experience, task: int, episode: int) -> str:
        """Draw the grid with the step that first ended in each cell; that on the goal stands in brackets."""
        cells = cells_in(experience.of_episode(task, episode).next_observation)
        row, column = self.goal[task].tolist()
        return draw_walk(self.size, (0, 0), (row, column), cells)

    def initial(self, noise: Tensor) -> dict[str, Tensor]:
        """Start in the corner."""
        return {"cell": torch.zeros_like(self.goal)}

    def observation(self, state: dict[str, Tensor]) -> Tensor:
        """Show the cell: its row and its column, one-hot."""
        return self._code(state["cell"])

    def change(
        self, state: dict[str, Tensor], action: Tensor, noise: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Move, or stay at a wall."""
        cell = moved(state["cell"], action, self.size)
        there = (cell == self.goal).all(1)
        return {"cell": cell}, torch.where(there, _ON_GOAL * self.one, _ELSEWHERE * self.one), torch.zeros_like(there)

    def _code(self, cell: Tensor) -> Tensor:
        return code(cell, self.size).to(self.one)

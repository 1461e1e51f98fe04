"""A dark room with a goal somewhere that is felt only by who stands on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

import autometa as am
from autometa_plugins.control.grid import MOVES, WALK_KEY, cells_in, code, draw_walk, drawn, moved, random_visits
from autometa_plugins.control.grid_search import quarter_by_quarter, search


class DarkRoom(am.TaskSampler):
    """Find the goal in a square room, and stay there; every episode starts in the middle.

    A step that ends on the goal pays 1, any other nothing. The goal is in any cell, the one in the middle included, and
    the same in all episodes of a trial; the actor sees its own cell only. There are few goals, so they recur in all
    splits. With 9 x 9 cells and 20 steps who knows the goal gets 16.543 in an episode on average, and who does not gets
    2.593 in the first one at best (:func:`best_blind_return`). Who searches quarter by quarter (``advice``) gets 14.852
    in the fourth.

    Rooms of this kind are those of Laskin et al. 2022, Algorithm distillation, section 4, and Lee et al. 2023, DPT.

    Parameters
    ----------
    size : int, default=9
        Cells along a side. Where it is even, the middle is the cell behind the middle of both sides.
    steps : int, default=20
        Of an episode.
    n_shot : int, default=3
        Episodes before those that are judged.
    n_query : int, default=1
        Episodes that are judged.
    """

    tasks_recur: ClassVar[bool] = True

    def __init__(self, *, size: int = 9, steps: int = 20, n_shot: int = 3, n_query: int = 1) -> None:
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
        for name, least, most in (("size", 2, 100), ("steps", 1, 10_000), ("n_shot", 0, 1000), ("n_query", 1, 1000)):
            am.check_int(name, getattr(self, name), least=least, most=most, of="task sampler 'dark_room'")
        return am.TaskInfo(
            problem="control",
            input_shape=(2 * self.size,),
            n_outputs=len(MOVES),
            n_shot=self.n_shot,
            n_query=self.n_query,
            horizon=self.steps,
            n_hidden=2 * self.size,
            adviser="search quarter by quarter, then the shortest way",
        )

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> Rooms:
        """Draw goals, see :meth:`autometa.TaskSampler.sample`."""
        am.check_draw(n_tasks, split, seed)
        info = self.info
        cell = torch.from_numpy(self.size**2 * am.draw_uniform((n_tasks,), seed, split, "goal")).long()
        goal = torch.stack([cell // self.size, cell % self.size], 1)
        return Rooms(info=info, key=am.draw_keys(n_tasks, seed, split), goal=goal, one=torch.ones(n_tasks))


@dataclass(frozen=True, kw_only=True)
class Rooms(am.TensorEnvironments):
    """Rooms with a goal each.

    Parameters
    ----------
    goal : Tensor of shape [tasks, 2], int64
        Row and column.
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
        return code(self.goal, self.size).to(self.one)

    @property
    def reference(self) -> Mapping[str, Tensor]:
        """Expected returns of walking at random, and of going straight to the goal."""
        middle, steps = self.size // 2, self.info.horizon
        far = (self.goal - middle).abs().sum(1)
        best = (steps - (far - 1).clamp(min=0)).clamp(min=0).to(self.one)
        visits = random_visits(self.size, steps, (middle, middle)).to(self.one)
        return {"random": visits[self.goal[:, 0], self.goal[:, 1]], "best": best}

    def advice(self, experience: am.Experience) -> Tensor:
        """Tell how to look for the goal by what was known, and the way to it once it was found."""
        possible = torch.ones(self.size, self.size, dtype=torch.bool)
        return search(experience, possible, MOVES, quarter_by_quarter(self.size))

    def picture(self, task: int) -> str:
        """Draw the room, the first row at the top, with S where episodes start and G for the goal."""
        row, column = self.goal[task].tolist()
        middle = self.size // 2
        return drawn(self.size, {(middle, middle): "S", (row, column): "G"})

    def picture_of(self, experience: am.Experience, task: int, episode: int) -> str:
        """Draw the room with the step that first ended in each cell; that on the goal stands in brackets."""
        cells = cells_in(experience.of_episode(task, episode).next_observation)
        row, column = self.goal[task].tolist()
        return draw_walk(self.size, (self.size // 2, self.size // 2), (row, column), cells)

    def initial(self, noise: Tensor) -> dict[str, Tensor]:
        """Start in the middle."""
        return {"cell": torch.full_like(self.goal, self.size // 2)}

    def observation(self, state: dict[str, Tensor]) -> Tensor:
        """Show the cell: its row and its column, one-hot."""
        return code(state["cell"], self.size).to(self.one)

    def change(
        self, state: dict[str, Tensor], action: Tensor, noise: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Move, or stay at a wall."""
        cell = moved(state["cell"], action, self.size)
        there = (cell == self.goal).all(1)
        return {"cell": cell}, there.to(self.one), torch.zeros_like(there)


def best_blind_return(size: int, steps: int) -> float:
    """Return the expected return of the best first episode, when the goal is anywhere.

    A step tells of one cell at most, so no plan does better than to stay for a step, which tries the middle, to enter a
    new cell with every other step, and to stop where it is paid. A spiral out of the middle is such a plan.
    """
    cells = size**2
    return sum(steps - tried for tried in range(min(steps, cells))) / cells

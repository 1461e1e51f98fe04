"""A point in the plane, and a goal that only rewards tell of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

import autometa as am
from autometa_plugins.control.plane import draw_plane

_REACH = 0.1
"""Most that a step moves along each axis."""
_ARRIVED = 0.01
"""Dense rewards: an episode ends where the goal is nearer than this along both axes."""
_FELT = 0.2
"""Sparse rewards: how near the goal must be to pay."""
_STEPS = {"dense": 100, "sparse": 20}


class Navigation2D(am.TaskSampler):
    """Go to a goal in the plane that is not seen; every episode starts at (0, 0).

    A step moves the point by up to 0.1 along each axis; larger actions count as 0.1. The goal is the same in all
    episodes of a trial; the actor sees where the point is.

    Parameters
    ----------
    rewards : {"dense", "sparse"}, default="dense"
        Dense (Finn et al. 2017, MAML, section 5.3): the goal is uniform on the square [-0.5, 0.5]², a step costs the
        distance to it, and an episode ends where the goal is nearer than 0.01 along both axes. Standing still brings
        -38.26 on average, going straight to the goal -0.506. Sparse (Rakelly et al. 2019, PEARL, section 6.3): the goal
        is on the upper half of the circle of radius 1, and a step pays 1 less the distance where that is 0.2 at most,
        else nothing; no episode ends early.
    steps : int or "auto", default="auto"
        Most steps of an episode; "auto": 100 with dense rewards, 20 with sparse ones.
    n_shot : int, default=20
        Episodes before those that are judged.
    n_query : int, default=1
        Episodes that are judged.
    """

    def __init__(
        self,
        *,
        rewards: Literal["dense", "sparse"] = "dense",
        steps: int | Literal["auto"] = "auto",
        n_shot: int = 20,
        n_query: int = 1,
    ) -> None:
        self.rewards = rewards
        self.steps = steps
        self.n_shot = n_shot
        self.n_query = n_query

    @property
    def info(self) -> am.TaskInfo:
        """Shapes and sizes of the tasks drawn.

        Raises
        ------
        InvalidParameter
            The kind of rewards is not known, or a size is not a whole number within its bounds, which the error tells.
        """
        whose = "task sampler 'navigation_2d'"
        am.check_choice("rewards", self.rewards, tuple(_STEPS), of=whose)
        am.check_int("steps", self.steps, most=10_000, also=("auto",), of=whose)
        am.check_int("n_shot", self.n_shot, least=0, most=1000, of=whose)
        am.check_int("n_query", self.n_query, most=1000, of=whose)
        return am.TaskInfo(
            problem="control",
            input_shape=(2,),
            n_outputs=2,
            n_shot=self.n_shot,
            n_query=self.n_query,
            horizon=_STEPS[self.rewards] if self.steps == "auto" else self.steps,
            action_bounds=((-_REACH, -_REACH), (_REACH, _REACH)),
            n_hidden=2,
        )

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> Planes:
        """Draw goals, see :meth:`autometa.TaskSampler.sample`."""
        am.check_draw(n_tasks, split, seed)
        info = self.info
        uniform = torch.from_numpy(am.draw_uniform((n_tasks, 2), seed, split, "goal"))
        angle = math.pi * uniform[:, 0]
        goal = uniform - 0.5 if self.rewards == "dense" else torch.stack([angle.cos(), angle.sin()], 1)
        kind = DensePlanes if self.rewards == "dense" else SparsePlanes
        return kind(info=info, key=am.draw_keys(n_tasks, seed, split), goal=goal.float())


@dataclass(frozen=True, kw_only=True)
class Planes(am.TensorEnvironments):
    """Planes with a goal each, [tasks, 2]; what a step pays is for subclasses."""

    goal: Tensor

    picture_key: ClassVar[str] = "A dot for each step; S: the start; X: the end; G: the goal."
    shown: ClassVar[tuple[float, float, float, float]]
    """Smallest and largest x, smallest and largest y of a goal."""

    @property
    def hidden(self) -> Tensor:
        """The goal."""
        return self.goal

    @property
    def reference(self) -> Mapping[str, Tensor]:
        """Return of going to the goal with the largest steps, which is nearest along both axes at any time."""
        time = torch.arange(1, self.info.horizon + 1, device=self.goal.device)
        gap = (self.goal.abs().unsqueeze(1) - _REACH * time.unsqueeze(1)).clamp(min=0)
        reward, ended = self.pay(gap.flatten(0, 1))
        ended = ended.view(len(self), -1).int()
        is_open = ended.cumsum(1) - ended == 0
        return {"best": (reward.view(len(self), -1) * is_open).sum(1)}

    def picture(self, task: int) -> str:
        """Draw the part of the plane where goals are, with S where episodes start and G for the goal."""
        x, y = self.goal[task].tolist()
        return draw_plane({(0.0, 0.0): "S", (x, y): "G"}, self.shown)

    def picture_of(self, experience: am.Experience, task: int, episode: int) -> str:
        """Draw the way of the point: S where it starts, G for the goal, a dot for each step and X where it ends."""
        places = [(x, y) for x, y in experience.of_episode(task, episode).next_observation.tolist()]
        x, y = self.goal[task].tolist()
        marks = dict.fromkeys(places, ".") | {(0.0, 0.0): "S", (x, y): "G"} | dict.fromkeys(places[-1:], "X")
        return draw_plane(marks, self.shown)

    def initial(self, noise: Tensor) -> dict[str, Tensor]:
        """Start at (0, 0)."""
        return {"place": torch.zeros_like(self.goal)}

    def observation(self, state: dict[str, Tensor]) -> Tensor:
        """Show the place."""
        return state["place"]

    def change(
        self, state: dict[str, Tensor], action: Tensor, noise: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Move."""
        place = state["place"] + action.clamp(-_REACH, _REACH)
        return {"place": place}, *self.pay(place - self.goal)

    def pay(self, gap: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reward, and whether the episode ends, of points so far from the goal along each axis, [n, 2]."""
        raise NotImplementedError


class DensePlanes(Planes):
    """Every step costs the distance to the goal, until it is reached."""

    shown: ClassVar[tuple[float, float, float, float]] = (-0.5, 0.5, -0.5, 0.5)

    def pay(self, gap: Tensor) -> tuple[Tensor, Tensor]:
        """Return the negative distance, and whether the goal is reached."""
        return -gap.norm(dim=1), (gap.abs() < _ARRIVED).all(1)


class SparsePlanes(Planes):
    """A step pays near the goal only."""

    has_fixed_length: ClassVar[bool] = True
    shown: ClassVar[tuple[float, float, float, float]] = (-1.0, 1.0, 0.0, 1.0)

    def pay(self, gap: Tensor) -> tuple[Tensor, Tensor]:
        """Return 1 less the distance if that is small, else nothing; no episode ends."""
        far = gap.norm(dim=1)
        return torch.where(far <= _FELT, 1 - far, torch.zeros_like(far)), torch.zeros_like(far, dtype=torch.bool)

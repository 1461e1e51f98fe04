"""Worlds in which any sound actor learns within seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from autometa.contracts.experience import Experience
from autometa.contracts.keys import draw_keys
from autometa.contracts.tasks import TaskInfo, TaskSampler, check_draw
from autometa.sampling.random_draws import draw_uniform
from autometa.sampling.tensor_environments import State, TensorEnvironments

N_DOORS = 3
N_COINS = 3
N_STAIRS = 3


class Doors(TaskSampler):
    """One of three doors leads out, and pays 1; every other one costs 0.2. The same door does in all episodes.

    Parameters
    ----------
    patience : int
        Most steps of an episode.
    n_shot, n_query : int
        Episodes to adapt in, and those that are judged.
    """

    tasks_recur: ClassVar[bool] = True

    def __init__(self, *, patience: int = 4, n_shot: int = 1, n_query: int = 1) -> None:
        self.patience = patience
        self.n_shot = n_shot
        self.n_query = n_query

    @property
    def info(self) -> TaskInfo:
        """Two numbers are seen, of which one is noise; three choices."""
        return TaskInfo(
            problem="control",
            input_shape=(2,),
            n_outputs=N_DOORS,
            n_shot=self.n_shot,
            n_query=self.n_query,
            horizon=self.patience,
            n_hidden=N_DOORS,
            adviser="who knows the way out",
        )

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> DoorEnvironments:
        """Draw tasks, see :meth:`TaskSampler.sample`."""
        check_draw(n_tasks, split, seed)
        door = torch.from_numpy(N_DOORS * draw_uniform((n_tasks,), seed, split, "door")).long()
        way_out = torch.nn.functional.one_hot(door, N_DOORS).float()
        return DoorEnvironments(info=self.info, key=draw_keys(n_tasks, seed, split), way_out=way_out)


@dataclass(frozen=True, kw_only=True)
class DoorEnvironments(TensorEnvironments):
    """Rooms with three doors each."""

    way_out: Tensor
    """One-hot [tasks, doors]."""

    n_noise: ClassVar[int] = 1

    @property
    def hidden(self) -> Tensor:
        """Which door leads out."""
        return self.way_out

    def advice(self, experience: Experience) -> Tensor:
        """Tell the way out, always."""
        return self.way_out.argmax(1, keepdim=True).expand_as(experience.action)

    def initial(self, noise: Tensor) -> State:
        """Nothing tried yet."""
        return {"seen": torch.cat([torch.zeros_like(noise), noise], 1).to(self.way_out)}

    def change(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Tensor, Tensor]:
        """Try a door."""
        out = self.way_out.gather(1, action.unsqueeze(1)).squeeze(1) > 0
        steps = state["seen"][:, :1] + 0.25
        seen = torch.cat([steps, noise.to(steps)], 1)
        return {"seen": seen}, torch.where(out, 1.0, -0.2).to(steps), out

    def observation(self, state: State) -> Tensor:
        """Show the steps so far, and noise."""
        return state["seen"]


class Coins(TaskSampler):
    """A bandit of three coins: heads, with a probability of each coin's own, pays 1."""

    @property
    def info(self) -> TaskInfo:
        """One number is seen, always the same; three choices."""
        return TaskInfo(
            problem="control",
            input_shape=(1,),
            n_outputs=N_COINS,
            n_shot=0,
            n_query=1,
            horizon=8,
            n_hidden=N_COINS,
            arms="bernoulli",
        )

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> CoinEnvironments:
        """Draw tasks, see :meth:`TaskSampler.sample`."""
        check_draw(n_tasks, split, seed)
        heads = torch.from_numpy(draw_uniform((n_tasks, N_COINS), seed, split, "heads")).float()
        return CoinEnvironments(info=self.info, key=draw_keys(n_tasks, seed, split), heads=heads)


@dataclass(frozen=True, kw_only=True)
class CoinEnvironments(TensorEnvironments):
    """Bandits of coins."""

    heads: Tensor
    """Probabilities [tasks, coins]."""

    n_noise: ClassVar[int] = 1
    has_fixed_length: ClassVar[bool] = True

    @property
    def hidden(self) -> Tensor:
        """Probabilities of heads."""
        return self.heads

    def initial(self, noise: Tensor) -> State:
        """Nothing ever changes."""
        return {}

    def change(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Tensor, Tensor]:
        """Toss a coin."""
        chance = self.heads.gather(1, action.unsqueeze(1))
        return state, (noise < chance).to(chance)[:, 0], torch.zeros_like(action, dtype=torch.bool)

    def observation(self, state: State) -> Tensor:
        """Show 1."""
        return torch.ones_like(self.heads[:, :1])


class Stairs(TaskSampler):
    """Stairs to climb: on each of them one of two choices leads up, the other one back to the foot.

    Who leaves at the top is paid 1. The same choices do in all episodes, of which there are three.
    """

    tasks_recur: ClassVar[bool] = True

    @property
    def info(self) -> TaskInfo:
        """The stair is seen, one-hot; two choices."""
        return TaskInfo(
            problem="control",
            input_shape=(N_STAIRS,),
            n_outputs=2,
            n_shot=2,
            n_query=1,
            horizon=6,
            n_hidden=N_STAIRS,
            tabular=True,
        )

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> StairEnvironments:
        """Draw tasks, see :meth:`TaskSampler.sample`."""
        check_draw(n_tasks, split, seed)
        up = torch.from_numpy(draw_uniform((n_tasks, N_STAIRS), seed, split, "up") < 0.5).float()
        return StairEnvironments(info=self.info, key=draw_keys(n_tasks, seed, split), up=up)


@dataclass(frozen=True, kw_only=True)
class StairEnvironments(TensorEnvironments):
    """Stairs of each task."""

    up: Tensor
    """The choice that leads up from each stair, 0 or 1 [tasks, stairs]."""

    @property
    def hidden(self) -> Tensor:
        """What leads up."""
        return self.up

    def initial(self, noise: Tensor) -> State:
        """Stand at the foot."""
        return {"stair": torch.zeros_like(self.key)}

    def change(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Tensor, Tensor]:
        """Climb, or fall."""
        stair = state["stair"]
        is_up = self.up.gather(1, stair.unsqueeze(1))[:, 0] == action
        is_out = is_up & (stair == N_STAIRS - 1)
        after = torch.where(is_up & ~is_out, stair + 1, 0)
        return {"stair": after}, is_out.to(self.up), is_out

    def observation(self, state: State) -> Tensor:
        """Show the stair."""
        return torch.nn.functional.one_hot(state["stair"], N_STAIRS).to(self.up)

"""Markov decision processes of a few states."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

import autometa as am
from autometa_plugins.control.beb import BEB
from autometa_plugins.control.tabular_actor import MOST_WORK, work_of
from autometa_plugins.control.value_iteration import action_values, first_action_values

_MOST_SHOWN = 40
"""Steps that a picture has room for."""


class MDP(am.TaskSampler):
    """Find out where actions lead and what they pay; every episode starts in the first state.

    Probabilities of the next state are uniform on the simplex for every state and action; rewards are normal with
    deviation 1 around a mean that is normal around 1 with deviation 1 (Duan et al. 2016, section 3.2). The actor sees
    the state. With 10 states, 5 actions and 10 steps an episode brings 10.0 at random and 21.85 to who knows the
    process; papers tell the sum over 10 episodes, 100 and 218.5, of which Duan et al. reach 156.2. Learner ``beb``, who
    knows what processes are like and plans anew at every step, gets 162; he is the adviser (``advice``), where a
    process is not too large for him.

    Parameters
    ----------
    states : int, default=10
    actions : int, default=5
    steps : int, default=10
        Of an episode.
    n_shot : int, default=0
        Episodes before those that are judged.
    n_query : int, default=10
        Episodes that are judged, in which the actor goes on learning.
    """

    def __init__(
        self, *, states: int = 10, actions: int = 5, steps: int = 10, n_shot: int = 0, n_query: int = 10
    ) -> None:
        self.states = states
        self.actions = actions
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
        for name, least, most in (
            ("states", 2, 100),
            ("actions", 2, 20),
            ("steps", 1, 10_000),
            ("n_shot", 0, 1000),
            ("n_query", 1, 1000),
        ):
            am.check_int(name, getattr(self, name), least=least, most=most, of="task sampler 'mdp'")
        can_advise = work_of(self.states, self.actions, self.steps, plans=self.steps) <= MOST_WORK
        return am.TaskInfo(
            problem="control",
            input_shape=(self.states,),
            n_outputs=self.actions,
            n_shot=self.n_shot,
            n_query=self.n_query,
            horizon=self.steps,
            n_hidden=self.states * self.actions * (self.states + 1),
            adviser="plan in the posterior mean, with a bonus for what was little tried" if can_advise else None,
            tabular=True,
        )

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> Processes:
        """Draw processes, see :meth:`autometa.TaskSampler.sample`."""
        am.check_draw(n_tasks, split, seed)
        info = self.info
        shape = (n_tasks, self.states, self.actions, self.states)
        # Waiting times of equal rates, divided by their sum, are uniform on the simplex.
        waits = -torch.from_numpy(1 - am.draw_uniform(shape, seed, split, "chance")).log()
        uniform = torch.from_numpy(am.draw_uniform(shape[:3], seed, split, "rewards"))
        # Half a step of the generator from 0, whose inverse would be infinite.
        reward = 1 + math.sqrt(2) * (2 * (uniform + 2**-54) - 1).erfinv()
        return Processes(
            info=info,
            key=am.draw_keys(n_tasks, seed, split),
            chance=(waits / waits.sum(3, keepdim=True)).float(),
            reward=reward.float(),
        )


@dataclass(frozen=True, kw_only=True)
class Processes(am.TensorEnvironments):
    """Markov decision processes.

    Parameters
    ----------
    chance : Tensor of shape [tasks, states, actions, states]
        Probability of every next state.
    reward : Tensor of shape [tasks, states, actions]
        Mean rewards.
    """

    chance: Tensor
    reward: Tensor

    n_noise: ClassVar[int] = 2
    has_fixed_length: ClassVar[bool] = True
    picture_key: ClassVar[str] = "A step each line; a star is at the best actions of who knows the process."

    @property
    def hidden(self) -> Tensor:
        """Mean rewards and probabilities, one after the other."""
        return torch.cat([self.reward.flatten(1), self.chance.flatten(1)], 1)

    @property
    def reference(self) -> Mapping[str, Tensor]:
        """Expected returns of acting at random, and of the best policy for the process."""
        steps = self.info.horizon
        at_random = first_action_values(self.chance, self.reward, steps, at_random=True)[:, 0].mean(1)
        return {"random": at_random, "best": first_action_values(self.chance, self.reward, steps)[:, 0].amax(1)}

    def advice(self, experience: am.Experience) -> Tensor:
        """Tell what is best in the mean process by what was known, with a bonus for what was little tried.

        Raises
        ------
        Incompatible
            The process is too large to plan in at every step.
        """
        adviser = BEB()
        decision, _ = adviser.along(adviser.build(self.info).to(self.key.device), experience)
        return decision.policy.mode

    def picture(self, task: int) -> str:
        """Write down the mean rewards of all actions, a state each line; a star is at the best one to begin with."""
        here = slice(task, task + 1)
        best = first_action_values(self.chance[here], self.reward[here], self.info.horizon)[0].argmax(1).tolist()
        lines = []
        for state, rewards in enumerate(self.reward[task].tolist()):
            marked = (f"{value:6.2f}{'*' if i == best[state] else ' '}" for i, value in enumerate(rewards))
            lines.append(f"{state:3d} " + " ".join(marked))
        return "\n".join(lines)

    def picture_of(self, experience: am.Experience, task: int, episode: int) -> str | None:
        """Write down every step: state, action and reward; a star is at the best actions. None: too many steps."""
        steps = experience.of_episode(task, episode)
        if len(steps.action) > _MOST_SHOWN:
            return None
        values = action_values(self.chance[task, None], self.reward[task, None], self.info.horizon)[0]
        best = values.argmax(2).tolist()
        lines = ["step state action reward"]
        told = zip(steps.observation.argmax(1).tolist(), steps.action.tolist(), steps.reward.tolist(), strict=True)
        for time, (state, action, reward) in enumerate(told):
            star = "*" if action == best[time][state] else " "
            lines.append(f"{time + 1:4d} {state:5d} {action:5d}{star} {reward:6.2f}")
        return "\n".join(lines)

    def initial(self, noise: Tensor) -> dict[str, Tensor]:
        """Start in the first state."""
        return {"state": torch.zeros_like(self.key)}

    def observation(self, state: dict[str, Tensor]) -> Tensor:
        """Show the state, one-hot."""
        return F.one_hot(state["state"], self.reward.shape[1]).to(self.reward)

    def change(
        self, state: dict[str, Tensor], action: Tensor, noise: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Be paid, and go on to a state by its probability."""
        tasks, here = torch.arange(len(self), device=action.device), state["state"]
        noise = noise.to(self.reward)
        reward = self.reward[tasks, here, action] + math.sqrt(2) * (2 * noise[:, 1] - 1).erfinv()
        after = (self.chance[tasks, here, action].cumsum(1)[:, :-1] < noise[:, :1]).sum(1)
        return {"state": after}, reward, torch.zeros_like(action, dtype=torch.bool)

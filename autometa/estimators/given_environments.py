"""An environment of Gymnasium that a user gives, or a vector of them, as worlds."""

from __future__ import annotations

import copy
from typing import Any, Self

import torch
from torch import Tensor

from autometa.contracts.environments import Environments, StepResult, Worlds
from autometa.contracts.keys import draw_keys
from autometa.contracts.tasks import TaskInfo
from autometa.errors import Incompatible, InvalidParameter
from autometa.sampling.gymnasium_spaces import LARGEST_SEED, Spaces, call_env, numbers


class GivenEnvironments(Environments):
    """One environment, or a vector environment that does not reset by itself, as tasks to act in.

    Unlike drawn ones these are not a value: there is one world, which every :meth:`begin` resets.

    Parameters
    ----------
    env : gymnasium.Env or gymnasium.vector.VectorEnv
    info : TaskInfo
        What the agent was meta-trained on; the spaces must be of these shapes.
    seed : int
        Of the first reset, and of the choices of an actor.

    Raises
    ------
    InvalidParameter
        It is no environment.
    Incompatible
        A space is of another kind or shape, or the vector resets by itself.
    """

    def __init__(self, env: Any, info: TaskInfo, seed: int) -> None:
        for name in ("reset", "step", "observation_space", "action_space"):
            if not hasattr(env, name):
                raise InvalidParameter(f"env={type(env).__name__} is no environment of Gymnasium: it has no {name!r}.")
        self.env, self.info, self.seed = env, info, seed
        self.is_vector = hasattr(env, "num_envs") and hasattr(env, "single_action_space")
        if self.is_vector:
            mode = getattr(env, "metadata", {}).get("autoreset_mode")
            if getattr(mode, "name", None) != "DISABLED":
                raise Incompatible(
                    f"autoreset_mode={getattr(mode, 'name', mode)} of the vector environment must be "
                    "gymnasium.vector.AutoresetMode.DISABLED: the agent resets episodes itself."
                )
        self.spaces = Spaces.of(env, self.is_vector)
        self.spaces.check(info)
        for space in (self.spaces.observation, self.spaces.action):
            if getattr(space, "start", 0) != 0:  # predict() is told numbers alone, and would not know
                raise Incompatible(f"the space {space} begins at {space.start}; wrap it, so that it begins at 0.")
        self.place = torch.zeros(())
        self.key = draw_keys(env.num_envs if self.is_vector else 1, seed)

    @property
    def hidden(self) -> Tensor:
        """Nothing is known of them."""
        return self.place.new_zeros(len(self), 0)

    def begin(self) -> GivenWorlds:
        """Return the worlds, which the first reset begins anew."""
        return GivenWorlds(self)

    def __len__(self) -> int:
        return len(self.key)

    def __getitem__(self, tasks: slice | Tensor) -> Self:
        raise Incompatible("environments of Gymnasium cannot be taken apart; give fewer of them.")

    def with_key(self, key: Tensor) -> Self:
        """Return the same environment, which the next reset begins by this key."""
        other = super().with_key(key)
        other.seed = int(key[0])
        return other

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Return the same environment, whose numbers are told on the device and in the precision."""
        other = copy.copy(self)
        other.place = self.place.to(device=device, dtype=dtype)
        other.key = self.key.to(device=device)
        return other


class GivenWorlds(Worlds):
    """What Gymnasium's environments do, as tensors.

    Parameters
    ----------
    environments : GivenEnvironments
    """

    def __init__(self, environments: GivenEnvironments) -> None:
        self._of = environments
        self._begun = False

    def reset(self, mask: Tensor | None = None) -> Tensor:
        """Begin the next episode, see :meth:`Worlds.reset`."""
        seed = None if self._begun else self._of.seed % LARGEST_SEED
        self._begun = True
        options = None if mask is None or not self._of.is_vector else {"reset_mask": mask.cpu().numpy()}
        observation, _ = call_env(self._of.env, "reset", 2, seed=seed, options=options)
        return self._encode(observation)

    def step(self, action: Tensor) -> StepResult:
        """Act, see :meth:`Worlds.step`."""
        actions = self._of.spaces.decode(action)
        told = call_env(self._of.env, "step", 5, actions if self._of.is_vector else actions[0])
        observation, reward, *ends, _ = told
        n_tasks = len(self._of)
        place = self._of.place
        rewards = torch.as_tensor(numbers("reward", reward, (n_tasks,))).to(place)
        terminated, truncated = (
            torch.as_tensor(numbers("end", end, (n_tasks,)) != 0, device=place.device) for end in ends
        )
        return StepResult(self._encode(observation), rewards, terminated, truncated & ~terminated)

    def _encode(self, observation: Any) -> Tensor:
        place = self._of.place
        return self._of.spaces.encode(observation, len(self._of), place.dtype).to(place.device)

"""Environments of Gymnasium as worlds: one of them, or a vector of them."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autometa.contracts.environments import Environments, StepResult, Worlds
from autometa.contracts.keys import draw_keys
from autometa.contracts.plugin_code import one_line
from autometa.contracts.tasks import TaskInfo
from autometa.errors import AutometaError, Incompatible, InvalidData, InvalidParameter

_LARGEST_SEED = 2**31


class GymnasiumEnvironments(Environments):
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
        self.place = torch.zeros(())
        self.key = draw_keys(env.num_envs if self.is_vector else 1, seed)

    @property
    def hidden(self) -> Tensor:
        """Nothing is known of them."""
        return self.place.new_zeros(len(self), 0)

    def begin(self) -> GymnasiumWorlds:
        """Return the worlds, which the first reset begins anew."""
        return GymnasiumWorlds(self)

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


class Spaces:
    """Kinds of observations and actions of an environment.

    Parameters
    ----------
    observation, action
        Spaces of Gymnasium: Box or Discrete.
    """

    def __init__(self, observation: Any, action: Any) -> None:
        self.observation, self.action = observation, action
        self.n_codes = _choices("observation", observation)
        self.n_choices = _choices("action", action)

    @classmethod
    def of(cls, env: Any, is_vector: bool) -> Self:
        """Read the spaces of one environment, or of each of a vector."""
        if is_vector:
            return cls(env.single_observation_space, env.single_action_space)
        return cls(env.observation_space, env.action_space)

    def check(self, info: TaskInfo) -> None:
        """Refuse spaces of other shapes than were met in meta-training."""
        seen = tuple(self.observation.shape) if self.n_codes is None else (self.n_codes,)
        if seen != info.input_shape:
            raise Incompatible(
                f"observations have the shape {seen}, and the agent was meta-trained on {info.input_shape}."
            )
        ours = "choices" if info.action_bounds is None else "real numbers"
        theirs = "real numbers" if self.n_choices is None else "choices"
        n_outputs = int(np.prod(self.action.shape)) if self.n_choices is None else self.n_choices
        if (theirs, n_outputs) != (ours, info.n_outputs):
            raise Incompatible(
                f"actions are {n_outputs} {theirs}, and the agent was meta-trained on {info.n_outputs} {ours}."
            )

    def encode(self, observation: Any, n_tasks: int, dtype: torch.dtype) -> Tensor:
        """Return observations [tasks, *observation], numbers of Discrete spaces one-hot."""
        if self.n_codes is None:
            array = _numbers("observation", observation, (n_tasks, *self.observation.shape))
            return torch.as_tensor(array, dtype=dtype)
        codes = _numbers("observation", observation, (n_tasks,)) - int(self.observation.start)
        if not np.isin(codes, np.arange(self.n_codes)).all():
            raise InvalidData(f"the environment shows observation={observation!r:.80}, which is not in its space.")
        return torch.nn.functional.one_hot(torch.as_tensor(codes, dtype=torch.int64), self.n_codes).to(dtype)

    def decode(self, action: Tensor) -> Any:
        """Return actions [tasks] or [tasks, *shape] as the environment takes them: within bounds, of its own type."""
        if self.n_choices is not None:
            return action.cpu().numpy().astype(self.action.dtype) + self.action.start
        real = action.cpu().numpy().reshape(-1, *self.action.shape)
        return np.clip(real, self.action.low, self.action.high).astype(self.action.dtype)


def _numbers(what: str, value: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return what an environment tells as finite numbers of a shape, or refuse it."""
    try:
        array = np.asarray(value, dtype=np.float64).reshape(shape)
    except (TypeError, ValueError) as error:
        raise InvalidData(f"the environment tells {what}={value!r:.80}, which is not {_size(shape)}.") from error
    if not np.isfinite(array).all():
        raise InvalidData(f"the environment tells {what}={value!r:.80}, which is not finite.")
    return array


def _size(shape: tuple[int, ...]) -> str:
    return "a number" if shape == (1,) else f"numbers of shape {shape}"


def _choices(what: str, space: Any) -> int | None:
    """Return the size of a Discrete space, None of a Box."""
    kind = type(space).__name__
    if kind == "Discrete":
        return int(space.n)
    if kind == "Box":
        return None
    raise Incompatible(f"the {what} space {space} is a {kind}; an agent knows Box and Discrete.")


class GymnasiumWorlds(Worlds):
    """What Gymnasium's environments do, as tensors.

    Parameters
    ----------
    environments : GymnasiumEnvironments
    """

    def __init__(self, environments: GymnasiumEnvironments) -> None:
        self._of = environments
        self._begun = False

    def reset(self, mask: Tensor | None = None) -> Tensor:
        """Begin the next episode, see :meth:`Worlds.reset`."""
        seed = None if self._begun else self._of.seed % _LARGEST_SEED
        self._begun = True
        options = None if mask is None or not self._of.is_vector else {"reset_mask": mask.cpu().numpy()}
        observation, _ = self._told("reset", 2, seed=seed, options=options)
        return self._encode(observation)

    def step(self, action: Tensor) -> StepResult:
        """Act, see :meth:`Worlds.step`."""
        actions = self._of.spaces.decode(action)
        told = self._told("step", 5, actions if self._of.is_vector else actions[0])
        observation, reward, *ends, _ = told
        n_tasks = len(self._of)
        place = self._of.place
        rewards = torch.as_tensor(_numbers("reward", reward, (n_tasks,))).to(place)
        terminated, truncated = (
            torch.as_tensor(_numbers("end", end, (n_tasks,)) != 0, device=place.device) for end in ends
        )
        return StepResult(self._encode(observation), rewards, terminated, truncated & ~terminated)

    def _told(self, method: str, count: int, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return what a method of the environment tells; it is somebody's code, which may fail."""
        name = f"{method}() of the environment {type(self._of.env).__name__}"
        try:
            told = getattr(self._of.env, method)(*args, **kwargs)
        except AutometaError:
            raise
        except Exception as error:
            raise InvalidData(f"{name} raised {one_line(error)}") from error
        if not isinstance(told, tuple) or len(told) != count:
            raise InvalidData(f"{name} returned {told!r:.80}; Gymnasium's returns a tuple of {count}.")
        return told

    def _encode(self, observation: Any) -> Tensor:
        place = self._of.place
        return self._of.spaces.encode(observation, len(self._of), place.dtype).to(place.device)

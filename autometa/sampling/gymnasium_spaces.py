"""What environments of Gymnasium show and take, as tensors; nothing here imports Gymnasium."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autometa.contracts.plugin_code import one_line
from autometa.contracts.tasks import TaskInfo
from autometa.errors import AutometaError, Incompatible, InvalidData

LARGEST_SEED = 2**31
"""Seeds of Gymnasium's environments are below it."""


class Spaces:
    """Kinds of observations and actions of an environment.

    Parameters
    ----------
    observation, action
        Spaces of Gymnasium: Box or Discrete.

    Raises
    ------
    Incompatible
        A space is of another kind.
    """

    def __init__(self, observation: Any, action: Any) -> None:
        self.observation, self.action = observation, action
        self.n_codes = _choices("observation", observation)
        self.n_choices = _choices("action", action)

    @classmethod
    def of(cls, env: Any, is_vector: bool = False) -> Self:
        """Read the spaces of one environment, or of each of a vector."""
        if is_vector:
            return cls(env.single_observation_space, env.single_action_space)
        return cls(env.observation_space, env.action_space)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of an observation as an actor sees it: numbers of a Discrete space are one-hot."""
        return (self.n_codes,) if self.n_codes is not None else tuple(self.observation.shape) or (1,)

    @property
    def n_outputs(self) -> int:
        """Number of choices, or of real actions."""
        return int(np.prod(self.action.shape)) if self.n_choices is None else self.n_choices

    @property
    def action_bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Lower and upper bounds of real actions; None of choices.

        Raises
        ------
        Incompatible
            A bound is infinite, or leaves nothing to choose.
        """
        if self.n_choices is not None:
            return None
        low, high = (np.asarray(bound, dtype=np.float64).ravel() for bound in (self.action.low, self.action.high))
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
            raise Incompatible(
                f"the action space {self.action} must have finite bounds, the lower below the upper; "
                "gymnasium.wrappers.RescaleAction gives an environment others."
            )
        return tuple(low.tolist()), tuple(high.tolist())

    def check(self, info: TaskInfo) -> None:
        """Refuse spaces of other shapes than were met in meta-training."""
        if self.input_shape != info.input_shape:
            raise Incompatible(
                f"observations have the shape {self.input_shape}, and the agent was meta-trained on {info.input_shape}."
            )
        ours = "choices" if info.action_bounds is None else "real numbers"
        theirs = "real numbers" if self.n_choices is None else "choices"
        if (theirs, self.n_outputs) != (ours, info.n_outputs):
            raise Incompatible(
                f"actions are {self.n_outputs} {theirs}, and the agent was meta-trained on {info.n_outputs} {ours}."
            )

    def same_kind(self, other: Spaces) -> bool:
        """Tell whether what an actor sees and does means the same in both; bounds of observations may differ."""
        seen, theirs = self.observation, other.observation
        observations = seen.shape == theirs.shape if self.n_codes is None else seen == theirs
        return self.n_codes == other.n_codes and bool(observations) and bool(self.action == other.action)

    def encode(self, observation: Any, n_tasks: int, dtype: torch.dtype) -> Tensor:
        """Return observations [tasks, *observation], numbers of Discrete spaces one-hot."""
        if self.n_codes is None:
            return torch.as_tensor(numbers("observation", observation, (n_tasks, *self.input_shape)), dtype=dtype)
        codes = numbers("observation", observation, (n_tasks,)) - int(self.observation.start)
        if not np.isin(codes, np.arange(self.n_codes)).all():
            raise InvalidData(f"the environment shows observation={observation!r:.80}, which is not in its space.")
        return torch.nn.functional.one_hot(torch.as_tensor(codes, dtype=torch.int64), self.n_codes).to(dtype)

    def decode(self, action: Tensor) -> Any:
        """Return actions [tasks] or [tasks, *shape] as the environment takes them: within bounds, of its own type."""
        if self.n_choices is not None:
            return action.cpu().numpy().astype(self.action.dtype) + self.action.start
        real = action.cpu().numpy().reshape(-1, *self.action.shape)
        return np.clip(real, self.action.low, self.action.high).astype(self.action.dtype)


_LARGEST = float(np.finfo(np.float32).max)


def numbers(what: str, value: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return what an environment tells as finite numbers of a shape, or refuse it."""
    try:
        array = np.asarray(value, dtype=np.float64).reshape(shape)
    except (TypeError, ValueError) as error:
        raise InvalidData(f"the environment tells {what}={value!r:.80}, which is not {_size(shape)}.") from error
    if not (np.abs(array) <= _LARGEST).all():
        raise InvalidData(f"the environment tells {what}={value!r:.80}, which is not finite in single precision.")
    return array


def call_env(env: Any, method: str, count: int, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """Return the ``count`` things that a method of an environment tells; it is somebody's code, which may fail.

    Raises
    ------
    InvalidData
        It raised, or told something else.
    """
    try:
        told = getattr(env, method)(*args, **kwargs)
    except AutometaError:
        raise
    except Exception as error:
        raise InvalidData(f"{_named(env, method)} raised {one_line(error)}") from error
    if not isinstance(told, tuple) or len(told) != count:
        raise InvalidData(f"{_named(env, method)} returned {told!r:.80}; Gymnasium's returns a tuple of {count}.")
    return told


def _named(env: Any, method: str) -> str:
    return f"{method}() of the environment {type(env).__name__}"


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

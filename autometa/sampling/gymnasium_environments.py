"""Environments of Gymnasium, one for each task, that act as tensors."""

# Annotations are evaluated at once: subclasses, whose modules may lack these names, inherit those of the fields.
import weakref
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from autometa.contracts.environments import Environments, StepResult, Worlds
from autometa.contracts.seeding import derive_seed
from autometa.contracts.tasks import TaskInfo
from autometa.errors import Incompatible, InvalidData, InvalidParameter
from autometa.sampling.gymnasium_spaces import LARGEST_SEED, Spaces, call_env, numbers

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class GymnasiumEnvironments(Environments):
    """Environments of which a subclass says how the one of a task is made.

    A subclass is a frozen dataclass whose own fields tell the tasks apart: tensors of them lead with [tasks]. They stay
    as they are in every precision and on every device. A trial makes its environments anew, one of each task, and seeds
    every episode from the task's key, so a task is the same whatever happened before and whatever is beside it.
    Gymnasium itself is not imported: anything with its ``reset`` and ``step`` will do.

    Parameters
    ----------
    info : TaskInfo
        As :meth:`info_of` tells it.
    key : Tensor of shape [tasks], int64
        From ``autometa.draw_keys``.
    place : Tensor
        A number of the device and precision of all that is told.

    Examples
    --------
    >>> import autometa as am
    >>> tasks = am.make_tasks("gymnasium", env="CartPole-v1", vary={"gravity": (5.0, 15.0)}, steps=20)
    >>> drawn = tasks.sample(3, seed=0)
    >>> isinstance(drawn, am.GymnasiumEnvironments), drawn.make(0).unwrapped.gravity == float(drawn.numbers[0, 0])
    (True, True)
    """

    info: TaskInfo
    key: Tensor
    place: Tensor = field(default_factory=lambda: torch.zeros(()), repr=False)

    @abstractmethod
    def make(self, task: int) -> Any:
        """Return a new environment of Gymnasium, that of row ``task``; nothing else holds it.

        All have the same action space and observations of the same kind and shape: Box or Discrete.
        """

    @staticmethod
    def info_of(env: Any, *, n_shot: int, n_query: int, n_hidden: int = 0, horizon: int | None = None) -> TaskInfo:
        """Describe tasks of which ``env`` is one.

        Parameters
        ----------
        env : gymnasium.Env
        n_shot, n_query : int
            Episodes to adapt in, and those that are judged.
        n_hidden : int, default=0
            Width of :attr:`hidden`.
        horizon : int, optional
            Most steps of an episode. None: what ``env.spec.max_episode_steps`` says.

        Raises
        ------
        Incompatible
            A space is neither Box nor Discrete, or a bound of actions is infinite.
        InvalidParameter
            Nothing tells how long an episode may be.
        """
        spaces = Spaces.of(env)
        horizon = getattr(env.spec, "max_episode_steps", None) if horizon is None else horizon
        if horizon is None:
            raise InvalidParameter(
                f"the environment {env} has no max_episode_steps: tell how many steps an episode may take at most."
            )
        return TaskInfo(
            problem="control",
            input_shape=spaces.input_shape,
            n_outputs=spaces.n_outputs,
            n_shot=n_shot,
            n_query=n_query,
            horizon=int(horizon),
            action_bounds=spaces.action_bounds,
            n_hidden=n_hidden,
        )

    def begin(self) -> "GymnasiumWorlds":
        """Return worlds before their first episode; the environments are made when that begins."""
        return GymnasiumWorlds(self)

    def begin_after(self, worlds: Worlds) -> "GymnasiumWorlds":
        """Return worlds before their first episode, in which the environments that others made go on."""
        return GymnasiumWorlds(self, worlds if isinstance(worlds, GymnasiumWorlds) else None)

    def __len__(self) -> int:
        return len(self.key)

    def __getitem__(self, tasks: slice | Tensor) -> Self:
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "place"}
        found: dict[str, Any] = {
            name: value[tasks if isinstance(tasks, slice) else tasks.to(value.device)]
            for name, value in values.items()
            if isinstance(value, Tensor)
        }
        return replace(self, **found)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Return the same environments, whose numbers are told on the device and in the precision."""
        place, key = self.place.to(device=device, dtype=dtype), self.key.to(device=device)
        return replace(self, place=place, key=key)


class GymnasiumWorlds(Worlds):
    """What one environment of Gymnasium for each task does, as tensors.

    A task whose episode has ended rests until it is reset: nobody steps its environment, which might refuse.

    Parameters
    ----------
    environments : GymnasiumEnvironments
    before : GymnasiumWorlds, optional
        Whose environments these go on with: those of the same tasks.
    """

    def __init__(self, environments: GymnasiumEnvironments, before: "GymnasiumWorlds | None" = None) -> None:
        self._of = environments
        self._envs: list[Any] = []
        if before is not None and before._envs:
            self._take_over(before)
        self._has_begun = False
        self._keys: list[int] = environments.key.tolist()
        self._n_episodes = [0] * len(environments)
        self._shown: list[Any] = [None] * len(environments)
        self._terminated = self._truncated = np.zeros(len(environments), bool)

    def reset(self, mask: Tensor | None = None) -> Tensor:
        """Begin the next episode of the tasks in ``mask``, see :meth:`Worlds.reset`."""
        n_tasks = len(self._of)
        begun = np.ones(n_tasks, bool) if mask is None or not self._has_begun else mask.cpu().numpy()
        if not self._envs:
            self._make()
        self._has_begun = True
        for task in np.flatnonzero(begun).tolist():
            seed = derive_seed(self._keys[task], "episode", self._n_episodes[task]) % LARGEST_SEED
            self._shown[task] = call_env(self._envs[task], "reset", 2, seed=seed)[0]
            self._n_episodes[task] += 1
        self._terminated, self._truncated = self._terminated & ~begun, self._truncated & ~begun
        return self._observation()

    def step(self, action: Tensor) -> StepResult:
        """Act, see :meth:`Worlds.step`."""
        assert self._has_begun, "reset() comes before step()"
        actions, rewards = self._spaces.decode(action), [0.0] * len(self._of)
        terminated, truncated = self._terminated.tolist(), self._truncated.tolist()
        for task in np.flatnonzero(~(self._terminated | self._truncated)).tolist():
            told = call_env(self._envs[task], "step", 5, actions[task])
            self._shown[task], rewards[task], terminated[task], truncated[task], _ = told
        self._terminated = numbers("end", terminated, (len(self._of),)) != 0
        self._truncated = (numbers("end", truncated, (len(self._of),)) != 0) & ~self._terminated
        place = self._of.place
        paid = _together(lambda told: numbers("reward", told, (len(told),)), rewards)
        return StepResult(
            self._observation(),
            torch.as_tensor(paid).to(place),
            torch.tensor(self._terminated, device=place.device),
            torch.tensor(self._truncated, device=place.device),
        )

    def _make(self) -> None:
        here, n_tasks = self._of, len(self._of)
        self._envs = [here.make(task) for task in range(n_tasks)]
        self._closing = weakref.finalize(self, _close, self._envs)
        self._spaces = Spaces.of(self._envs[0])
        self._spaces.check(here.info)
        for env in self._envs[1:]:
            if not self._spaces.same_kind(Spaces.of(env)):
                raise Incompatible(
                    f"a task has the spaces {env.observation_space} and {env.action_space}, another one "
                    f"{self._spaces.observation} and {self._spaces.action}; actions and shapes must be the same."
                )

    def _take_over(self, before: "GymnasiumWorlds") -> None:
        self._envs, self._spaces = before._envs, before._spaces
        before._closing.detach()
        self._closing = weakref.finalize(self, _close, self._envs)
        before._envs, before._has_begun = [], False

    def _observation(self) -> Tensor:
        place, spaces = self._of.place, self._spaces
        return _together(lambda told: spaces.encode(told, len(told), place.dtype), self._shown).to(place.device)


def _together(read: Callable[[list[Any]], T], told: list[Any]) -> T:
    """Read what all tasks tell at once; where that fails, the error is about the first that cannot be read alone."""
    try:
        return read(told)
    except InvalidData:
        for one in told:
            read([one])
        raise


def _close(envs: list[Any]) -> None:
    for env in envs:
        env.close()

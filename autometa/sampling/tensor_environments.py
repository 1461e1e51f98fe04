"""Environments that are functions of tensors, so that all tasks step at once."""

# Annotations are evaluated at once: subclasses, whose modules may lack these names, inherit those of the fields.
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self, TypeAlias

import torch
from torch import Tensor

from autometa.contracts.environments import Environments, StepResult, Worlds
from autometa.contracts.keys import uniform
from autometa.contracts.tasks import TaskInfo

State: TypeAlias = dict[str, Tensor]
"""What changes while somebody acts: tensors that all lead with [tasks]."""


@dataclass(frozen=True, kw_only=True)
class TensorEnvironments(Environments):
    """Environments of which a subclass writes what an episode starts from, what a step does and what is seen.

    A subclass is a frozen dataclass whose own fields are tensors of parameters that lead with [tasks].

    Parameters
    ----------
    info : TaskInfo
    key : Tensor of shape [tasks], int64
        From ``autometa.draw_keys``.
    """

    info: TaskInfo
    key: Tensor

    may_go_past_end: ClassVar[bool] = True
    n_noise: ClassVar[int] = 0
    """Uniform numbers that a step of a task may use up."""
    n_start_noise: ClassVar[int | None] = None
    """Uniform numbers that the start of an episode may use up; None: as many as a step."""

    @abstractmethod
    def initial(self, noise: Tensor) -> State:
        """Return the state at the start of an episode; ``noise`` [tasks, n_start_noise] is uniform in (0, 1)."""

    @abstractmethod
    def change(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Tensor, Tensor]:
        """Return the state after a step, its reward [tasks], and whether the episode has ended for good [tasks].

        ``noise`` [tasks, n_noise] is uniform in (0, 1).
        """

    @abstractmethod
    def observation(self, state: State) -> Tensor:
        """Return what an actor sees, [tasks, *observation]."""

    def begin(self) -> "TensorWorlds":
        """Return worlds before their first episode."""
        return TensorWorlds(self)

    def __len__(self) -> int:
        return len(self.key)

    def __getitem__(self, tasks: slice | Tensor) -> Self:
        return self._map(lambda value: value[tasks])

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Move to a device and cast floating-point parameters."""
        return self._map(lambda value: value.to(device=device, dtype=dtype if value.is_floating_point() else None))

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        found: dict[str, Any] = {name: function(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **found)


class TensorWorlds(Worlds):
    """The states of environments that are functions of tensors.

    Parameters
    ----------
    environments : TensorEnvironments
    """

    def __init__(self, environments: TensorEnvironments) -> None:
        self._environments = environments
        self._time = 0
        self._state: State | None = None
        self._age = torch.zeros_like(environments.key)

    def reset(self, mask: Tensor | None = None) -> Tensor:
        """Begin the next episode of the tasks in ``mask``, see :meth:`Worlds.reset`."""
        here = self._environments
        n_noise = here.n_noise if here.n_start_noise is None else here.n_start_noise
        fresh = here.initial(uniform(here.key, self._time, "reset", n_noise))
        if mask is None or self._state is None:
            self._state, self._age = fresh, torch.zeros_like(self._age)
        else:
            self._state = {name: _where(mask, value, self._state[name]) for name, value in fresh.items()}
            self._age = self._age.masked_fill(mask, 0)
        return here.observation(self._state)

    def step(self, action: Tensor) -> StepResult:
        """Act in every task, see :meth:`Worlds.step`."""
        here = self._environments
        assert self._state is not None, "reset() comes before step()"
        noise = uniform(here.key, self._time, "step", here.n_noise)
        self._state, reward, terminated = here.change(self._state, action, noise)
        self._time += 1
        self._age = self._age + 1
        truncated = (self._age >= here.info.horizon) & ~terminated
        return StepResult(here.observation(self._state), reward, terminated, truncated)


def _where(mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(mask.view(-1, *[1] * (new.dim() - 1)), new, old)

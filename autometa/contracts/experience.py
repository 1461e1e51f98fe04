"""What happened while an actor acted."""

# Annotations are evaluated at once: names in those of a NamedTuple are not found later, as by the API reference.
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor


class Transition(NamedTuple):
    """One step of every task; all lead with [tasks]."""

    observation: Tensor
    """What the actor saw before it acted."""
    action: Tensor
    reward: Tensor
    terminated: Tensor
    """True if the episode has ended in the world, bool."""
    truncated: Tensor
    """True if the episode was cut off, bool."""
    next_observation: Tensor
    """As the step left it, before any reset."""
    told: Tensor
    """True if the actor may know the reward, bool."""

    @property
    def ended(self) -> Tensor:
        """True where the episode is over, for either reason."""
        return self.terminated | self.truncated


@dataclass(frozen=True, kw_only=True)
class Experience:
    """Trials of many tasks, step by step; tensors are [tasks, time, ...] unless said otherwise.

    Parameters
    ----------
    observation, action, reward, terminated, truncated, next_observation, told : Tensor
        See :class:`Transition`.
    log_prob : Tensor
        Of the actions, when they were chosen; NaN where it is not known, as in demonstrations.
    episode : Tensor, int64
        Number of the episode in its trial, from 0.
    mask : Tensor, bool
        True where a step belongs to the trial. Padded steps come last, and hold zeros: :meth:`zero_padded`.
    hidden : Tensor of shape [tasks, n_hidden]
        See ``Environments.hidden``.
    is_full : bool
        True if ``mask`` is known to be True everywhere.
    n_shot : int or None
        Episodes to adapt in, before those that are judged; None: all.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    next_observation: Tensor
    told: Tensor
    log_prob: Tensor
    episode: Tensor
    mask: Tensor
    hidden: Tensor
    is_full: bool = False
    n_shot: int | None = None

    def __len__(self) -> int:
        return len(self.reward)

    def __getitem__(self, tasks: slice | Tensor) -> Self:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        parts: dict[str, Any] = {name: value[tasks] for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **parts)

    @property
    def n_steps(self) -> int:
        """Steps of the longest trial."""
        return self.reward.shape[1]

    @property
    def ended(self) -> Tensor:
        """True where an episode is over, for either reason."""
        return self.terminated | self.truncated

    def at(self, time: int) -> Transition:
        """Return the step of every task at one time."""
        return Transition(*(getattr(self, name)[:, time] for name in Transition._fields))

    def episodes(self, first: int, stop: int) -> Self:
        """Return the steps of some episodes alone, whose numbers then begin at 0."""
        chosen = (self.episode >= first) & (self.episode < stop) & self.mask
        n_steps = int(chosen.sum(1).max()) if len(self) else 0
        start = ((self.episode < first) & self.mask).sum(1, keepdim=True)
        place = start + torch.arange(n_steps, device=start.device)
        mask = place < start + chosen.sum(1, keepdim=True)
        n_shot = None if self.n_shot is None else min(max(self.n_shot - first, 0), stop - first)
        part = self.taken(place.clamp(max=self.n_steps - 1))
        number = (part.episode - first).clamp(min=0, max=stop - first - 1)
        found = replace(part, episode=number, mask=mask, is_full=bool(mask.all()), n_shot=n_shot)
        return found.zero_padded()

    def zero_padded(self) -> Self:
        """Return the same with zeros for the numbers of padded steps, where a world may have told anything.

        Who reads an experience may so multiply by the mask, and differentiate: infinity and NaN would spread.
        """
        if self.is_full:
            return self

        def cleared(value: Tensor) -> Tensor:
            return value.masked_fill(~self.mask.view(*self.mask.shape, *[1] * (value.dim() - 2)), 0)

        parts: dict[str, Any] = {name: cleared(getattr(self, name)) for name in _NUMBERS}
        return replace(self, **parts)

    def taken(self, place: Tensor) -> Self:
        """Return the steps at these places [tasks, n] of every trial."""

        def at(value: Tensor) -> Tensor:
            wide = place.view(*place.shape, *[1] * (value.dim() - 2))
            return value.gather(1, wide.expand(*place.shape, *value.shape[2:]))

        parts: dict[str, Any] = {name: at(getattr(self, name)) for name in PER_STEP}
        return replace(self, **parts)

    def of_episode(self, task: int, episode: int) -> Transition:
        """Return the steps of one episode of a task, both counted from 0; what is told leads with [time]."""
        mine = self.mask[task] & (self.episode[task] == episode)
        return Transition(*(getattr(self, name)[task][mine] for name in Transition._fields))

    def returns(self, n_episodes: int) -> Float[Tensor, "task episode"]:
        """Sum of the rewards of every episode; 0 for episodes that did not happen."""
        zeros = self.reward.new_zeros(len(self), n_episodes)
        return zeros.scatter_add(1, self.episode.clamp(max=n_episodes - 1), self.reward * self.mask)


PER_STEP = (*Transition._fields, "log_prob", "episode", "mask")
"""Names of the tensors of an experience that have a time."""

_NUMBERS = ("observation", "action", "reward", "next_observation", "log_prob")

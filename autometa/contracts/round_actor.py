"""An actor that learns between episodes, and acts alike in all those of a round."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from autometa.contracts.actor import Actor
from autometa.contracts.experience import Experience, Transition
from autometa.contracts.policies import Decision


class RoundActor(Actor):
    """Explores for a round of episodes, then adapts to all of it at once, as policy gradients inside a task do.

    Subclasses implement ``build``, ``start``, :meth:`round_size`, :meth:`decide` and :meth:`adapt`, all batched over
    tasks. The memory changes in :meth:`adapt` alone, so episodes of a round may be lived through side by side, and
    episodes that are judged teach nothing.
    """

    @abstractmethod
    def round_size(self, module: nn.Module) -> int:
        """Return the episodes of a round; one of fewer comes last where adaptation has no more."""

    @abstractmethod
    def decide(self, module: nn.Module, memory: Any, observation: Tensor, episode: Tensor | None = None) -> Decision:
        """Decide for several observations of every task.

        Parameters
        ----------
        module : nn.Module
        memory : pytree of Tensor
        observation : Tensor of shape [tasks, n, *observation]
        episode : Tensor of shape [tasks, n], int64, optional
            Number of the episode in its round, for those who explore otherwise in each; None: nothing is explored, as
            in episodes that are judged.

        Returns
        -------
        Decision
            Each tensor [tasks, n, ...].
        """

    @abstractmethod
    def adapt(self, module: nn.Module, memory: Any, experience: Experience) -> Any:
        """Return the memory that has learned from a round.

        ``experience.episode`` counts from 0 in the round. Differentiable in θ if gradients are enabled and the actor
        says so; it must work without gradients too.
        """

    def act(self, module: nn.Module, memory: Any, observation: Tensor) -> tuple[Decision, Any]:
        """Decide without exploring; see :meth:`Actor.act`."""
        return flattened(self.decide(module, memory, observation.unsqueeze(1))), memory

    def observe(self, module: nn.Module, memory: Any, transition: Transition) -> Any:
        """Learn nothing from a single step."""
        return memory

    def along(self, module: nn.Module, experience: Experience, memory: Any = None) -> tuple[Decision, Any]:
        """Decide at every step of what happened, adapting between rounds; see :meth:`Actor.along`."""
        memory = self.start(module, len(experience)) if memory is None else memory
        n_episodes = int(experience.episode[experience.mask].max()) + 1
        decisions, place, offset = [], torch.zeros_like(experience.episode), 0
        for part in rounds_of(self.round_size(module), n_episodes, experience.n_shot):
            seen = experience.episodes(part.first, part.stop)
            decisions.append(self.decide(module, memory, seen.observation, seen.episode if part.adapts else None))
            if part.adapts:
                memory = self.adapt(module, memory, seen)
            before = ((experience.episode < part.first) & experience.mask).sum(1, keepdim=True)
            inside = (experience.episode >= part.first) & (experience.episode < part.stop) & experience.mask
            here = torch.arange(experience.n_steps, device=before.device) - before + offset
            place, offset = torch.where(inside, here, place), offset + seen.n_steps
        rows = torch.arange(len(experience), device=place.device).unsqueeze(1)
        joined = [torch.cat(parts, 1)[rows, place] for parts in zip(*(d.policy for d in decisions), strict=True)]
        values = [decision.value for decision in decisions if decision.value is not None]
        value = torch.cat(values, 1)[rows, place] if values else None
        return Decision(type(decisions[0].policy)(*joined), value), memory


@dataclass(frozen=True, slots=True)
class Round:
    """Episodes that an actor lives through with the same memory."""

    first: int
    stop: int
    adapts: bool
    """True if it learns from them, False if they are judged."""


def rounds_of(size: int, n_episodes: int, n_shot: int | None) -> Iterator[Round]:
    """Divide the episodes of a trial: those to adapt in by the size of a round, those that are judged all together."""
    n_shot = n_episodes if n_shot is None else min(n_shot, n_episodes)
    for first in range(0, n_shot, size):
        yield Round(first, min(first + size, n_shot), adapts=True)
    if n_shot < n_episodes:
        yield Round(n_shot, n_episodes, adapts=False)


def flattened(decision: Decision) -> Decision:
    """Return a decision whose tensors [tasks, n, ...] are [tasks * n, ...]."""
    policy = decision.policy
    parts = (part.flatten(0, 1) for part in policy)
    value = None if decision.value is None else decision.value.flatten(0, 1)
    return Decision(type(policy)(*parts), value)

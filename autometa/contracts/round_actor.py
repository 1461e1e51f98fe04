"""An actor that learns between episodes, and acts alike in all those of a round."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from autometa.contracts.actor import Actor
from autometa.contracts.experience import Experience, Transition
from autometa.contracts.policies import Decision
from autometa.errors import PluginError


class RoundActor(Actor):
    """Explores for a round of episodes, then adapts to all of it at once, as policy gradients inside a task do.

    Subclasses implement ``build``, ``start``, :meth:`round_size`, :meth:`decide` and :meth:`adapt`, all batched over
    tasks. The memory is a tree of tensors that lead with [tasks], such as the weights of each task; it changes in
    :meth:`adapt` alone, so episodes of a round may be lived through side by side, and episodes that are judged teach
    nothing. Unless a subclass names a meta-optimizer, and what that needs in ``provides``, nothing is meta-trained.

    Examples
    --------
    >>> import autometa as am
    >>> from torch import nn
    >>> class TriesThenRepeats(am.RoundActor):
    ...     def build(self, info):
    ...         return nn.Linear(1, info.n_outputs)  # nothing of it is used but the number of choices
    ...     def start(self, module, n_tasks):
    ...         return {"mean": module.bias.new_zeros(n_tasks, module.out_features)}
    ...     def round_size(self, module):
    ...         return 20
    ...     def decide(self, module, memory, observation, episode=None):
    ...         logits = memory["mean"].unsqueeze(1).expand(-1, observation.shape[1], -1)
    ...         return am.Decision(am.Choice(logits if episode is not None else 100 * logits), None)
    ...     def adapt(self, module, memory, experience):
    ...         taken = nn.functional.one_hot(experience.action, module.out_features) * experience.mask.unsqueeze(2)
    ...         paid = (taken * experience.reward.unsqueeze(2)).sum(1)
    ...         return {"mean": paid / taken.sum(1).clamp(min=1)}
    >>> tasks = am.make_tasks("mdp", states=2, steps=1, n_shot=20, n_query=1)
    >>> agent = am.MetaAgent(TriesThenRepeats(), max_steps=0, device="cpu", random_state=0).meta_fit(tasks)
    >>> means = agent.adaptation_curve(tasks).groupby("episode")["return"].mean()
    >>> bool(means[1] > means[0] + 0.1)
    True
    """

    default_meta_optimizer: ClassVar[str | None] = None
    provides: ClassVar[frozenset[str]] = frozenset()

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
        for part in rounds_of(size_of_rounds(self, module), n_episodes, experience.n_shot):
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


def size_of_rounds(actor: RoundActor, module: nn.Module) -> int:
    """Return the episodes of a round, or refuse what is no number of them.

    Raises
    ------
    PluginError
        Names the actor.
    """
    size = actor.round_size(module)
    if not isinstance(size, int) or size < 1:
        raise PluginError(f"round_size() of actor {type(actor).__name__} returned {size!r}; it must be 1 or more.")
    return size


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

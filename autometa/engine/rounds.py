"""Trials of actors that learn in rounds: the episodes of a round are lived through side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autometa.contracts.actor import Actor
from autometa.contracts.environments import Environments, Worlds
from autometa.contracts.experience import PER_STEP, Experience, Transition
from autometa.contracts.keys import episode_keys
from autometa.contracts.policies import Decision
from autometa.contracts.round_actor import RoundActor, flattened, rounds_of, size_of_rounds
from autometa.contracts.tasks import TaskInfo
from autometa.engine.acting import blind_tasks, live
from autometa.errors import PluginError

_MOST_ROWS = 10_000
"""Episodes of all tasks that are lived through at once: each takes a copy of what sets its task apart."""


def live_in_rounds(
    actor: RoundActor,
    module: nn.Module,
    environments: Environments,
    memory: Any,
    *,
    n_episodes: int,
    horizon: int,
    greedy: bool,
    n_shot: int,
    blind: float = 0.0,
    may_wait: bool = True,
    before: int = 0,
    rows: Rows | None = None,
) -> tuple[Experience, Any]:
    """Live through the rounds of a trial, adapting after each, and through the episodes that are judged.

    What happens in an episode depends on the task's key, the episode's number, the memory and θ alone: not on how many
    are lived through at once. Parameters are those of :func:`autometa.collect`; ``before`` is the number of the first
    episode, and ``rows`` are of the environments, with worlds that others have lived in.
    """
    rows, parts = rows or Rows(environments), []
    for part in rounds_of(size_of_rounds(actor, module), n_episodes, n_shot):
        keys = episode_keys(environments.key, before + part.first, part.stop - part.first)
        seen = _episodes(
            actor,
            module,
            rows,
            memory,
            keys,
            explores=part.adapts,
            horizon=horizon,
            greedy=greedy and not part.adapts,
            may_wait=may_wait,
        )
        if part.adapts:
            memory = _checked(actor.adapt(module, memory, seen), actor, len(environments))
        parts.append(replace(seen, episode=seen.episode + part.first))
    seen = _one_after_another(parts, may_wait)
    is_blind = blind_tasks(environments.key, blind).unsqueeze(1)
    return replace(seen, told=seen.told & ~(is_blind & (seen.episode >= n_shot)), n_shot=n_shot), memory


def returns_by_round(actor: RoundActor, module: nn.Module, environments: Environments) -> Tensor:
    """Return the mean returns of the judged episodes, before any adaptation and after every round, [tasks, rounds + 1].

    They are the same episodes each time, as far as they depend on the worlds.
    """
    info, rows, found = environments.info, Rows(environments), []
    memory = actor.start(module, len(environments))
    parts = list(rounds_of(size_of_rounds(actor, module), info.n_shot, None))
    for part in [*parts, None]:
        judged, _ = live_in_rounds(
            actor,
            module,
            environments,
            memory,
            n_episodes=info.n_query,
            horizon=info.horizon,
            greedy=actor.greedy,
            n_shot=0,
            before=info.n_shot,
            rows=rows,
        )
        found.append(judged.returns(info.n_query).mean(1))
        if part is not None:
            count = part.stop - part.first
            _, memory = live_in_rounds(
                actor,
                module,
                environments,
                memory,
                n_episodes=count,
                horizon=info.horizon,
                greedy=False,
                n_shot=count,
                before=part.first,
                rows=rows,
            )
    return torch.stack(found, 1)


def _episodes(
    actor: RoundActor,
    module: nn.Module,
    rows: Rows,
    memory: Any,
    keys: Tensor,
    *,
    explores: bool,
    horizon: int,
    greedy: bool,
    may_wait: bool,
) -> Experience:
    """Live through the episodes of a round, which count from 0; ``keys`` [tasks * episodes] are theirs."""
    environments = rows.environments
    keys = keys.view(len(environments), -1)
    count = keys.shape[1]
    most = max(1, _MOST_ROWS // max(1, len(environments))) if environments.may_go_past_end else 1
    parts = []
    for first in range(0, count, most):
        at_once = min(most, count - first)
        here, worlds = rows.begin(keys[:, first : first + at_once].flatten())
        seen, _ = live(
            _Held(actor, memory, first, at_once, explores),
            module,
            here,
            None,
            worlds=worlds,
            n_episodes=1,
            horizon=horizon,
            greedy=greedy,
            n_shot=1,
            may_wait=may_wait,
        )
        parts.append(_one_after_another([_side_by_side(seen, environments, first, at_once)], may_wait))
    return _one_after_another(parts, may_wait)


def _checked(memory: Any, actor: RoundActor, n_tasks: int) -> Any:
    """Refuse a memory that is none of these tasks."""
    leaves = pytree.tree_leaves(memory)
    if not all(isinstance(leaf, Tensor) and leaf.dim() and len(leaf) == n_tasks for leaf in leaves):
        found = [tuple(leaf.shape) if isinstance(leaf, Tensor) else type(leaf).__name__ for leaf in leaves]
        raise PluginError(
            f"adapt() of actor {type(actor).__name__} returned a memory of {found}; it must hold tensors alone that "
            f"lead with the {n_tasks} tasks."
        )
    return memory


class Rows:
    """Environments in which every task stands as often as episodes of it are lived through at once.

    Parameters
    ----------
    environments : Environments
    """

    def __init__(self, environments: Environments) -> None:
        self.environments = environments
        self._repeated = environments
        self._worlds: Worlds | None = None

    def begin(self, keys: Tensor) -> tuple[Environments, Worlds]:
        """Return rows with these keys, [tasks * episodes], and their worlds; those of before are used no more."""
        n_tasks = len(self.environments)
        if len(keys) != len(self._repeated):
            tasks, at_once = torch.arange(n_tasks, device=keys.device), len(keys) // n_tasks
            self._repeated = self.environments if at_once == 1 else self.environments[tasks.repeat_interleave(at_once)]
            self._worlds = None
        here = self._repeated.with_key(keys)
        self._worlds = here.begin() if self._worlds is None else here.begin_after(self._worlds)
        return here, self._worlds


def _side_by_side(seen: Experience, environments: Environments, first: int, count: int) -> Experience:
    """Return episodes [tasks * count, time] as those of trials, [tasks, count * time]."""
    values = {name: getattr(seen, name) for name in PER_STEP}
    parts: dict[str, Any] = {name: v.view(-1, count * v.shape[1], *v.shape[2:]) for name, v in values.items()}
    number = torch.arange(first, first + count, device=seen.mask.device).repeat_interleave(seen.n_steps)
    parts["episode"] = number.expand(len(environments), -1)
    return replace(seen, **parts, hidden=environments.hidden)


def _one_after_another(parts: list[Experience], may_wait: bool) -> Experience:
    """Join experiences along time, move padded steps to the end, and cut off those that all tasks have if it may."""
    if len(parts) > 1:
        values: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts], 1) for name in PER_STEP}
        joined = replace(parts[0], **values, is_full=all(part.is_full for part in parts))
    else:
        joined = parts[0]
    if joined.is_full:
        return joined
    n_steps = int(joined.mask.sum(1).max()) if may_wait and len(joined) else joined.n_steps
    place = (~joined.mask).long().sort(dim=1, stable=True).indices
    return joined.taken(place[:, :n_steps])


class _Held(Actor):
    """An actor in rounds who never changes its memory, for some episodes of every task side by side.

    Parameters
    ----------
    actor : RoundActor
    memory : pytree of Tensor
        Leads with [tasks].
    first : int
        Number in its round of the first episode.
    count : int
        Episodes side by side; environments are [tasks * count].
    explores : bool
    """

    def __init__(self, actor: RoundActor, memory: Any, first: int, count: int, explores: bool) -> None:
        self.actor = actor
        self.memory = memory
        self.first = first
        self.count = count
        self.explores = explores

    def build(self, info: TaskInfo) -> nn.Module:
        """Return the actor's θ."""
        return self.actor.build(info)

    def start(self, module: nn.Module, n_tasks: int) -> None:
        """Remember nothing beside what is held."""

    def act(self, module: nn.Module, memory: None, observation: Tensor) -> tuple[Decision, None]:
        """Decide by what is held."""
        side_by_side = observation.view(-1, self.count, *observation.shape[1:])
        number = torch.arange(self.first, self.first + self.count, device=observation.device)
        episode = number.expand(len(side_by_side), -1) if self.explores else None
        return flattened(self.actor.decide(module, self.memory, side_by_side, episode)), None

    def observe(self, module: nn.Module, memory: None, transition: Transition) -> None:
        """Learn nothing."""

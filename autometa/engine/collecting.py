"""Trials: an actor lives through episodes of every task, one after the other."""

from __future__ import annotations

from typing import Any

from torch import nn

from autometa.contracts.actor import Actor
from autometa.contracts.environments import Environments
from autometa.contracts.experience import Experience
from autometa.contracts.round_actor import RoundActor
from autometa.engine.acting import live
from autometa.engine.rounds import live_in_rounds


def collect(
    actor: Actor,
    module: nn.Module,
    environments: Environments,
    *,
    n_episodes: int,
    horizon: int,
    memory: Any = None,
    greedy: bool = False,
    blind: float = 0.0,
    n_shot: int | None = None,
    may_wait: bool = True,
) -> tuple[Experience, Any]:
    """Live through ``n_episodes`` of every task; the memory is kept from each to the next.

    A task whose episode ends goes on to its next one at once, whatever the others do. What happens in a task depends on
    its key and θ alone, not on the tasks beside it. An actor that learns in rounds adapts after each of them, and
    explores in no episode that is judged.

    Parameters
    ----------
    actor : Actor
    module : nn.Module
        θ, in evaluation mode where that makes a difference.
    environments : Environments
        Left as they are.
    n_episodes : int
    horizon : int
        Most steps of an episode; no more than ``environments.info.horizon``.
    memory : optional
        Of the actor, before; that of ``actor.start`` if left out.
    greedy : bool, default=False
        Take the most probable action instead of drawing one. An actor that learns in rounds does so in the episodes
        that are judged alone.
    blind : float, default=0.0
        Share of the tasks whose rewards are withheld from the actor in the episodes that are judged. These teach an
        actor that learns in rounds nothing anyway; it is noted in ``told`` all the same.
    n_shot : int, optional
        Episodes to adapt in, before those that are judged; ``environments.info.n_shot`` if left out.
    may_wait : bool, default=True
        Whether an actor that learns in rounds stops once all episodes have ended, and cuts off what no trial has. False
        where that cannot depend on values, as under ``torch.vmap``: the rest is padded.

    Returns
    -------
    experience : Experience
    memory
        After the last step of every trial.

    Examples
    --------
    >>> import autometa as am
    >>> tasks, actor = am.make_tasks("bandit", pulls=6), am.make_learner("control/random")
    >>> module = actor.build(tasks.info)
    >>> experience, memory = am.collect(actor, module, tasks.sample(4, seed=0), n_episodes=1, horizon=6)
    >>> experience.reward.shape
    torch.Size([4, 6])
    """
    n_shot = environments.info.n_shot if n_shot is None else n_shot
    horizon = min(horizon, environments.info.horizon)
    first = actor.start(module, len(environments)) if memory is None else memory
    if isinstance(actor, RoundActor):
        return live_in_rounds(
            actor,
            module,
            environments,
            first,
            n_episodes=n_episodes,
            horizon=horizon,
            greedy=greedy,
            blind=blind,
            n_shot=n_shot,
            may_wait=may_wait,
        )
    seen, memory = live(
        actor,
        module,
        environments,
        first,
        n_episodes=n_episodes,
        horizon=horizon,
        greedy=greedy,
        blind=blind,
        n_shot=n_shot,
    )
    if not seen.is_full and not bool(seen.mask.all()):
        # Some trials were over before others. What such a memory read afterwards never happened: read again.
        memory = actor.along(module, seen, first)[1]
    return seen, memory

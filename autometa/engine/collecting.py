"""Trials: an actor lives through episodes of every task, one after the other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from autometa.contracts.actor import Actor
from autometa.contracts.environments import Environments, StepResult
from autometa.contracts.experience import Experience, Transition
from autometa.contracts.keys import uniform
from autometa.contracts.policies import Decision
from autometa.errors import PluginError


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
) -> tuple[Experience, Any]:
    """Live through ``n_episodes`` of every task; the memory is kept from each to the next.

    A task whose episode ends goes on to its next one at once, whatever the others do. What happens in a task depends on
    its key and θ alone, not on the tasks beside it.

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
        Take the most probable action instead of drawing one.
    blind : float, default=0.0
        Share of the tasks whose rewards are withheld from the actor in the episodes that are judged.

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
    horizon = min(horizon, environments.info.horizon)
    worlds = environments.begin()
    first = memory = actor.start(module, len(environments)) if memory is None else memory
    observation = worlds.reset()
    episode = age = torch.zeros_like(environments.key)
    everywhere = torch.ones_like(episode, dtype=torch.bool)
    is_blind = uniform(environments.key, 0, "told", 1)[:, 0] < blind
    fixed, n_steps = environments.has_fixed_length, n_episodes * horizon
    columns: list[tuple[Tensor, ...]] = []
    for time in range(n_steps):
        active = everywhere if fixed else episode < n_episodes
        decision, memory = actor.act(module, memory, observation)
        action = _choose(decision, None if greedy else environments.key, time)
        result = worlds.step(action)
        _check(result, environments)
        age = age + 1
        truncated = result.truncated | ((age >= horizon) & ~result.terminated)
        told = ~(is_blind & (episode >= environments.info.n_shot))
        transition = Transition(
            observation, action, result.reward, result.terminated, truncated, result.observation, told
        )
        memory = actor.observe(module, memory, transition)
        columns.append((*transition, decision.policy.log_prob(action), episode, active))
        observation = result.observation
        if fixed:  # nothing to wait for on any device, and nothing that depends on values
            if (time + 1) % horizon == 0 and time + 1 < n_steps:
                episode, age, observation = episode + 1, torch.zeros_like(age), worlds.reset()
            continue
        ended = transition.ended  # also of trials that are over: a world that has ended must not be stepped
        episode = episode + (ended & active)
        if bool((episode >= n_episodes).all()):
            break
        if bool(ended.any()):
            age, observation = age.masked_fill(ended, 0), worlds.reset(ended)
    names = (*Transition._fields, "log_prob", "episode", "mask")
    parts = {name: torch.stack(part, 1) for name, part in zip(names, zip(*columns, strict=True), strict=True)}
    experience = Experience(**parts, hidden=environments.hidden, is_full=fixed)
    if not fixed and not bool(experience.mask.all()):
        # Some trials were over before others. What such a memory read afterwards never happened: read again.
        memory = actor.along(module, experience, first)[1]
    return experience, memory


def _choose(decision: Decision, key: Tensor | None, time: int) -> Tensor:
    policy = decision.policy
    action = policy.mode if key is None else policy.draw(uniform(key, time, "act", policy.n_noise).to(policy[0]))
    return action.detach()


def _check(result: StepResult, environments: Environments) -> None:
    """Refuse a step of which a part has another shape: arithmetic would stretch it over all tasks."""
    n_tasks = len(environments)
    wanted: dict[str, tuple[int, ...]] = dict.fromkeys(("reward", "terminated", "truncated"), (n_tasks,))
    wanted["observation"] = (n_tasks, *environments.info.input_shape)
    for name, shape in wanted.items():
        if (found := tuple(getattr(result, name).shape)) != shape:
            raise PluginError(
                f"step() of the worlds of {type(environments).__name__} returned {name} of shape {found}; it must be "
                f"{shape}."
            )

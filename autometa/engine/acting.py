"""The one loop over time in which actors act."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from autometa.contracts.actor import Actor
from autometa.contracts.environments import Environments, StepResult, Worlds
from autometa.contracts.experience import PER_STEP, Experience, Transition
from autometa.contracts.keys import uniform
from autometa.contracts.policies import Choice, Decision, Normal
from autometa.errors import PluginError


def live(
    actor: Actor,
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
    worlds: Worlds | None = None,
) -> tuple[Experience, Any]:
    """Live through episodes one after the other, see :func:`collect`; the memory has read padded steps too.

    ``worlds`` are those of the environments, before their first episode; they are begun if left out. Who may not wait
    for values goes to the last step of a single episode, whoever has ended before.
    """
    worlds = environments.begin() if worlds is None else worlds
    observation = worlds.reset()
    episode = age = torch.zeros_like(environments.key)
    everywhere = torch.ones_like(episode, dtype=torch.bool)
    is_blind = blind_tasks(environments.key, blind)
    fixed, n_steps = environments.has_fixed_length, n_episodes * horizon
    goes_past_end = n_episodes == 1 and environments.may_go_past_end
    columns: list[tuple[Tensor, ...]] = []
    for time in range(n_steps):
        active = everywhere if fixed else episode < n_episodes
        decision, memory = actor.act(module, memory, observation)
        if time == 0:
            _check_decision(decision, environments)
        action = _choose(decision, None if greedy else environments.key, time)
        result = worlds.step(action)
        _check(result, environments)
        age = age + 1
        truncated = result.truncated | ((age >= horizon) & ~result.terminated)
        told = ~(is_blind & (episode >= n_shot))
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
        if goes_past_end and not may_wait:
            continue
        if bool((episode >= n_episodes).all()):
            break
        if not goes_past_end and bool(ended.any()):
            age, observation = age.masked_fill(ended, 0), worlds.reset(ended)
    parts = {name: torch.stack(part, 1) for name, part in zip(PER_STEP, zip(*columns, strict=True), strict=True)}
    seen = Experience(**parts, hidden=environments.hidden, is_full=fixed, n_shot=n_shot)
    return seen.zero_padded(), memory


def blind_tasks(key: Tensor, share: float) -> Tensor:
    """Return True for a share of the tasks, [tasks]: those whose rewards are withheld where they are judged."""
    return uniform(key, 0, "told", 1)[:, 0] < share


def _choose(decision: Decision, key: Tensor | None, time: int) -> Tensor:
    policy = decision.policy
    action = policy.mode if key is None else policy.draw(uniform(key, time, "act", policy.n_noise).to(policy[0]))
    return action.detach()


def _check_decision(decision: Decision, environments: Environments) -> None:
    """Refuse decisions over other actions than there are."""
    info = environments.info
    kind, wanted = Choice if info.action_bounds is None else Normal, (len(environments), info.n_outputs)
    policy = decision.policy if isinstance(decision, Decision) else decision
    shapes = [tuple(part.shape) for part in policy] if isinstance(policy, tuple) else []
    if not isinstance(decision, Decision) or not isinstance(policy, kind) or any(one != wanted for one in shapes):
        raise PluginError(
            f"the actor decided by a {type(policy).__name__} of {shapes} in {type(decision).__name__}; it must be an "
            f"autometa.Decision with a {kind.__name__} whose parts are {wanted}: tasks, and actions."
        )


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

"""What happened elsewhere, as a user gives it to learn from."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from autometa.contracts.experience import PER_STEP, Experience
from autometa.contracts.tasks import TaskInfo
from autometa.errors import Incompatible, InvalidData, InvalidParameter


def checked_experience(given: Any, info: TaskInfo, device: torch.device, dtype: torch.dtype) -> Experience:
    """Return transitions on the device and in the precision of an agent, or refuse them.

    Parameters
    ----------
    given : Experience
    info : TaskInfo
        What the agent was meta-trained on.
    device : torch.device
    dtype : torch.dtype

    Raises
    ------
    InvalidParameter
        They are no experience, or hold no step of a task.
    Incompatible
        Observations or actions are of another shape or kind.
    InvalidData
        A number is not finite, an action is none, or episodes are not counted from 0.
    """
    if not isinstance(given, Experience) or given.reward.dim() != 2 or not given.reward.numel():
        raise InvalidParameter(
            f"transitions={given!r:.80} must be an autometa.Experience of [tasks, time], a step or more."
        )
    size = tuple(given.reward.shape)
    wrong = [name for name in PER_STEP if tuple(getattr(given, name).shape[:2]) != size]
    if wrong:
        raise InvalidData(
            f"{wrong[0]} of transitions is {tuple(getattr(given, wrong[0]).shape)}, and reward is {size}."
        )
    mask = given.mask.bool()
    if not bool(mask.any(1).all()):
        raise InvalidParameter("transitions hold a task without any step, mask being False everywhere; leave it out.")
    _check_shapes(given, info)
    _check_numbers(given, mask, info)
    parts: dict[str, Any] = {}
    for field in fields(given):
        value = getattr(given, field.name)
        if isinstance(value, Tensor):
            parts[field.name] = value.to(device, dtype if value.is_floating_point() else None)
    parts["action"] = parts["action"].to(torch.int64 if info.action_bounds is None else dtype)
    return replace(given, **parts)


def _check_shapes(given: Experience, info: TaskInfo) -> None:
    seen, acted = tuple(given.observation.shape[2:]), tuple(given.action.shape[2:])
    wanted = (info.input_shape, () if info.action_bounds is None else (info.n_outputs,))
    if (seen, acted) != wanted:
        raise Incompatible(
            f"transitions have observations of shape {seen} and actions of shape {acted}, and the agent was "
            f"meta-trained on {wanted[0]} and {wanted[1]}."
        )
    if info.action_bounds is None and given.action.is_floating_point():
        raise Incompatible("actions of transitions are real numbers, and the agent was meta-trained on choices.")


def _check_numbers(given: Experience, mask: Tensor, info: TaskInfo) -> None:
    for name in ("observation", "next_observation", "reward", "action"):
        if not bool(getattr(given, name)[mask].isfinite().all()):
            raise InvalidData(f"{name} of transitions holds numbers that are not finite.")
    if info.action_bounds is None:
        chosen = given.action[mask]
        if int(chosen.min()) < 0 or int(chosen.max()) >= info.n_outputs:
            raise InvalidData(
                f"actions of transitions go from {int(chosen.min())} to {int(chosen.max())}; choices are 0 to "
                f"{info.n_outputs - 1}."
            )
    number = given.episode
    steps = (number[:, 1:] - number[:, :-1])[mask[:, 1:]]
    begins = number[mask & (mask.cumsum(1) == 1)]
    if bool((begins != 0).any()) or bool(((steps != 0) & (steps != 1)).any()):
        raise InvalidData("episode of transitions must count the episodes of each task from 0, one after the other.")

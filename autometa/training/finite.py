"""Finding numbers that are not finite: in what a sampler drew, and in weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from autometa.contracts.environments import Environments
from autometa.contracts.examples import TaskBatch
from autometa.contracts.tasks import Split, TaskSampler
from autometa.errors import InvalidData


def check_drawn(batch: TaskBatch | Environments, sampler: TaskSampler, split: Split) -> None:
    """Refuse tasks that hold NaN or infinite values, which no learner is to blame for.

    Raises
    ------
    InvalidData
        Names the sampler.
    """
    if isinstance(batch, Environments):
        _check_environments(batch, sampler, split)
        return
    for part, examples in (("support", batch.support), ("query", batch.query)):
        inputs = examples.x if isinstance(examples.x, tuple) else (examples.x,)
        for what, tensors in (("inputs", inputs), ("targets", (examples.y,))):
            if not all_finite(tensor[examples.mask] for tensor in tensors):
                raise InvalidData(
                    f"task sampler {type(sampler).__name__} drew tasks of split {split!r} with {what} of the {part} "
                    "set that are not finite; it must draw finite numbers."
                )


def _check_environments(environments: Environments, sampler: TaskSampler, split: Split) -> None:
    worlds, info = environments.begin(), environments.info
    looks = {"observations at the start": worlds.reset(), "hidden parameters": environments.hidden}
    if info.action_bounds is None:
        action = torch.zeros_like(environments.key)
    else:
        action = torch.tensor(info.action_bounds, device=environments.key.device).mean(0).expand(len(environments), -1)
    result = worlds.step(action)
    looks |= {"observations after a step": result.observation, "rewards": result.reward}
    for what, values in looks.items():
        if not all_finite([values]):
            raise InvalidData(
                f"task sampler {type(sampler).__name__} drew environments of split {split!r} with {what} that are not "
                "finite; it must draw finite numbers."
            )


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Tell whether all numbers are finite, waiting for the device once."""
    found = [tensor.detach().isfinite().all() for tensor in tensors if tensor.is_floating_point()]
    return not found or bool(torch.stack(found).all())

"""Finding numbers that are not finite: in what a sampler drew, and in weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from autometa.contracts.examples import TaskBatch
from autometa.contracts.tasks import Split, TaskSampler
from autometa.errors import InvalidData


def check_drawn(batch: TaskBatch, sampler: TaskSampler, split: Split) -> None:
    """Refuse tasks that hold NaN or infinite values, which no learner is to blame for.

    Raises
    ------
    InvalidData
        Names the sampler.
    """
    for part, examples in (("support", batch.support), ("query", batch.query)):
        inputs = examples.x if isinstance(examples.x, tuple) else (examples.x,)
        for what, tensors in (("inputs", inputs), ("targets", (examples.y,))):
            if not all_finite(tensor[examples.mask] for tensor in tensors):
                raise InvalidData(
                    f"task sampler {type(sampler).__name__} drew tasks of split {split!r} with {what} of the {part} "
                    "set that are not finite; it must draw finite numbers."
                )


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Tell whether all numbers are finite, waiting for the device once."""
    found = [tensor.detach().isfinite().all() for tensor in tensors if tensor.is_floating_point()]
    return not found or bool(torch.stack(found).all())

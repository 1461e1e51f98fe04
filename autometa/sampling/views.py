"""What there is to see of a drawn task: images as light, functions of one number as points, all else as rows."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from autometa.contracts.examples import Examples, TaskBatch

View: TypeAlias = Literal["images", "function", "rows"]


def view_of(batch: TaskBatch) -> View:
    """Tell in which way the tasks of a batch are best shown."""
    assert isinstance(batch.support.x, Tensor)
    shape = batch.support.x.shape[2:]
    if len(shape) == 3 and shape[0] in (1, 3):
        return "images"
    return "function" if shape == (1,) and batch.support.y.is_floating_point() else "rows"


def examples_of(examples: Examples, index: int) -> tuple[Tensor, Tensor]:
    """Inputs [n, *features] and targets [n] or [n, n_outputs] of one task, on the CPU and without padding."""
    assert isinstance(examples.x, Tensor)
    mask = examples.mask[index]
    return examples.x[index][mask].cpu(), examples.y[index][mask].cpu()


def light_of(images: Tensor, tallest: int) -> Tensor:
    """Turn images into light, from dark to bright over all of them.

    Parameters
    ----------
    images : Tensor of shape [n, channels, height, width]
        Of 1 or 3 channels and any range of values.
    tallest : int
        Pixels of the longer side; larger images are shrunk.

    Returns
    -------
    Tensor of shape [n, 3, height, width]
        uint8.
    """
    scale = min(1.0, tallest / max(images.shape[2:]))
    if scale < 1:
        size = [max(1, round(n * scale)) for n in images.shape[2:]]
        images = torch.nn.functional.interpolate(images.float(), size=size, mode="area")
    low, high = images.min(), images.max()
    light = ((images - low) / (high - low).clamp(min=1e-9) * 255).round().to(torch.uint8)
    return light.expand(-1, 3, -1, -1)

"""What samplers of functions share: sizes of tasks, random streams and columns of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import autometa as am

Array = NDArray[np.float64]


def point_info(n_inputs: int, n_shot: Any, n_query: Any, *, of: str) -> am.TaskInfo:
    """Return the info of a sampler of tasks with one real target in its own units; ``of`` names it in errors.

    Raises
    ------
    InvalidParameter
        ``n_shot`` or ``n_query`` is not a positive integer.
    """
    am.check_int("n_shot", n_shot, of=of)
    am.check_int("n_query", n_query, of=of)
    return am.TaskInfo(problem="regression", input_shape=(n_inputs,), n_outputs=1, n_shot=n_shot, n_query=n_query)


def stream(seed: int, split: str, purpose: str) -> np.random.Generator:
    """Return a random generator for one purpose of a draw; purposes and splits have streams of their own."""
    return np.random.default_rng(am.derive_seed(seed, split, purpose))


def float32(values: Array) -> Tensor:
    """Return an array as a float32 tensor of the same shape."""
    return torch.from_numpy(values.astype(np.float32))


def column(values: Array) -> Tensor:
    """Return numbers [tasks, n] as a float32 tensor [tasks, n, 1]."""
    return float32(values).unsqueeze(-1)

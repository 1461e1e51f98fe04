"""Randomness as an argument: torch's global state is left as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from autometa.contracts.learner import Learner
from autometa.contracts.seeding import derive_seed
from autometa.contracts.tasks import TaskInfo

_GENERATORS = threading.RLock()
"""torch's generators belong to the whole process: threads take turns, or one would draw from another's seed."""


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Run a block with torch's generators seeded, and restore them afterwards; one thread at a time."""
    kind = device.type if device is not None else "cpu"
    with (
        _GENERATORS,
        torch.random.fork_rng(devices=None if kind != "cpu" else [], device_type=kind if kind != "cpu" else "cuda"),
    ):
        torch.manual_seed(seed)
        yield


def fresh_module(learner: Learner, info: TaskInfo, seed: int) -> nn.Module:
    """Build a learner's θ from a seed."""
    with seeded(derive_seed(seed, "init")):
        return learner.build(info)

"""Randomness as an argument: torch's global state is left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from autometa.contracts.learner import Learner
from autometa.contracts.seeding import derive_seed
from autometa.contracts.tasks import TaskInfo


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Run a block with torch's generators seeded, and restore them afterwards."""
    kind = device.type if device is not None else "cpu"
    with torch.random.fork_rng(devices=None if kind != "cpu" else [], device_type=kind if kind != "cpu" else "cuda"):
        torch.manual_seed(seed)
        yield


def fresh_module(learner: Learner, info: TaskInfo, seed: int) -> nn.Module:
    """Build a learner's θ from a seed."""
    with seeded(derive_seed(seed, "init")):
        return learner.build(info)

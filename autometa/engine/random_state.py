"""Randomness as an argument: torch's global state is left as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from autometa.contracts.base_learner import BaseLearner
from autometa.contracts.held_networks import check_weights
from autometa.contracts.seeding import derive_seed
from autometa.contracts.tasks import TaskInfo

_GENERATORS = threading.RLock()
"""torch's generators belong to the whole process: threads take turns, or one would draw from another's seed."""


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Run a block with torch's generators seeded, and restore them afterwards; one thread at a time."""
    device = device or torch.device("cpu")
    with _GENERATORS, _forked(device):
        if device.type == "cpu":
            torch.default_generator.manual_seed(seed)  # torch.manual_seed reaches every device, and takes its time
        else:
            torch.manual_seed(seed)
        yield


@contextmanager
def _forked(device: torch.device) -> Iterator[None]:
    """Restore the generators of the CPU and of ``device`` after a block."""
    if device.type == "mps":  # whose generator torch.random.fork_rng cannot restore
        before = torch.mps.get_rng_state()
        try:
            with torch.random.fork_rng(devices=[]):
                yield
        finally:
            torch.mps.set_rng_state(before)
    elif device.type == "cpu":
        with torch.random.fork_rng(devices=[]):
            yield
    else:
        with torch.random.fork_rng(devices=[device], device_type=device.type):
            yield


def fresh_module(learner: BaseLearner, info: TaskInfo, seed: int) -> nn.Module:
    """Build a learner's θ from a seed.

    Raises
    ------
    InvalidParameter
        It cannot be copied.
    """
    with seeded(derive_seed(seed, "init")):
        module = learner.build(info)
    check_weights(module, f"the network that {type(learner).__name__}.build returns")
    return module

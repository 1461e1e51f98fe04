"""How much memory a learner holds: θ, and the state adapted to tasks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autometa.contracts.base_learner import BaseLearner
from autometa.contracts.environments import Environments
from autometa.contracts.examples import TaskBatch
from autometa.engine.judging import adapt_and_judge
from autometa.engine.random_state import seeded

MEBIBYTE = 2**20


@torch.no_grad()
def held_mebibytes(learner: BaseLearner, module: nn.Module, batch: TaskBatch | Environments) -> float:
    """Return the MiB of θ and of the state that a learner adapts to the tasks of a batch; of an actor, its memory.

    θ counts with its buffers, such as examples that are remembered. A state that shares numbers with θ, or repeats
    them, counts those once. Activations and what the adapting needs meanwhile do not count: they depend on the device.
    So the size follows from the learner and the shape of the tasks alone.
    """
    was_training = module.training
    device = next((value.device for value in module.state_dict().values() if isinstance(value, Tensor)), None)
    try:
        with seeded(0, torch.device("cpu") if device is None else device):
            adapted: Any
            if isinstance(batch, Environments):
                adapted, _ = adapt_and_judge(learner, module.eval(), batch)
            else:
                adapted = learner.adapt(module.eval(), batch.support)
    finally:
        module.train(was_training)
    return bytes_of([*module.state_dict().values(), *pytree.tree_leaves(adapted)]) / MEBIBYTE


def bytes_of(values: Iterable[Any]) -> int:
    """Count the bytes of tensors; places in memory that several of them show count once."""
    seen: dict[int, tuple[int, int]] = {}
    for value in values:
        if isinstance(value, Tensor) and value.numel():
            storage = value.untyped_storage()
            shown, whole = seen.get(storage.data_ptr(), (0, storage.nbytes()))
            seen[storage.data_ptr()] = shown + value.numel() * value.element_size(), whole
    return sum(min(shown, whole) for shown, whole in seen.values())

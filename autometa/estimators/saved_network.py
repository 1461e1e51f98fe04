"""A learner's network from saved weights, which may come from a file that somebody has changed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from autometa.contracts.base_learner import BaseLearner
from autometa.contracts.tasks import TaskInfo
from autometa.engine.random_state import fresh_module
from autometa.errors import InvalidFile
from autometa.estimators.bounded_memory import BoundedMemory, TooMuchMemory, WithoutMemory
from autometa.training.finite import all_finite


def network_of(learner: BaseLearner, info: TaskInfo, state: dict[str, Any]) -> nn.Module:
    """Build a learner's network and give it the saved values, in their precision.

    A network of another size than its saved weights is found before torch takes memory for it, whichever operations
    make its tensors. Not found before are one that reads the values of tensors to be built (``.item()``), which no
    tensors without memory serve, and what is made by others than torch (NumPy, say).

    Raises
    ------
    InvalidFile
        The network has another size than the saved weights, or the weights are not finite.
    """
    saved = [value for value in state.values() if isinstance(value, Tensor)]
    try:
        with BoundedMemory(2**24 + 16 * sum(value.nbytes for value in saved)):
            module = fresh_module(learner, info, seed=0)
    except TooMuchMemory:
        _check_without_memory(learner, info, state)
        module = fresh_module(learner, info, seed=0)
    _check_sizes(module, state)
    floating = [value.dtype for value in saved if value.is_floating_point()]
    if floating:
        module = module.to(dtype=floating[0])
    module.load_state_dict(state)
    if not all_finite(module.parameters()):
        raise InvalidFile("the file holds weights that are not finite.")
    return module.eval()


def _check_without_memory(learner: BaseLearner, info: TaskInfo, state: dict[str, Any]) -> None:
    try:
        with WithoutMemory():  # type: ignore[no-untyped-call]
            module = fresh_module(learner, info, seed=0)
    except (NotImplementedError, RuntimeError):  # a network that needs its numbers to be built
        return
    _check_sizes(module, state)


def _check_sizes(module: nn.Module, state: dict[str, Any]) -> None:
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items() if isinstance(value, Tensor)}
    differing = sorted(name for name in {**wanted, **found} if wanted.get(name) != found.get(name))
    if differing and not _takes(module, state):
        name = differing[0]
        raise InvalidFile(
            f"the file does not fit the components installed here: it holds {found.get(name, 'nothing')} for "
            f"{name!r:.60} of the network, where the learner's has {wanted.get(name, 'nothing')}."
        )


def _takes(module: nn.Module, state: dict[str, Any]) -> bool:
    """Tell whether a network takes values of other sizes, as one that remembers rows does."""
    device = next((value.device for value in module.state_dict().values()), torch.device("cpu"))
    try:
        module.load_state_dict({name: value.to(device) for name, value in state.items() if isinstance(value, Tensor)})
    except RuntimeError:
        return False
    return True

"""A learner's network from saved weights, which may come from a file that somebody has changed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from autometa.contracts.base_learner import BaseLearner
from autometa.contracts.tasks import TaskInfo
from autometa.engine.random_state import fresh_module
from autometa.errors import InvalidFile
from autometa.training.finite import all_finite

_MAKERS: Mapping[Callable[..., Any], int] = {
    **dict.fromkeys((torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.randint), 0),
    **dict.fromkeys((torch.eye, torch.arange, torch.linspace, torch.normal), 0),
    **dict.fromkeys((Tensor.new_empty, Tensor.new_zeros, Tensor.new_ones, Tensor.new_full, Tensor.repeat), 1),
}
"""What makes tensors as large as its numbers say, and how many arguments stand before those."""


def network_of(learner: BaseLearner, info: TaskInfo, state: dict[str, Any]) -> nn.Module:
    """Build a learner's network and give it the saved values, in their precision.

    Raises
    ------
    InvalidFile
        The network has another size than the saved weights, which is found before memory is taken for it, or the
        weights are not finite.
    """
    saved = [value for value in state.values() if isinstance(value, Tensor)]
    try:
        with _AtMost(2**22 + 16 * sum(value.numel() for value in saved)):
            module = fresh_module(learner, info, seed=0)
    except _TooLarge:
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


class _TooLarge(Exception):
    """A network needs more memory than its saved weights tell."""


class _AtMost(TorchFunctionMode):
    """While this lasts, tensors with at most so many numbers are made, all together."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self._left = numbers

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        options = options or {}
        if (place := _MAKERS.get(function)) is not None:
            numbers = _numbers(arguments[place:], options)
            self._left -= numbers**2 if function is torch.eye else numbers
            if self._left < 0:
                raise _TooLarge
        return function(*arguments, **options)


def _numbers(arguments: Sequence[Any], options: Mapping[str, Any]) -> int:
    """Return how many numbers a tensor that is made of these has at most, whichever of them are its sizes."""
    given = [*arguments, *options.values()]
    flat = [number for one in given for number in (one if isinstance(one, (list, tuple)) else [one])]
    return math.prod(_factor(number) for number in flat if isinstance(number, (int, float)))


def _factor(number: float) -> int:
    """Return the most numbers that one may stand for: itself as a size or an end, its inverse as a step."""
    size = abs(number) if math.isfinite(number) else 0.0
    return math.ceil(max(size, 1 / size)) if size > 1e-99 else 1


def _check_without_memory(learner: BaseLearner, info: TaskInfo, state: dict[str, Any]) -> None:
    try:
        with torch.device("meta"):
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

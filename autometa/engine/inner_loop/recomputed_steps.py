"""Steps that keep their start alone and are computed again when they are differentiated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from autometa.engine.inner_loop.strategies import updates_statistics
from autometa.errors import Incompatible

Step = Callable[[Sequence[Tensor], bool], tuple[tuple[Tensor, ...], Tensor]]
"""Maps tensors to the values after a step, and to what it descended; the flag asks for a step that can be
differentiated."""


def checkpointed(step: Step, module: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Take a step of which nothing but its inputs is kept; its derivative takes it once more.

    The derivative holds what the step depends on besides its inputs too: the module's own parameters, and whatever
    tensors a loss brings with it. The second time, random numbers are those of the first.

    Parameters
    ----------
    step : callable
    module : nn.Module
        What the step runs.
    inputs : sequence of Tensor

    Raises
    ------
    Incompatible
        The step changes buffers of the module, which taking it twice would change twice.
    """
    if updates_statistics(module):
        raise _changes_buffers("batch norm that updates running averages")
    buffers = list(module.buffers())
    versions = [buffer._version for buffer in buffers]
    device = inputs[0].device
    before = _random_state(device)
    given = [_alone(tensor) for tensor in inputs]
    after, descended = step(given, False)
    if [buffer._version for buffer in buffers] != versions:
        raise _changes_buffers("a layer that changes its buffers")
    drew = any(not torch.equal(a, b) for a, b in zip(before, _random_state(device), strict=True))
    own = {id(tensor) for tensor in given}
    others = [leaf for leaf in _leaves(descended) if id(leaf) not in own]
    replay = _Replay(step, len(inputs), tuple(others), before if drew else None, device, _autocast(device))
    return list(_Checkpointed.apply(replay, after, *inputs, *others))  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class _Replay:
    """How a step is taken again."""

    step: Step
    n_inputs: int
    others: tuple[Tensor, ...]
    """Leaves that the step depends on without being given them."""
    random_state: list[Tensor] | None
    """None where the step draws nothing: threads then need not take turns."""
    device: torch.device
    autocast: tuple[bool, torch.dtype]


class _Checkpointed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, replay: _Replay, after: tuple[Tensor, ...], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.replay = replay
        ctx.save_for_backward(*tensors)
        return tuple(value.detach() for value in after)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        replay: _Replay = ctx.replay
        given = [_alone(tensor) for tensor in ctx.saved_tensors[: replay.n_inputs]]
        state = nullcontext() if replay.random_state is None else _restored(replay.random_state, replay.device)
        enabled, dtype = replay.autocast
        with torch.enable_grad(), torch.autocast(replay.device.type, dtype, enabled), state:
            after, _ = replay.step(given, True)
        everything = [*given, *replay.others]
        wanted = [tensor for tensor, needed in zip(everything, ctx.needs_input_grad[2:], strict=True) if needed]
        # A graph that a loss brings along is common to all steps: none of them may free it.
        found = iter(torch.autograd.grad(after, wanted, gradients, allow_unused=True, retain_graph=True))
        return (None, None, *(next(found) if needed else None for needed in ctx.needs_input_grad[2:]))


def _alone(tensor: Tensor) -> Tensor:
    """The same values, without where they came from."""
    return tensor.detach().requires_grad_(tensor.requires_grad)


def _leaves(value: Tensor) -> list[Tensor]:
    """All tensors without a history that a value can be differentiated for."""
    found, todo, seen = [], [value.grad_fn], {value.grad_fn}
    while todo:
        node = todo.pop()
        if node is None:
            continue
        if hasattr(node, "variable"):
            found.append(node.variable)
        new = {following for following, _ in node.next_functions} - seen
        seen |= new
        todo += new
    return found


def _autocast(device: torch.device) -> tuple[bool, torch.dtype]:
    return torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)


def _random_state(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    if device.type != "cpu":
        states.append(torch.get_device_module(device).get_rng_state(*_which(device)))
    return states


@contextmanager
def _restored(states: list[Tensor], device: torch.device) -> Iterator[None]:
    """Draw from given states, and go on afterwards as if nothing had been drawn."""
    now = _random_state(device)
    _set_random_state(states, device)
    try:
        yield
    finally:
        _set_random_state(now, device)


def _set_random_state(states: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[1], *_which(device))


def _which(device: torch.device) -> tuple[torch.device, ...]:
    return () if device.type == "mps" else (device,)  # which has one generator, and takes no name of it


def _changes_buffers(what: str) -> Incompatible:
    return Incompatible(
        f"checkpoint=True takes every step twice and cannot run {what}; use checkpoint=False, or a backbone with "
        "group norm or transductive batch norm."
    )

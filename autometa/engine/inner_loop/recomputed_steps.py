"""Steps that store only their inputs and are recomputed in backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from autometa.engine.running_averages import updating_layers
from autometa.errors import Incompatible

Step = Callable[[Sequence[Tensor], bool], tuple[tuple[Tensor, ...], Tensor]]
"""Maps tensors to the values after a step, and to the loss it descended; the flag asks for a graph of the step."""


def recomputed(step: Step, module: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Run a step, store only its inputs, recompute it in backward.

    Backward also gives the gradient in what the step depends on besides its inputs: the module's own parameters, and
    tensors that a loss brings along. The second run draws the random numbers of the first.

    Parameters
    ----------
    step : callable
    module : nn.Module
        The network that the step runs.
    inputs : sequence of Tensor

    Raises
    ------
    Incompatible
        The step changes buffers of the module, which would change twice.
    """
    if updating_layers(module):
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
    recipe = _Recipe(step, len(inputs), tuple(others), before if drew else None, device, _autocast(device))
    return list(_Recomputed.apply(recipe, after, *inputs, *others))  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class _Recipe:
    """All that it takes to run a step again on the same inputs."""

    step: Step
    n_inputs: int
    others: tuple[Tensor, ...]
    """Leaves that the step depends on and that are not among its inputs."""
    random_state: list[Tensor] | None
    """What the step drew from; None if it drew nothing, so that threads need not restore it."""
    device: torch.device
    autocast: tuple[bool, torch.dtype]


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recipe: _Recipe, after: tuple[Tensor, ...], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.recipe = recipe
        ctx.save_for_backward(*tensors)
        return tuple(value.detach() for value in after)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        recipe: _Recipe = ctx.recipe
        given = [_alone(tensor) for tensor in ctx.saved_tensors[: recipe.n_inputs]]
        state = nullcontext() if recipe.random_state is None else _restored(recipe.random_state, recipe.device)
        enabled, dtype = recipe.autocast
        with torch.enable_grad(), torch.autocast(recipe.device.type, dtype, enabled), state:
            after, _ = recipe.step(given, True)
        everything = [*given, *recipe.others]
        wanted = [tensor for tensor, needed in zip(everything, ctx.needs_input_grad[2:], strict=True) if needed]
        # All steps share the graph that a loss brings along: none may free it.
        found = iter(torch.autograd.grad(after, wanted, gradients, allow_unused=True, retain_graph=True))
        return (None, None, *(next(found) if needed else None for needed in ctx.needs_input_grad[2:]))


def _alone(tensor: Tensor) -> Tensor:
    """Return the same values without their graph."""
    return tensor.detach().requires_grad_(tensor.requires_grad)


def _leaves(value: Tensor) -> list[Tensor]:
    """Return all leaves that a value can be differentiated for."""
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
    """Draw from given states; afterwards go on as if nothing had been drawn."""
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
    return () if device.type == "mps" else (device,)  # one generator, which takes no device


def _changes_buffers(what: str) -> Incompatible:
    return Incompatible(
        f"checkpoint=True runs every step twice and cannot run {what}; use checkpoint=False, or a backbone with "
        "group norm or transductive batch norm."
    )

"""One network with its own weights for every task: the interchangeable ways to run it, and which one to take.

All ways give the same numbers up to rounding. Which is fastest follows from the network, the shapes and the type of
device by the rule of :func:`choose`, never from a clock: a busy machine, or one with other cores, must not change a
result.
"""

from __future__ import annotations

import copy
import math
import threading
import warnings
from collections.abc import Callable, Hashable, Mapping
from enum import IntEnum

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from autometa.checks import check_choice
from autometa.contracts.examples import Inputs, map_inputs
from autometa.engine.inner_loop import conv_features
from autometa.engine.inner_loop.mlp_program import read
from autometa.engine.kept_values import Kept
from autometa.engine.other_values import call_with, places_of
from autometa.engine.running_averages import can_fold, fold, start_at_zero
from autometa.errors import Incompatible, InvalidParameter

Parameters = Mapping[str, Tensor]
Strategy = Callable[[nn.Module, Parameters, Inputs], Tensor]


class Order(IntEnum):
    """How often what a network computes will be differentiated."""

    NONE = 0
    FIRST = 1
    SECOND = 2


def loop(module: nn.Module, parameters: Parameters, x: Inputs) -> Tensor:
    """Run one task after the other."""
    places = places_of(module, parameters)
    # Unbound at once: the derivative of taking one task out of many is as large as all of them.
    values = zip(*(value.unbind() for value in parameters.values()), strict=True)
    inputs = zip(*(part.unbind() for part in x), strict=True) if isinstance(x, tuple) else x.unbind()
    return torch.stack(
        [
            call_with(module, places, dict(zip(parameters, of_task, strict=True)), examples)
            for of_task, examples in zip(values, inputs, strict=True)
        ]
    )


def vmap(module: nn.Module, parameters: Parameters, x: Inputs) -> Tensor:
    """Run all tasks in one call; only the forward pass is vectorised, so its backward is plain batched autograd."""
    outputs, averages, counts = _vmapped(module, parameters, x)
    fold(module, averages, counts)
    return outputs


def _vmapped(
    module: nn.Module, parameters: Parameters, x: Inputs
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Return the outputs, and what is to be folded into running averages, which stay as they are."""
    averages, counts = start_at_zero(module, len(next(iter(parameters.values()))))
    places = places_of(module, (*parameters, *averages, *counts))

    def forward(of_task: dict[str, Tensor], inputs: Inputs) -> Tensor:
        return call_with(module, places, of_task | counts, inputs)  # type: ignore[no-any-return]

    plain = {name: _plain_strides(value) for name, value in parameters.items()}
    run = torch.vmap(forward, randomness="different")
    return run(plain | averages, map_inputs(_plain_strides, x)), averages, counts


def _plain_strides(value: Tensor) -> Tensor:
    """Lay images and filters out in C order, down to the strides of axes of length 1.

    Where those leave open whether a tensor is channels-last, convolution takes it to be, and under vmap group norm
    then fails.
    """
    return value.reshape(len(value), -1).view(value.shape) if value.dim() >= 5 else value


def blocks(module: nn.Module, parameters: Parameters, x: Inputs) -> Tensor:
    """Run one task after the other by derivatives that are written out, see :mod:`conv_blocks`."""
    program = read(module)
    assert program is not None
    assert program.blocks is not None
    assert isinstance(x, Tensor)
    return conv_features.run_blocks(program.blocks, module, parameters, x)


FEWEST_TASKS = 4
"""On a CPU, calls of ``vmap`` cost as much as those of two or three tasks. Two tasks took 0.5 to 1.2 times as long in a
loop as by ``vmap``."""

MOST_NUMBERS = {Order.NONE: 2**15, Order.FIRST: 2**16, Order.SECOND: 2**17}
"""On a CPU: how many numbers the widest convolution of one task may give for ``vmap`` to be taken, counted as if it
saw the whole image.

``vmap`` runs the convolutions of all tasks as one grouped convolution. That saves calls, the more so the more often
they are differentiated, but its arithmetic is 2 to 3 times as slow. Time of ``loop`` over that of ``vmap`` for a step
of 4 and of 16 tasks with conv4 and group norm on one thread of an AMD EPYC (torch 2.13, 2026-11-27):

==========  ==========  ============  ===========  ============  ============
filters     images      numbers       no gradient  first order   second order
==========  ==========  ============  ===========  ============  ============
8           5 of 8x8    2,560         1.5, 3.9     1.5, 4.0      2.0, 5.2
8           25 of 8x8   12,800        1.2, 2.1     1.3, 1.9      1.7, 2.5
64          5 of 8x8    20,480        0.9, 1.3     1.2, 1.5      1.6, 1.9
8           25 of 16x16 51,200        0.8, 1.1     1.0, 1.4      1.4, 2.0
16          5 of 28x28  62,720        0.7, 0.9     1.0, 1.2      1.5, 2.1
64          25 of 8x8   102,400       0.6, 0.6     0.8, 0.9      1.2, 1.2
64          5 of 28x28  250,880       0.5, 0.6     0.8, 0.9      1.2, 1.0
16          25 of 28x28 313,600       0.4, 0.4     0.6, 0.5      1.2, 0.9
64          25 of 28x28 1,254,400     0.5, 0.3     0.7, 0.4      0.9, 0.5
==========  ==========  ============  ===========  ============  ============

Where tasks share the filters and have only contexts of their own the numbers are alike: 1.2 and 1.6 for 64 filters and
5 images of 8x8, 0.9 and 1.0 for 5 of 28x28.
"""

FEWEST_NUMBERS = {Order.NONE: 2**20, Order.FIRST: 2**19, Order.SECOND: 2**17}
"""How many of these numbers ``blocks`` is taken from, rather than ``loop``.

Below that, what it saves is less than the calls of its many operations cost. With up to 300,000 numbers ``loop`` took
0.7 to 1.2 times as long in first order and 1.1 to 1.9 times with more than 100,000 in second order; whole meta-steps
with 75 query images of 28x28 or 84x84 1.2 to 1.7 times (batch norm; one thread of a busy AMD EPYC, torch 2.13).
"""

MOST_NUMBERS_OF_LINEAR_LAYERS = 2**13
"""The same for networks without convolutions that are no ``bmm``, such as linear layers with layer norm between them.

Two layers of 40 and 256 with 10 examples and of 40 with 100 examples took 1.0 to 4 times as long in a loop; of 256
with 100 examples (25,600 numbers) 0.7 to 1.1 times, of 1024 with 10 examples (10,240 numbers) 0.5 to 0.9 times.
"""


def choose(strategy: str, module: nn.Module, parameters: Parameters, x: Inputs, order: Order) -> Strategy:
    """Return the strategy of this name, or for ``"auto"`` the one that the rule gives.

    The rule: ``bmm`` for what it can run. Else, for several tasks, ``vmap`` if it pays, see :func:`vmap_pays`, and can
    run the network, which is tried once. Else ``blocks`` for what it can run, from :data:`FEWEST_NUMBERS` on; else
    ``loop``.

    Parameters
    ----------
    strategy : {"auto", "bmm", "vmap", "loop"}
    module : nn.Module
    parameters : dict of Tensor, each [tasks, *shape]
    x : Tensor of shape [tasks, n, *features], or a tuple of those
    order : Order
        How often the outputs will be differentiated.

    Raises
    ------
    InvalidParameter
        No such strategy, or one that ``"auto"`` alone takes.
    Incompatible
        The strategy cannot run this module.
    """
    program = read(module) if strategy in ("auto", "bmm") else None
    if program is not None and program.steps is not None:
        return program.bmm
    if strategy == "auto":
        written_out = (
            program is not None and program.blocks is not None and conv_features.suits(program.blocks, module, x)
        )
        in_turn = blocks if written_out and _widest(module, x) >= FEWEST_NUMBERS[order] else loop
        n_tasks = len(next(iter(parameters.values())))
        if n_tasks == 1 or not can_fold(module) or not vmap_pays(module, x, order):
            return in_turn
        return vmap if _vmap_runs(module, parameters, x, order) else in_turn
    if strategy == blocks.__name__:
        raise InvalidParameter(
            "strategy='blocks' cannot be asked for: whether it can run changes from batch to batch; strategy='auto' "
            "takes it where it can and pays."
        )
    check_choice("strategy", strategy, ("auto", "bmm", "vmap", "loop"))
    if strategy == "bmm":
        raise Incompatible(
            "strategy='bmm' runs networks of linear layers and elementwise functions only; use strategy='vmap', "
            "'loop' or 'auto'."
        )
    if strategy == "vmap" and not can_fold(module):
        raise Incompatible(
            "strategy='vmap' cannot run batch norm that updates running averages in a way of its own; use "
            "strategy='loop' or 'auto', or torch's batch norm."
        )
    return vmap if strategy == "vmap" else loop


def vmap_pays(module: nn.Module, x: Inputs, order: Order) -> bool:
    """Return whether ``vmap`` is expected to take less time than ``loop``, by shapes and type of device.

    On a CPU: from :data:`FEWEST_TASKS` on, unless tasks are large, see :data:`MOST_NUMBERS`.

    On an accelerator: always, since calling an operation costs more there than most operations. On an H100 (torch 2.11,
    2026-11-26), 32 times one recorded task of conv4 took 1.2 to 5.9 times as long as 32 tasks side by side with images
    of 28x28, and 0.5 (first order, one step) to 2.3 times (second order, five steps) with images of 84x84; there,
    steps that are not recorded took 1.6 to 4.4 times as long one after the other.
    """
    first: Tensor = x[0] if isinstance(x, tuple) else x
    if first.device.type != "cpu":
        return True
    n_tasks, n = first.shape[:2]
    if n_tasks < FEWEST_TASKS:
        return False
    if widest := _widest(module, x):
        return widest <= MOST_NUMBERS[order]
    # Weights are [n_outputs, n_inputs].
    widths = [weight.shape[0] for weight in module.parameters() if weight.dim() == 2]
    return n * max(widths, default=0) <= MOST_NUMBERS_OF_LINEAR_LAYERS


def _widest(module: nn.Module, x: Inputs) -> int:
    """Return how many numbers the widest convolution of one task gives, if it saw the whole image; 0 without any."""
    first: Tensor = x[0] if isinstance(x, tuple) else x
    # Weights are [n_outputs, n_inputs] with the axes of a filter after them.
    filters = [weight.shape[0] for weight in module.parameters() if weight.dim() > 2]
    return first.shape[1] * max(filters, default=0) * math.prod(first.shape[3:])


_runs: dict[Hashable, bool] = {}
_TRYING = threading.RLock()
"""Threads that need the same answer find it out once."""
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _vmap_runs(module: nn.Module, parameters: Parameters, x: Inputs, order: Order) -> bool:
    """Return whether ``vmap`` can do all that the network does; tried once on two tasks for alike calls.

    What a hook does with what it is given cannot be known, so networks with hooks are not run by it.
    """
    if any(vars(part).get(hooks) for part in module.modules() for hooks in _HOOKS):
        return False
    key = (*_alike(module, parameters, x), order)
    if key not in _runs:
        with _TRYING:
            if key not in _runs:
                few = {name: value[:2].detach().requires_grad_() for name, value in parameters.items()}
                _runs[key] = _try_vmap(module, few, map_inputs(lambda part: part[:2].detach(), x), order)
    return _runs[key]


def _try_vmap(module: nn.Module, parameters: dict[str, Tensor], x: Inputs, order: Order) -> bool:
    device = next(iter(parameters.values())).device
    accelerator = {} if device.type == "cpu" else {"device_type": device.type}
    with (
        torch.random.fork_rng(devices=[device] if accelerator else [], **accelerator),
        warnings.catch_warnings(),
        torch.set_grad_enabled(order > Order.NONE),
    ):
        # Operations without a rule of their own run one task after the other, slowly.
        warnings.filterwarnings("error", message="There is a performance drop")
        try:
            module = copy.deepcopy(module, {id(own): own for own in module.parameters()})  # which is left as it is
            before = Kept(module)
            total = _vmapped(module, parameters, x)[0].square().sum()
            for step in range(order):
                values = list(parameters.values())
                create_graph = step + 1 < order
                slopes = torch.autograd.grad(total, values, create_graph=create_graph, materialize_grads=True)
                total = torch.stack([slope.square().sum() for slope in slopes]).sum()
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception:  # whatever a layer raises that cannot be copied or mapped; what is wrong in itself is in turn
            return False
    # What a network keeps of a call is of one task, then of the next.
    return Kept(module) == before


def _alike(module: nn.Module, parameters: Parameters, x: Inputs) -> tuple[object, ...]:
    """What calls must agree in for ``vmap`` to run all of them or none."""
    first = next(iter(parameters.values()))
    inputs = tuple(tuple(part.shape[1:]) for part in (x if isinstance(x, tuple) else (x,)))
    layers = tuple((type_before_parametrizations(part), _settings(part)) for part in module.modules())
    shapes = tuple((name, tuple(value.shape[1:])) for name, value in parameters.items())
    return layers, shapes, inputs, first.dtype, first.device


def _settings(layer: nn.Module) -> tuple[object, ...]:
    """Return the texts of a layer, and which of its numbers are zero: a number that grows has few answers."""
    return tuple(
        (name, value if isinstance(value, str) else bool(value) if isinstance(value, (int, float)) else type(value))
        for name, value in vars(layer).items()
        if name not in _OF_EVERY_LAYER
    )


_OF_EVERY_LAYER = vars(nn.Module()).keys() - {"training"}

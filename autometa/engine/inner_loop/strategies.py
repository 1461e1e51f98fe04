"""One network with its own weights for every task: the interchangeable ways to run it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from autometa.contracts.examples import Inputs, map_inputs
from autometa.engine.inner_loop.mlp_program import matrix_products, read
from autometa.errors import Incompatible, InvalidParameter

Parameters = Mapping[str, Tensor]
Strategy = Callable[[nn.Module, Parameters, Inputs], Tensor]

MARGIN = 1.25
"""How much faster a later strategy must be to replace an earlier one, so that noise does not decide."""


def loop(module: nn.Module, parameters: Parameters, x: Inputs) -> Tensor:
    """Run one task after the other."""
    # Unbound at once: the derivative of taking one task out of many is as large as all of them.
    values = zip(*(value.unbind() for value in parameters.values()), strict=True)
    inputs = zip(*(part.unbind() for part in x), strict=True) if isinstance(x, tuple) else x.unbind()
    return torch.stack(
        [
            functional_call(module, dict(zip(parameters, of_task, strict=True)), (examples,))
            for of_task, examples in zip(values, inputs, strict=True)
        ]
    )


def vmap(module: nn.Module, parameters: Parameters, x: Inputs) -> Tensor:
    """Run all tasks in one call; only the forward pass is vectorised, so its backward is plain batched autograd."""

    def forward(of_task: dict[str, Tensor], inputs: Inputs) -> Tensor:
        return functional_call(module, of_task, (inputs,))  # type: ignore[no-any-return]

    plain = {name: _plain_strides(value) for name, value in parameters.items()}
    return torch.vmap(forward, randomness="different")(plain, map_inputs(_plain_strides, x))


def _plain_strides(value: Tensor) -> Tensor:
    """Images and filters in C order, down to the strides of axes of length 1.

    Where those leave open whether a tensor is channels-last, convolution takes it to be, and under vmap group norm
    then fails.
    """
    return value.reshape(len(value), -1).view(value.shape) if value.dim() >= 5 else value


def bmm(module: nn.Module, parameters: Parameters, x: Inputs) -> Tensor:
    """Run all tasks in one call, with each linear layer as one batched matrix product."""
    assert isinstance(x, Tensor)
    return matrix_products(module, parameters, x)


STRATEGIES: dict[str, Strategy] = {"bmm": bmm, "vmap": vmap, "loop": loop}


def updates_statistics(module: nn.Module) -> bool:
    """Whether a forward pass changes running averages of batch norm."""
    return any(isinstance(part, _BatchNorm) and part.training and part.track_running_stats for part in module.modules())


def resolve(strategy: str, module: nn.Module, n_tasks: int) -> list[Strategy]:
    """Return the strategies to choose from: the one of this name, or for ``"auto"`` all that suit the module.

    One task alone gains nothing from ``vmap``.

    Raises
    ------
    InvalidParameter
        No such strategy.
    Incompatible
        The strategy cannot run this module.
    """
    if strategy == "loop":
        return [loop]
    if strategy not in ("auto", *STRATEGIES):
        raise InvalidParameter(f"strategy={strategy!r} must be one of {('auto', *STRATEGIES)}.")
    reason = _reasons[strategy](module) if strategy != "auto" else None
    if reason is not None:
        raise Incompatible(f"strategy={strategy!r} {reason}")
    if strategy != "auto":
        return [STRATEGIES[strategy]]
    names = [name for name in STRATEGIES if not (name == "vmap" and n_tasks == 1)]
    return [STRATEGIES[name] for name in names if name == "loop" or _reasons[name](module) is None]


def _why_not_bmm(module: nn.Module) -> str | None:
    if read(module) is not None:
        return None
    return "runs networks of linear layers and elementwise functions only; use strategy='vmap', 'loop' or 'auto'."


def _why_not_vmap(module: nn.Module) -> str | None:
    if not updates_statistics(module):
        return None
    return (
        "cannot run batch norm that updates running averages (one average, many tasks); use strategy='loop' or 'auto', "
        "or a backbone with group norm or transductive batch norm."
    )


_reasons = {"bmm": _why_not_bmm, "vmap": _why_not_vmap}

_fastest: dict[Hashable, Strategy] = {}
_MEASURING = threading.RLock()
"""Threads that need the same answer measure it once."""


def fastest(
    choices: list[Strategy], key: Hashable, device: torch.device, run: Callable[[Strategy], object]
) -> Strategy:
    """Return the strategy for which ``run`` takes the least time, measured once for each ``key``.

    A strategy that fails is out (vmap has no rule for some layers); what ``loop`` raises is the network's own error.
    A later choice must be faster than an earlier one by a margin; on a CPU, where vmap's grouped convolutions are
    slow, it comes last. Measuring leaves torch's random state as it was.
    """
    if len(choices) == 1:
        return choices[0]
    if key not in _fastest:
        with _MEASURING:
            if key not in _fastest:
                _fastest[key] = _measure(choices, device, run)
    return _fastest[key]


def _measure(choices: list[Strategy], device: torch.device, run: Callable[[Strategy], object]) -> Strategy:
    usable: list[Strategy] = []
    accelerator = {} if device.type == "cpu" else {"device_type": device.type}
    with torch.random.fork_rng(devices=[device] if accelerator else [], **accelerator):
        for strategy in sorted(choices, key=lambda choice: choice is vmap and device.type == "cpu"):
            try:
                run(strategy)
            except RuntimeError:
                if strategy is loop:
                    raise
            else:
                usable.append(strategy)
        # They take turns, so that another program that comes or goes meanwhile slows all of them.
        turns = [{strategy: _seconds(run, strategy, device) for strategy in usable} for _ in range(2)]
    seconds = {strategy: min(turn[strategy] for turn in turns) for strategy in usable}
    best = usable[0]
    for strategy, taken in seconds.items():
        if taken * MARGIN < seconds[best]:
            best = strategy
    return best


def _seconds(run: Callable[[Strategy], object], strategy: Strategy, device: torch.device) -> float:
    start = time.perf_counter()
    run(strategy)
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - start

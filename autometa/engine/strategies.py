"""One network with its own weights for every task: the interchangeable ways to run it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from autometa.contracts.examples import Inputs, map_inputs
from autometa.errors import Incompatible, InvalidParameter

Parameters = Mapping[str, Tensor]
Strategy = Callable[[nn.Module, Parameters, Inputs], Tensor]

MARGIN = 1.25
"""How much faster a later strategy must be to replace an earlier one, so that noise does not decide."""


def loop(module: nn.Module, parameters: Parameters, x: Inputs) -> Tensor:
    """Run one task after the other."""
    n_tasks = len(next(iter(parameters.values())))
    return torch.stack(
        [
            functional_call(
                module,
                {name: value[task] for name, value in parameters.items()},
                (map_inputs(lambda part, task=task: part[task], x),),  # type: ignore[misc]
            )
            for task in range(n_tasks)
        ]
    )


def vmap(module: nn.Module, parameters: Parameters, x: Inputs) -> Tensor:
    """Run all tasks in one call; only the forward pass is vectorised, so its backward is plain batched autograd."""

    def forward(of_task: dict[str, Tensor], inputs: Inputs) -> Tensor:
        return functional_call(module, of_task, (inputs,))  # type: ignore[no-any-return]

    return torch.vmap(forward, randomness="different")(dict(parameters), x)  # type: ignore[no-any-return]


STRATEGIES: dict[str, Strategy] = {"vmap": vmap, "loop": loop}


def updates_statistics(module: nn.Module) -> bool:
    """Whether a forward pass changes running averages of batch norm."""
    return any(isinstance(part, _BatchNorm) and part.training and part.track_running_stats for part in module.modules())


def resolve(strategy: str, module: nn.Module) -> Strategy | None:
    """Return the strategy of this name; None for ``"auto"`` where there is a choice to make.

    Raises
    ------
    InvalidParameter
        No such strategy.
    Incompatible
        ``"vmap"`` asked of batch norm that is collecting running averages.
    """
    if strategy not in ("auto", *STRATEGIES):
        raise InvalidParameter(f"strategy={strategy!r} must be one of {('auto', *STRATEGIES)}.")
    if updates_statistics(module):
        if strategy == "vmap":
            raise Incompatible(
                "strategy='vmap' cannot run batch norm that updates running averages (one average, many tasks); use "
                "strategy='loop' or 'auto', or a backbone with group norm or transductive batch norm."
            )
        return loop
    return STRATEGIES.get(strategy)


_fastest: dict[Any, Strategy] = {}


def fastest(key: Any, device: torch.device, run: Callable[[Strategy], object]) -> Strategy:
    """Return the strategy for which ``run`` takes the least time, measured once for each ``key``.

    A strategy that cannot run this network (vmap has no rule for some layers) is out; what ``loop`` raises is the
    network's own error. Measuring leaves torch's random state as it was.
    """
    if key not in _fastest:
        seconds: dict[str, float] = {}
        accelerator = {} if device.type == "cpu" else {"device_type": device.type}
        with torch.random.fork_rng(devices=[device] if accelerator else [], **accelerator):
            for name, strategy in STRATEGIES.items():
                try:
                    run(strategy)
                except RuntimeError:
                    if strategy is loop:
                        raise
                else:
                    seconds[name] = min(_seconds(run, strategy, device) for _ in range(2))
        best = next(iter(seconds))
        for name, taken in seconds.items():
            if taken * MARGIN < seconds[best]:
                best = name
        _fastest[key] = STRATEGIES[best]
    return _fastest[key]


def _seconds(run: Callable[[Strategy], object], strategy: Strategy, device: torch.device) -> float:
    start = time.perf_counter()
    run(strategy)
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - start

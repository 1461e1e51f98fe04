"""Gradient descent on many tasks at once.

Tasks share no adapted weights, so the gradient of the *sum* of their losses holds the gradient of each: one forward
pass over all tasks and one call of ``torch.autograd.grad`` are a step of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autometa.checks import check_int, check_real, check_texts
from autometa.contracts.examples import Examples, Inputs
from autometa.engine.inner_loop import mlp_descent
from autometa.engine.inner_loop.mlp_program import read
from autometa.engine.inner_loop.recomputed_steps import recomputed
from autometa.engine.inner_loop.strategies import Order, Strategy, choose
from autometa.engine.inner_loop.support_loss import loss_on
from autometa.errors import InvalidParameter

Loss = Callable[[Tensor], Tensor]
Number = float | np.number[Any]
Rate = Number | NDArray[Any] | Tensor | Sequence[Number] | Sequence[Tensor]
Rates = Rate | Mapping[str, Rate]
Sizes = float | Tensor | Sequence[Any]
"""What a :data:`Rate` is read as."""


def per_task(module: nn.Module, n_tasks: int, names: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Return the module's parameters as views, to start a :func:`descend` from.

    Parameters
    ----------
    module : nn.Module
    n_tasks : int
    names : sequence of str, optional
        Of the parameters that every task has its own of. Left out, these are all that require a gradient: what is
        frozen stays as it is, shared by all tasks.

    Returns
    -------
    dict of Tensor, each [n_tasks, *shape]

    Raises
    ------
    InvalidParameter
        ``n_tasks`` is no number, ``names`` are no texts, or the module has no parameter of that name or none that
        requires a gradient, or is compiled by TorchScript.
    """
    check_int("n_tasks", n_tasks, least=0)
    _check_not_scripted(module)
    if names is None:
        named = dict(module.named_parameters())
        parameters: dict[str, Tensor] = {name: value for name, value in named.items() if value.requires_grad}
        if named and not parameters:
            raise InvalidParameter(
                f"module={type(module).__name__} has no parameter that requires a gradient; give names= of those that "
                "every task has its own of."
            )
    else:
        check_texts("names", names, such_as="0.weight")
        parameters = {name: _parameter(module, name) for name in names}
    return {name: value.expand(n_tasks, *value.shape) for name, value in parameters.items()}


def _parameter(module: nn.Module, name: str) -> Tensor:
    """Return a parameter by its name, in a fifth of the time of the module's own attributes."""
    part, last = _layer_of(module, name)
    value = None if part is None else part._parameters.get(last)
    if value is None:
        raise InvalidParameter(f"names={name!r} is no parameter of {_told(module)}.")
    return value


def _layer_of(module: nn.Module, name: str) -> tuple[nn.Module | None, str]:
    """Return the layer of a parameter or buffer, None where there is none; and what it is called there."""
    *path, last = name.split(".")
    part: nn.Module | None = module
    for step in path:
        part = None if part is None else part._modules.get(step)
    return part, last


def _has(module: nn.Module, name: object) -> bool:
    """Tell whether there is a parameter or buffer of this name."""
    part, last = _layer_of(module, name) if isinstance(name, str) else (None, "")
    return part is not None and (last in part._parameters or last in part._buffers)


def _told(module: nn.Module) -> str:
    """Name a network and its parameters."""
    return f"{type(module).__name__}, whose are: {', '.join(name for name, _ in module.named_parameters()) or 'none'}"


def _check_not_scripted(module: nn.Module) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        raise InvalidParameter(
            f"module={type(module).__name__} is compiled by TorchScript, which runs with no other parameters than its "
            "own; give the network it was compiled from."
        )


def call_per_task(module: nn.Module, parameters: Mapping[str, Tensor], x: Inputs, *, strategy: str = "auto") -> Tensor:
    """Run a module on every task with that task's own parameters.

    Parameters
    ----------
    module : nn.Module
        Maps [n, *features] to [n, n_outputs]; parameters not given are its own, shared by all tasks.
    parameters : dict of Tensor, each [tasks, *shape]
    x : Tensor of shape [tasks, n, *features]
    strategy : {"auto", "bmm", "vmap", "loop"}
        As in :func:`descend`.

    Returns
    -------
    Tensor of shape [tasks, n, n_outputs]
    """
    run = choose(strategy, module, parameters, x, Order.FIRST if torch.is_grad_enabled() else Order.NONE)
    return run(module, parameters, x)


def descend(
    module: nn.Module,
    parameters: Mapping[str, Tensor],
    support: Examples,
    *,
    steps: int,
    rates: Rates,
    loss: Loss | None = None,
    weight_decay: float | Mapping[str, float] = 0.0,
    proximal: float = 0.0,
    first_order: bool = False,
    checkpoint: bool = False,
    strategy: str = "auto",
) -> dict[str, Tensor]:
    """Take gradient steps on every task's support loss, from given parameters.

    The steps can be differentiated if gradients are enabled on entry; else they leave no graph.

    Parameters
    ----------
    module : nn.Module
        Maps [n, *features] to [n, n_outputs]. Its other parameters stay as they are, shared by all tasks.
    parameters : dict of Tensor, each [tasks, *shape]
        Where each task starts, by name in ``module``; :func:`per_task` gives the module's own. Shapes after the
        first axis may differ from the module's (a head with another number of rows).
    support : Examples
    steps : int
        At least 0.
    rates : float, sequence, array or Tensor of shape [n], or dict of those by parameter name
        Step size, or one for each step; steps beyond the last reuse it. In a dict also a Tensor of shape [n, *shape],
        a size for every number of the parameter, or with ones in it. Numbers are at least 0; what a Tensor holds may
        have been learned, is taken as it is and not looked at.
    loss : callable from outputs [tasks, n, n_outputs] to [tasks], optional
        :func:`loss_on` the support set when left out.
    weight_decay : float or dict of those by parameter name, default=0.0
        Added to the gradient, times the parameter.
    proximal : float, default=0.0
        Added to the gradient, times the distance from where the task started.
    first_order : bool, default=False
        Leave out second derivatives: inner gradients count as constants in the outer derivative.
    checkpoint : bool, default=False
        Store only the inputs of each step and recompute the step in backward: second-order steps then need the memory
        of one step, for 1.3 times the time of a convolutional network and about 3 times that of a small network of
        linear layers. The gradient is the same; it can be taken once, not differentiated further. First-order steps
        store no more than that anyway.
    strategy : {"auto", "bmm", "vmap", "loop"}
        How tasks run side by side: as batched matrix products (networks of linear layers and elementwise functions),
        in one vectorised call, or one after the other. The numbers are the same up to rounding. ``"auto"`` follows
        from network, shapes and device, so the same call runs the same way on every machine.
        Plain steps of a multilayer perceptron (ReLU or tanh) are then one operation with a derivative of its own, and
        so are, where they are large and on a CPU, the features of convolutional blocks; that way has no name to ask
        for, since whether it can run depends on every batch. A network that you write yourself is run in such ways
        only if its ``forward`` is :func:`autometa.fixed_forward`, or it is a ``nn.Sequential`` of torch's layers.

    Returns
    -------
    dict of Tensor, each [tasks, *shape]

    Raises
    ------
    InvalidParameter
        ``parameters``, ``steps``, ``rates``, ``weight_decay``, ``proximal`` or ``strategy`` is not usable.
    Incompatible
        The strategy cannot run this module, or its steps cannot be taken twice; the text says why.
    """
    check_int("steps", steps, least=0)
    _check_parameters(parameters, support)
    if isinstance(rates, Mapping):
        _check_known("rates", rates, parameters, module)
    sizes = _step_sizes(rates, parameters) if steps else {}
    plain = steps > 0 and loss is None and _is_zero(weight_decay) and _is_zero(proximal) and not checkpoint
    program = read(module) if plain and strategy in ("auto", "bmm") else None
    if program is not None and program.chain and mlp_descent.suits(program.chain, parameters, support, sizes):
        return _descend_mlp(program.chain, module, parameters, support, steps, sizes, first_order)
    _check_decays(weight_decay, proximal, parameters, module)
    _check_known("parameters", parameters, {}, module)  # a chain, above, has none but its own
    differentiable = torch.is_grad_enabled()
    names = tuple(parameters)
    loss = loss or loss_on(support)
    decays = [weight_decay.get(name, 0.0) if isinstance(weight_decay, Mapping) else weight_decay for name in names]
    with torch.enable_grad():
        starts = values = [_start(value, differentiable) for value in parameters.values()]
        create_graph = differentiable and not first_order
        order = Order.SECOND if create_graph else Order.FIRST
        run = choose(strategy, module, dict(zip(names, values, strict=True)), support.x, order)
        for step in range(steps):
            rated = [_size(sizes, name, step) for name in names]
            take = _Step(run, module, names, loss, decays, proximal)
            if checkpoint and create_graph:
                values = take.recomputed(values, starts, rated, support.x)
                continue
            values, _ = take(values, starts, rated, support.x, create_graph)
            if not differentiable:
                values = [value.detach().requires_grad_() for value in values]
    return {name: value if differentiable else value.detach() for name, value in zip(names, values, strict=True)}


def _descend_mlp(
    chain: mlp_descent.Chain,
    module: nn.Module,
    parameters: Mapping[str, Tensor],
    support: Examples,
    steps: int,
    rates: Sizes | Mapping[str, Sizes],
    first_order: bool,
) -> dict[str, Tensor]:
    def recorded(values: Sequence[Tensor], sizes: Sequence[mlp_descent.Rate]) -> Sequence[Tensor]:
        ends = descend(
            module,
            dict(zip(chain.names, values, strict=True)),
            support,
            steps=steps,
            rates=dict(zip(chain.names, sizes, strict=True)),
            loss=loss_on(support),
            first_order=first_order,
            strategy="bmm",
        )
        return list(ends.values())

    descent = mlp_descent.Descent(chain, support, steps, first_order, recorded)
    sizes = [rates[name] if isinstance(rates, Mapping) else rates for name in chain.names]
    values = mlp_descent.descend(descent, [parameters[name] for name in chain.names], sizes)
    ends = dict(zip(chain.names, values, strict=True))
    return {name: ends[name] for name in parameters}


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of all tasks, as a function of everything that it can be differentiated for."""

    run: Strategy
    module: nn.Module
    names: Sequence[str]
    loss: Loss
    decays: Sequence[float]
    proximal: float

    def __call__(
        self,
        values: Sequence[Tensor],
        starts: Sequence[Tensor],
        rates: Sequence[float | Tensor],
        x: Inputs,
        create_graph: bool,
    ) -> tuple[list[Tensor], Tensor]:
        """Return the values after the step, and the sum of the losses before it."""
        total = self.loss(self.run(self.module, dict(zip(self.names, values, strict=True)), x)).sum()
        gradients = torch.autograd.grad(total, values, create_graph=create_graph, materialize_grads=True)
        if self.proximal:
            gradients = tuple(
                gradient + self.proximal * (value - start)
                for gradient, value, start in zip(gradients, values, starts, strict=True)
            )
        moved = [
            _moved(value, gradient + decay * value if decay else gradient, rate)
            for value, gradient, decay, rate in zip(values, gradients, self.decays, rates, strict=True)
        ]
        return moved, total

    def recomputed(
        self, values: Sequence[Tensor], starts: Sequence[Tensor], rates: Sequence[float | Tensor], x: Inputs
    ) -> list[Tensor]:
        """Return the same values; store only the inputs of the step and recompute it in backward."""
        parts = [list(values), list(starts) if self.proximal else [], [r for r in rates if isinstance(r, Tensor)]]
        parts.append(list(x) if isinstance(x, tuple) else [x])
        # ``step`` is stored until backward and must not hold the tensors: they would keep their graphs alive.
        counts, several = [len(part) for part in parts], isinstance(x, tuple)
        fixed = [None if isinstance(rate, Tensor) else rate for rate in rates]

        def step(tensors: Sequence[Tensor], create_graph: bool) -> tuple[tuple[Tensor, ...], Tensor]:
            queue = iter(tensors)
            own, first, learned, inputs = ([next(queue) for _ in range(count)] for count in counts)
            left = iter(learned)
            sizes = [next(left) if rate is None else rate for rate in fixed]
            moved, total = self(own, first or own, sizes, tuple(inputs) if several else inputs[0], create_graph)
            return tuple(moved), total

        return recomputed(step, self.module, [tensor for part in parts for tensor in part])


def _check_parameters(parameters: Mapping[str, Tensor], support: Examples) -> None:
    """Refuse parameters that are not of these tasks."""
    if not parameters:
        raise InvalidParameter(
            "parameters is empty; give those that every task has its own of, as per_task returns them."
        )
    n_tasks = len(support)
    for name, value in parameters.items():
        if not isinstance(value, Tensor) or not value.dim():
            raise InvalidParameter(f"parameters[{name!r}]={value!r} must be a Tensor of shape [tasks, *shape].")
        if value.shape[0] != n_tasks:
            raise InvalidParameter(
                f"parameters[{name!r}] is of {value.shape[0]} tasks and support of {n_tasks}; give as many of both."
            )


def _check_decays(
    weight_decay: float | Mapping[str, float], proximal: float, parameters: Mapping[str, Tensor], module: nn.Module
) -> None:
    if isinstance(weight_decay, Mapping):
        _check_known("weight_decay", weight_decay, parameters, module)
        for name, decay in weight_decay.items():
            check_real(f"weight_decay[{name!r}]", decay, least=0)
    else:
        check_real("weight_decay", weight_decay, least=0)
    check_real("proximal", proximal, least=0)


def _is_zero(number: object) -> bool:
    return isinstance(number, (int, float)) and number == 0


def _check_known(shown: str, given: Mapping[str, object], known: Mapping[str, object], module: nn.Module) -> None:
    """Refuse names of neither these parameters nor others of the network."""
    if given.keys() <= known.keys():
        return
    _check_not_scripted(module)
    for name in given:
        if name not in known and not _has(module, name):
            raise InvalidParameter(f"{shown}[{name!r}] is of no parameter of {_told(module)}.")


def _step_sizes(rates: Rates, parameters: Mapping[str, Tensor]) -> Sizes | Mapping[str, Sizes]:
    """Return step sizes of every parameter as Python's numbers and tensors, or refuse what is none."""
    if isinstance(rates, Mapping):
        return {name: _sizes_of(f"rates[{name!r}]", rates.get(name), value) for name, value in parameters.items()}
    return _sizes_of("rates", rates)


def _sizes_of(shown: str, rate: object, parameter: Tensor | None = None) -> Sizes:
    found: Any = rate.tolist() if isinstance(rate, np.ndarray) else rate
    if isinstance(found, Tensor) and _is_size(found):
        if found.dim() > 1 and (parameter is None or not _fits(found.shape[1:], parameter.shape[1:])):
            fits = "[n]" if parameter is None else f"[n] or {['n', *parameter.shape[1:]]}".replace("'", "")
            raise InvalidParameter(f"{shown} has the shape {tuple(found.shape)}; step sizes of n steps have {fits}.")
        return found
    if _is_size(found):
        return float(found)
    if isinstance(found, Sequence | nn.ParameterList) and len(found) and all(_is_size(part) for part in found):
        return [part if isinstance(part, Tensor) else float(part) for part in found]
    raise InvalidParameter(f"{shown}={rate!r} holds no step size; give a number such as 0.1, or one for each step.")


def _fits(shape: torch.Size, whole: torch.Size) -> bool:
    """Tell whether one shape is another, but for ones: a step size for all rows of a head, say."""
    return len(shape) == len(whole) and all(one in (1, other) for one, other in zip(shape, whole, strict=True))


def _is_size(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.numel() > 0 and value.dtype != torch.bool and not value.is_complex()
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return 0 <= float(value) < math.inf
    except OverflowError:  # a whole number beyond all floats
        return False


def _start(value: Tensor, differentiable: bool) -> Tensor:
    if not differentiable or not value.requires_grad:
        return value.detach().requires_grad_()
    return value


def _moved(value: Tensor, gradient: Tensor, rate: float | Tensor) -> Tensor:
    if isinstance(rate, Tensor):
        return torch.addcmul(value, gradient, rate, value=-1)
    return torch.sub(value, gradient, alpha=rate)


def _size(sizes: Sizes | Mapping[str, Sizes], name: str, step: int) -> float | Tensor:
    of_parameter = sizes[name] if isinstance(sizes, Mapping) else sizes
    if isinstance(of_parameter, float) or (isinstance(of_parameter, Tensor) and of_parameter.dim() == 0):
        return of_parameter
    size: float | Tensor = of_parameter[min(step, len(of_parameter) - 1)]
    return size

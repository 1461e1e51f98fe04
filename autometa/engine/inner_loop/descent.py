"""The inner loop of gradient-based learners: gradient descent on many tasks at once.

Tasks do not share adapted weights, so the gradient of the *sum* of their losses holds every task's own gradient:
one forward pass over all tasks and one call of ``torch.autograd.grad`` are a step of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from autometa.contracts.examples import Examples, Inputs
from autometa.contracts.losses import IGNORED_CLASS
from autometa.engine.inner_loop import mlp_descent
from autometa.engine.inner_loop.mlp_program import matrix_products, read
from autometa.engine.inner_loop.recomputed_steps import checkpointed
from autometa.engine.inner_loop.strategies import Strategy, fastest, resolve
from autometa.errors import InvalidParameter

Loss = Callable[[Tensor], Tensor]
Rates = float | Tensor | Sequence[float] | Mapping[str, "float | Tensor | Sequence[float]"]


def loss_on(examples: Examples) -> Loss:
    """The function from outputs [tasks, n, n_outputs] to each task's mean loss [tasks] on these examples.

    Cross-entropy over the classes a task has, or squared error. Neither padded examples count nor classes that a
    task narrower than the widest lacks: a task's loss is the same alone and among others.
    """
    counts = examples.mask.sum(dim=1).clamp(min=1)
    if examples.is_classification:
        absent = ~examples.one_hot().any(dim=1, keepdim=True)
        y = examples.y.masked_fill(~examples.mask, IGNORED_CLASS)

        def cross_entropy(outputs: Tensor) -> Tensor:
            logits = outputs[..., : examples.n_classes].masked_fill(absent, torch.finfo(outputs.dtype).min)
            each = functional.cross_entropy(logits.movedim(-1, 1), y, reduction="none", ignore_index=IGNORED_CLASS)
            return each.sum(dim=1) / counts

        return cross_entropy
    targets = examples.targets()
    weights = (examples.mask.to(targets.dtype) / (counts * targets.shape[-1]).unsqueeze(-1)).unsqueeze(-1)
    return lambda outputs: ((outputs - targets).square() * weights).flatten(1).sum(dim=1)


def per_task(module: nn.Module, n_tasks: int, names: Sequence[str] | None = None) -> dict[str, Tensor]:
    """The module's parameters (or those named) as views [n_tasks, *shape], the start of a :func:`descend`."""
    parameters = dict(module.named_parameters())
    return {name: parameters[name].expand(n_tasks, *parameters[name].shape) for name in names or parameters}


def call_per_task(module: nn.Module, parameters: Mapping[str, Tensor], x: Inputs, *, strategy: str = "auto") -> Tensor:
    """Run a module on every task with that task's own parameters.

    Parameters
    ----------
    module : nn.Module
        Maps [n, *features] to [n, n_outputs]; parameters not given are its own, shared by all tasks.
    parameters : dict of Tensor, each [tasks, *shape]
    x : Tensor of shape [tasks, n, *features]
    strategy : {"auto", "bmm", "vmap", "loop"}

    Returns
    -------
    Tensor of shape [tasks, n, n_outputs]
    """
    if _chain(strategy, module) is not None:
        return matrix_products(module, parameters, x)
    key = ("call", *_shapes(module, parameters, x), torch.is_grad_enabled())
    choices = resolve(strategy, module, len(next(iter(parameters.values()))))
    run = fastest(choices, key, _device(parameters), lambda run: run(module, parameters, x))
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

    The steps can be differentiated exactly when gradients are enabled on entry; otherwise nothing of them is kept.

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
    rates : float, sequence or Tensor of shape [n], or dict of those by parameter name
        Step size, or one for each step; steps beyond the last reuse it.
    loss : callable from outputs [tasks, n, n_outputs] to [tasks], optional
        :func:`loss_on` the support set when left out.
    weight_decay : float or dict of those by parameter name, default=0.0
        Added to the gradient, times the parameter.
    proximal : float, default=0.0
        Added to the gradient, times the distance from where the task started.
    first_order : bool, default=False
        Leave out second derivatives: inner gradients count as constants in the outer derivative.
    checkpoint : bool, default=False
        Keep only each step's parameters and take the step again when it is differentiated: the memory of second-order
        steps is then that of one step, for 1.3 times the time of a convolutional network and about 3 times that of
        a small network of linear layers. The gradient is the same; it can be taken once, not differentiated further.
        First-order steps keep no more than that anyway.
    strategy : {"auto", "bmm", "vmap", "loop"}
        How tasks are run side by side; the numbers are the same. ``"auto"`` measures once and keeps the fastest.
        Plain steps of a multilayer perceptron (ReLU or tanh) are one operation with a derivative of its own.

    Returns
    -------
    dict of Tensor, each [tasks, *shape]

    Raises
    ------
    InvalidParameter
        ``steps`` or ``strategy`` is not usable.
    Incompatible
        The strategy cannot run this module, or its steps cannot be taken twice; the text says why.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise InvalidParameter(f"steps={steps!r} must be a non-negative integer.")
    plain = steps > 0 and loss is None and not (weight_decay or proximal or checkpoint)
    chain = _chain(strategy, module) if plain else None
    if chain is not None and mlp_descent.suits(chain, parameters, support, rates):
        return _by_closed_form(chain, module, parameters, support, steps, rates, first_order)
    differentiable = torch.is_grad_enabled()
    names = tuple(parameters)
    loss = loss or loss_on(support)
    decays = [weight_decay.get(name, 0.0) if isinstance(weight_decay, Mapping) else weight_decay for name in names]
    with torch.enable_grad():
        starts = values = [_start(value, differentiable) for value in parameters.values()]
        create_graph = differentiable and not first_order
        run = _choose(strategy, module, dict(zip(names, values, strict=True)), support, loss, create_graph)
        for step in range(steps):
            sizes = [_rate(rates, name, step) for name in names]
            take = _Step(run, module, names, loss, decays, proximal)
            if checkpoint and create_graph:
                values = take.checkpointed(values, starts, sizes, support.x)
                continue
            values, _ = take(values, starts, sizes, support.x, create_graph)
            if not differentiable:
                values = [value.detach().requires_grad_() for value in values]
    return {name: value if differentiable else value.detach() for name, value in zip(names, values, strict=True)}


def _chain(strategy: str, module: nn.Module) -> mlp_descent.Chain | None:
    """The layers of a multilayer perceptron, if its tasks may run as matrix products.

    Nothing is measured for such a network: its products are those of any other way to run it.
    """
    program = read(module) if strategy in ("auto", "bmm") else None
    return None if program is None else program.chain


def _by_closed_form(
    chain: mlp_descent.Chain,
    module: nn.Module,
    parameters: Mapping[str, Tensor],
    support: Examples,
    steps: int,
    rates: Rates,
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

    plan = mlp_descent.Plan(chain, support, steps, first_order, recorded)
    sizes = [rates[name] if isinstance(rates, Mapping) else rates for name in chain.names]
    values = mlp_descent.descend(plan, [parameters[name] for name in chain.names], sizes)
    ends = dict(zip(chain.names, values, strict=True))
    return {name: ends[name] for name in parameters}


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of all tasks, as a function of all that it may be differentiated for."""

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
        """The values after the step, and the sum of the losses before it."""
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

    def checkpointed(
        self, values: Sequence[Tensor], starts: Sequence[Tensor], rates: Sequence[float | Tensor], x: Inputs
    ) -> list[Tensor]:
        """The same values, of which only where they started is kept."""
        parts = [list(values), list(starts) if self.proximal else [], [r for r in rates if isinstance(r, Tensor)]]
        parts.append(list(x) if isinstance(x, tuple) else [x])
        # What is kept for the derivative must not hold the tensors themselves: they have histories.
        counts, several = [len(part) for part in parts], isinstance(x, tuple)
        fixed = [None if isinstance(rate, Tensor) else rate for rate in rates]

        def step(tensors: Sequence[Tensor], create_graph: bool) -> tuple[tuple[Tensor, ...], Tensor]:
            queue = iter(tensors)
            own, first, learned, inputs = ([next(queue) for _ in range(count)] for count in counts)
            left = iter(learned)
            sizes = [next(left) if rate is None else rate for rate in fixed]
            moved, total = self(own, first or own, sizes, tuple(inputs) if several else inputs[0], create_graph)
            return tuple(moved), total

        return checkpointed(step, self.module, [tensor for part in parts for tensor in part])


def _start(value: Tensor, differentiable: bool) -> Tensor:
    if not differentiable or not value.requires_grad:
        return value.detach().requires_grad_()
    return value


def _moved(value: Tensor, gradient: Tensor, rate: float | Tensor) -> Tensor:
    if isinstance(rate, Tensor):
        return torch.addcmul(value, gradient, rate, value=-1)
    return torch.sub(value, gradient, alpha=rate)


def _rate(rates: Rates, name: str, step: int) -> float | Tensor:
    of_parameter = rates[name] if isinstance(rates, Mapping) else rates
    if (isinstance(of_parameter, Tensor) and of_parameter.dim() == 0) or isinstance(of_parameter, (int, float)):
        return of_parameter
    return of_parameter[min(step, len(of_parameter) - 1)]


def _choose(
    strategy: str, module: nn.Module, parameters: dict[str, Tensor], support: Examples, loss: Loss, create_graph: bool
) -> Strategy:
    """The strategy asked for; for "auto" the one fastest at one inner step, with its derivative if that is wanted."""

    def step(run: Strategy) -> None:
        values = [value.detach().requires_grad_() for value in parameters.values()]
        outputs = run(module, dict(zip(parameters, values, strict=True)), support.x)
        gradients = torch.autograd.grad(loss(outputs).sum(), values, create_graph=create_graph, materialize_grads=True)
        if create_graph:
            squares = torch.stack([gradient.square().sum() for gradient in gradients]).sum()
            torch.autograd.grad(squares, values, materialize_grads=True)

    key = ("descend", *_shapes(module, parameters, support.x), create_graph)
    return fastest(resolve(strategy, module, len(support)), key, _device(parameters), step)


def _device(parameters: Mapping[str, Tensor]) -> torch.device:
    return next(iter(parameters.values())).device


def _shapes(module: nn.Module, parameters: Mapping[str, Tensor], x: Inputs) -> tuple[object, ...]:
    first = next(iter(parameters.values()))
    inputs = tuple(tuple(part.shape) for part in (x if isinstance(x, tuple) else (x,)))
    layers = tuple(type(part).__qualname__ for part in module.modules())
    shapes = tuple((name, tuple(value.shape)) for name, value in parameters.items())
    return layers, module.training, shapes, inputs, first.dtype, first.device

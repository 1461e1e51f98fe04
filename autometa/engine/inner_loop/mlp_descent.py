"""Gradient descent of multilayer perceptrons on many tasks, with its derivatives written out.

Autograd spends most of the time of a small network on recording operations, even more where gradients are
differentiated again. For a chain of linear layers and activations both derivatives are a few matrix products: the
gradient and, backward through a step, the Hessian times a vector (Pearlmutter 1994: Fast Exact Multiplication by the
Hessian).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from autometa.contracts.examples import Examples
from autometa.engine.inner_loop.support_loss import SupportLoss

Rate = float | Tensor | Sequence[float]
"""Step size of a parameter: one for all steps, or one for each; further steps reuse the last."""


class Activation(NamedTuple):
    """An elementwise function of z; its derivatives are computed from z and the function's value a."""

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor | None]
    """None where it is one."""
    curvature: Callable[[Tensor, Tensor], Tensor | None]
    """None where it is zero nearly everywhere."""


NONE = Activation(lambda z: z, lambda z, a: None, lambda z, a: None)
_RELU = Activation(torch.relu, lambda z, a: a.sign(), lambda z, a: None)
_TANH = Activation(torch.tanh, lambda z, a: 1 - a * a, lambda z, a: 2 * a * (a * a - 1))
ACTIVATIONS: Mapping[object, Activation] = {
    **dict.fromkeys((nn.ReLU, torch.relu, nn.functional.relu, "relu"), _RELU),
    **dict.fromkeys((nn.Tanh, torch.tanh, nn.functional.tanh, "tanh"), _TANH),
}


class Layer(NamedTuple):
    """A linear layer, by the names of its parameters, and the activation after it."""

    weight: str
    bias: str | None
    activation: Activation


@dataclass(frozen=True)
class Chain:
    """A network of layers one after the other.

    Parameters
    ----------
    layers : tuple of Layer
    flattens : bool
        Whether inputs may have several axes.
    """

    layers: tuple[Layer, ...]
    flattens: bool

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all parameters."""
        return tuple(name for layer in self.layers for name in (layer.weight, layer.bias) if name is not None)

    @cached_property
    def places(self) -> tuple[tuple[int, int | None], ...]:
        """Positions of every layer's weight and bias in ``names``."""
        places = itertools.count()
        return tuple((next(places), None if layer.bias is None else next(places)) for layer in self.layers)


class Descent(NamedTuple):
    """What a descent needs besides its starts and step sizes."""

    chain: Chain
    support: Examples
    steps: int
    first_order: bool
    recorded: Callable[[Sequence[Tensor], Sequence[Rate]], Sequence[Tensor]]
    """Runs the same descent with every operation recorded, for derivatives of its derivative."""


def suits(chain: Chain, parameters: Mapping[str, Tensor], support: Examples, rates: object) -> bool:
    """Return whether :func:`descend` can run these parameters, examples and step sizes (one, or a dict of them)."""
    x = support.x
    if parameters.keys() != set(chain.names) or len(parameters) != len(chain.names):  # a layer may be called twice
        return False
    head = parameters[chain.layers[-1].weight]
    n_outputs = support.n_classes if support.is_classification else 1 if support.y.dim() == 2 else support.y.shape[2]
    return (
        isinstance(x, Tensor)
        and (x.dim() == 3 or (x.dim() > 3 and chain.flattens))
        and x.dtype == head.dtype
        and not x.requires_grad
        and head.shape[1] == n_outputs
        and all(_is_plain(rate) for rate in (rates.values() if isinstance(rates, Mapping) else (rates,)))
        and not torch.is_autocast_enabled(x.device.type)
    )


def _is_plain(rate: object) -> bool:
    if isinstance(rate, (int, float)):
        return True
    if isinstance(rate, Tensor):
        return rate.dim() <= 1
    return isinstance(rate, Sequence) and all(isinstance(part, (int, float)) for part in rate)


def descend(descent: Descent, values: Sequence[Tensor], rates: Sequence[Rate]) -> Sequence[Tensor]:
    """Descend the support loss; return the values after the last step.

    Parameters
    ----------
    descent : Descent
    values : sequence of Tensor, each [tasks, *shape]
        Where each task starts, in the order of the chain's names.
    rates : sequence of float, sequence of float, or Tensor of shape [] or [n]
        One entry for each of ``values``.
    """
    if not torch.is_grad_enabled():
        return _Steps(descent, rates).forward(values, keep=False)
    fixed = [None if isinstance(rate, Tensor) else rate for rate in rates]
    learned = [rate for rate in rates if isinstance(rate, Tensor)]
    return _DescentFunction.apply(descent, fixed, *values, *learned)  # type: ignore[no-any-return,no-untyped-call]


class _DescentFunction(torch.autograd.Function):
    """A descent as one operation of autograd, on the starts and the step sizes that are tensors."""

    @staticmethod
    def forward(ctx: Any, descent: Descent, fixed: list[Rate | None], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.descent, ctx.fixed = descent, fixed
        ctx.save_for_backward(*tensors)
        values, rates = _part(fixed, tensors)
        ctx.steps = _Steps(descent, rates)
        learned = any(ctx.needs_input_grad[2 + len(values) :])
        return tuple(ctx.steps.forward(values, keep=learned or not descent.first_order))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[2:]
        values, _ = _part(ctx.fixed, ctx.saved_tensors)
        if not torch.is_grad_enabled():
            return None, None, *ctx.steps.backward(values, gradients, wanted[len(values) :])
        # Views, since the starts of a descent may depend on step sizes: here each is an input of its own.
        own = [tensor.view_as(tensor) for tensor in ctx.saved_tensors]
        inputs = [tensor for tensor, needed in zip(own, wanted, strict=True) if needed]
        ends = ctx.descent.recorded(*_part(ctx.fixed, own))
        found = iter(torch.autograd.grad(ends, inputs, gradients, create_graph=True, allow_unused=True))
        return None, None, *(next(found) if needed else None for needed in wanted)


def _part(fixed: Sequence[Rate | None], tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], list[Rate]]:
    """Split tensors into values and the learned rates after them; return values and all rates."""
    learned = iter(tensors[len(fixed) :])
    return tensors[: len(fixed)], [next(learned) if rate is None else rate for rate in fixed]


class _Pass(NamedTuple):
    """One pass forward and backward through the chain; every list has an entry for each layer."""

    inputs: list[Tensor]
    slopes: list[Tensor | None]
    bends: list[Tensor | None]
    """Curvature of the activation times the gradient of the loss in its value."""
    errors: list[Tensor]
    """Gradient of the loss in the output of the linear layer."""
    predictions: Tensor
    """Of the support loss, for its curvature."""


class _Steps:
    """The steps of one descent, and their backward."""

    def __init__(self, descent: Descent, rates: Sequence[Rate]) -> None:
        self._descent, self._rates = descent, rates
        self._by_step = [_by_step(rate, descent.steps) for rate in rates]
        self._loss = SupportLoss(descent.support)
        self._starts: list[Sequence[Tensor]] = []
        self._passes: list[_Pass] = []
        self._places = descent.chain.places
        self._x = descent.support.x.flatten(2)

    def forward(self, values: Sequence[Tensor], *, keep: bool) -> Sequence[Tensor]:
        for step in range(self._descent.steps):
            taken = self._pass(values)
            if keep:
                # Autograd stores the start, and raises if somebody changes it in place.
                self._starts.append(values if step else ())
                self._passes.append(taken)
            moved = list(values)
            for (weight, bias), a, error in zip(self._places, taken.inputs, taken.errors, strict=True):
                moved[weight] = _subtract_product(values[weight], error.mT, a, self._by_step[weight][step])
                if bias is not None:
                    moved[bias] = _subtract(values[bias], error.sum(dim=1), self._by_step[bias][step])
            values = moved
        return values

    def _pass(self, values: Sequence[Tensor]) -> _Pass:
        layers, places = self._descent.chain.layers, self._places
        inputs, slopes, curvatures = [self._x], [], []
        for layer, (weight, bias) in zip(layers, places, strict=True):
            z = _linear(inputs[-1], values[weight], None if bias is None else values[bias])
            a = layer.activation.value(z)
            inputs.append(a)
            slopes.append(layer.activation.slope(z, a))
            curvatures.append(None if self._descent.first_order else layer.activation.curvature(z, a))
        predictions = self._loss.predictions(inputs.pop())
        error = self._loss.gradient(predictions)
        errors, bends = [], []
        for i in reversed(range(len(layers))):
            slope, curvature = slopes[i], curvatures[i]
            bends.append(None if curvature is None else curvature * error)
            error = error if slope is None else error * slope
            errors.append(error)
            if i:
                error = torch.bmm(error, values[places[i][0]])
        return _Pass(inputs, slopes, bends[::-1], errors[::-1], predictions)

    def backward(
        self, starts: Sequence[Tensor], gradients: Sequence[Tensor], learned: Sequence[bool]
    ) -> Iterator[Tensor | None]:
        """Yield the gradients in the starts, then in the step sizes that are tensors."""
        of_rates = [torch.zeros_like(rate) if isinstance(rate, Tensor) else None for rate in self._rates]
        for step in reversed(range(len(self._passes))):
            taken = self._passes[step]
            if any(learned):
                self._add_for_rates(of_rates, taken, step, gradients)
            if not self._descent.first_order:
                gradients = self._back(self._starts[step] or starts, taken, step, gradients)
        yield from gradients
        yield from (of_rate for of_rate in of_rates if of_rate is not None)

    def _add_for_rates(
        self, of_rates: Sequence[Tensor | None], taken: _Pass, step: int, gradients: Sequence[Tensor]
    ) -> None:
        for (weight, bias), a, error in zip(self._places, taken.inputs, taken.errors, strict=True):
            for place in (weight,) if bias is None else (weight, bias):
                of_rate = of_rates[place]
                if of_rate is not None:
                    moved = torch.bmm(error.mT, a) if place == weight else error.sum(dim=1)
                    at = of_rate if of_rate.dim() == 0 else of_rate[min(step, len(of_rate) - 1)]
                    at -= (moved * gradients[place]).sum()

    def _back(self, values: Sequence[Tensor], taken: _Pass, step: int, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        """Subtract the Hessian times the gradients, scaled by the step sizes, from the gradients."""
        inputs, slopes, bends, errors, predictions = taken
        sizes = [of_parameter[step] for of_parameter in self._by_step]
        first = sizes[0]
        # If all parameters have one rate, it multiplies the products, not their factors.
        rate = first if not isinstance(first, Tensor) and sizes.count(first) == len(sizes) else None
        scaled = gradients if rate is not None else [g * size for g, size in zip(gradients, sizes, strict=True)]
        rate = 1.0 if rate is None else rate
        # How the pass changes if the values change by ``scaled``: forward,
        of_inputs: list[Tensor] = []
        of_sums: list[Tensor] = []
        for (weight, bias), a, slope in zip(self._places, inputs, slopes, strict=True):
            of_sum = _linear(a, scaled[weight], None if bias is None else scaled[bias])
            if of_inputs:
                of_sum = torch.baddbmm(of_sum, of_inputs[-1], values[weight].mT)
            of_sums.append(of_sum)
            of_inputs.append(of_sum if slope is None else of_sum * slope)
        # and backward.
        result = list(gradients)
        change = self._loss.curvature(predictions, of_inputs.pop())
        for i in reversed(range(len(inputs))):
            (weight, bias), slope, bend = self._places[i], slopes[i], bends[i]
            change = change if slope is None else change * slope
            change = change if bend is None else change + bend * of_sums[i]
            result[weight] = torch.baddbmm(result[weight], change.mT, inputs[i], alpha=-rate)
            if bias is not None:
                result[bias] = torch.sub(result[bias], change.sum(dim=1), alpha=rate)
            if i:
                result[weight] = torch.baddbmm(result[weight], errors[i].mT, of_inputs[i - 1], alpha=-rate)
                change = torch.baddbmm(torch.bmm(errors[i], scaled[weight]), change, values[weight])
        return result


def _by_step(rate: Rate, steps: int) -> list[float | Tensor]:
    if isinstance(rate, (int, float)):
        return [rate] * steps
    rates: Sequence[float | Tensor] = rate.detach().reshape(-1).unbind() if isinstance(rate, Tensor) else rate
    return [rates[min(step, len(rates) - 1)] for step in range(steps)]


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.bmm(x, weight.mT) if bias is None else torch.baddbmm(bias.unsqueeze(1), x, weight.mT)


def _subtract_product(value: Tensor, left: Tensor, right: Tensor, rate: float | Tensor) -> Tensor:
    if isinstance(rate, Tensor):
        return torch.baddbmm(value, left * rate, right, alpha=-1)
    return torch.baddbmm(value, left, right, alpha=-rate)


def _subtract(value: Tensor, gradient: Tensor, rate: float | Tensor) -> Tensor:
    if isinstance(rate, Tensor):
        return torch.addcmul(value, gradient, rate, value=-1)
    return torch.sub(value, gradient, alpha=rate)

"""Networks of linear layers as batched matrix products, one product for all tasks.

Much of the time of a small network goes into calling it. ``vmap`` calls every layer through its own machinery; here
the network is read once, by ``torch.fx``, and then replayed on [tasks, n, features], each linear layer being one
``baddbmm``. Only what is known to mean the same with a leading task axis is read; other networks cannot be run so.
"""

from __future__ import annotations

import itertools
import operator
import weakref
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from autometa.engine.inner_loop.mlp_descent import ACTIVATIONS, NONE, Chain, Layer

Parameters = Mapping[str, Tensor]
Step = Callable[[list[Tensor], nn.Module, Parameters], Tensor]
"""Computes one value, [tasks, n, *features], from all values before it."""

_MODULES = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Identity, nn.Dropout)
_FUNCTIONS = (torch.relu, torch.tanh, torch.sigmoid, functional.relu, functional.gelu, functional.silu, functional.tanh)
_METHODS = ("relu", "tanh", "sigmoid")
_OPERATORS = (operator.add, operator.sub, operator.mul)


class Program(NamedTuple):
    """What was read of a network."""

    steps: list[Step]
    chain: Chain | None
    """The network as layers one after the other; None where it is more than that."""


_programs: weakref.WeakKeyDictionary[nn.Module, Program | None] = weakref.WeakKeyDictionary()


class UnknownLayer(Exception):
    """The network holds something that has no rule here."""


def read(module: nn.Module) -> Program | None:
    """How to run a network; None where it holds more than linear layers and elementwise functions."""
    if module not in _programs:
        try:
            _programs[module] = _trace(module)
        except (UnknownLayer, fx.proxy.TraceError, TypeError, RuntimeError):  # the last for len(x)
            _programs[module] = None
    return _programs[module]


def share(module: nn.Module, twin: nn.Module) -> None:
    """Let a copy run by what was read of the module: reading changes torch's classes, so threads must not read."""
    for part, same in zip(module.modules(), twin.modules(), strict=True):
        if part in _programs:
            _programs[same] = _programs[part]


def matrix_products(module: nn.Module, parameters: Parameters, x: Tensor) -> Tensor:
    """Run all tasks at once, given that :func:`read` knows the network."""
    program = read(module)
    assert program is not None
    values = [x]
    for step in program.steps:
        values.append(step(values, module, parameters))
    return values[-1]


def _trace(module: nn.Module) -> Program:
    tied = len(list(module.parameters())) != len(list(module.named_parameters(remove_duplicate=False)))
    hooked = any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    if tied or hooked:
        raise UnknownLayer
    nodes = list(fx.Tracer().trace(module).nodes)
    if [node.op for node in nodes].count("placeholder") != 1 or nodes[-1].args[0] is not nodes[-2]:
        raise UnknownLayer
    places = {node: place for place, node in enumerate(nodes)}
    return Program([_rule(node, module, places) for node in nodes[1:-1]], _chain(nodes[:-1], module))


def _chain(nodes: list[fx.Node], module: nn.Module) -> Chain | None:
    """The network as layers one after the other, given that every node has a rule."""
    layers: list[Layer] = []
    flattens = False
    for before, node in itertools.pairwise(nodes):
        target: object = node.target
        layer = module.get_submodule(str(target)) if node.op == "call_module" else None
        kind = target if layer is None else type(layer)
        if node.all_input_nodes != [before]:
            return None
        if kind in ("flatten", torch.flatten, nn.Flatten):
            flattens = flattens or not layers
        elif isinstance(layer, nn.Linear):
            layers.append(Layer(f"{target}.weight", f"{target}.bias" if layer.bias is not None else None, NONE))
        elif kind in ACTIVATIONS and not node.kwargs and layers and layers[-1].activation is NONE:
            layers[-1] = layers[-1]._replace(activation=ACTIVATIONS[kind])
        elif kind is not nn.Identity:
            return None
    return Chain(tuple(layers), flattens) if layers else None


def _rule(node: fx.Node, module: nn.Module, places: dict[fx.Node, int]) -> Step:
    """How one node is computed for all tasks."""
    inputs = [places[argument] if isinstance(argument, fx.Node) else None for argument in node.args]
    if not inputs or inputs[0] is None:
        raise UnknownLayer
    source = inputs[0]
    if node.op == "call_module":
        return _module_rule(str(node.target), module.get_submodule(str(node.target)), source)
    target, options = node.target, node.kwargs
    if target in ("flatten", torch.flatten) and node.args[1:] in ((1,), (1, -1)) and not options:
        return lambda values, module, parameters: values[source].flatten(2)
    if callable(target) and target in _FUNCTIONS and len(inputs) == 1:
        return lambda values, module, parameters: target(values[source], **options)
    if node.op == "call_method" and target in _METHODS and len(inputs) == 1:
        return lambda values, module, parameters: getattr(values[source], target)()
    if callable(target) and target in _OPERATORS:
        other, constant = inputs[1], node.args[1]
        if other is None and not isinstance(constant, (int, float)):
            raise UnknownLayer
        return lambda values, module, parameters: target(values[source], constant if other is None else values[other])
    raise UnknownLayer


def _module_rule(name: str, layer: nn.Module, source: int) -> Step:
    kind = type(layer)
    if kind in _MODULES:
        return lambda values, module, parameters: layer(values[source])
    if isinstance(layer, nn.Flatten) and layer.start_dim == 1 and layer.end_dim == -1:
        return lambda values, module, parameters: values[source].flatten(2)
    if kind is nn.Linear:
        return _linear(f"{name}.weight", f"{name}.bias" if layer.bias is not None else None, source)
    raise UnknownLayer


def _linear(weight_name: str, bias_name: str | None, source: int) -> Step:
    def step(values: list[Tensor], module: nn.Module, parameters: Parameters) -> Tensor:
        weight, bias = (
            None if name is None else parameters[name] if name in parameters else module.get_parameter(name)
            for name in (weight_name, bias_name)
        )
        assert weight is not None
        if weight.dim() == 2:
            outputs = values[source] @ weight.mT
        elif bias is not None and bias.dim() == 2:
            return torch.baddbmm(bias.unsqueeze(1), values[source], weight.mT)
        else:
            outputs = torch.bmm(values[source], weight.mT)
        return outputs if bias is None else outputs + (bias.unsqueeze(1) if bias.dim() == 2 else bias)

    return step

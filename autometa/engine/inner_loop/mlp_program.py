"""Networks of linear layers as batched matrix products, one product for all tasks.

Much of the time of a small network goes into calling it, and ``vmap`` calls every layer through its own machinery.
Here the network is read once: it is run on a stand-in for its inputs, which notes every operation. The program that
results runs on [tasks, n, features], each linear layer being one ``baddbmm``. It holds only operations known to mean
the same with a leading task axis. Layers of images are noted too, for :mod:`conv_blocks`; a network with any other
operation has no program.

A network is read if all that it calls is torch's own, or promises to be the same in every call (``fixed_forward``).
Reading is cheap (a tenth of a millisecond). One thread reads at a time; others may go on running the same network.
"""

from __future__ import annotations

import operator
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from autometa.contracts.examples import Inputs
from autometa.contracts.fixed_forward import is_fixed, is_torchs
from autometa.engine.inner_loop.conv_blocks import ConvBlocks
from autometa.engine.inner_loop.conv_program import FLATTEN, IMAGE_LAYERS, SETTINGS, blocks_of, kind_of, parameter_names
from autometa.engine.inner_loop.mlp_descent import ACTIVATIONS, NONE, Chain, Layer

Parameters = Mapping[str, Tensor]
Step = Callable[[list[Tensor], nn.Module, Parameters], Tensor]
"""Computes one value, [tasks, n, *features], from all values before it."""

_MODULES = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Identity, nn.Dropout)
_FUNCTIONS = (torch.relu, torch.tanh, torch.sigmoid, functional.relu, functional.gelu, functional.silu, functional.tanh)
_METHODS = ("relu", "tanh", "sigmoid")


class Program(NamedTuple):
    """What was read of a network."""

    steps: list[Step] | None
    """None where it holds layers of images, which are no products of matrices."""
    chain: Chain | None
    """The network as linear layers one after the other; None where it is more than that."""
    blocks: ConvBlocks | None
    """The network as blocks of convolutions and at most one linear layer; None where it is more than that."""

    def bmm(self, module: nn.Module, parameters: Parameters, x: Inputs) -> Tensor:
        """Run all tasks in one call, with each linear layer as one batched matrix product; needs ``steps``."""
        assert self.steps is not None
        assert isinstance(x, Tensor)
        values = [x]
        for step in self.steps:
            values.append(step(values, module, parameters))
        return values[-1]


class UnknownLayer(Exception):
    """The network holds something that has no rule here."""


class _Reading(NamedTuple):
    """What was read of a network, and what it looked like then."""

    watched: list[tuple[dict[str, Any], tuple[str, ...]]]
    """The attributes of all its layers, and which of them the program holds; the layers would keep the network itself
    alive."""
    looks: list[tuple[object, ...]]
    program: Program | None


_readings: weakref.WeakKeyDictionary[nn.Module, dict[bool, _Reading]] = weakref.WeakKeyDictionary()
"""Of each network in training and in evaluation, where its ``forward`` may differ."""
_lock = threading.RLock()


def read(module: nn.Module) -> Program | None:
    """Return how to run a network; None where it holds layers that are not known here.

    A network is read anew if its layers, their settings, modes or hooks have changed.
    """
    found = _readings.get(module, {}).get(module.training)
    if found is None or [_look(*part) for part in found.watched] != found.looks:
        with _lock:
            watched = [(vars(part), SETTINGS.get(type(part), ())) for part in module.modules()]
            try:
                program = None if _has_aliases(module) else _read(module)
            except Exception:  # whatever a network raises that asks more of its inputs than a stand-in tells
                program = None
            found = _Reading(watched, [_look(*part) for part in watched], program)
            _readings.setdefault(module, {})[module.training] = found
    return found.program


def _look(attributes: dict[str, Any], settings: tuple[str, ...]) -> tuple[object, ...]:
    """Return what may change in a layer."""
    hooks = len(attributes["_forward_hooks"]) + len(attributes["_forward_pre_hooks"])
    # A network that torch.compile made keeps its mode in the one within.
    own = attributes.get("training"), attributes.get("forward"), attributes.get("_compiled_call_impl")
    return tuple(attributes["_modules"].values()), hooks, *own, *[attributes[name] for name in settings]


def _has_aliases(module: nn.Module) -> bool:
    """Tell whether parameters have several names, of which those of a task have one."""
    return len(list(module.named_parameters(remove_duplicate=False))) > len(list(module.parameters()))


def _read(module: nn.Module) -> Program:
    parts = dict(module.named_modules())
    own = [id(tensor) for part in parts.values() for tensor in part._parameters.values() if tensor is not None]
    if len(set(own)) < len(own) or any(map(_is_intercepted, parts.values())):
        raise UnknownLayer
    notes = _Notes()
    with _noted_layers(parts):
        last = module(_Value(notes, 0))
    if not isinstance(last, _Value) or last.notes is not notes or last.place != len(notes.steps) or not last.place:
        raise UnknownLayer
    return Program(notes.steps if notes.are_products else None, notes.chain(), blocks_of(notes.sequence))


def _is_intercepted(part: nn.Module) -> bool:
    """Tell whether calling the module may do more, or other things, than is known of its class."""
    hooks = part._forward_hooks or part._forward_pre_hooks
    own = "forward" in vars(part) or part._compiled_call_impl is not None
    has_torchs_call = type(part).__call__.__module__.startswith("torch.nn")  # lists of parameters have another one
    return bool(hooks) or own or not has_torchs_call or not is_fixed(part)


@contextmanager
def _noted_layers(parts: Mapping[str, nn.Module]) -> Iterator[None]:
    """While this lasts, torch's layers note that they are called."""
    layers = [
        (name, part)
        for name, part in parts.items()
        if is_torchs(part) and type(part).forward is not nn.Sequential.forward
    ]
    try:
        for name, part in layers:
            part.__dict__["forward"] = partial(_call_layer, name, part)
        yield
    finally:
        for _, part in layers:
            part.__dict__.pop("forward", None)


def _call_layer(name: str, layer: nn.Module, x: Any, *others: Any) -> Any:
    if not isinstance(x, _Value):  # another thread runs the network
        return type(layer).forward(layer, x, *others)
    if others:
        raise UnknownLayer
    return x.notes.add(_layer_step(name, layer, x.place), layer, [x], name)


class _Notes:
    """What a network did to the stand-in for its inputs."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.are_products = True
        self.sequence: list[tuple[object, str]] | None = []
        """Operations, and names of layers; None where one is not given what the one before it returned."""

    def add(self, step: Step, what: object, inputs: list[_Value], name: str = "") -> _Value:
        """Note an operation: a module (by its name too), a function, or a method by its name."""
        is_next = [value.place for value in inputs] == [len(self.steps)]
        self.steps.append(step)
        if self.sequence is not None and is_next:
            self.sequence.append((what, name))
        else:
            self.sequence = None
        self.are_products = self.are_products and step is not _no_product
        return _Value(self, len(self.steps))

    def chain(self) -> Chain | None:
        """The network as linear layers one after the other."""
        layers: list[Layer] = []
        flattens = False
        for what, name in self.sequence or ():
            kind = kind_of(what)
            if kind in FLATTEN:
                flattens = flattens or not layers
            elif isinstance(what, nn.Linear):
                layers.append(Layer(*parameter_names(name, what), NONE))
            elif kind in ACTIVATIONS and layers and layers[-1].activation is NONE:
                layers[-1] = layers[-1]._replace(activation=ACTIVATIONS[kind])
            elif kind is not nn.Identity:
                return None
        return Chain(tuple(layers), flattens) if layers else None


class _Value:
    """Stands in for a tensor [n, *features], and notes what is done to it."""

    def __init__(self, notes: _Notes, place: int) -> None:
        self.notes = notes
        self.place = place

    @classmethod
    def __torch_function__(
        cls, function: Any, types: object, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> _Value:
        value, *others = arguments
        if not isinstance(value, _Value):
            raise UnknownLayer
        options = {name: option for name, option in (options or {}).items() if (name, option) != ("inplace", False)}
        if function is torch.flatten:
            return value.flatten(*others, **options)
        if function not in _FUNCTIONS or others:
            raise UnknownLayer
        source = value.place
        what = None if options else function
        return value.notes.add(lambda values, module, parameters: function(values[source], **options), what, [value])

    def flatten(self, *axes: int) -> _Value:
        """Note ``tensor.flatten(1)``."""
        if axes not in ((1,), (1, -1)):
            raise UnknownLayer
        return self.notes.add(_flatten(self.place), "flatten", [self])

    def __getattr__(self, name: str) -> Callable[[], _Value]:
        if name not in _METHODS:
            raise UnknownLayer
        source = self.place
        return lambda: self.notes.add(lambda values, module, parameters: getattr(values[source], name)(), name, [self])

    def _combine(self, function: Callable[[Any, Any], Any], other: object) -> _Value:
        source = self.place
        if isinstance(other, _Value):
            second = other.place
            step: Step = lambda values, module, parameters: function(values[source], values[second])  # noqa: E731
            return self.notes.add(step, function, [self, other])
        if not isinstance(other, (int, float)):
            raise UnknownLayer
        return self.notes.add(lambda values, module, parameters: function(values[source], other), function, [self])

    def __add__(self, other: object) -> _Value:
        return self._combine(operator.add, other)

    def __sub__(self, other: object) -> _Value:
        return self._combine(operator.sub, other)

    def __mul__(self, other: object) -> _Value:
        return self._combine(operator.mul, other)

    __radd__ = __add__
    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        raise UnknownLayer  # as every branch on what a tensor holds

    def __bool__(self) -> bool:
        raise UnknownLayer

    __hash__ = None  # type: ignore[assignment]


def _layer_step(name: str, layer: nn.Module, source: int) -> Step:
    kind = type(layer)
    if kind in _MODULES:
        return lambda values, module, parameters: layer(values[source])
    if isinstance(layer, nn.Flatten) and layer.start_dim == 1 and layer.end_dim == -1:
        return _flatten(source)
    if isinstance(layer, nn.Linear) and kind is nn.Linear:
        return _linear(*parameter_names(name, layer), source)
    if kind in IMAGE_LAYERS:
        return _no_product
    raise UnknownLayer


def _no_product(values: list[Tensor], module: nn.Module, parameters: Parameters) -> Tensor:
    raise UnknownLayer


def _flatten(source: int) -> Step:
    return lambda values, module, parameters: values[source].flatten(2)


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

"""When two values of a parameter mean the same, copies of each other among them."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

FROZEN = "frozen parameters"
"""What :func:`settings_of` calls those of a layer that are not trained."""


def same_value(a: Any, b: Any) -> bool:
    """Tell whether two parameter values are equal.

    Objects with parameters are compared by type and parameters, networks by their layers, settings and weights, and
    what builds networks (partials, methods, objects that can be called) by what it is made of.
    """
    if a is b:
        return True
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a.cpu(), b.cpu())
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same_value, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_value(a[name], b[name]) for name in a)
    if isinstance(a, float) and isinstance(b, float) and np.isnan(a) and np.isnan(b):
        return True
    if type(a) is not type(b):
        return {type(a), type(b)} <= {int, float} and bool(a == b)
    if isinstance(a, type) or inspect.isfunction(a) or inspect.isbuiltin(a):
        return False
    if isinstance(a, nn.Module):
        return same_value([settings_of(a), dict(a.state_dict())], [settings_of(b), dict(b.state_dict())])
    if hasattr(a, "get_params"):
        return same_value(a.get_params(deep=False), b.get_params(deep=False))
    if isinstance(a, partial):
        return same_value([a.func, a.args, a.keywords], [b.func, b.args, b.keywords])
    if inspect.ismethod(a):
        return same_value([a.__func__, a.__self__], [b.__func__, b.__self__])
    return bool(a == b) or (callable(a) and hasattr(a, "__dict__") and same_value(vars(a), vars(b)))


def settings_of(network: nn.Module) -> dict[str, list[Any]]:
    """Return type and plain attributes of every layer, by name: what sets networks of equal weights apart."""
    # A layer with a parametrization has a class of its own, made for this one layer.
    return {name: [type_before_parametrizations(part), _attributes(part)] for name, part in network.named_modules()}


def _attributes(layer: nn.Module) -> dict[str, Any]:
    if "_orig_mod" in layer._modules:  # what torch.compile wraps around a network; it makes its own anew in every copy
        return {}
    found = {name: value for name, value in vars(layer).items() if not name.startswith("_") and name != "training"}
    frozen = [name for name, value in layer._parameters.items() if value is not None and not value.requires_grad]
    if frozen:
        found[FROZEN] = frozen
    # A network kept in a list, out of torch's sight, may be the one that holds this layer.
    return {name: type(value) if _holds_network(value) else value for name, value in found.items()}


def _holds_network(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, nn.Module) or (isinstance(value, (list, tuple)) and any(map(_holds_network, value)))

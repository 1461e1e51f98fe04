"""Run a network with other values in the place of its parameters and buffers.

``torch.func.functional_call`` puts the value of a layer that has two names in twice, and takes the first for what was
there before: the layer keeps it. Here every place has its value once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from autometa.errors import InvalidParameter


def places_of(module: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """Return every place of a network where a value belongs, with the name of the value.

    Tied parameters, one tensor in several layers, have several places; a layer with several names is one place.

    Parameters
    ----------
    module : nn.Module
    names : iterable of str
        Of parameters and buffers.

    Raises
    ------
    InvalidParameter
        Two of the names are of one tensor.
    """
    tensors: dict[str, int] = {}
    places: dict[int, dict[tuple[int, str], str]] = {}
    for prefix, layer in module.named_modules(remove_duplicate=False):
        for own, tensor in (*layer._parameters.items(), *layer._buffers.items()):
            if tensor is not None:
                name = f"{prefix}.{own}" if prefix else own
                tensors[name] = id(tensor)
                places.setdefault(id(tensor), {}).setdefault((id(layer), own), name)
    found: dict[str, str] = {}
    for name in names:
        for place in places[tensors[name]].values() if name in tensors else (name,):
            if place in found:
                raise InvalidParameter(
                    f"parameters {found[place]!r} and {name!r} are one tensor of the network, which has one value; "
                    "give one of the names."
                )
            found[place] = name
    return found


def call_with(module: nn.Module, places: Mapping[str, str], values: Mapping[str, Tensor], *inputs: Any) -> Any:
    """Return what a network gives with values, by name, at their places; afterwards it is as before."""
    given = {place: values[name] for place, name in places.items()}
    return functional_call(module, given, inputs, tie_weights=False)

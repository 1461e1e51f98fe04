"""Objects as JSON and tensors, and back; reading them runs no code but what is installed or trusted."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from autometa.contracts.own_network import OwnNetwork
from autometa.errors import InvalidFile, InvalidParameter
from autometa.files.components import parts_of
from autometa.files.own_code import buildable_path, built, check_named_code, import_path, import_trusted, named_code
from autometa.files.scikit_learn import folder_parameter, make_scikit_learn, needs_trust, scikit_learn
from autometa.host.catalog import make
from autometa.host.kinds import KINDS
from autometa.schema import OneOf, Row, Schema, text_like, whole

_PLAIN = (type(None), bool, int, float, str)
_MOST_BYTES = 2**26
"""Of an array whose type has room for longer texts than it holds."""


_WRITTEN_TYPE = text_like(
    r"object|[<>=|]?(b1|[iu][1248]|f(2|4|8|16)|U\d{1,9}|[mM]8(\[\d{0,9}[A-Za-zμ]{1,2}\])?)",
    "the type of an array of numbers, dates or texts",
)


def _dtype(value: Any) -> str | None:
    wrong = _WRITTEN_TYPE(value)  # first: not all that numpy takes for a type is one, nor all its errors of one kind
    if wrong is None:
        try:
            too_long = np.dtype(value).itemsize < 0  # NumPy before 2.2 takes texts of more bytes than it can count
        except (TypeError, ValueError):
            too_long = True
        if too_long:
            return "the type of an array that numpy knows"
    return wrong


VALUE: Schema = None | bool | int | float | str
ARRAY: Schema = (None, {"dtype": _dtype, "shape": [whole()], "values": [VALUE]})
TREE = OneOf({"tensor": str, "value": VALUE})
"""What :meth:`Tensors.encode` returns."""
TREE |= {"dict": [Row([TREE, TREE])], "list": [TREE], "tuple": [TREE]}
PARAMETER = OneOf({"value": VALUE, "code": str, "network": {"path": str, "state": TREE, "frozen?": [str]}})
"""What :func:`encode_parameter` returns."""
PARAMETER |= {
    "list": [PARAMETER],
    "tuple": [PARAMETER],
    "dict": [Row([PARAMETER, PARAMETER])],
    "own network": PARAMETER,
    "component": {"kind": tuple(KINDS), "name": str, "params": {str: PARAMETER}},
    "own component": {"path": str, "params": {str: PARAMETER}},
    "scikit-learn": {"name": str, "params": {str: PARAMETER}},
}


class Tensors:
    """The tensors of an object, kept by name while the rest becomes JSON."""

    def __init__(self, found: dict[str, Tensor] | None = None) -> None:
        self.by_name = found if found is not None else {}
        self.code: set[str] = set()
        """Import paths of code that what has been encoded names."""

    def encode(self, tree: Any, where: str) -> Any:
        """Turn nested dicts, lists and tuples of tensors and plain values into JSON.

        Raises
        ------
        InvalidParameter
            A leaf is something else; ``where`` names its place.
        """
        if isinstance(tree, Tensor):
            name = f"tensor{len(self.by_name)}"
            self.by_name[name] = tree.detach().cpu().clone().contiguous()
            return {"tensor": name}
        if isinstance(tree, dict):
            pairs = [[self.encode(k, where), self.encode(v, f"{where}[{k!r}]")] for k, v in tree.items()]
            return {"dict": pairs}
        if type(tree) in (list, tuple):
            return {type(tree).__name__: [self.encode(value, f"{where}[{i}]") for i, value in enumerate(tree)]}
        if isinstance(tree, _PLAIN):
            return {"value": tree}
        raise InvalidParameter(
            f"{where} is a {type(tree).__name__}, which cannot be saved; tensors, numbers and strings can, and dicts, "
            "lists and tuples of them."
        )

    def decode(self, code: Any) -> Any:
        """Undo :meth:`encode`."""
        ((kind, value),) = code.items()
        if kind == "tensor":
            # A view into the file lies at any address, and the last bits of a product depend on the address.
            if value not in self.by_name:
                raise InvalidFile(f"the file names a tensor {value!r} that it does not hold.")
            return self.by_name[value].clone()
        if kind == "dict":
            return {self.decode(k): self.decode(v) for k, v in value}
        if kind == "list":
            return [self.decode(v) for v in value]
        if kind == "tuple":
            return tuple(self.decode(v) for v in value)
        if kind == "value":
            return value
        raise InvalidFile(f"unknown kind of value {kind!r}.")


def encode_array(array: Any, where: str) -> Any:
    """Turn an array of numbers, dates or labels into JSON; None stays None."""
    if array is None:
        return None
    array = np.asarray(array)
    if array.dtype.kind in "mM":
        return {"dtype": array.dtype.str, "shape": array.shape, "values": array.astype(np.int64).ravel().tolist()}
    values = array.ravel().tolist()
    if array.dtype.kind not in "biufUO" or not all(isinstance(value, _PLAIN) for value in values):
        raise InvalidParameter(f"{where} of type {array.dtype} cannot be saved; use numbers or strings.")
    return {"dtype": "object" if array.dtype.kind == "O" else array.dtype.str, "shape": array.shape, "values": values}


def decode_array(code: Any) -> Any:
    """Undo :func:`encode_array`."""
    if code is None:
        return None
    dtype, given = np.dtype(code["dtype"]), code["values"]
    if dtype.kind == "U":
        longest = max((len(value) for value in given if isinstance(value, str)), default=0)
        if dtype.itemsize * len(given) > max(_MOST_BYTES, 4 * longest * len(given)):
            raise InvalidFile(f"an array of {len(given)} texts has the type {dtype}, far longer than the texts are.")
    values = np.asarray(code["values"], dtype=np.int64 if dtype.kind in "mM" else dtype)
    return values.astype(dtype).reshape(code["shape"])


def encode_parameter(value: Any, where: str, tensors: Tensors) -> Any:
    """Turn a parameter of an estimator or component into JSON; objects become their installed name and parameters.

    What no plugin offers (a component, a network, a class or a function of one's own) becomes its import path.

    Raises
    ------
    InvalidParameter
        It cannot be imported elsewhere or built again, or is of a type that cannot be saved.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, _PLAIN):
        return {"value": value}
    if type(value) in (list, tuple):
        parts = [encode_parameter(part, f"{where}[{i}]", tensors) for i, part in enumerate(value)]
        return {type(value).__name__: parts}
    if isinstance(value, dict):
        return {
            "dict": [
                [encode_parameter(k, where, tensors), encode_parameter(v, f"{where}[{k!r}]", tensors)]
                for k, v in value.items()
            ]
        }
    if isinstance(value, torch.device):
        return {"value": str(value)}
    if isinstance(value, OwnNetwork):
        return {"own network": encode_parameter(value.network, where, tensors)}
    if isinstance(value, BaseEstimator):
        return _encode_component(value, where, tensors)
    if isinstance(value, nn.Module):
        path = _named(buildable_path(value, where), tensors)
        frozen = [name for name, part in value.named_parameters() if not part.requires_grad]
        return {"network": {"path": path, "state": tensors.encode(value.state_dict(), where), "frozen": frozen}}
    if isinstance(value, type) or inspect.isroutine(value):
        return {"code": _named(import_path(value, where), tensors)}
    raise InvalidParameter(f"{where}={value!r} cannot be saved: it is a {type(value).__name__}, not a plain value.")


def decode_parameter(code: Any, tensors: Tensors, trusted: Collection[str]) -> Any:
    """Undo :func:`encode_parameter`; code is imported only from the paths that are trusted.

    Raises
    ------
    UnknownName
        A component is not installed here.
    InvalidFile
        An estimator is not one of scikit-learn, needs trust or names a folder, or a path is not trusted or cannot be
        imported.
    """
    ((kind, value),) = code.items()
    decode = functools.partial(decode_parameter, tensors=tensors, trusted=trusted)
    if kind == "value":
        return value
    if kind == "list":
        return [decode(part) for part in value]
    if kind == "tuple":
        return tuple(decode(part) for part in value)
    if kind == "dict":
        return {decode(k): decode(v) for k, v in value}
    if kind == "code":
        return import_trusted(value, trusted)
    if kind == "own network":
        return OwnNetwork(decode(value))
    if kind == "network":
        network = built(import_trusted(value["path"], trusted))
        network.load_state_dict(tensors.decode(value["state"]))
        if "frozen" in value:  # which files of earlier versions do not tell
            for name, part in network.named_parameters():
                part.requires_grad_(name not in value["frozen"])
        return network
    params = {name: decode(part) for name, part in value["params"].items()}
    if kind == "component":
        return check_named_code(make(value["kind"], value["name"], **params), trusted)
    if kind == "own component":
        return check_named_code(import_trusted(value["path"], trusted)(**params), trusted)
    if kind == "scikit-learn":
        return make_scikit_learn(value["name"], params, trusted)
    raise InvalidFile(f"unknown kind of parameter {kind!r}.")


def _encode_component(value: BaseEstimator, where: str, tensors: Tensors) -> dict[str, Any]:
    parts, made_by = parts_of(value), type(value).__name__
    tensors.code |= named_code(value)
    params = {name: encode_parameter(part, f"{where}__{name}", tensors) for name, part in parts.params.items()}
    if parts.name is not None:
        return {"component": {"kind": parts.kind, "name": parts.name, "params": params}}
    if scikit_learn().get(made_by) is type(value):
        folder = folder_parameter(parts.params)
        if folder is not None:
            raise InvalidParameter(
                f"{where}__{folder} names a folder, whose content scikit-learn would run wherever the file is loaded: "
                f"it cannot be saved; use {folder}=None."
            )
        tensors.code |= {path for path in [needs_trust(type(value))] if path is not None}
        return {"scikit-learn": {"name": made_by, "params": params}}
    return {"own component": {"path": _named(import_path(type(value), where), tensors), "params": params}}


def _named(path: str, tensors: Tensors) -> str:
    tensors.code.add(path)
    return path

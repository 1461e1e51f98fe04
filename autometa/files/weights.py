"""Pretrained weights in a file: θ of a learner, what it was built with, and how it came about."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from autometa.contracts.learner import Learner
from autometa.contracts.problems import PROBLEMS
from autometa.errors import Incompatible, InvalidFile, MissingData
from autometa.files import container
from autometa.files.atomic import write_whole
from autometa.files.codec import TREE, Tensors
from autometa.files.components import parts_of
from autometa.files.description import DESCRIBED, as_stored, describe
from autometa.schema import Schema, anything

KIND = "pretrained weights"
_WRITTEN: Schema = {
    "estimator": str,
    "learner": {"name": str | None, "params": {str: DESCRIBED}},
    "problem": tuple(PROBLEMS),
    "record": {str: anything},
    "state": TREE,
}
"""What :func:`write_weights` writes."""

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Pretrained weights, as :func:`read_weights` returns them.

    Parameters
    ----------
    path : Path
        Where they were read.
    learner : str or None
        Full name of the learner.
    params : mapping
        Its hyperparameters.
    problem : {"classification", "regression"}
    record : mapping
        How they came about: the prior, the number of steps, the curve.
    state : dict of Tensor
        ``state_dict()`` of θ.
    """

    path: Path
    learner: str | None
    params: Mapping[str, Any]
    problem: str
    record: Mapping[str, Any]
    state: dict[str, Tensor]

    def fill(self, module: Module) -> Module:
        """Copy the weights into a module, and return it; one on the device "meta" has shapes only, and stays as it is.

        Raises
        ------
        InvalidFile
            They do not fit, or are not finite.
        """
        if any(parameter.is_meta for parameter in module.parameters()):
            return module
        try:
            module.load_state_dict(self.state)
        except (AttributeError, RuntimeError, TypeError) as error:
            raise InvalidFile(f"{self.path} holds weights that do not fit its own description ({error}).") from error
        if not all(bool(tensor.isfinite().all()) for tensor in module.parameters()):
            raise InvalidFile(f"{self.path} holds weights that are not finite; name another file.")
        return module


def write_weights(
    path: str | os.PathLike[str], learner: Learner, problem: str, module: nn.Module, record: Mapping[str, Any]
) -> None:
    """Write θ of a learner to a file, whole or not at all.

    Raises
    ------
    StorageError
        The path cannot be written to.
    """
    parts, tensors = parts_of(learner), Tensors()
    params = {name: as_stored(describe(value)) for name, value in parts.params.items()}
    document = {
        "estimator": KIND,
        "learner": {"name": parts.name, "params": params},
        "problem": problem,
        "record": as_stored(describe(dict(record))["mapping"]),
        "state": tensors.encode(dict(module.state_dict()), "the weights"),
    }
    write_whole(Path(os.path.expanduser(path)), container.pack(document, tensors.by_name), name="output")


def read_weights(path: str | os.PathLike[str], *, learner: str, problem: str) -> Weights:
    """Read weights that :func:`autometa.pretrain` wrote; the file holds numbers and names, and no code.

    Parameters
    ----------
    path : path
    learner : str
        Full name of the learner that they must be of.
    problem : {"classification", "regression"}
        What they must have been pretrained for.

    Raises
    ------
    MissingData
        The file does not exist, or cannot be read.
    InvalidFile
        It is damaged, or holds something else.
    Incompatible
        They are of another learner or problem.
    """
    place = Path(os.path.expanduser(path))
    try:
        data = container.read(place)
    except OSError as error:
        raise MissingData(f"weights={str(path)!r} cannot be read: {error.strerror or error}.") from error
    document, tensors = container.unpack(data, place)
    if document.get("estimator") != KIND:
        raise InvalidFile(
            f"weights={str(path)!r} holds a {document.get('estimator')!s:.40}, no {KIND}; name a file that "
            "autometa.pretrain wrote."
        )
    container.check_document(document, _WRITTEN, place)
    found = document["learner"]["name"], document["problem"]
    if found != (learner, problem):
        raise Incompatible(
            f"weights={str(path)!r} are of learner {found[0]!r} for {found[1]}, not of {learner!r} for {problem}."
        )
    state = Tensors(tensors).decode(document["state"])
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InvalidFile(f"{place} holds no weights.")
    return Weights(
        path=place,
        learner=found[0],
        params=document["learner"]["params"],
        problem=found[1],
        record=document["record"],
        state=state,
    )

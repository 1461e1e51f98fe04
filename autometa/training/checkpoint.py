"""A meta-training in a file, so that a call which was cut short goes on where it was."""

from __future__ import annotations

import json
import os
import pickle
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autometa._version import __version__
from autometa.errors import InvalidFile, InvalidParameter, MissingData
from autometa.files import container
from autometa.files.atomic import write_whole
from autometa.files.codec import Tensors
from autometa.files.description import describe
from autometa.training.outer_loop import MetaTraining

KIND = "meta-training"
SECONDS_BETWEEN = 30.0
"""How often a running meta-training is written."""


def pack(training: MetaTraining, plan: dict[str, Any] | None = None) -> bytes:
    """The state of a meta-training as the bytes of a safetensors file."""
    tensors = Tensors()
    state = training.state_dict()
    document = {
        "estimator": KIND,
        "plan": plan,
        "rows": state.pop("rows"),
        "state": tensors.encode(state, "the state of meta-training"),
    }
    return container.pack(document, tensors.by_name)


def unpack(training: MetaTraining, data: bytes, path: Path = Path("a meta-training")) -> dict[str, Any]:
    """Give a meta-training the state that :func:`pack` packed; return the plan."""
    document, tensors = container.unpack(data, path)
    state = Tensors(tensors).decode(document["state"])
    training.load_state_dict(state | {"rows": document["rows"]})
    plan: dict[str, Any] = document["plan"]
    return plan


class Checkpoint:
    """The file of one meta-training.

    Parameters
    ----------
    path : path
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._written = time.monotonic()

    def plan(self) -> dict[str, Any] | None:
        """The plan of the meta-training that the file holds; None where there is no file.

        Raises
        ------
        InvalidFile
            It is damaged, or holds something else.
        MissingData
            It cannot be read.
        """
        data = self._data()
        if data is None:
            return None
        document, _ = container.unpack(data, self.path)
        if document["estimator"] != KIND:
            raise InvalidFile(
                f"checkpoint={str(self.path)!r} holds a {document['estimator']}, no meta-training; name another file."
            )
        plan: dict[str, Any] = document["plan"]
        return plan

    def resume(self, training: MetaTraining) -> None:
        """Go on where the file is, if there is one.

        Raises
        ------
        InvalidParameter
            The file holds a meta-training with another plan; the text names what differs.
        """
        stored = self.plan()
        if stored is None:
            return
        # As it reads in a file: tuples are lists there.
        here = json.loads(json.dumps(plan_of(training)))
        differing = [name for name in here if stored.get(name) != here[name]]
        if differing:
            told = "; ".join(
                f"{name}: {_short(stored.get(name))} there, {_short(here[name])} here" for name in differing
            )
            raise InvalidParameter(
                f"checkpoint={str(self.path)!r} holds another meta-training ({told}); name another file, or give the "
                "arguments it was begun with."
            )
        data = self._data()
        assert data is not None
        unpack(training, data, self.path)

    def write(self, training: MetaTraining) -> None:
        """Write the state of a meta-training, whole or not at all."""
        write_whole(self.path, pack(training, plan_of(training)))
        self._written = time.monotonic()

    def write_if_due(self, training: MetaTraining) -> None:
        """Write it if that has not been done for a while."""
        if time.monotonic() - self._written >= SECONDS_BETWEEN:
            self.write(training)

    def _data(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise MissingData(f"checkpoint={str(self.path)!r} cannot be read: {error}.") from error


def plan_of(training: MetaTraining) -> dict[str, Any]:
    """What decides how a meta-training goes on and ends.

    Raises
    ------
    InvalidParameter
        A component holds something that cannot be told from another.
    """
    try:
        return {
            "version": __version__,
            "learner": describe(training.learner),
            "meta_optimizer": describe(training.meta_optimizer),
            "tasks": {"sampler": describe(training.sampler), "info": asdict(training.sampler.info)},
            "max_steps": training.n_steps,
            "tasks_per_step": training.tasks_per_step,
            "precision": str(training.dtype),
            "random_state": training.seed,
        }
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise InvalidParameter(
            f"checkpoint=...: a parameter of learner, meta-optimizer or tasks cannot be stored ({error}); use "
            "components whose parameters are plain values, arrays or tables."
        ) from error


def _short(value: Any) -> str:
    """A value on one line, components by the names of their classes and parameters."""
    if isinstance(value, dict) and "class" in value:
        parameters = ", ".join(f"{name}={_short(part)}" for name, part in value["params"].items())
        value = f"{value['class'].rpartition(':')[2]}({parameters})"
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."

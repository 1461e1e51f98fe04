"""A meta-training in a file, so that an interrupted call can go on."""

from __future__ import annotations

import os
import pickle
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autometa._version import __version__
from autometa.errors import InvalidFile, InvalidParameter, MissingData
from autometa.files import container
from autometa.files.atomic import check_writable, write_whole
from autometa.files.codec import TREE, Tensors
from autometa.files.description import COMPONENT, as_stored, describe, same_description
from autometa.schema import Schema, finite, misfit, positive, whole
from autometa.training.finite import all_finite
from autometa.training.outer_loop import MetaTraining
from autometa.training.plan_difference import difference_in_words

KIND = "meta-training"
_PLAN: Schema = {
    "version": str,
    "learner": COMPONENT,
    "meta_optimizer": (None, COMPONENT),
    "tasks": {"sampler": COMPONENT, "info": dict},
    "max_steps": whole(),
    "tasks_per_step": whole(1),
    "precision": str,
    "random_state": whole(),
}
_WRITTEN: Schema = {
    "plan": (None, _PLAN),
    "rows": [{"step": positive, "seconds": finite, "loss": finite}],
    "state": TREE,
}
"""What :func:`pack` writes."""
_STATE: Schema = {"module": dict, "meta_optimizer": dict, "step_count": whole(), "seconds": finite}
SECONDS_BETWEEN = 30.0
"""Time between two writes of a running meta-training."""


def pack(training: MetaTraining, plan: dict[str, Any] | None = None) -> bytes:
    """Return the state of a meta-training as the bytes of a file."""
    tensors = Tensors()
    state = training.state_dict()
    document = {
        "estimator": KIND,
        "plan": plan,
        "rows": state.pop("rows"),
        "state": tensors.encode(state, "the state of meta-training"),
    }
    return container.pack(document, tensors.by_name)


def unpack(training: MetaTraining, data: bytes, path: Path = Path("a meta-training")) -> None:
    """Load the state that :func:`pack` wrote into a meta-training."""
    document, tensors = container.unpack(data, path)
    container.check_document(document, _WRITTEN, path)
    try:
        state = Tensors(tensors).decode(document["state"])
        wrong = misfit(state, _STATE)
        if wrong:
            raise InvalidFile(f"{path} holds no state of a meta-training: {wrong}.")
        training.load_state_dict(state | {"rows": document["rows"]})
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, InvalidFile):
            raise
        raise InvalidFile(
            f"{path} holds a state that does not fit this meta-training ({type(error).__name__}: {error}); name "
            "another file."
        ) from error
    if not all_finite(training.module.parameters()):
        raise InvalidFile(f"{path} holds weights that are not finite; name another file, to begin anew.")


class Checkpoint:
    """The file of one meta-training.

    Parameters
    ----------
    path : path
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.expanduser(path))
        self._written = time.monotonic()
        self._here: dict[str, Any] | None = None

    def plan(self) -> dict[str, Any] | None:
        """Read the plan of the meta-training in the file; None if there is no file.

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
        kind, plan = document.get("estimator"), document.get("plan")
        if kind != KIND or plan is None:
            raise InvalidFile(
                f"checkpoint={str(self.path)!r} holds a {kind!s:.40}, no meta-training; name another file."
            )
        container.check_document(document, _WRITTEN, self.path)
        checked: dict[str, Any] = plan
        return checked

    def check_writable(self) -> None:
        """Refuse a file that cannot be written, before any work is done.

        Raises
        ------
        StorageError
        """
        check_writable(self.path, name="checkpoint")

    def resume(self, training: MetaTraining) -> None:
        """Load the state of the file into a meta-training, if there is a file.

        Raises
        ------
        InvalidParameter
            The file holds a meta-training with another plan; the text names what differs.
        """
        stored = self.plan()
        if stored is None:
            return
        here = as_stored(self._plan_of(training))
        differing = [name for name in here if not same_description(stored.get(name), here[name])]
        if differing:
            told = "; ".join(difference_in_words(name, stored.get(name), here[name]) for name in differing)
            raise InvalidParameter(
                f"checkpoint={str(self.path)!r} holds another meta-training ({told}); name another file, or give the "
                "arguments it was begun with."
            )
        data = self._data()
        assert data is not None
        unpack(training, data, self.path)

    def write(self, training: MetaTraining) -> None:
        """Write the state of a meta-training, whole or not at all."""
        write_whole(self.path, pack(training, self._plan_of(training)), name="checkpoint")
        self._written = time.monotonic()

    def write_if_due(self, training: MetaTraining) -> None:
        """Write it if the last time was long enough ago."""
        if time.monotonic() - self._written >= SECONDS_BETWEEN:
            self.write(training)

    def _plan_of(self, training: MetaTraining) -> dict[str, Any]:
        """Describe the meta-training once: files that change while it runs are not what it learns from."""
        if self._here is None:
            self._here = plan_of(training)
        return self._here

    def _data(self) -> bytes | None:
        try:
            return container.read(self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise MissingData(f"checkpoint={str(self.path)!r} cannot be read: {error}.") from error


def plan_of(training: MetaTraining) -> dict[str, Any]:
    """Describe everything that decides how a meta-training goes on and ends.

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

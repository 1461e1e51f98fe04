"""Asking an adapted learner about rows, in pieces that bound the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autometa.contracts.forward import predict_outputs
from autometa.contracts.seeding import derive_seed
from autometa.engine.few_threads import enough_threads
from autometa.engine.folding import is_transductive
from autometa.engine.random_state import seeded
from autometa.errors import AutometaError, InvalidFile
from autometa.estimators.entities import Ragged, alike_in_size
from autometa.estimators.inputs import as_tensor, shaped
from autometa.estimators.state import Fitted

Read: TypeAlias = Callable[[Fitted, Tensor], tuple[Tensor, ...]]
"""Ask an adapted learner about inputs [tasks, n, *features]; tensors [tasks, n, n_outputs]."""

VALUES_AT_ONCE = 2**18
"""Input values per forward pass of a prediction; bounds its memory."""


def ask(fitted: Fitted, rows: NDArray[Any], read: Read) -> tuple[NDArray[np.float64], ...]:
    """Apply ``read`` to rows [n, n_features] of the one task; return arrays [n, n_outputs]."""
    x = shaped(rows, fitted.info.input_shape)[None]
    return tuple(array[0] for array in _along_rows(fitted, x, read))


def ask_each(
    fitted: Fitted, rows: NDArray[Any], task: NDArray[np.int64], read: Read
) -> tuple[NDArray[np.float64], ...]:
    """Apply ``read`` to rows [n, n_features], each of its own ``task`` [n]; return arrays [n, n_outputs]."""
    together = not is_transductive(fitted.module)  # padding would count as examples there
    most_rows = VALUES_AT_ONCE // max(1, rows.shape[1]) if together else 1
    group = np.zeros(len(task), dtype=np.int64) if fitted.groups is None else fitted.groups[task]
    found: list[NDArray[np.int64]] = []
    parts: list[tuple[NDArray[np.float64], ...]] = []
    for tasks in (tasks for g in np.unique(group) for tasks in alike_in_size(task[group == g], most_rows)):
        place = np.full(task.max() + 1, -1)
        place[tasks] = np.arange(len(tasks))
        layout = Ragged.of(place[task], len(tasks))
        x = shaped(layout.padded(rows).reshape(-1, rows.shape[1]), fitted.info.input_shape)
        outputs = _along_rows(fitted.of_tasks(tasks), x.reshape(*layout.shape, *x.shape[1:]), read)
        parts.append(tuple(array[layout.entity, layout.place] for array in outputs))
        found.append(layout.rows)
    back = np.argsort(np.concatenate(found))
    return tuple(np.concatenate(arrays)[back] for arrays in zip(*parts, strict=True))


def outputs_of(fitted: Fitted, x: Tensor) -> tuple[Tensor, ...]:
    """Outputs of the learner; where a task has no class at all, the prior of the classes."""
    outputs = predict_outputs(fitted.learner, fitted.module, fitted.adapted, fitted.present, x)
    if fitted.prior is None or fitted.present is None:
        return (outputs,)
    nothing = ~fitted.present.any(dim=-1)[:, None, None]
    return (torch.where(nothing, fitted.prior.to(outputs.dtype), outputs),)


def _along_rows(fitted: Fitted, x: NDArray[Any], read: Read) -> tuple[NDArray[np.float64], ...]:
    """Apply ``read`` to inputs [tasks, n, *features], some rows of every task at a time."""
    n = x.shape[1]
    # Transductive batch norm judges an example by those beside it, so there all must be seen together.
    at_once = n if is_transductive(fitted.module) else max(1, VALUES_AT_ONCE * n // max(1, x.size))
    parts = [_read(fitted, x[:, start : start + at_once], read) for start in range(0, n, at_once)]
    return tuple(torch.cat(columns, dim=1).double().cpu().numpy() for columns in zip(*parts, strict=True))


def _read(fitted: Fitted, x: NDArray[Any], read: Read) -> tuple[Tensor, ...]:
    inputs = as_tensor(x, fitted.device, fitted.dtype)
    with (
        _told_of_its_file(fitted),
        torch.no_grad(),
        seeded(derive_seed(fitted.seed, "predict"), fitted.device),
        enough_threads(fitted.module, inputs),
    ):
        return read(fitted, inputs)


@contextmanager
def _told_of_its_file(fitted: Fitted) -> Iterator[None]:
    """Turn an error of a learner that works with what a file held into one that names the file."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if fitted.source is None or isinstance(error, AutometaError):
            raise
        raise InvalidFile(
            f"what {fitted.source} holds does not fit its {type(fitted.learner).__name__} "
            f"({type(error).__name__}: {error}); fit again."
        ) from error

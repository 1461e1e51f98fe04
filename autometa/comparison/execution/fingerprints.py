"""Fingerprints of examples: equal ones have equal numbers, whatever task they are in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from autometa.contracts.examples import Examples, TaskBatch
from autometa.contracts.tasks import TaskInfo

BYTES = 8
"""Of a fingerprint: of a million examples, two that differ agree with a probability of 3e-8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprints:
    """The distinct examples of some tasks."""

    owners: dict[bytes, set[int]]
    """By fingerprint, whose they are: classes, entities, or tasks that are each drawn anew."""
    n_bytes: int
    """Of the examples."""

    @property
    def n_shared(self) -> int:
        """Count the examples that several owners have."""
        return sum(len(owners) > 1 for owners in self.owners.values())

    def found_in(self, others: Fingerprints) -> set[bytes]:
        """Return the examples that others have too."""
        return self.owners.keys() & others.owners.keys()


def fingerprints_of(batch: TaskBatch, info: TaskInfo) -> Fingerprints:
    """Return the fingerprints of support and query examples; those of shared labels, and real targets, count too."""
    owners: dict[bytes, set[int]] = {}
    n_bytes = 0
    for examples in (batch.support, batch.query):
        values = _values(examples, with_targets=info.labels_are_shared)
        n_bytes += values.nbytes
        whose = _owners(batch, examples)
        for task, row in np.argwhere(examples.mask.cpu().numpy()):
            key = hashlib.blake2b(values[task, row].tobytes(), digest_size=BYTES).digest()
            owners.setdefault(key, set()).add(int(whose[task, row]))
    return Fingerprints(owners=owners, n_bytes=n_bytes)


def _values(examples: Examples, *, with_targets: bool) -> NDArray[np.uint8]:
    """Return inputs, and perhaps targets, as bytes [tasks, n, bytes]."""
    inputs = examples.x if isinstance(examples.x, tuple) else (examples.x,)
    parts = [*inputs, *((examples.y,) if with_targets else ())]
    return np.concatenate(list(_bytes(parts)), axis=2)


def _bytes(parts: list[Tensor]) -> Iterator[NDArray[np.uint8]]:
    for part in parts:
        values = part.cpu().numpy() + 0  # so that -0.0 is 0.0
        flat = np.ascontiguousarray(values.reshape(*values.shape[:2], -1))
        yield flat.view(np.uint8).reshape(*values.shape[:2], -1)


def _owners(batch: TaskBatch, examples: Examples) -> NDArray[np.int64]:
    """Return whose every example is, [tasks, n]."""
    y = examples.y.cpu().numpy()
    if batch.classes is not None and examples.is_classification:
        classes = batch.classes.cpu().numpy()
        return np.take_along_axis(classes, y.clip(0, classes.shape[1] - 1), axis=1)
    ids = np.arange(len(batch)) if batch.ids is None else batch.ids.cpu().numpy()
    return np.broadcast_to(ids[:, None], y.shape[:2])

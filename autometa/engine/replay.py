"""Record the operations of a call on an accelerator once, repeat them for every batch of the same shape."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from autometa.contracts.examples import Examples, TaskBatch, map_inputs

Output = TypeVar("Output", bound="Tensor | None")
PLAIN_CALLS = 3
"""Calls for every shape before the one that is recorded: libraries set themselves up, strategies are tried, and the
last call is watched."""
MOST_RECORDED = 8
"""Shapes that are recorded or found not to be; each recording keeps the memory of its call."""
LARGEST_SHARE = 1 / 8
"""Of the device's memory: a call that needs more is not recorded."""


class Replay(Generic[Output]):
    """Calls a function of a batch of tasks; on a CUDA device, records its operations once and repeats them.

    To call a few thousand operations takes the processor longer than a GPU needs to run them; a recorded call (a CUDA
    graph) is one operation. The function is called as it is on other devices, for batches whose shape keeps changing,
    if it waits for the device and if a call needs much memory.

    Parameters
    ----------
    allowed : bool
        Whether calls may be recorded at all, such as ``Learner.replayable``.
    """

    def __init__(self, allowed: bool) -> None:
        self._allowed = allowed
        self._calls: Counter[Hashable] = Counter()
        self._recorded: dict[Hashable, _Recording[Output] | None] = {}

    def __call__(self, function: Callable[[TaskBatch], Sequence[Output]], batch: TaskBatch) -> Sequence[Output]:
        """Return what the function returns for this batch.

        Parameters
        ----------
        function : callable from TaskBatch to a sequence of Tensor or None
            The same one at every call. Does the same operations whatever numbers the batch holds: no branch on a value,
            no random number from outside the device, no CPU tensor. It may change tensors in place, such as running
            averages.
        batch : TaskBatch

        Returns
        -------
        sequence of Tensor or None
            Overwritten by the next call for the same shape.
        """
        if not self.suits(batch):
            return function(batch)
        shape = _shape(batch)
        if shape not in self._recorded:
            self._calls[shape] += 1
            if self._calls[shape] < PLAIN_CALLS or len(self._recorded) == MOST_RECORDED:
                return function(batch)
            if self._calls[shape] == PLAIN_CALLS:
                outputs, waits = _watched(function, batch)
                if waits:
                    self._recorded[shape] = None
                return outputs
            self._recorded[shape] = _record(function, batch)
        recording = self._recorded[shape]
        return function(batch) if recording is None else recording(batch)

    def suits(self, batch: TaskBatch) -> bool:
        """Return whether calls for such a batch may be recorded: it lies on a CUDA device."""
        return self._allowed and batch.query.y.device.type == "cuda"

    @property
    def n_recorded(self) -> int:
        """How many shapes are recorded."""
        return sum(recording is not None for recording in self._recorded.values())

    def __getstate__(self) -> dict[str, Any]:
        return {"allowed": self._allowed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class _Recording(Generic[Output]):
    """A recorded call, the batch that it reads and the tensors that it writes."""

    graph: torch.cuda.CUDAGraph
    batch: TaskBatch
    outputs: Sequence[Output]

    def __call__(self, batch: TaskBatch) -> Sequence[Output]:
        for mine, given in zip(_tensors(self.batch), _tensors(batch), strict=True):
            mine.copy_(given)
        self.graph.replay()
        return self.outputs


def _watched(function: Callable[[TaskBatch], Sequence[Output]], batch: TaskBatch) -> tuple[Sequence[Output], bool]:
    """Call the function; return its outputs, and whether it waits for the device, which cannot be recorded."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            outputs = function(batch)
        finally:
            torch.cuda.set_sync_debug_mode(before)
    waits = False
    for warning in caught:
        if "synchronizing CUDA operation" in str(warning.message):
            waits = True
        elif "Synchronization debug mode" not in str(warning.message):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return outputs, waits


def _record(function: Callable[[TaskBatch], Sequence[Output]], batch: TaskBatch) -> _Recording[Output] | None:
    """Record a call without running it; return None if the function cannot be recorded."""
    own, device = _copy(batch), batch.query.y.device
    torch.cuda.empty_cache()
    reserved, graph = torch.cuda.memory_reserved(device), torch.cuda.CUDAGraph()
    with torch.cuda.device(device), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The CUDA Graph is empty")
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                outputs = function(own)
        except RuntimeError:  # Memory is short, or a library cannot be recorded: a plain call works, or says why not.
            generator = torch.cuda.default_generators[device.index or 0]
            generator.graphsafe_set_state(generator.clone_state())  # The old one would count as recorded forever.
            return None
    grown = torch.cuda.memory_reserved(device) - reserved
    if grown > LARGEST_SHARE * torch.cuda.get_device_properties(device).total_memory:
        return None
    return _Recording(graph, own, outputs)


def _tensors(batch: TaskBatch) -> list[Tensor]:
    found: list[Tensor] = []
    for examples in (batch.support, batch.query):
        found += [*(examples.x if isinstance(examples.x, tuple) else (examples.x,)), examples.y, examples.mask]
    return found + [part for part in (batch.classes, batch.ids) if part is not None]


def _shape(batch: TaskBatch) -> Hashable:
    """Return what calls must have in common to share a recording."""
    tensors = tuple((tuple(part.shape), part.dtype, part.device) for part in _tensors(batch))
    sets = tuple((examples.n_classes, examples.is_full) for examples in (batch.support, batch.query))
    return tensors, sets, batch.classes is None, batch.ids is None


def _copy(batch: TaskBatch) -> TaskBatch:
    def copy(examples: Examples) -> Examples:
        x = map_inputs(torch.clone, examples.x)
        return replace(examples, x=x, y=examples.y.clone(), mask=examples.mask.clone())

    return TaskBatch(
        support=copy(batch.support),
        query=copy(batch.query),
        classes=None if batch.classes is None else batch.classes.clone(),
        ids=None if batch.ids is None else batch.ids.clone(),
    )

"""What an estimator has learned: one record of ``meta_fit`` and one of ``fit``, each replaced as a whole."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autometa.contracts.meta_optimizer import MetaOptimizer
from autometa.contracts.row_encoder import RowEncoder
from autometa.contracts.tasks import TaskInfo
from autometa.estimators.images import InputRange
from autometa.tables.encoder import TableEncoder
from autometa.tables.scale import mean_and_scale, standardise

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Affine:
    """Standardisation: ``(x - offset) / scale``."""

    offset: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def standardising(cls, x: NDArray[np.float64]) -> Affine:
        """Measure mean and standard deviation of the columns of ``x`` [n, ...]; a constant column keeps its scale."""
        return cls(*mean_and_scale(x))

    def encode(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Standardise."""
        return standardise(x, self.offset, self.scale)

    def decode(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Undo :meth:`encode`."""
        return x * self.scale + self.offset

    def fits(self, sizes: Collection[int]) -> bool:
        """Tell whether there is a finite offset and a positive scale for each of so many columns."""
        shapes = {(size,) for size in sizes}
        for part in (self.offset, self.scale):
            if part is None or part.dtype.kind != "f" or part.shape not in shapes or not np.isfinite(part).all():
                return False
        return bool((self.scale > 0).all())


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaTrained:
    """What ``meta_fit`` learned; clones share it, and nothing changes it."""

    learner: Any
    """Learner, or Actor."""
    meta_optimizer: MetaOptimizer | None
    module: nn.Module
    info: TaskInfo
    encoder: RowEncoder | None
    history: pd.DataFrame
    max_steps: int
    tasks_per_step: int
    n_features: int
    feature_names: NDArray[np.object_] | None
    input_range: InputRange | None = None
    """What was met in images; None for anything else, and in files that do not tell it."""
    deviation_scale: float = 1.0
    """What standard deviations are multiplied by, so that they fit held-out tasks."""

    def moved(self, device: torch.device | str) -> Self:
        """Return the same on another device."""
        return replace(self, module=module_on(self.module, device))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What ``fit`` learned of one task."""

    learner: Any
    """Learner, or Actor."""
    module: nn.Module
    info: TaskInfo
    adapted: Any
    present: Tensor | None
    """Classes of the support set, [1, n_classes]; None for regression."""
    columns: NDArray[np.int64] | None
    """Outputs that stand for ``classes_``; None: all of them."""
    encoder: TableEncoder | None
    """Encodes raw rows as the support set taught; None after meta-training, whose own encoder then does."""
    targets: Affine | None
    """Standardisation of targets that no encoder decodes."""
    seed: int
    device: torch.device
    dtype: torch.dtype
    prior: Tensor | None = None
    """Logits of the classes for a task without any row, [n_classes]; None where the learner answers by itself."""
    entities: NDArray[np.object_] | None = None
    """Names of the entities whose states these are, one task each; a task after the last has no row and answers for
    all others. None: the state of one task."""
    groups: NDArray[np.int64] | None = None
    """Which part of ``adapted`` each task's state is in, if it is a list of parts: tasks alike in size together, in
    order."""
    source: str | None = None
    """The file that it was read from; None where it was fitted here."""

    def moved(self, device: torch.device | str) -> Self:
        """Return the same on another device."""
        return replace(
            self,
            module=module_on(self.module, device),
            adapted=map_tensors(lambda t: t.to(device), self.adapted),
            present=None if self.present is None else self.present.to(device),
            prior=None if self.prior is None else self.prior.to(device),
            device=torch.device(device),
        )

    def of_tasks(self, tasks: NDArray[np.int64]) -> Self:
        """Return the states of these tasks only, all of one group, by number and in this order."""
        part, place = self.adapted, tasks
        if self.groups is not None:
            group = self.groups[tasks[0]]
            part, place = self.adapted[group], (np.cumsum(self.groups == group) - 1)[tasks]
        index, inside = (torch.from_numpy(numbers).to(self.device) for numbers in (tasks, place))
        return replace(
            self,
            adapted=map_tensors(lambda t: t[inside], part),
            present=None if self.present is None else self.present[index],
        )


def module_on(module: nn.Module, device: torch.device | str, dtype: torch.dtype | None = None) -> nn.Module:
    """Return the module on a device and of a type: the module itself if it is there already, else a copy."""
    device = torch.device(device)
    tensors = [*module.parameters(), *module.buffers()]
    fits = all(
        t.device.type == device.type and (dtype is None or not t.is_floating_point() or t.dtype == dtype)
        for t in tensors
    )
    return module if fits else copy.deepcopy(module).to(device=device, dtype=dtype)


def map_tensors(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """Apply a function to every tensor of nested dicts, lists and tuples; other leaves stay as they are."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {key: map_tensors(function, value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [map_tensors(function, value) for value in tree]
    if isinstance(tree, tuple):
        parts = [map_tensors(function, value) for value in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return tree

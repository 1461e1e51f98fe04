"""What an estimator has learned: one record of ``meta_fit`` and one of ``fit``, each replaced as a whole."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autometa.contracts.learner import Learner
from autometa.contracts.meta_optimizer import MetaOptimizer
from autometa.contracts.row_encoder import RowEncoder
from autometa.contracts.tasks import TaskInfo
from autometa.estimators.images import InputRange
from autometa.tables.scale import mean_and_scale

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
        return (x - self.offset) / self.scale

    def decode(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Undo :meth:`encode`."""
        return x * self.scale + self.offset


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaTrained:
    """What ``meta_fit`` learned; clones share it, and nothing changes it."""

    learner: Learner
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

    def moved(self, device: torch.device | str) -> Self:
        """Return the same on another device."""
        return replace(self, module=module_on(self.module, device))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What ``fit`` learned of one task."""

    learner: Learner
    module: nn.Module
    info: TaskInfo
    adapted: Any
    present: Tensor | None
    """Classes of the support set, [1, n_classes]; None for regression."""
    columns: NDArray[np.int64] | None
    """Outputs that stand for ``classes_``; None: all of them."""
    inputs: Affine | None
    """Standardisation of plain features; None after meta-training."""
    targets: Affine | None
    """Standardisation of targets that no encoder decodes."""
    seed: int
    device: torch.device
    dtype: torch.dtype

    def moved(self, device: torch.device | str) -> Self:
        """Return the same on another device."""
        return replace(
            self,
            module=module_on(self.module, device),
            adapted=map_tensors(lambda t: t.to(device), self.adapted),
            present=None if self.present is None else self.present.to(device),
            device=torch.device(device),
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


def same_value(a: Any, b: Any) -> bool:
    """Tell whether two parameter values are equal; objects with parameters are compared by type and parameters."""
    if a is b:
        return True
    if hasattr(a, "get_params") and not isinstance(a, type):
        if type(a) is not type(b):
            return False
        mine, other = a.get_params(deep=False), b.get_params(deep=False)
        return mine.keys() == other.keys() and all(same_value(mine[name], other[name]) for name in mine)
    if isinstance(a, nn.Module) and type(a) is type(b):
        mine, other = a.state_dict(), b.state_dict()
        return mine.keys() == other.keys() and all(_same_entry(mine[name], other[name]) for name in mine)
    if isinstance(a, partial) and isinstance(b, partial):
        return same_value([a.func, a.args, a.keywords], [b.func, b.args, b.keywords])
    if inspect.ismethod(a) and inspect.ismethod(b):
        return same_value([a.__func__, a.__self__], [b.__func__, b.__self__])
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_value(a[name], b[name]) for name in a)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same_value, a, b))
    if isinstance(a, float) and isinstance(b, float) and np.isnan(a) and np.isnan(b):
        return True
    if type(a) is type(b) and callable(a) and hasattr(a, "__dict__") and not inspect.isroutine(a) and a != b:
        return same_value(vars(a), vars(b))
    return bool(type(a) is type(b) or {type(a), type(b)} <= {int, float}) and bool(a == b)


def _same_entry(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a.cpu(), b.cpu())
    return same_value(a, b)

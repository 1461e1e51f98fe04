"""Rows of meta-train tasks, each with the entity it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import autometa as am
from autometa_plugins.baselines.estimators import Array, array


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRows:
    """Rows of meta-train entities.

    Parameters
    ----------
    x : array of shape [n, n_features]
    targets : array of shape [n, n_outputs]
        Real targets, or one-hot classes.
    entity : array of shape [n]
        Entities are numbered from 0.
    has_classes : bool
    """

    x: Array
    targets: Array
    entity: NDArray[np.int64]
    has_classes: bool

    def __len__(self) -> int:
        return len(self.x)

    @property
    def n_entities(self) -> int:
        """Number of entities."""
        return int(self.entity.max(initial=-1)) + 1

    def sums(self, values: Array) -> Array:
        """Add up the values [n, m] of every entity, [entities, m]."""
        found = np.zeros((self.n_entities, values.shape[1]))
        np.add.at(found, self.entity, values)
        return found

    @property
    def counts(self) -> Array:
        """Number of rows of every entity, [entities, 1]."""
        return np.bincount(self.entity, minlength=self.n_entities)[:, None].astype(np.float64)


@dataclass(slots=True)
class _Kept:
    """What was learned from the rows, once for all copies of a module."""

    model: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> _Kept:
        return self

    def __reduce__(self) -> tuple[type[_Kept], tuple[()]]:
        return _Kept, ()  # as a pickle of the rows is enough


class EntityRows(nn.Module):
    """Rows in the order they came, in buffers that grow, and the model that is learned from them when it is asked for.

    A row counts as seen if its entity had an equal one, and as many of them, in an earlier batch: rows that are equal
    within one task stay as many as they are.

    Parameters
    ----------
    has_classes : bool
    n_features, n_outputs : int
    max_rows : int
        Rows kept at most.
    """

    x: Tensor
    targets: Tensor
    entity: Tensor
    n_entities: Tensor

    def __init__(self, has_classes: bool, n_features: int, n_outputs: int, max_rows: int) -> None:
        super().__init__()
        self.has_classes, self.max_rows, self.n_outputs = has_classes, max_rows, n_outputs
        self.register_buffer("x", torch.zeros(0, n_features))
        self.register_buffer("targets", torch.zeros(0, n_outputs))
        self.register_buffer("entity", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("n_entities", torch.zeros((), dtype=torch.int64))
        self._kept = _Kept()

    def __len__(self) -> int:
        return len(self.x)

    def keep(self, batch: am.TaskBatch) -> int:
        """Append the rows of a batch that are not there yet, until the memory is full; return how many."""
        if batch.ids is None:  # every drawn task is an entity of its own
            ids = int(self.n_entities) + torch.arange(len(batch))
            self.n_entities += len(batch)
        else:
            ids = batch.ids.cpu()
        kept = 0
        for part in (batch.support, batch.query):
            mask = part.mask
            targets = part.targets()
            targets = nn.functional.pad(targets, (0, self.n_outputs - targets.shape[-1]))[mask].to(self.targets)
            entity = ids.unsqueeze(1).expand(mask.shape).to(mask.device)[mask].to(self.entity)
            kept += self._append(part.x.flatten(2)[mask].to(self.x), targets, entity)
        return kept

    def _append(self, x: Tensor, targets: Tensor, entity: Tensor) -> int:
        new = ~np.isin(_keys(x, targets, entity), _keys(self.x, self.targets, self.entity))
        places = torch.from_numpy(np.flatnonzero(new)[: self.max_rows - len(self)]).to(x.device)
        self.x = torch.cat([self.x, x[places]])
        self.targets = torch.cat([self.targets, targets[places]])
        self.entity = torch.cat([self.entity, entity[places]])
        self._kept = _Kept()
        return len(places)

    def content(self) -> TrainingRows:
        """Return the rows as numbers."""
        _, number = np.unique(self.entity.cpu().numpy(), return_inverse=True)
        return TrainingRows(x=array(self.x), targets=array(self.targets), entity=number, has_classes=self.has_classes)

    def model(self, learn: Callable[[TrainingRows], Any]) -> Any:
        """Return what ``learn`` makes of the rows; it is called once, until more rows come."""
        if self._kept.model is None:
            self._kept.model = learn(self.content())
        return self._kept.model

    def clear(self) -> None:
        """Drop all rows, and keep what was learned from them."""
        self.x, self.targets, self.entity = self.x[:0].clone(), self.targets[:0].clone(), self.entity[:0].clone()

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        before = self.x.dtype
        applied = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.x.dtype != before:
            self._kept = _Kept()
        return applied

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("x", "targets", "entity"):
            if prefix + name in state_dict:
                buffer: Tensor = getattr(self, name)
                size = state_dict[prefix + name].shape[:1]
                setattr(self, name, buffer.new_zeros(*size, *buffer.shape[1:]))
        self._kept = _Kept()
        super()._load_from_state_dict(state_dict, prefix, *rest)


def fingerprints(rows: Tensor, targets: Tensor) -> Tensor:
    """One integer per row, equal where rows are equal bit by bit."""
    together = torch.cat([rows, targets], dim=1)
    bits = together.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[together.element_size()]).long()
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**62), 2**62, bits.shape[1:], generator=generator).to(bits.device)
    return (bits * (2 * factors + 1)).sum(-1)


def _keys(x: Tensor, targets: Tensor, entity: Tensor) -> NDArray[np.int64]:
    """What tells rows apart: entity, bits, and how many equal ones came before."""
    found = (fingerprints(x, targets) + entity * 0x1E3779B97F4A7C15).cpu().numpy()
    order = pd.Series(found).groupby(found).cumcount().to_numpy()
    return np.asarray(found + order * 0x2545F4914F6CDD1D)

"""Rows of training entities, in buffers that grow and can be emptied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import autometa as am
from autometa_plugins.tabular.effects.pools import Array
from autometa_plugins.tabular.effects.remembered import Index


class Rows(nn.Module):
    """Rows in the order they came, each with its targets and its entity.

    A row counts as seen if its entity had an equal one, and as many of them, in an earlier batch: rows that are equal
    within one task stay as many as they are.

    Parameters
    ----------
    n_features, n_outputs : int
    max_rows : int
        Rows kept at most.
    """

    x: Tensor
    targets: Tensor
    entity: Tensor
    told: Tensor
    n_entities: Tensor
    _keys: set[tuple[int, bytes, int]] | None

    def __init__(self, n_features: int, n_outputs: int, max_rows: int) -> None:
        super().__init__()
        self.max_rows = max_rows
        self.register_buffer("x", torch.zeros(0, n_features))
        self.register_buffer("targets", torch.zeros(0, n_outputs))
        self.register_buffer("entity", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("told", torch.zeros(0, n_outputs))
        self.register_buffer("n_entities", torch.zeros((), dtype=torch.int64))
        self._keys = None

    def __len__(self) -> int:
        return len(self.x)

    def keep(self, batch: am.TaskBatch) -> int:
        """Append the rows of a batch that are not there yet, until the memory is full; return how many."""
        room = self.max_rows - len(self)
        if room <= 0:
            return 0
        if batch.ids is None:  # every drawn task is an entity of its own
            ids = self.n_entities.cpu() + torch.arange(len(batch))
            self.n_entities += len(batch)
        else:
            ids = batch.ids.cpu()
        width, pad = self.targets.shape[1], nn.functional.pad
        both = (batch.support, batch.query)
        x = torch.cat([part.x.flatten(2) for part in both], dim=1)
        targets = torch.cat([pad(t, (0, width - t.shape[-1])) for t in (part.targets() for part in both)], dim=1)
        mask = torch.cat([part.mask for part in both], dim=1)
        entity = ids.unsqueeze(1).expand(mask.shape).to(mask.device)[mask]
        x, targets = x[mask].to(self.x), targets[mask].to(self.targets)
        new = self._unseen(x, targets, entity)[:room]
        self.told = self.told[:0].clone()
        self.x = torch.cat([self.x, x[new]])
        self.targets = torch.cat([self.targets, targets[new]])
        self.entity = torch.cat([self.entity, entity[new].to(self.entity)])
        return len(new)

    def in_order(self) -> tuple[Array, Array, NDArray[np.int64]]:
        """Return inputs, targets and entities in an order that neither names nor arrivals decide.

        Entities are numbered from 0. What is learned thus does not depend on the order of entities or of their rows.
        """
        x, targets = self.x.cpu().double().numpy(), self.targets.cpu().double().numpy()
        places, number = self._order(x, targets)
        return x[places], targets[places], number

    def _order(self, x: Array, targets: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        entity, keys = self.entity.cpu().numpy(), [row.tobytes() for row in np.concatenate([x, targets], axis=1)]
        by_entity: dict[int, list[int]] = {}
        for place in sorted(range(len(keys)), key=keys.__getitem__):
            by_entity.setdefault(int(entity[place]), []).append(place)
        ordered = sorted(by_entity.values(), key=lambda places: [keys[place] for place in places])
        places = np.array([place for own in ordered for place in own], dtype=np.int64)
        return places, np.repeat(np.arange(len(ordered)), [len(own) for own in ordered])

    def keep_answers(self, told: Array) -> None:
        """Keep what a pool that has not seen the entity answers for each row, in the order of :meth:`in_order`."""
        places, _ = self._order(self.x.cpu().double().numpy(), self.targets.cpu().double().numpy())
        self.told = torch.empty_like(self.targets)
        self.told[torch.from_numpy(places).to(self.told.device)] = torch.from_numpy(told).to(self.told)

    def numbers(self) -> Tensor:
        """Return the number of each row's entity, as in :meth:`in_order`, in the order the rows came."""
        places, number = self._order(self.x.cpu().double().numpy(), self.targets.cpu().double().numpy())
        return torch.from_numpy(number[np.argsort(places)])

    def index(self) -> Index:
        """Return what finds rows, with entities numbered as in :meth:`in_order`."""
        return Index(self.x, self.targets, self.numbers())

    def select(self, places: Tensor) -> None:
        """Keep only the rows at some places of :meth:`in_order`."""
        order, _ = self._order(self.x.cpu().double().numpy(), self.targets.cpu().double().numpy())
        kept = torch.from_numpy(order)[places].sort().values.to(self.x.device)
        self.x, self.targets, self.entity = self.x[kept], self.targets[kept], self.entity[kept]
        self.told, self._keys = self.told[:0].clone(), None

    def clear(self) -> None:
        """Drop all rows."""
        self.x, self.targets, self.entity = self.x[:0].clone(), self.targets[:0].clone(), self.entity[:0].clone()
        self.told, self._keys = self.told[:0].clone(), None

    def _unseen(self, x: Tensor, targets: Tensor, entity: Tensor) -> Tensor:
        if self._keys is None:
            self._keys = set()
            self._keys.update(_keys(self.x, self.targets, self.entity))
        keys = _keys(x, targets, entity)
        new = [i for i, key in enumerate(keys) if key not in self._keys]
        self._keys.update(keys)
        return torch.tensor(new, dtype=torch.int64, device=x.device)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_keys": None}  # which follow from the rows

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._keys = None  # another precision has other bits
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        state_dict = {prefix + "told": self.told[:0], **state_dict}  # which files may lack
        for name, buffer in self.named_buffers():
            if prefix + name in state_dict:
                setattr(self, name, buffer.new_zeros(state_dict[prefix + name].shape))
        self._keys = None
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _keys(x: Tensor, targets: Tensor, entity: Tensor) -> list[tuple[int, bytes, int]]:
    """What tells rows apart: entity, bits, and how many equal ones came before."""
    together = torch.cat([x, targets], dim=1).cpu().numpy()
    count: dict[tuple[int, bytes], int] = {}
    keys = []
    for number, row in zip(entity.tolist(), np.ascontiguousarray(together), strict=True):
        key = (number, row.tobytes())
        count[key] = count.get(key, -1) + 1
        keys.append((*key, count[key]))
    return keys

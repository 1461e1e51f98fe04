"""Training entities that come back, told by their rows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from torch import Tensor


class Index:
    """Places of rows by what they hold, in single precision, as files keep them.

    Parameters
    ----------
    x : Tensor of shape [rows, features]
    targets : Tensor of shape [rows, outputs]
    entity : Tensor of shape [rows]
    """

    def __init__(self, x: Tensor, targets: Tensor, entity: Tensor) -> None:
        self._places: dict[bytes, dict[int, int]] = {}
        for place, (key, own) in enumerate(zip(row_keys(x, targets), entity.tolist(), strict=True)):
            self._places.setdefault(key, {})[own] = place

    def find(self, x: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """Return where the rows of tasks stand, [tasks, n]; -1 is nowhere.

        All rows of a task are looked for in one entity: the one that has most of them, and the first of such.
        """
        found = torch.full(mask.shape, -1)
        for task, (rows, wanted, exists) in enumerate(zip(x, targets, mask, strict=True)):
            own = [self._places.get(key, {}) for key in row_keys(rows[exists], wanted[exists])]
            count = Counter(entity for places in own for entity in places)
            if count:
                best = min(count, key=lambda entity: (-count[entity], entity))
                found[task, exists] = torch.tensor([places.get(best, -1) for places in own])
        return found


def row_keys(x: Tensor, targets: Tensor) -> list[bytes]:
    """Return what rows and targets hold, in single precision, as bytes."""
    together = torch.cat([x.float(), targets.float()], dim=1).cpu().numpy() + np.float32(0)  # -0 is 0
    return [row.tobytes() for row in together]

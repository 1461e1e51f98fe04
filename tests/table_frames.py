"""A frame of no library, with the protocol that polars has: ``columns``, ``[name]``, ``to_list`` and ``to_numpy``."""

from __future__ import annotations

from typing import Any

import numpy as np


class StandInColumn:
    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def to_list(self) -> list[Any]:
        return list(self._values)

    def to_numpy(self) -> np.ndarray[Any, Any]:
        return np.asarray(self._values)

    def __len__(self) -> int:
        return len(self._values)


class StandInFrame:
    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self._columns = columns
        self.columns = list(columns)

    def __getitem__(self, name: str) -> StandInColumn:
        return StandInColumn(self._columns[name])

    @property
    def shape(self) -> tuple[int, int]:
        return (len(next(iter(self._columns.values()))), len(self._columns))

    def __len__(self) -> int:
        return self.shape[0]

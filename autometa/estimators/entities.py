"""Rows of many entities: whose each row is, and the rows of one entity beside those of the next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autometa.errors import InvalidData
from autometa.tables.frames import as_column
from autometa.tables.text import row_of
from autometa.tables.values import InvalidColumn, levels_of


def entity_names(task: Any, *, may_miss: bool) -> NDArray[np.object_]:
    """Return the name of each row's entity as text; None where it is missing.

    Parameters
    ----------
    task : array-like of shape [n]
    may_miss : bool
        Whether a row may have no entity.

    Raises
    ------
    InvalidData
        A value is missing, or names no entity.
    """
    column = as_column(task, "task")
    missing = column.isna().to_numpy(dtype=bool)
    if missing.any() and not may_miss:
        where = row_of(column, missing)
        raise InvalidData(f"task misses {missing.sum()} values, the first in {where}; drop those rows.")
    try:
        names = levels_of(column).copy()
    except InvalidColumn as error:
        raise InvalidData(f"task {error}.") from error
    names[missing] = None
    return names


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows sorted by entity, and their places in a padded array [entities, longest].

    Parameters
    ----------
    rows : array of shape [n]
        Numbers of the rows, those of an entity together.
    entity, place : array of shape [n]
        Where each of them lies in the padded array.
    shape : (int, int)
        Entities, and rows of the longest.
    """

    rows: NDArray[np.int64]
    entity: NDArray[np.int64]
    place: NDArray[np.int64]
    shape: tuple[int, int]

    @classmethod
    def of(cls, entity: NDArray[np.int64], n_entities: int) -> Self:
        """Lay out the rows of entities 0 .. n_entities - 1, of which some may have none; -1 leaves a row out."""
        rows = np.argsort(entity, kind="stable")
        rows = rows[entity[rows] >= 0]
        count = np.bincount(entity[rows], minlength=n_entities)
        place = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
        return cls(rows, entity[rows], place, (n_entities, max(1, int(count.max(initial=0)))))

    @property
    def mask(self) -> NDArray[np.bool_]:
        """True where a row lies, [entities, longest]."""
        mask = np.zeros(self.shape, dtype=bool)
        mask[self.entity, self.place] = True
        return mask

    def padded(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return values [n, ...] of the rows as [entities, longest, ...], zero where padded."""
        array = np.zeros((*self.shape, *values.shape[1:]), dtype=values.dtype)
        array[self.entity, self.place] = values[self.rows]
        return array


def size_groups(count: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number groups of entities whose rows, [entities], differ at most by a factor of 4: padding costs no more."""
    _, group = np.unique(np.ceil(np.log2(np.maximum(count, 1)) / 2), return_inverse=True)
    return np.asarray(group)


def alike_in_size(entity: NDArray[np.int64], most_rows: int) -> Iterator[NDArray[np.int64]]:
    """Yield entities in groups, which padded to the longest have at most ``most_rows`` places.

    Parameters
    ----------
    entity : array of shape [n]
        Whose each row is.
    most_rows : int
        A single entity may have more.
    """
    found, count = np.unique(entity, return_counts=True)
    order = np.argsort(count, kind="stable")
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - start) * count[order[end]] > most_rows:
            yield found[order[start:end]]
            start = end


def numbers_of_entities(names: NDArray[np.object_], known: NDArray[np.object_]) -> NDArray[np.int64]:
    """Return the place of each name among those known; of any other, the number after the last."""
    number = pd.Index(known, dtype=object).get_indexer(pd.Index(names, dtype=object))
    return np.where(number < 0, len(known), number)

"""In which order the rows of an entity get their labels, and which rows are asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import autometa as am

Places = NDArray[np.int64]
"""Places of rows within their entity, [entities, n]; -1 is padding."""


def rows_to_label(
    sizes: NDArray[np.int64],
    n_rows: int,
    n_query: int,
    times: NDArray[np.float64] | None,
    seed: int,
    *labels: int | str,
) -> tuple[Places, Places]:
    """Return the rows that get labels, the first one first, and those asked for, which are the same for every number.

    Asked for are the rows beyond ``n_rows``, or one in five if that is more, and at most ``n_query``.

    Parameters
    ----------
    sizes : array of shape [entities]
        Rows of each.
    n_rows, n_query : int
        Most rows that get labels, and that are asked for.
    times : array of shape [entities, longest], optional
        Earlier rows get their labels first, and those asked for are later than all of them. Left out: in any order.
    seed, *labels
        As for :func:`autometa.draw_uniform`.
    """
    longest = int(sizes.max())
    exists = np.arange(longest) < sizes[:, None]
    asked = np.minimum(n_query, np.maximum(sizes - n_rows, -(-sizes // 5)))
    known = np.minimum(sizes - asked, n_rows)
    keys = am.draw_uniform((len(sizes), longest), seed, *labels, "labelled")
    keys = np.where(exists, keys if times is None else times, np.inf)
    order = np.argsort(keys, axis=1, kind="stable")
    place = np.arange(longest)
    is_free = (place >= known[:, None]) & exists
    chance = np.where(is_free, am.draw_uniform((len(sizes), longest), seed, *labels, "asked"), np.inf)
    free = np.take_along_axis(order, np.argsort(chance, axis=1, kind="stable"), axis=1)
    return _first(order, known), _first(free, asked)


def _first(places: Places, n: NDArray[np.int64]) -> Places:
    """The first ``n`` places of each entity, at least one wide."""
    width = max(1, int(n.max()))
    return np.where(np.arange(width) < n[:, None], places[:, :width], -1)

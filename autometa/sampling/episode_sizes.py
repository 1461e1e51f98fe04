"""How many classes, support and query images a task has: fixed, uniform between bounds, or by Meta-Dataset's rule."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from autometa.checks import is_whole
from autometa.errors import InvalidParameter
from autometa.sampling.random_draws import draw_uniform

VARIED = "varied"
"""Asks for the rule of Meta-Dataset (Triantafillou et al. 2020, section 3.2 and the appendix on episode sampling)."""
WAYS = (5, 50)
"""Fewest and most classes of a task under the rule."""
MOST_QUERY, MOST_SUPPORT, MOST_PER_CLASS = 10, 500, 100
"""Most queries of a class, most support images of a task, and most that one class adds to the support's size."""
WEIGHTS = (0.5, 2.0)
"""Between which factors the share of a class in the support is changed, uniformly in their logarithms."""


def check_size(name: str, value: Any, least: int) -> None:
    """Refuse what is neither an integer, nor a pair of them in order, nor ``"varied"``.

    Raises
    ------
    InvalidParameter
        Names the parameter, the value and what would work.
    """
    if isinstance(value, str) and value == VARIED:
        return
    if isinstance(value, (tuple, list)):
        if len(value) != 2 or not is_whole(value[0], least) or not is_whole(value[1], value[0]):
            raise InvalidParameter(
                f"{name}={value!r} must be a pair (low, high) of integers with {least} <= low <= high."
            )
    elif not is_whole(value, least):
        raise InvalidParameter(
            f"{name}={value!r} must be an integer of at least {least}, a pair (low, high) or {VARIED!r}."
        )


def bounds_of(value: Any) -> tuple[int, int]:
    """Smallest and largest number that an integer or a pair stands for."""
    low, high = value if isinstance(value, (tuple, list)) else (value, value)
    return int(low), int(high)


def draw_between(
    low: int, high: NDArray[np.int64] | int, n_tasks: int, seed: int, *labels: int | str
) -> NDArray[np.int64]:
    """Integers from ``low`` to ``high`` inclusive, one for each task; nothing is drawn where there is no choice."""
    span = np.broadcast_to(np.asarray(high, dtype=np.int64) - low, n_tasks)
    if not span.any():
        return np.full(n_tasks, low)
    return low + (draw_uniform((n_tasks,), seed, *labels) * (span + 1)).astype(np.int64)


def varied_queries(counts: NDArray[np.int64], n_query: int) -> NDArray[np.int64]:
    """Queries per class [tasks]: as many as asked for, at most 10 and at most half of the task's smallest class.

    Parameters
    ----------
    counts : array of shape [tasks, way], int64
        Images of every class; 0 where a task has fewer classes.
    n_query : int
    """
    smallest = np.where(counts > 0, counts, np.iinfo(np.int64).max).min(axis=1)
    return np.asarray(np.minimum(min(n_query, MOST_QUERY), smallest // 2), dtype=np.int64)


def varied_shots(
    counts: NDArray[np.int64], n_query: NDArray[np.int64], seed: int, *labels: int | str
) -> NDArray[np.int64]:
    """Support images of every class by Meta-Dataset's rule, [tasks, way]; 0 where a task has fewer classes.

    The support's size is ``min(500, sum over classes of ceil(β min(100, images left)))`` with one β ~ U(0, 1] per
    task. Every class gets one image, and the rest is shared out in proportion to ``exp(α) · images of the class``
    with α ~ U[log 0.5, log 2) for each class, rounded down, as far as images are left beside the queries.

    Parameters
    ----------
    counts : array of shape [tasks, way], int64
        Images of every class; 0 where a task has fewer classes.
    n_query : array of shape [tasks], int64
        Queries per class, for which images are kept.
    seed, *labels
        As for :func:`draw_uniform`.
    """
    exists = counts > 0
    left = np.where(exists, counts - n_query[:, None], 0)
    beta = 1 - draw_uniform((len(counts), 1), seed, *labels, "support size")
    size = np.ceil(beta * np.minimum(MOST_PER_CLASS, left)).sum(axis=1, keepdims=True)
    spare = np.minimum(MOST_SUPPORT, size) - exists.sum(axis=1, keepdims=True)
    low, high = np.log(WEIGHTS)
    weight = counts * np.exp(low + (high - low) * draw_uniform(counts.shape, seed, *labels, "class weights"))
    wanted = 1 + np.floor(spare * weight / weight.sum(axis=1, keepdims=True)).astype(np.int64)
    return np.where(exists, np.minimum(wanted, left), 0)


def most_varied_shots(counts: NDArray[np.int64], ways: tuple[int, int], n_query: int) -> int:
    """No class of any task gets more support images than this by Meta-Dataset's rule.

    Parameters
    ----------
    counts : array of shape [n_classes], int64
        Images of the classes that tasks are drawn from.
    ways : (int, int)
        Fewest and most classes of a task.
    n_query : int
        Queries per class asked for.
    """
    fewest = counts.min()
    left = counts - min(n_query, MOST_QUERY, fewest // 2)
    n_way = np.arange(ways[0], ways[1] + 1)[:, None]
    size = np.minimum(MOST_SUPPORT, n_way * min(MOST_PER_CLASS, left.max()))
    # The largest share is that of a class weighted by the largest factor beside classes of the fewest images.
    share = WEIGHTS[1] * counts / (WEIGHTS[1] * counts + WEIGHTS[0] * (n_way - 1) * fewest)
    return int(np.minimum(left, 1 + np.floor(share * (size - n_way))).max())

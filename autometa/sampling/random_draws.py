"""Random numbers for task samplers: streams that depend on their labels alone, and draws without replacement."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autometa.contracts.seeding import derive_seed


def draw_uniform(shape: tuple[int, ...], seed: int, *labels: int | str) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), one stream for each seed and labels.

    With tasks on the first axis, the numbers of a task do not depend on how many tasks follow.

    Parameters
    ----------
    shape : tuple of int
    seed : int
    *labels : int or str
        What the numbers are for, such as the split and ``"classes"``.
    """
    return np.random.default_rng(derive_seed(seed, *labels)).random(shape)


def draw_distinct(
    sizes: NDArray[np.int64], k: int, seed: int, *labels: int | str, each: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Draw k distinct numbers from ``range(size)`` for every size, in random order.

    Floyd's sampling without replacement (Bentley & Floyd 1987, "A sample of brilliance"), vectorised over
    all sizes: the cost grows with k, not with the sizes.

    Parameters
    ----------
    sizes : array of shape [tasks, ...]
        Each at least k.
    k : int
    seed, *labels
        As for :func:`draw_uniform`.
    each : array of the shape of ``sizes``, optional
        How many to draw for every size, at most k, where they differ; what is drawn depends on k too.

    Returns
    -------
    array of shape [tasks, ..., k], int64
        With ``each``, its last axis is as long as the largest of them, and places beyond a size's own hold 0.
    """
    if each is not None:
        return _draw_each(sizes, k, each, seed, *labels)
    uniform = draw_uniform((*sizes.shape, k), seed, *labels, "draw")
    drawn = np.empty(uniform.shape, dtype=np.int64)
    for i in range(k):
        last = sizes - k + i
        candidate = (uniform[..., i] * (last + 1)).astype(np.int64)
        taken = (drawn[..., :i] == candidate[..., None]).any(-1)
        drawn[..., i] = np.where(taken, last, candidate)
    order = np.argsort(draw_uniform(uniform.shape, seed, *labels, "order"), axis=-1)
    return np.take_along_axis(drawn, order, axis=-1)


def _draw_each(
    sizes: NDArray[np.int64], k: int, each: NDArray[np.int64], seed: int, *labels: int | str
) -> NDArray[np.int64]:
    shape = (*sizes.shape, k)
    # From the largest number to draw to the smallest, so that those with draws left always come first.
    cells = np.argsort(-each, axis=None, kind="stable")
    size, n_draws = sizes.ravel()[cells], each.ravel()[cells]
    longest = int(n_draws[0])
    uniform = draw_uniform(shape, seed, *labels, "draw").reshape(-1, k)[cells, :longest]
    drawn = np.zeros(uniform.shape, dtype=np.int64)
    for i in range(longest):
        n = int(np.searchsorted(-n_draws, -i))
        last = size[:n] - n_draws[:n] + i
        candidate = (uniform[:n, i] * (last + 1)).astype(np.int64)
        taken = (drawn[:n, :i] == candidate[:, None]).any(-1)
        drawn[:n, i] = np.where(taken, last, candidate)
    keys = draw_uniform(shape, seed, *labels, "order").reshape(-1, k)[cells, :longest]
    keys[np.arange(longest) >= n_draws[:, None]] = np.inf
    found = np.empty_like(drawn)
    found[cells] = np.take_along_axis(drawn, np.argsort(keys, axis=-1), axis=-1)
    return found.reshape(*sizes.shape, longest)

"""Mean and deviation of numbers of any size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGEST = float(np.finfo(np.float32).max)
_LEAST = float(np.finfo(np.float64).tiny)
_LARGE = 1e12
_SAFE = 400
"""Powers of two whose squares, and sums of many of them, a float64 holds."""
_NOISE = 10 * float(np.finfo(np.float64).eps)


def mean_and_scale(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure mean and standard deviation of the columns of ``x`` [n, ...].

    A constant column has itself as its mean and the scale 1, or its own size where that is so large that rounding
    would stand out. Very large and very small numbers are first divided by a power of two near the largest, so that
    no square overflows or vanishes; all other bits of the result are the same with and without.
    """
    low, high = x.min(axis=0), x.max(axis=0)
    largest = np.maximum(high, -low)
    exponent = np.frexp(largest)[1]
    if np.abs(exponent).max(initial=0) < _SAFE:
        mean, scale = x.mean(axis=0), x.std(axis=0)
    else:
        unit = np.ldexp(x, -exponent)
        mean, scale = np.ldexp(unit.mean(axis=0), exponent), np.ldexp(unit.std(axis=0), exponent)
    # Rounding leaves a constant column a deviation of about eps times its size, which is no information.
    constant = (scale <= _NOISE * largest) | (scale == 0)
    mean = np.where(low == high, low, mean)
    return mean, np.where(constant, np.where(largest > _LARGE, largest, 1.0), scale)


def standardise(x: NDArray[np.float64], mean: Any, scale: Any) -> NDArray[np.float64]:
    """Return ``(x - mean) / scale``, cut to what float32 can hold; NaN where it is no number, as ``inf - inf``."""
    with np.errstate(over="ignore", invalid="ignore"):
        distance = x - mean
        if not np.isfinite(distance).all():  # of halves it is
            distance, scale = np.ldexp(x, -1) - np.ldexp(mean, -1), np.maximum(np.ldexp(scale, -1), _LEAST)
        return np.asarray(np.clip(distance / scale, -_LARGEST, _LARGEST), dtype=np.float64)

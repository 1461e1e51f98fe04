"""Random numbers for one block of tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

import autometa as am


class Draws:
    """A stream of random numbers that depends on a seed and labels alone; tensors are float64 or int64.

    Parameters
    ----------
    seed : int
    *labels : int or str
        What the numbers are for.
    """

    def __init__(self, seed: int, *labels: int | str) -> None:
        self._generator = np.random.default_rng(am.derive_seed(seed, *labels))

    def normal(self, *shape: int) -> Tensor:
        """Draw from the standard normal distribution."""
        return torch.from_numpy(self._generator.standard_normal(shape))

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Draw from [low, high)."""
        return torch.from_numpy(self._generator.uniform(low, high, shape))

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Draw numbers whose logarithms are uniform."""
        return self.uniform(math.log(low), math.log(high), *shape).exp()

    def whole(self, low: int, high: int, *shape: int) -> Tensor:
        """Draw integers from ``low`` to ``high`` inclusive."""
        return torch.from_numpy(self._generator.integers(low, high + 1, shape))

    def shares(self, concentration: float, n_tables: int, n: int) -> Tensor:
        """Draw shares that sum to 1 from a symmetric Dirichlet distribution, [tables, n]."""
        return torch.from_numpy(self._generator.dirichlet([concentration] * n, n_tables))

    def orders(self, *shape: int) -> Tensor:
        """Draw permutations along the last axis."""
        return self.uniform(0, 1, *shape).argsort(dim=-1)

    def number(self, low: float, high: float) -> float:
        """Draw one number from [low, high)."""
        return float(self._generator.uniform(low, high))

    def log_number(self, low: float, high: float) -> float:
        """Draw one number whose logarithm is uniform."""
        return math.exp(self.number(math.log(low), math.log(high)))

    def count(self, low: int, high: int) -> int:
        """Draw one integer from ``low`` to ``high`` inclusive."""
        return int(self._generator.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self.number(0, 1) < probability

    def one_of(self, weights: Sequence[float]) -> int:
        """Draw an index in proportion to weights."""
        total = sum(weights)
        return int(self._generator.choice(len(weights), p=[weight / total for weight in weights]))

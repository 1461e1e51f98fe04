"""MAML's regression tasks: sine waves of random amplitude and phase."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import autometa as am


class Sinusoid(am.TaskSampler):
    """y = A sin(x - φ) with A ~ U[0.1, 5], φ ~ U[0, π] and x ~ U[-5, 5] (Finn et al. 2017, section 5.1).

    Every task is a new function. The splits draw from separate random streams, and amplitude and phase are
    continuous (53 random bits each), so that no two splits share a function.

    Parameters
    ----------
    n_shot : int, default=10
        Support points of a task.
    n_query : int, default=10
        Query points of a task.
    """

    def __init__(self, *, n_shot: int = 10, n_query: int = 10) -> None:
        self.n_shot = n_shot
        self.n_query = n_query

    @property
    def info(self) -> am.TaskInfo:
        """One input, one real target in its own units.

        Raises
        ------
        InvalidParameter
            ``n_shot`` or ``n_query`` is not a positive integer.
        """
        check_points(self)
        return am.TaskInfo(
            problem="regression", input_shape=(1,), n_outputs=1, n_shot=self.n_shot, n_query=self.n_query
        )

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        """Draw tasks; inputs [tasks, n, 1], targets [tasks, n, 1], float32."""
        am.check_draw(n_tasks, split, seed)
        info = self.info

        def uniform(purpose: str, low: float, high: float, n: int) -> NDArray[np.float64]:
            return np.random.default_rng(am.derive_seed(seed, split, purpose)).uniform(low, high, (n_tasks, n))

        amplitude = uniform("amplitude", 0.1, 5.0, 1)
        phase = uniform("phase", 0.0, np.pi, 1)

        def examples(purpose: str, n: int) -> am.Examples:
            x = uniform(purpose, -5.0, 5.0, n)
            y = amplitude * np.sin(x - phase)
            return am.Examples(_column(x), _column(y))

        return am.TaskBatch(support=examples("support", info.n_shot), query=examples("query", info.n_query))

    def describe(self) -> dict[str, Any]:
        """The distribution in words."""
        return {"function": "A sin(x - phase)", "A": [0.1, 5.0], "phase": [0.0, float(np.pi)], "x": [-5.0, 5.0]}


def check_points(sampler: am.TaskSampler) -> None:
    """Refuse numbers of support and query points that are not positive integers.

    Raises
    ------
    InvalidParameter
        Names the parameter and its value.
    """
    for name in ("n_shot", "n_query"):
        value = getattr(sampler, name)
        if not isinstance(value, Integral) or value < 1:
            raise am.InvalidParameter(f"{name}={value!r} must be a positive integer.")


def _column(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).unsqueeze(-1)

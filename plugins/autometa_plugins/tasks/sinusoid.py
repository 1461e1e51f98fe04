"""MAML's regression tasks: sine waves of random amplitude and phase."""

from __future__ import annotations

from typing import Any

import numpy as np

import autometa as am
from autometa_plugins.tasks.points import Array, column, point_info, stream


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
        return point_info(1, self.n_shot, self.n_query, of="task sampler 'sinusoid'")

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        """Draw tasks; inputs [tasks, n, 1], targets [tasks, n, 1], float32."""
        am.check_draw(n_tasks, split, seed)
        info = self.info

        def uniform(purpose: str, low: float, high: float, n: int) -> Array:
            return stream(seed, split, purpose).uniform(low, high, (n_tasks, n))

        amplitude = uniform("amplitude", 0.1, 5.0, 1)
        phase = uniform("phase", 0.0, np.pi, 1)

        def examples(purpose: str, n: int) -> am.Examples:
            x = uniform(purpose, -5.0, 5.0, n)
            y = amplitude * np.sin(x - phase)
            return am.Examples(column(x), column(y))

        return am.TaskBatch(support=examples("support", info.n_shot), query=examples("query", info.n_query))

    def describe(self) -> dict[str, Any]:
        """The distribution in words."""
        return {"function": "A sin(x - phase)", "A": [0.1, 5.0], "phase": [0.0, float(np.pi)], "x": [-5.0, 5.0]}

"""Regression tasks that look alike nowhere: sums of two sine waves, each seen through a window of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

import autometa as am
from autometa_plugins.tasks.points import float32, point_info, stream


class Harmonics(am.TaskSampler):
    """y = A₁ sin(ω x + b₁) + A₂ sin(2 ω x + b₂) + ε, a sine wave and its first overtone.

    After Lacoste et al. 2018, section on synthetic regression, with the constants of torchmeta's ``Harmonic``:
    ω ~ U[5, 7], b₁ and b₂ ~ U[0, 2π], A₁ and A₂ ~ N(0, 1), and inputs x ~ N(μ, 1) around a centre μ ~ U[-4, 4] of
    the task. A task shows a window some four units wide, in which the wave swings three to nine times. It is much
    harder than ``sinusoid``, as tasks share neither place nor frequency. Targets are noisy, so no learner gets below a
    mean squared error of ``noise²``.

    Parameters
    ----------
    n_shot : int, default=10
        Support points of a task.
    n_query : int, default=10
        Query points of a task.
    noise : float, default=0.1
        Standard deviation of ε; 0 for none.
    """

    def __init__(self, *, n_shot: int = 10, n_query: int = 10, noise: float = 0.1) -> None:
        self.n_shot = n_shot
        self.n_query = n_query
        self.noise = noise

    @property
    def info(self) -> am.TaskInfo:
        """One input, one real target in its own units.

        Raises
        ------
        InvalidParameter
            ``n_shot`` or ``n_query`` is not a positive integer, or the noise is negative.
        """
        am.check_real("noise", self.noise, least=0, of="task sampler 'harmonics'")
        return point_info(1, self.n_shot, self.n_query, of="task sampler 'harmonics'")

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        """Draw tasks; inputs [tasks, n, 1], targets [tasks, n, 1], float32."""
        am.check_draw(n_tasks, split, seed)
        info = self.info

        frequency = stream(seed, split, "frequency").uniform(5.0, 7.0, (n_tasks, 1, 1)) * np.array([1.0, 2.0])
        phase = stream(seed, split, "phase").uniform(0.0, 2 * np.pi, (n_tasks, 1, 2))
        amplitude = stream(seed, split, "amplitude").standard_normal((n_tasks, 1, 2))
        centre = stream(seed, split, "centre").uniform(-4.0, 4.0, (n_tasks, 1, 1))

        def examples(part: str, n: int) -> am.Examples:
            x = centre + stream(seed, split, f"{part} inputs").standard_normal((n_tasks, n, 1))
            waves = (amplitude * np.sin(frequency * x + phase)).sum(axis=-1, keepdims=True)
            noise = self.noise * stream(seed, split, f"{part} noise").standard_normal((n_tasks, n, 1))
            return am.Examples(float32(x), float32(waves + noise))

        return am.TaskBatch(support=examples("support", info.n_shot), query=examples("query", info.n_query))

    def describe(self) -> dict[str, Any]:
        """The distribution in words."""
        return {
            "function": "A1 sin(w x + b1) + A2 sin(2 w x + b2) + noise",
            "w": [5.0, 7.0],
            "b": [0.0, float(2 * np.pi)],
            "A": "N(0, 1)",
            "x": "N(mu, 1), mu in [-4, 4]",
            "noise": float(self.noise),
        }

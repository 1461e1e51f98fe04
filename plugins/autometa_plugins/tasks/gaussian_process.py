"""The tasks of neural processes: functions drawn from Gaussian processes, with the best possible prediction known."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import autometa as am
from autometa_plugins.tasks.points import Array, column, stream

RANGE, LENGTH, HEIGHT, PERIOD = (-2.0, 2.0), (0.1, 0.6), (0.1, 1.0), (0.1, 0.5)
VARIED = "varied"
FEWEST, MOST = 3, 49
"""Fewest support, and fewest query, points of a task whose sizes vary, and most points of both together."""
LARGEST = 4000
"""Most points of a part that a user may ask for."""
JITTER = 1e-9
"""Added to the diagonal, in units of the variance, so that functions without noise can be drawn."""


class GaussianProcess(am.TaskSampler):
    """y = f(x) + ε with f from a Gaussian process whose length and height differ by task, x ~ U[-2, 2], ε ~ N(0, σ²).

    The protocol by which neural processes are compared (Lee et al. 2020, section 5.1; Nguyen & Grover 2022, section
    4.1): length scale ~ U[0.1, 0.6], standard deviation of f ~ U[0.1, 1], period (periodic only) ~ U[0.1, 0.5]; from 3
    to 46 support points and from 3 to as many query points as make 49 together. Sizes differ by task, where the papers
    draw them once for each batch.

    The sampler knows the hyperparameters of every task, so it can give the best possible prediction (:meth:`oracle`)
    and its log-likelihood (:meth:`oracle_log_likelihood`), about 1.51 for "rbf". A learner has to infer the
    hyperparameters from the support set, and stays below on average.

    Parameters
    ----------
    kernel : {"rbf", "matern", "periodic"}, default="rbf"
        Covariance of f; "matern" has ν = 5/2.
    n_shot : int, (int, int) or "varied", default="varied"
        Support points of a task: a number, uniform from a pair's first to its second, or by the protocol.
    n_query : int, (int, int) or "varied", default="varied"
        Query points of a task, likewise.
    noise : float, default=0.02
        σ; 0 for none.

    Examples
    --------
    >>> import autometa as am
    >>> tasks = am.make_tasks("gaussian_process")
    >>> batch = tasks.sample(200, split="test", seed=0)
    >>> mean, std = tasks.oracle(200, split="test", seed=0)
    >>> mean.shape == std.shape == batch.query.y.shape
    True
    """

    def __init__(
        self,
        *,
        kernel: Literal["rbf", "matern", "periodic"] = "rbf",
        n_shot: int | tuple[int, int] | Literal["varied"] = "varied",
        n_query: int | tuple[int, int] | Literal["varied"] = "varied",
        noise: float = 0.02,
    ) -> None:
        self.kernel = kernel
        self.n_shot = n_shot
        self.n_query = n_query
        self.noise = noise

    @property
    def info(self) -> am.TaskInfo:
        """One input, one real target in its own units.

        Raises
        ------
        InvalidParameter
            The kernel is unknown, a size means nothing, or the noise is negative.
        """
        am.check_choice("kernel", self.kernel, KERNELS, of="task sampler 'gaussian_process'")
        am.check_real("noise", self.noise, least=0, of="task sampler 'gaussian_process'")
        fewest, most = _bounds("n_shot", self.n_shot, MOST - FEWEST)
        if self.n_query == VARIED and most > MOST - FEWEST:
            raise am.InvalidParameter(
                f"n_query='varied' leaves {MOST} points to support and query together; "
                f"n_shot={self.n_shot!r} must not exceed {MOST - FEWEST}, or n_query be given."
            )
        return am.TaskInfo(
            problem="regression",
            input_shape=(1,),
            n_outputs=1,
            n_shot=most,
            n_query=_bounds("n_query", self.n_query, MOST - fewest)[1],
        )

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        """Draw tasks; inputs [tasks, n, 1], targets [tasks, n, 1], float32, padded to the largest task drawn."""
        am.check_draw(n_tasks, split, seed)
        drawn = self._draw(n_tasks, split, seed)
        zeros = np.zeros(n_tasks, dtype=np.int64)
        return am.TaskBatch(
            support=_examples(drawn, zeros, drawn.n_shot), query=_examples(drawn, drawn.n_shot, drawn.n_query)
        )

    def oracle(self, n_tasks: int, *, split: str = "test", seed: int) -> tuple[Tensor, Tensor]:
        """Best possible prediction for the queries of the tasks that :meth:`sample` gives for the same arguments.

        Mean and standard deviation of new observations given the support set and the true hyperparameters, each
        [tasks, n_query, 1], float64; padded places hold 0 and 1. No prediction has a smaller expected squared error
        or a larger expected log-likelihood.
        """
        am.check_draw(n_tasks, split, seed)
        drawn = self._draw(n_tasks, split, seed)
        query = _window(drawn.n_shot, drawn.n_query)
        of_task = np.arange(n_tasks)[:, None]
        known = np.arange(drawn.x.shape[1]) < drawn.n_shot[:, None]
        # Places that are not of the support become independent of everything and of variance 1: they change nothing.
        among = np.where(known[:, :, None] & known[:, None, :], drawn.covariance, np.eye(drawn.x.shape[1]))
        between = drawn.covariance[of_task, query.places] * known[:, None, :]
        factor = torch.linalg.cholesky(torch.from_numpy(among))
        weights = torch.cholesky_solve(torch.from_numpy(between).mT, factor)
        mean = weights.mT @ torch.from_numpy(drawn.y * known).unsqueeze(-1)
        prior = drawn.covariance[of_task, query.places, query.places]
        variance = torch.from_numpy(prior) - (weights.mT * torch.from_numpy(between)).sum(dim=-1)
        exists = torch.from_numpy(query.mask)
        # Rounding may leave slightly less than the noise.
        std = variance.clamp(min=self.noise**2 + JITTER * HEIGHT[0] ** 2).sqrt()
        return mean * exists.unsqueeze(-1), std.where(exists, 1.0).unsqueeze(-1)

    def oracle_log_likelihood(self, n_tasks: int, *, split: str = "test", seed: int) -> Tensor:
        """Mean log-likelihood, in nats, that :meth:`oracle` gives the query targets of each task, [tasks], float64."""
        mean, std = self.oracle(n_tasks, split=split, seed=seed)
        query = self.sample(n_tasks, split=split, seed=seed).query
        surprise = std.log() + ((query.y - mean) / std).square() / 2 + math.log(2 * math.pi) / 2
        return -(surprise.squeeze(-1) * query.mask).sum(dim=1) / query.mask.sum(dim=1)

    def describe(self) -> dict[str, Any]:
        """The prior, and the scores that no learner beats."""
        info, n_tasks = self.info, 500
        _, std = self.oracle(n_tasks, seed=0)
        mask = self.sample(n_tasks, split="test", seed=0).query.mask
        mse = (std.squeeze(-1).square() * mask).sum(dim=1) / mask.sum(dim=1)
        return {
            "function": f"Gaussian process, kernel {self.kernel}, + noise",
            "length scale": list(LENGTH),
            "standard deviation": list(HEIGHT),
            "x": list(RANGE),
            "most support points": info.n_shot,
            "most query points": info.n_query,
            "noise": float(self.noise),
            "best possible mse": round(float(mse.mean()), 4),
            "best possible log-likelihood": round(float(self.oracle_log_likelihood(n_tasks, seed=0).mean()), 2),
        }

    def _draw(self, n_tasks: int, split: str, seed: int) -> _Drawn:
        """Draw the points of every task, support first, and the covariance of their targets."""
        info = self.info

        def uniform(purpose: str, low: float, high: float, *shape: int) -> Array:
            return low + (high - low) * am.draw_uniform((n_tasks, *shape), seed, split, purpose)

        def size(name: str, low: int, high: NDArray[np.int64] | int) -> NDArray[np.int64]:
            return low + (am.draw_uniform((n_tasks,), seed, split, name) * (high - low + 1)).astype(np.int64)

        n_shot = size("n_shot", *_bounds("n_shot", self.n_shot, MOST - FEWEST))
        fewest, most = _bounds("n_query", self.n_query, MOST)
        n_query = size("n_query", fewest, MOST - n_shot if self.n_query == VARIED else most)
        # As many as the largest possible task has: what is drawn must not depend on which tasks come together.
        n = MOST if self.n_query == VARIED else info.n_shot + most
        x = uniform("inputs", *RANGE, n).astype(np.float32).astype(np.float64)
        length, height = uniform("length", *LENGTH, 1, 1), uniform("height", *HEIGHT, 1, 1)
        period = uniform("period", *PERIOD, 1, 1) if self.kernel == "periodic" else length
        covariance = height**2 * KERNELS[self.kernel](np.abs(x[:, :, None] - x[:, None, :]), length, period)
        covariance += (self.noise**2 + JITTER * height**2) * np.eye(n)
        normal = stream(seed, split, "targets").standard_normal((n_tasks, n, 1))
        return _Drawn(x, (np.linalg.cholesky(covariance) @ normal)[..., 0], covariance, n_shot, n_query)


class _Drawn(NamedTuple):
    x: Array
    """[tasks, n]: the support, then the query, then points that are of neither."""
    y: Array
    covariance: Array
    """Of the targets, noise included, [tasks, n, n]."""
    n_shot: NDArray[np.int64]
    n_query: NDArray[np.int64]


class _Window(NamedTuple):
    places: NDArray[np.int64]
    mask: NDArray[np.bool_]


def _window(first: NDArray[np.int64], count: NDArray[np.int64]) -> _Window:
    """Places ``first`` .. ``first + count - 1`` of every task, padded with place 0, [tasks, max(count)]."""
    steps = np.arange(count.max())
    mask = steps < count[:, None]
    return _Window(np.where(mask, first[:, None] + steps, 0), mask)


def _examples(drawn: _Drawn, first: NDArray[np.int64], count: NDArray[np.int64]) -> am.Examples:
    window = _window(first, count)
    x, y = (np.take_along_axis(part, window.places, axis=1) * window.mask for part in (drawn.x, drawn.y))
    return am.Examples(column(x), column(y), torch.from_numpy(window.mask))


def _bounds(name: str, value: Any, most: int) -> tuple[int, int]:
    """Fewest and most points that a size stands for; ``most`` under the protocol."""
    if isinstance(value, str) and value == VARIED:
        return FEWEST, most
    bounds = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    whole = all(isinstance(bound, Integral) and not isinstance(bound, bool) for bound in bounds)
    if len(bounds) != 2 or not whole or not 1 <= bounds[0] <= bounds[1]:
        raise am.InvalidParameter(
            f"{name}={value!r} must be a positive integer, a pair (low, high) with 1 <= low <= high, or {VARIED!r}."
        )
    if bounds[1] > LARGEST:
        raise am.InvalidParameter(
            f"{name}={value!r} must not exceed {LARGEST}: the covariance of n points has n x n entries."
        )
    return int(bounds[0]), int(bounds[1])


def _rbf(distance: Array, length: Array, period: Array) -> Array:
    return np.asarray(np.exp(-((distance / length) ** 2) / 2))


def _matern(distance: Array, length: Array, period: Array) -> Array:
    scaled = math.sqrt(5) * distance / length
    return np.asarray((1 + scaled + scaled**2 / 3) * np.exp(-scaled))


def _periodic(distance: Array, length: Array, period: Array) -> Array:
    return np.asarray(np.exp(-2 * (np.sin(math.pi * distance / period) / length) ** 2))


KERNELS: dict[str, Callable[[Array, Array, Array], Array]] = {"rbf": _rbf, "matern": _matern, "periodic": _periodic}
"""Correlations by distance, length scale and period."""

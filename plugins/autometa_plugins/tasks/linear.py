"""Linear regression tasks from a Gaussian prior: the one distribution whose best possible learner is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import autometa as am
from autometa_plugins.tasks.points import Array, float32, point_info, stream


class Linear(am.TaskSampler):
    """y = w · x + b + ε with w ~ N(m, s²) per input, b ~ N(0, s_b²), x ~ N(0, 1) and ε ~ N(0, σ²).

    Every task draws its own w and b. The best possible prediction is known, the posterior mean of Bayesian linear
    regression with this prior (:meth:`bayes_optimal`), and so is the score that no learner beats on average
    (:meth:`bayes_mse`). A learner that meta-learns should come close to it, as there is only the prior to learn; one
    that sees the support set alone cannot.

    Parameters
    ----------
    n_features : int, default=4
        Inputs.
    n_shot : int, default=10
        Support points of a task.
    n_query : int, default=10
        Query points of a task.
    prior_mean : float or sequence of float, default=0.0
        m, one for all inputs or one for each.
    prior_scale : float or sequence of float, default=1.0
        s, likewise; 0 for weights that all tasks share.
    intercept_scale : float, default=1.0
        s_b; 0 for no intercept.
    noise : float, default=0.5
        σ, positive.

    Examples
    --------
    >>> import autometa as am
    >>> tasks = am.make_tasks("linear", n_features=3)
    >>> batch = tasks.sample(500, split="test", seed=0)
    >>> mse = (tasks.bayes_optimal(batch) - batch.query.y).square().mean()
    >>> round(float(mse), 2), round(float(tasks.bayes_mse(batch).mean()), 2)
    (0.43, 0.42)
    """

    def __init__(
        self,
        *,
        n_features: int = 4,
        n_shot: int = 10,
        n_query: int = 10,
        prior_mean: float | Sequence[float] = 0.0,
        prior_scale: float | Sequence[float] = 1.0,
        intercept_scale: float = 1.0,
        noise: float = 0.5,
    ) -> None:
        self.n_features = n_features
        self.n_shot = n_shot
        self.n_query = n_query
        self.prior_mean = prior_mean
        self.prior_scale = prior_scale
        self.intercept_scale = intercept_scale
        self.noise = noise

    @property
    def info(self) -> am.TaskInfo:
        """``n_features`` inputs, one real target in its own units.

        Raises
        ------
        InvalidParameter
            A size is not a positive integer, a scale is negative, or the noise is not positive.
        """
        self._prior()
        return point_info(self.n_features, self.n_shot, self.n_query, of="task sampler 'linear'")

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        """Draw tasks; inputs [tasks, n, n_features], targets [tasks, n, 1], float32."""
        am.check_draw(n_tasks, split, seed)
        info = self.info
        mean, scale = self._prior()

        def normal(purpose: str, *shape: int) -> Array:
            return stream(seed, split, purpose).standard_normal((n_tasks, *shape))

        weights = (mean + scale * normal("weights", len(mean)))[:, :, None]

        def examples(part: str, n: int) -> am.Examples:
            x = normal(f"{part} inputs", n, self.n_features).astype(np.float32)
            y = x @ weights[:, :-1] + weights[:, -1:] + self.noise * normal(f"{part} noise", n, 1)
            return am.Examples(torch.from_numpy(x), float32(y))

        return am.TaskBatch(support=examples("support", info.n_shot), query=examples("query", info.n_query))

    def bayes_optimal(self, batch: am.TaskBatch) -> Tensor:
        """What the best possible learner predicts for the query inputs, [tasks, n_query, 1].

        The posterior mean given each task's support set and the prior of this sampler, which has the smallest
        expected squared error of all predictions. Computed in double precision, returned in the inputs' type.
        """
        mean, _ = self._posterior(batch.support)
        assert isinstance(batch.query.x, Tensor)
        return (_with_one(batch.query.x) @ mean).to(batch.query.x.dtype)

    def bayes_mse(self, batch: am.TaskBatch) -> Tensor:
        """Mean squared error that :meth:`bayes_optimal` is to be expected to have on each task's query, [tasks].

        The variance of the posterior predictive at the query inputs, noise included: over many tasks no learner has
        a lower mean squared error than the mean of these.
        """
        _, covariance = self._posterior(batch.support)
        assert isinstance(batch.query.x, Tensor)
        x = _with_one(batch.query.x)
        variance = ((x @ covariance) * x).sum(-1) + self.noise**2
        mask = batch.query.mask
        return ((variance * mask).sum(1) / mask.sum(1).clamp(min=1)).to(batch.query.x.dtype)

    def describe(self) -> dict[str, Any]:
        """The prior, and the score that no learner beats."""
        mean, scale = self._prior()
        optimum = self.bayes_mse(self.sample(1000, split="test", seed=0))
        return {
            "function": "w x + b + noise",
            "prior mean": mean[:-1].tolist(),
            "prior scale": scale[:-1].tolist(),
            "intercept scale": float(scale[-1]),
            "noise": float(self.noise),
            "Bayes-optimal mse": round(float(optimum.double().mean()), 4),
        }

    def _posterior(self, support: am.Examples) -> tuple[Tensor, Tensor]:
        """Mean [tasks, n_features + 1, 1] and covariance of the weights, the intercept last, given the support."""
        assert isinstance(support.x, Tensor)
        prior = [torch.from_numpy(part).to(support.x.device) for part in self._prior()]
        mean, scale = prior[0].unsqueeze(-1), prior[1]
        # In units of the prior's scale, where weights that do not vary need no division by their variance of zero.
        x = _with_one(support.x) * support.mask.unsqueeze(-1)
        scaled = x * scale
        precision = torch.eye(len(scale), dtype=x.dtype, device=x.device) + scaled.mT @ scaled / self.noise**2
        factor = torch.linalg.cholesky(precision)
        left = support.targets().to(x.dtype) - x @ mean
        shift = torch.cholesky_solve(scaled.mT @ left / self.noise**2, factor)
        covariance = torch.cholesky_inverse(factor) * scale * scale.unsqueeze(-1)
        return mean + scale.unsqueeze(-1) * shift, covariance

    def _prior(self) -> tuple[Array, Array]:
        """Means and standard deviations of the weights, the intercept last, [n_features + 1]."""
        whose = "task sampler 'linear'"
        am.check_int("n_features", self.n_features, of=whose)
        parts = []
        for name in ("prior_mean", "prior_scale"):
            try:
                value = np.asarray(getattr(self, name), dtype=np.float64)
            except (TypeError, ValueError):
                value = np.array(np.nan)
            if value.shape not in ((), (self.n_features,)) or not np.isfinite(value).all():
                raise am.InvalidParameter(
                    f"{name}={getattr(self, name)!r} of {whose} must be a number, or n_features={self.n_features} of "
                    "them."
                )
            parts.append(np.broadcast_to(value, self.n_features))
        if parts[1].min() < 0:
            raise am.InvalidParameter(f"prior_scale={self.prior_scale!r} of {whose} must not be negative.")
        am.check_real("intercept_scale", self.intercept_scale, least=0, of=whose)
        am.check_real("noise", self.noise, above=0, of=whose)
        return np.append(parts[0], 0.0), np.append(parts[1], self.intercept_scale)


def _with_one(x: Tensor) -> Tensor:
    """Inputs in double precision with a last one for the intercept, [tasks, n, n_features + 1]."""
    return torch.cat([x, torch.ones_like(x[..., :1])], dim=-1).double()

"""Effects of an entity of many rows, learned from all of them at some of them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.lapack import dpstrf
from scipy.optimize import minimize
from torch import Tensor

import autometa as am
from autometa_plugins.tabular.effects.kernels import EffectColumns, kernel
from autometa_plugins.tabular.effects.posterior import class_noise

MOST_ROWS = 1000
"""Rows of an entity whose covariance is factored as it is."""
_LEAST_NEW = 1e-9
"""Share of the largest variance that a row must add to those before it."""
_CURVATURE = 0.25
"""Largest curvature of the log-likelihood of two classes."""
_TINY = 1e-12
"""Variance that keeps matrices definite where there are no effects."""


class Inducing:
    """Some rows of an entity at which effects are learned, and how all rows depend on these.

    The covariance of the effects on all rows is taken for ``Φ' Φ``, with ``Φ = L⁻¹ k(z, x)`` and ``L L' = k(z, z)``
    (Quiñonero-Candela & Rasmussen 2005, subset of regressors). It is exact where the rows z span all effects, as those
    of a few columns without curves do. All rows together are then worth the rows z with noise that is correlated, so
    that what comes of them is asked like what comes of few rows.

    Parameters
    ----------
    x : Tensor of shape [n, features]
    targets : Tensor of shape [n, outputs]
    weights : Tensor of shape [kernels]
    columns : EffectColumns
    """

    def __init__(self, x: Tensor, targets: Tensor, weights: Tensor, columns: EffectColumns) -> None:
        chosen = x[_spread(x, targets, MOST_ROWS)]
        gram = kernel(chosen, chosen, weights, columns)
        self.x = chosen[_independent(gram)]
        self.gram = kernel(self.x, self.x, weights, columns) + _TINY * torch.eye(len(self.x), dtype=x.dtype)
        self.lower = torch.linalg.cholesky(self.gram)
        self.features = torch.linalg.solve_triangular(self.lower, kernel(self.x, x, weights, columns), upper=False)

    def solve(self, residuals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Learn effects on real targets from residuals [n, outputs].

        Returns
        -------
        solved : Tensor of shape [m, outputs]
            The kernel to the rows ``x`` times it is an effect.
        factor : Tensor of shape [m, m]
            Cholesky factor of the covariance of these rows with their noise.
        distance : Tensor of shape [outputs]
            Squares of the residuals beside what their covariance lets expect.
        """
        square = self.features @ self.features.T
        whole = torch.linalg.cholesky(square + torch.eye(len(square), dtype=square.dtype))
        pulled = self.features @ residuals
        coefficients = torch.cholesky_solve(pulled, whole)
        distance = residuals.square().sum(0) - (pulled * coefficients).sum(0)
        return self._solved(coefficients), self._factor(square), distance

    def solve_classes(self, log_odds: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Learn the most likely effects on log-odds [n, classes]; return what :meth:`solve` does but the distance."""
        square = self.features @ self.features.T
        eye = torch.eye(len(square), dtype=square.dtype)
        bound = torch.linalg.cholesky(_CURVATURE * square + eye)
        shape = (len(square), targets.shape[1])

        def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            coefficients = self._turned(bound, torch.from_numpy(flat).reshape(shape))
            logs = (log_odds + self.features.T @ coefficients).log_softmax(-1)
            value = 0.5 * coefficients.square().sum() - (logs * targets).sum()
            slope = coefficients + self.features @ (logs.exp() - targets)
            return float(value), torch.linalg.solve_triangular(bound, slope, upper=False).flatten().numpy()

        options = {"maxiter": 500, "ftol": 1e-12, "gtol": 1e-6}
        found = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options=options).x
        coefficients = self._turned(bound, torch.from_numpy(found).reshape(shape))
        noise = class_noise((log_odds + self.features.T @ coefficients).softmax(-1))
        return self._solved(coefficients), self._factor((self.features / noise) @ self.features.T)

    def _turned(self, lower: Tensor, values: Tensor) -> Tensor:
        found: Tensor = torch.linalg.solve_triangular(lower.T, values, upper=True)
        return found

    def _solved(self, coefficients: Tensor) -> Tensor:
        return self._turned(self.lower, coefficients)

    def _factor(self, square: Tensor) -> Tensor:
        """Factor the covariance of the rows ``x`` with the noise that all rows leave there."""
        known = torch.linalg.cholesky(square + _TINY * torch.eye(len(square), dtype=square.dtype))
        root = torch.linalg.solve_triangular(known, self.lower.T, upper=False)
        found: Tensor = torch.linalg.cholesky(self.gram + root.T @ root)
        return found


def _spread(x: Tensor, targets: Tensor, n: int) -> Tensor:
    """Places of ``n`` rows, evenly spread along a direction that is drawn; the order of the rows does not matter."""
    values = torch.cat([x, targets], dim=1)
    direction = torch.from_numpy(am.draw_uniform((values.shape[1],), 0, "inducing rows")).to(values) - 0.5
    order = (values @ direction).argsort(stable=True)
    return order[torch.arange(n) * len(x) // n]


def _independent(gram: Tensor) -> Tensor:
    """Places of rows of which none follows from the others, by pivoted Cholesky decomposition; at least one."""
    least = _LEAST_NEW * float(gram.diagonal().max())
    _, pivots, rank, _ = dpstrf(gram.numpy(), tol=least, lower=1)
    return torch.from_numpy(np.sort(pivots[: max(1, rank)] - 1).astype(np.int64))

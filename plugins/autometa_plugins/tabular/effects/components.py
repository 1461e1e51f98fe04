"""Variance components: how much of what sets entities apart is an intercept, slopes and curves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import digamma, gammaln
from torch import Tensor

_LEAST, _MOST = 1e-5, 1e4
"""Bounds of a variance in units of the noise; what ends near the lower one is no effect."""
_FEWEST_DEGREES, _MOST_DEGREES = 2.0, 200.0
_N_STEPS = 40


@dataclass(frozen=True, slots=True)
class Components:
    """What residuals of training entities say about the effects of a new one.

    Parameters
    ----------
    weights : Tensor of shape [groups]
        Variance of the effect of every group of kernels, in units of the noise.
    noise : float
        Variance of the noise.
    degrees : float
        Degrees of freedom of the scale by which one entity's numbers are larger than another's.
    """

    weights: Tensor
    noise: float
    degrees: float


class Likelihood:
    """Residuals of entities, and the sums of kernels that effects may have.

    The residuals of an entity are multivariate t: Gaussian, with a scale of the entity's own, so that outliers among
    entities do not decide for all (Shah et al. 2014). Of classes they are scores on the scale of log-odds with a noise
    known for every row (Breslow & Clayton 1993), and Gaussian.

    Parameters
    ----------
    residuals : Tensor of shape [outputs, entities, n]
        Zero where padded; outputs are independent and share variances.
    mask : Tensor of shape [entities, n]
    parts : Tensor of shape [groups, entities, n, n]
        Sums of kernels, for every group of those that share a variance.
    row_noise : Tensor of shape [outputs, entities, n], optional
        Variance of the noise of every row, where it is known.
    shrinkage : float
        What a unit of variance costs, in nats.
    """

    def __init__(
        self, residuals: Tensor, mask: Tensor, parts: Tensor, row_noise: Tensor | None = None, shrinkage: float = 0.0
    ) -> None:
        self.residuals, self.shrinkage = residuals, shrinkage
        self.parts = (parts * (mask.unsqueeze(-1) & mask.unsqueeze(-2))).flatten(1)  # so that BLAS adds them up
        self.n = mask.sum(-1).double()
        self.n_total = float(self.n.sum()) * len(residuals)
        ones = torch.ones_like(residuals[:1])
        self.noise = torch.diag_embed(ones if row_noise is None else torch.where(mask, row_noise, ones))
        self.has_known_noise = row_noise is not None
        self.spread = max(float(residuals.square().sum()) / self.n_total, 1e-12)

    def largest(self, start: Tensor) -> Components:
        """Climb from the weights ``start`` [groups] to the largest likelihood."""
        begin = np.log(start.clamp(_LEAST, _MOST).numpy())
        bounds = [(math.log(_LEAST), math.log(_MOST))] * len(begin)
        if not self.has_known_noise:
            begin = np.append(begin, [math.log(0.7 * self.spread), math.log(8.0)])
            bounds.append((math.log(1e-8 * self.spread), math.log(10 * self.spread)))
            bounds.append((math.log(_FEWEST_DEGREES), math.log(_MOST_DEGREES)))
        options = {"maxiter": _N_STEPS}
        found = minimize(self.loss, begin, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
        weights = torch.from_numpy(np.exp(found[: len(start)]))
        weights[weights < 2 * _LEAST] = 0.0
        if self.has_known_noise:
            return Components(weights, 1.0, _MOST_DEGREES)
        return Components(weights, math.exp(found[-2]), math.exp(found[-1]))

    def loss(self, theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Negative log-likelihood for each row, but for a constant, and its gradient.

        Parameters
        ----------
        theta : array of shape [groups], or [groups + 2]
            Logarithms of the weights, then of the noise and of the degrees of freedom unless the noise is known.
        """
        n_groups, n_outputs = len(self.parts), len(self.residuals)
        weights = torch.from_numpy(np.exp(theta[:n_groups]))
        covariance = (weights @ self.parts).reshape(self.noise.shape[1:]) + self.noise
        factor = torch.linalg.cholesky(covariance)
        inverse = torch.cholesky_inverse(factor)
        solved = (inverse @ self.residuals.unsqueeze(-1)).squeeze(-1)
        distance = (solved * self.residuals).sum(-1)  # [outputs, entities]
        copies = n_outputs / len(inverse)
        value = float(copies * factor.diagonal(dim1=-2, dim2=-1).log().sum() + self.shrinkage * weights.sum())
        gradient = np.zeros_like(theta)
        if self.has_known_noise:
            value += 0.5 * float(distance.sum())
            pull = torch.ones_like(distance)
        else:
            tail, pull, slopes = self._tails(distance, math.exp(theta[-2]), math.exp(theta[-1]))
            value += tail
            gradient[-2:] = slopes
        outer = ((pull.unsqueeze(-1) * solved).unsqueeze(-1) * solved.unsqueeze(-2)).sum(0)
        slope = 0.5 * (copies * inverse.sum(0) - outer)
        gradient[:n_groups] = ((self.parts @ slope.flatten() + self.shrinkage) * weights).numpy()
        return value / self.n_total, gradient / self.n_total

    def _tails(self, distance: Tensor, noise: float, degrees: float) -> tuple[float, Tensor, tuple[float, float]]:
        """The part of the loss that depends on scales; its slopes by distance, log noise and log degrees."""
        n, n_outputs = self.n, len(distance)
        relative, both, half = distance / noise, degrees + self.n, (degrees + self.n.numpy()) / 2
        value = 0.5 * self.n_total * math.log(noise) + 0.5 * float((both * (relative / degrees).log1p()).sum())
        value -= n_outputs * float((gammaln(half) - gammaln(degrees / 2) - n.numpy() / 2 * math.log(degrees)).sum())
        shares = both * relative / (degrees + relative)
        by_noise = 0.5 * (self.n_total - float(shares.sum()))
        by_degrees = 0.5 * float((degrees * (relative / degrees).log1p() - shares).sum())
        constant = degrees * (digamma(half) - digamma(degrees / 2)) - n.numpy()
        by_degrees -= 0.5 * n_outputs * float(constant.sum())
        return value, both / (degrees + relative) / noise, (by_noise, by_degrees)

"""Covariances of effects that the residuals of a pool speak for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor

import autometa as am
from autometa_plugins.tabular.effects.components import Likelihood
from autometa_plugins.tabular.effects.episodes import gather, padded
from autometa_plugins.tabular.effects.kernels import grouped
from autometa_plugins.tabular.effects.pools import Array
from autometa_plugins.tabular.effects.training_rows import TrainingRows

MOST_COLUMNS = 32
"""Columns that may each have variances of their own."""
_MOST_ENTITIES, _MOST_ROWS = 100, 30
"""Entities, and rows of each, that variances are estimated on."""
_START = (0.3, 0.1, 0.3)
"""Variances of the intercept, of all slopes and of all curves, to begin with."""
_SHRINKAGE = 1.0
"""Nats that a unit of variance costs where every column has its own."""
_LEAST_START = 0.02
"""Least sum of the variances of all slopes, or curves, to begin with where every column has its own."""
_LEAST_CURVATURE = 0.02
"""Least variance of a class that scores are divided by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Covariance:
    """Of the effects of a new entity, and of the noise; see :class:`Model`."""

    weights: Tensor
    noise: Tensor
    degrees: float

    def times(self, factor: float) -> Covariance:
        """Return one whose effects vary so many times as much."""
        return Covariance(weights=factor * self.weights, noise=self.noise, degrees=self.degrees)


class Variances:
    """Estimates covariances on some rows of some training entities, the same for every pool.

    Parameters
    ----------
    rows : TrainingRows
    seed : int
        Decides which.
    """

    def __init__(self, rows: TrainingRows, seed: int) -> None:
        self.rows = rows
        generator = np.random.default_rng(am.derive_seed(seed, "variances"))
        entities = rows.by_entity()
        chosen = [entities[i] for i in generator.permutation(len(entities))[:_MOST_ENTITIES]]
        self.places = padded([generator.permutation(own)[:_MOST_ROWS] for own in chosen])
        self.mask = torch.from_numpy(self.places >= 0)
        n = len(rows.columns)
        self.shared = torch.tensor([0, *[1] * n, *[2] * n])
        self.each = torch.arange(1 + 2 * n)
        x = gather(torch.from_numpy(rows.x), self.places)
        self.parts = grouped(x, x, rows.columns, self.each if self.has_each else self.shared)

    @property
    def has_each(self) -> bool:
        """True if every column may have variances of its own."""
        return len(self.rows.columns) <= MOST_COLUMNS

    def nothing(self, answers: Array) -> Covariance:
        """Entities do not differ."""
        noise = (
            np.square(self.rows.targets - answers).mean(0) if not self.rows.has_classes else np.ones(answers.shape[1])
        )
        return Covariance(
            weights=torch.zeros(len(self.each), dtype=torch.float64),
            noise=torch.from_numpy(np.maximum(noise, 1e-12)),
            degrees=200.0,
        )

    def best(self, answers: Array) -> Covariance:
        """The covariance with most in it."""
        return list(self.offered(answers))[-1]

    def offered(self, answers: Array) -> Iterator[Covariance]:
        """Offer covariances beside a pool with these out-of-fold answers [rows, outputs], the simplest first.

        Nothing; an intercept; an intercept, slopes and curves; the same with variances for every column.
        """
        yield self.nothing(answers)
        shared = self.shared.clone()
        found = torch.tensor(_START, dtype=torch.float64)
        found[1:] /= max(1, len(self.rows.columns))
        residuals, row_noise, scale = self._residuals(answers)
        sums = self._sums(self.shared)
        structures = [(sums[:1], found[:1], torch.where(shared == 0, 0, -1), 0.0), (sums, found, shared, 0.0)]
        for parts, start, groups, shrinkage in structures:
            weights, covariance = self._largest(residuals, row_noise, scale, parts, start, groups, shrinkage)
            yield covariance
        if self.has_each:
            start = weights[self.shared].clamp_min(_LEAST_START / max(1, len(self.rows.columns)))
            yield self._largest(residuals, row_noise, scale, self.parts, start, self.each, _SHRINKAGE)[1]

    def _sums(self, groups: Tensor) -> Tensor:
        if not self.has_each:
            return self.parts
        return torch.stack([self.parts[groups == group].sum(0) for group in range(3)])

    def _largest(
        self,
        residuals: Tensor,
        row_noise: Tensor | None,
        scale: Tensor,
        parts: Tensor,
        start: Tensor,
        groups: Tensor,
        shrinkage: float,
    ) -> tuple[Tensor, Covariance]:
        found = Likelihood(residuals, self.mask, parts, row_noise, shrinkage).largest(start)
        weights = torch.where(groups >= 0, found.weights[groups.clamp_min(0)], 0.0)
        if self.rows.has_classes:  # one class against the rest has the effects of both
            weights = weights * (1 - 1 / len(scale))
        return found.weights, Covariance(weights=weights, noise=found.noise * scale, degrees=found.degrees)

    def _residuals(self, answers: Array) -> tuple[Tensor, Tensor | None, Tensor]:
        """Residuals [outputs, entities, n], their noise where it is known, and what to multiply variances by."""
        targets, row_noise = self.rows.targets, None
        if self.rows.has_classes:
            probabilities = softmax(answers, axis=1)
            curvature = np.maximum(probabilities * (1 - probabilities), _LEAST_CURVATURE)
            values, scale = (targets - probabilities) / curvature, np.ones(targets.shape[1])
            row_noise = gather(torch.from_numpy(1 / curvature), self.places).permute(2, 0, 1)
        else:
            scale = np.maximum(np.square(targets - answers).mean(0), 1e-12)
            values = (targets - answers) / np.sqrt(scale)
        return gather(torch.from_numpy(values), self.places).permute(2, 0, 1), row_noise, torch.from_numpy(scale)

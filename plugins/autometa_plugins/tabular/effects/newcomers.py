"""Answers for new entities of which a few rows are known, many entities at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from autometa_plugins.tabular.effects.episodes import SHOTS
from autometa_plugins.tabular.effects.inducing import MOST_ROWS, Inducing
from autometa_plugins.tabular.effects.kernels import EffectColumns, kernel, self_kernel
from autometa_plugins.tabular.effects.pools import Array, Pool
from autometa_plugins.tabular.effects.posterior import class_noise, class_scores, explained, factor, moderated

_MOST_PLACES = 2**22
"""Numbers in the kernels between rows and known rows at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What a new entity is answered with.

    Parameters
    ----------
    pool : Pool
        What effects are added to.
    population : Pool
        The answer for an entity without rows.
    weights : Tensor of shape [kernels]
        Variance of every kernel's effect: of real targets in units of the noise, of classes on log-odds.
    mixed_weights : Tensor of shape [kernels]
        Variances that the mixed pools were fitted beside.
    noise : Tensor of shape [outputs]
        Variance of the noise of real targets.
    degrees : float
        Degrees of freedom of the scale by which one entity's numbers are larger than another's.
    calibration : Tensor of shape [shots]
        What standard deviations, or log-odds of classes, are multiplied by where so many rows are known.
    columns : EffectColumns
    has_classes : bool
    told : array of shape [rows, outputs], optional
        Answers for the training rows of a pool that has not seen their entity, where they are at hand.
    """

    pool: Pool
    population: Pool
    weights: Tensor
    mixed_weights: Tensor
    noise: Tensor
    degrees: float
    calibration: Tensor
    columns: EffectColumns
    has_classes: bool
    told: Array | None = None

    def __deepcopy__(self, memo: dict[int, object]) -> Model:
        return self  # which nothing changes


def learn(model: Model, x: Tensor, base: Tensor, targets: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Learn the effects of entities from their rows; of many rows, at some of them (:class:`Inducing`).

    Parameters
    ----------
    x : Tensor of shape [entities, n, features]
    base : Tensor of shape [entities, n, outputs]
        Answers of the pool.
    targets : Tensor of shape [entities, n, outputs]
        Real targets, or one-hot classes.
    mask : Tensor of shape [entities, n]

    Returns
    -------
    dict of Tensor
        ``x`` [entities, m, features] and ``mask`` [entities, m], the rows that effects are learned at; ``n_rows``
        [entities], how many they are learned from; ``solved`` [entities, m, outputs], which times the kernel is an
        effect; ``factor`` [entities, m, m], the Cholesky factor of the covariance of the rows, by which they explain
        the variance of an effect; ``scale`` [entities, outputs], the variance of an entity's numbers beside that of
        all.
    """
    if x.shape[1] <= MOST_ROWS:
        return _learn_together(model, x, base, targets, mask)
    each = [
        (_learn_together if int(exists.sum()) <= MOST_ROWS else _learn_many)(
            model, *(part[exists].unsqueeze(0) for part in (*parts, exists))
        )
        for *parts, exists in zip(x, base, targets, mask, strict=True)
    ]
    width = max(known["mask"].shape[1] for known in each)
    padded = [_padded(known, width - known["mask"].shape[1]) for known in each]
    return {name: torch.cat([known[name] for known in padded]) for name in padded[0]}


def _padded(known: dict[str, Tensor], n: int) -> dict[str, Tensor]:
    """Add ``n`` padded places."""
    longer = {name: nn.functional.pad(known[name], (0, 0, 0, n)) for name in ("x", "solved")}
    whole = nn.functional.pad(known["factor"], (0, n, 0, n))
    whole.diagonal(dim1=-2, dim2=-1)[:, whole.shape[-1] - n :] = 1.0
    return {**known, **longer, "factor": whole, "mask": nn.functional.pad(known["mask"], (0, n))}


def _learn_many(model: Model, x: Tensor, base: Tensor, targets: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Learn the effects of one entity, of which all places are rows."""
    rows, scale = Inducing(x[0], targets[0], model.weights, model.columns), base.new_ones(1)
    if model.has_classes:
        solved, whole = rows.solve_classes(base[0], targets[0])
    else:
        solved, whole, distance = rows.solve(targets[0] - base[0])
        scale = (model.degrees + distance / model.noise) / (model.degrees + x.shape[1])
    found = {"x": rows.x, "mask": mask[0, : len(rows.x)], "n_rows": mask.sum(), "solved": solved, "factor": whole}
    return {name: value.unsqueeze(0) for name, value in (*found.items(), ("scale", scale))}


def _learn_together(model: Model, x: Tensor, base: Tensor, targets: Tensor, mask: Tensor) -> dict[str, Tensor]:
    gram, known = kernel(x, x, model.weights, model.columns), {"x": x, "mask": mask, "n_rows": mask.sum(1)}
    if model.has_classes:
        solved = class_scores(gram, base, targets, mask)
        whole = factor(gram, mask, class_noise(targets - solved))
        return {**known, "solved": solved, "factor": whole, "scale": base.new_ones(len(x), 1)}
    residuals, whole = (targets - base) * mask.unsqueeze(-1), factor(gram, mask)
    solved = torch.cholesky_solve(residuals, whole)
    distance = (solved * residuals).sum(1) / model.noise
    scale = (model.degrees + distance) / (model.degrees + mask.sum(1, keepdim=True))
    return {**known, "solved": solved, "factor": whole, "scale": scale}


def means(model: Model, known: dict[str, Tensor], x: Tensor, base: Tensor) -> Tensor:
    """Means of real targets, or log-odds of classes, for rows x [entities, n, features].

    Parameters
    ----------
    base : Tensor of shape [entities, n, outputs]
        Answers without effects.
    """
    return torch.cat([_means(model, known, *part) for part in _pieces(known, x, base)], dim=1)


def deviations(model: Model, known: dict[str, Tensor], x: Tensor) -> Tensor:
    """Standard deviations of new observations of real targets, [entities, n, outputs]."""
    return torch.cat([_deviations(model, known, *part) for part in _pieces(known, x)], dim=1)


def _pieces(known: dict[str, Tensor], *values: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Split values [entities, n, ...] along n, so that kernels to the known rows bound the memory."""
    size = max(1, _MOST_PLACES // max(1, known["mask"].numel()))
    return zip(*(torch.split(value, size, dim=1) for value in values), strict=True)


def _means(model: Model, known: dict[str, Tensor], x: Tensor, base: Tensor) -> Tensor:
    cross = kernel(x, known["x"], model.weights, model.columns)
    outputs = base + cross @ known["solved"]
    if not model.has_classes:
        return outputs
    has_rows = known["mask"].any(1)[:, None, None]
    shrunken = torch.where(has_rows, moderated(outputs, _variance(model, known, x, cross)), outputs)
    return shrunken * _calibration(model, known)


def _deviations(model: Model, known: dict[str, Tensor], x: Tensor) -> Tensor:
    variance = 1 + _variance(model, known, x, kernel(x, known["x"], model.weights, model.columns))
    each = (variance.unsqueeze(-1) * known["scale"].unsqueeze(1) * model.noise).sqrt()
    return each * _calibration(model, known)


def _calibration(model: Model, known: dict[str, Tensor]) -> Tensor:
    """Factor of every entity, [entities, 1, 1]: between those of neighbouring numbers of rows, on a log scale."""
    n_rows, shots = known["n_rows"].numpy(), np.log1p(SHOTS)
    return torch.from_numpy(np.interp(np.log1p(n_rows), shots, model.calibration.numpy()))[:, None, None]


def _variance(model: Model, known: dict[str, Tensor], x: Tensor, cross: Tensor) -> Tensor:
    """Variance of the effects that is left when the rows are known, [entities, n]."""
    told = explained(known["factor"], cross, known["mask"])
    return (self_kernel(x, model.weights, model.columns) - told).clamp_min(0.0)


def ask(model: Model, x: Tensor, has_rows: Tensor) -> Tensor:
    """Answers without effects for rows x [entities, n, features]; ``has_rows`` [entities] tells who asks which pool."""
    base = x.new_zeros(*x.shape[:2], len(model.noise))
    for pool, chosen in ((model.pool, has_rows), (model.population, ~has_rows)):
        asked = x[chosen]
        if asked.numel():
            base[chosen] = torch.from_numpy(pool(asked.flatten(0, 1).numpy())).reshape(*asked.shape[:2], -1)
    return base

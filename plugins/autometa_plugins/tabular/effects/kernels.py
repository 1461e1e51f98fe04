"""How alike two rows are to the effects of an entity: an intercept, and a slope and a curve for every column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import autometa as am

_FARTHEST = 4.0
"""Standard deviations from the mean at which the slope of a column levels off."""
_RATE = 2.0
"""How fast the likeness of two values fades with their distance."""
_UNEQUAL = 1.5
"""Distance of two levels of a category."""


@dataclass(frozen=True, slots=True)
class EffectColumns:
    """Which features come from one column of a table.

    Parameters
    ----------
    features : tuple of tuple of int
        Features of every column.
    is_level : tuple of bool
        True for a feature that is one level of a category.
    """

    features: tuple[tuple[int, ...], ...]
    is_level: tuple[bool, ...]

    @classmethod
    def of(cls, info: am.TaskInfo, n_features: int) -> EffectColumns:
        """Read the columns of a table; elsewhere every feature is a column."""
        if info.feature_columns is None or info.feature_kinds is None:
            return cls(tuple((feature,) for feature in range(n_features)), (False,) * n_features)
        by_column: dict[int, list[int]] = {}
        for feature, column in enumerate(info.feature_columns):
            by_column.setdefault(column, []).append(feature)
        levels = tuple(kind == "categorical" for kind in info.feature_kinds)
        return cls(tuple(map(tuple, by_column.values())), levels)

    def __len__(self) -> int:
        return len(self.features)

    @property
    def n_kernels(self) -> int:
        """One intercept, and a slope and a curve for each column."""
        return 1 + 2 * len(self)


def kernels(a: Tensor, b: Tensor, columns: EffectColumns, wanted: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
    """Give the kernels one after the other: the intercept's, the slopes' and the curves'.

    A slope's is the product of two values (as random slopes of a mixed model have it), a curve's a Laplace kernel of
    their distance on a scale that grows ever slower away from the mean.

    Parameters
    ----------
    a, b : Tensor of shape [..., n, features], [..., m, features]
    columns : EffectColumns
    wanted : Tensor of shape [kernels], optional
        Kernels for which this is zero are left out.

    Yields
    ------
    (int, Tensor of shape [..., n, m])
        Number of the kernel, and its values.
    """

    def is_wanted(kernel: int) -> bool:
        return wanted is None or bool(wanted[kernel])

    if is_wanted(0):
        yield 0, a.new_ones(*a.shape[:-1], b.shape[-2])
    near_a, near_b = a.clamp(-_FARTHEST, _FARTHEST), b.clamp(-_FARTHEST, _FARTHEST)
    for kernel, own in enumerate(columns.features, 1):
        if is_wanted(kernel):
            yield kernel, near_a[..., list(own)] @ near_b[..., list(own)].transpose(-1, -2)
    level = torch.tensor(columns.is_level, dtype=torch.bool, device=a.device)
    far_a, far_b = (torch.where(level, x * (_UNEQUAL / 2), x.asinh()) for x in (a, b))
    for kernel, own in enumerate(columns.features, 1 + len(columns)):
        if is_wanted(kernel):
            distance = a.new_zeros(*a.shape[:-1], b.shape[-2])
            for feature in own:
                distance += (far_a[..., :, None, feature] - far_b[..., None, :, feature]).abs()
            yield kernel, distance.mul_(-_RATE).exp_()


def grouped(a: Tensor, b: Tensor, columns: EffectColumns, groups: Tensor) -> Tensor:
    """Sums of the kernels of every group, [groups, ..., n, m]; ``groups`` [kernels] tells that of each."""
    sums = a.new_zeros(int(groups.max()) + 1, *a.shape[:-1], b.shape[-2])
    for number, values in kernels(a, b, columns):
        sums[groups[number]] += values
    return sums


def kernel(a: Tensor, b: Tensor, weights: Tensor, columns: EffectColumns) -> Tensor:
    """Covariance of an entity's effects, [..., n, m]: the kernels, each times its variance.

    Parameters
    ----------
    weights : Tensor of shape [kernels]
        Variance of every kernel's effect, in units of the noise.
    """
    total = a.new_zeros(*a.shape[:-1], b.shape[-2])
    for number, values in kernels(a, b, columns, weights):
        total += weights[number] * values
    return total


def self_kernel(a: Tensor, weights: Tensor, columns: EffectColumns) -> Tensor:
    """Variance of an entity's effect on every row, [..., n]."""
    total = (weights[0] + weights[1 + len(columns) :].sum()).expand(a.shape[:-1])
    near = a.clamp(-_FARTHEST, _FARTHEST).square()
    for weight, own in zip(weights[1 : 1 + len(columns)], columns.features, strict=True):
        total = total + weight * near[..., list(own)].sum(-1)
    return total

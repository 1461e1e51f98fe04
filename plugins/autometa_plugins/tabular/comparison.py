"""How alike two rows are, column by column, and in sums over the columns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from autometa_plugins.tabular.encoding import Rows

UNEQUAL = 1.5
"""Distance of two unequal categories, where that of two numbers is the difference of asinh z."""
_UNEQUAL_RANKS = 0.8


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows beside the support rows of their task.

    Where there are two sums over the columns, the first weights all alike and the second by relevance; both weights
    sum to 1.

    Parameters
    ----------
    alike : Tensor of shape [tasks, columns, n, n_support]
        exp(-decay · distance), 1 for equal values.
    distance, squared, similarity : Tensor of shape [tasks, 2, n, n_support]
        Means of the distances, of their squares and of ``alike``.
    product : Tensor of shape [tasks, 2, n, n_support]
        Mean product of clipped numbers, and of categories: 1.5 where they are equal.
    bent_product : Tensor of shape [tasks, n, n_support]
        The same of asinh z, all columns alike.
    ranks : Tensor of shape [tasks, n, n_support]
        Sum of the differences of ranks.
    """

    alike: Float[Tensor, "task column row support"]
    distance: Float[Tensor, "task 2 row support"]
    squared: Float[Tensor, "task 2 row support"]
    similarity: Float[Tensor, "task 2 row support"]
    product: Float[Tensor, "task 2 row support"]
    bent_product: Float[Tensor, "task row support"]
    ranks: Float[Tensor, "task row support"]


def compare(rows: Rows, support: Rows, weights: Float[Tensor, "task 2 column"], decay: Float[Tensor, ""]) -> Comparison:
    """Compare rows with the support rows of their task.

    Parameters
    ----------
    rows, support : Rows
    weights : Tensor of shape [tasks, 2, columns]
        Equal weights, and those of relevance.
    decay : Tensor, scalar
        How fast ``alike`` falls with the distance in a column.
    """
    unequal = _unequal(rows, support)
    distances = _distances(rows, support, unequal)
    alike = torch.exp(-decay * distances)
    n_categories = unequal.shape[1]
    shares = weights[..., weights.shape[-1] - n_categories :]
    # Rows that match share a level: neither a missing one nor one of a column that counts as a number.
    to_match = (support.levels != 0).any(dim=1).to(weights.dtype).unsqueeze(-1)
    equal = UNEQUAL * ((shares @ to_match).unsqueeze(-1) - _sums(shares, unequal))
    weighted = rows.clipped.unsqueeze(1) * weights.unsqueeze(2)
    return Comparison(
        alike=alike,
        distance=_sums(weights, distances),
        squared=_sums(weights, distances.square()),
        similarity=_sums(weights, alike),
        product=weighted @ support.clipped.mT.unsqueeze(1) + equal,
        bent_product=(rows.bent * weights[:, :1]) @ support.bent.mT + equal[:, 0],
        ranks=torch.cdist(rows.ranks, support.ranks, p=1) + _UNEQUAL_RANKS * unequal.sum(dim=1),
    )


def column_distances(rows: Rows, support: Rows) -> Float[Tensor, "task column row support"]:
    """|Δ asinh z| in each column; 1.5 for unequal categories."""
    return _distances(rows, support, _unequal(rows, support))


def _distances(rows: Rows, support: Rows, unequal: Tensor) -> Tensor:
    distances = (rows.bent.mT.unsqueeze(-1) - support.bent.mT.unsqueeze(-2)).abs_()
    if unequal.shape[1]:
        distances[:, distances.shape[1] - unequal.shape[1] :] += UNEQUAL * unequal
    return distances


def _unequal(rows: Rows, support: Rows) -> Float[Tensor, "task category row support"]:
    """1 where two levels differ. A missing one differs from all others, missing ones too."""
    given = torch.where(support.levels < 0, -2, support.levels)
    return (rows.levels.mT.unsqueeze(-1) != given.mT.unsqueeze(-2)).to(rows.bent.dtype)


def _sums(weights: Tensor, values: Tensor) -> Tensor:
    return (weights @ values.flatten(2)).reshape(*weights.shape[:-1], *values.shape[2:])

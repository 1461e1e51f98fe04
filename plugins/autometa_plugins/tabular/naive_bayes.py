"""Naive Bayes with a kernel density for each class and column."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from autometa_plugins.tabular.comparison import Comparison

_FLOOR = 0.02
_LEAST = 1e-6


def naive_bayes(
    compared: Comparison,
    members: Float[Tensor, "task support way"],
    own: Float[Tensor, "task row way"] | None = None,
    others: Float[Tensor, "row support"] | None = None,
) -> Float[Tensor, "task row way"]:
    """Sum over the columns the log density of each class, shrunk to that of all rows by one row's weight.

    The density of a class in a column is the mean of ``alike`` over its support rows (John & Langley 1995), plus a
    floor; categories are counted by the same formula.

    Parameters
    ----------
    compared : Comparison
    members : Tensor of shape [tasks, n_support, n_way]
        One-hot classes of the support rows, zero where padded.
    own : Tensor of shape [tasks, n, n_way], optional
        One-hot classes of the rows where they are support rows themselves, to be left out of their own densities.
    others : Tensor of shape [n, n_support], optional
        With ``own``: 0 where a support row is the row itself, else 1.
    """
    closeness = compared.alike + _FLOOR
    counts = members.sum(dim=1, keepdim=True)
    if own is not None and others is not None:
        closeness = closeness * others
        counts = counts - own
    sums = closeness @ members.unsqueeze(1)
    marginal = sums.sum(dim=-1, keepdim=True) / counts.sum(dim=-1)[:, None, :, None].clamp(min=1)
    density = (sums + marginal) / (counts + 1).unsqueeze(1)
    return torch.log(density.clamp(min=_LEAST)).sum(dim=1)

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
    first: int | None = None,
) -> Float[Tensor, "task row way"]:
    """Sum over the columns the log density of each class, shrunk to that of all rows by one row's weight.

    The density of a class in a column is the mean of ``alike`` over its support rows (John & Langley 1995), plus a
    floor; categories are counted by the same formula.

    Parameters
    ----------
    compared : Comparison
    members : Tensor of shape [tasks, n_support, n_way]
        One-hot classes of the support rows, zero where padded.
    first : int, optional
        Where the rows are support rows themselves, to be left out of their own densities: the place of the first.
    """
    counts = members.sum(dim=1, keepdim=True)
    sums = compared.alike @ members.unsqueeze(1)
    if first is not None:
        own = members[:, first : first + compared.alike.shape[2]]
        itself = compared.alike.diagonal(offset=first, dim1=2, dim2=3)
        counts = counts - own
        sums = sums - itself.unsqueeze(-1) * own.unsqueeze(1)
    sums = sums + _FLOOR * counts.unsqueeze(1)
    marginal = sums.sum(dim=-1, keepdim=True) / counts.sum(dim=-1)[:, None, :, None].clamp(min=1)
    density = (sums + marginal) / (counts + 1).unsqueeze(1)
    return torch.log(density.clamp(min=_LEAST)).sum(dim=1)

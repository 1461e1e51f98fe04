"""Cells that are missing: at random, by another column, or by the value itself."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from autometa_plugins.tabular.priors.draft import Size
from autometa_plugins.tabular.priors.draws import Draws


def draw_missing(draws: Draws, columns: Tensor, size: Size) -> Bool[Tensor, "table row column"]:
    """Draw which cells are missing, a share from 1% to 50% of the cells of a table, and no column entirely."""
    n_tables, n = size.n_tables, size.n_columns
    # Columns differ: some miss many values, some none.
    share = draws.log_uniform(0.01, 0.5, n_tables, 1, 1) * 2 * draws.uniform(0, 1, n_tables, 1, n)
    rank = columns.argsort(dim=1).argsort(dim=1).to(columns.dtype) / size.n_rows
    kind = draws.one_of([2, 1, 1])
    if kind == 0:
        odds = torch.ones_like(rank)
    else:
        if kind == 1:
            rank = rank.gather(2, draws.whole(0, n - 1, n_tables, 1, n).expand_as(rank))
        rising = draws.whole(0, 1, n_tables, 1, n).to(torch.bool)
        odds = 2 * torch.where(rising, rank, 1 - rank)
    missing = draws.uniform(0, 1, *columns.shape) < (share * odds).clamp(max=0.95)
    missing[:, 0] &= ~missing.all(dim=1)
    return missing

"""Columns that cause a target: correlated, clustered, heavy-tailed, some of them categories."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from autometa_plugins.tabular.priors.draft import Size, pick_rows, standardise
from autometa_plugins.tabular.priors.draws import Draws


def draw_causes(draws: Draws, n_tables: int, n_rows: int, n: int) -> Tensor:
    """Draw columns that nothing else explains: normal, uniform, clustered or heavy-tailed, perhaps correlated."""
    kind = draws.one_of([2, 1, 1, 1])
    if kind == 1:
        x = draws.uniform(-1.7, 1.7, n_tables, n_rows, n)
    elif kind == 2:
        n_clusters = draws.count(2, 8)
        centres = draws.normal(n_tables, n_clusters, n) * draws.log_uniform(0.3, 3, n_tables, 1, 1)
        x = pick_rows(centres, draws.whole(0, n_clusters - 1, n_tables, n_rows))
        x = x + 0.7 * draws.normal(n_tables, n_rows, n)
    else:
        x = draws.normal(n_tables, n_rows, n)
    if kind == 3:
        x = x / draws.uniform(0.2, 1, n_tables, n_rows, 1) ** draws.uniform(0, 1.2, n_tables, 1, n)
    if n > 1 and draws.chance(0.5):
        mixing = draws.log_uniform(0.1, 1.5, n_tables, 1, 1) * draws.normal(n_tables, n, n) / math.sqrt(n)
        x = x + x @ mixing
    return standardise(x)


def draw_columns(draws: Draws, size: Size) -> tuple[Tensor, Tensor]:
    """Draw the columns of tables, as they are shown and as the target feels them.

    A categorical column is shown as its level and felt as that level's effect.
    """
    n_tables, n_rows, n = size.n_tables, size.n_rows, size.n_columns
    kind = draws.one_of([1, 2, 1])
    if kind == 0:
        x = draw_causes(draws, n_tables, n_rows, n)
    else:  # a few factors behind all columns
        n_factors = draws.count(1, min(8, n))
        loadings = draws.normal(n_tables, n_factors, n)
        if kind == 2:
            loadings = loadings * (draws.uniform(0, 1, n_tables, n_factors, n) < 0.4)
        own = draws.log_uniform(0.1, 1.2, n_tables, 1, n) * draws.normal(n_tables, n_rows, n)
        x = standardise(draw_causes(draws, n_tables, n_rows, n_factors) @ loadings + own)
    shown = show_levels(draws, x, size)
    if not size.n_categorical:
        return shown, x
    levels = shown[..., size.n_numeric :].long()
    effects = draws.normal(n_tables, size.n_levels, size.n_categorical)
    felt = torch.cat([x[..., : size.n_numeric], effects.gather(1, levels)], dim=-1)
    return shown, felt


def show_levels(draws: Draws, x: Tensor, size: Size) -> Tensor:
    """Replace the last columns by levels, counted from 0 in no order."""
    if not size.n_categorical:
        return x
    n_tables, n, n_levels = size.n_tables, size.n_categorical, size.n_levels
    hidden = standardise(x[..., size.n_numeric :])
    # A column has from 2 to n_levels levels, few more often than many.
    counts = draws.log_uniform(2, n_levels + 1, n_tables, 1, n).long().clamp(max=n_levels)
    bounds = 1.1 * draws.normal(n_tables, n_levels - 1, n)
    exists = torch.arange(n_levels - 1).view(1, -1, 1) < counts - 1
    bounds = torch.where(exists, bounds, torch.inf).sort(dim=1).values
    found = torch.searchsorted(bounds.transpose(1, 2).contiguous(), hidden.transpose(1, 2).contiguous())
    names = draws.orders(n_tables, n, n_levels)
    return torch.cat([x[..., : size.n_numeric], names.gather(2, found).transpose(1, 2).to(x.dtype)], dim=-1)


def draw_relevance(draws: Draws, size: Size) -> Tensor:
    """Draw how much every column counts, [tables, columns]; in half of the tables all count alike."""
    n_tables, n = size.n_tables, size.n_columns
    n_relevant = (n * draws.uniform(0.4, 2, n_tables, 1)).clamp(max=n).ceil()
    place = draws.orders(n_tables, n).to(torch.float64)
    fall = draws.uniform(0, 3, n_tables, 1) * (draws.uniform(0, 1, n_tables, 1) < 0.5)
    return (place < n_relevant) * torch.exp(-fall * place / n_relevant)

"""Tables whose columns and target are the nodes of a random causal graph."""

from __future__ import annotations

import torch
from torch import Tensor

from autometa_plugins.tabular.priors.columns import show_levels
from autometa_plugins.tabular.priors.draft import Draft, Size, pick_columns, standardise
from autometa_plugins.tabular.priors.draws import Draws
from autometa_plugins.tabular.priors.units import draw_unit


def draw_graph(draws: Draws, size: Size) -> Draft:
    """Grow a graph node by node; a node is a noisy function of up to three earlier ones.

    The target is anywhere in the graph, or at its end, so columns may be its causes, its effects or neither.
    """
    n_tables, n_rows, m = size.n_tables, size.n_rows, size.n_scores
    n_nodes = size.n_columns + m
    n_roots = draws.count(1, max(2, n_nodes // 4))
    nodes = torch.zeros(n_nodes, n_tables, n_rows, dtype=torch.float64)
    for i in range(min(n_roots, n_nodes)):
        is_normal = draws.chance(0.7)
        nodes[i] = draws.normal(n_tables, n_rows) if is_normal else draws.uniform(-1.7, 1.7, n_tables, n_rows)
    noise = draws.log_uniform(0.02, 0.7, n_tables, 1)
    for i in range(n_roots, n_nodes):
        n_parents = draws.count(1, 3)
        parents = draws.whole(0, i - 1, n_parents, n_tables)
        if draws.chance(0.4):  # recent ones, which makes chains
            parents = (i - 1 - draws.uniform(0, 1, n_parents, n_tables) ** 2 * min(i, 6)).long().clamp(min=0)
        value = standardise(_join(draws, nodes[parents, torch.arange(n_tables)]).unsqueeze(-1)).squeeze(-1)
        nodes[i] = value + noise * draws.normal(n_tables, n_rows)
    every = nodes.permute(1, 2, 0)
    if draws.chance(0.5):
        every = pick_columns(every, draws.orders(n_tables, n_nodes))
    columns = pick_columns(every[..., : size.n_columns], draws.orders(n_tables, size.n_columns))
    return Draft(columns=show_levels(draws, columns, size), scores=standardise(every[..., size.n_columns :]))


def _join(draws: Draws, causes: Tensor) -> Tensor:
    """Return a function of the causes [causes, tables, rows] of a node."""
    n_causes, n_tables, _ = causes.shape
    if n_causes > 1 and draws.chance(0.12):
        return causes[0] * causes[1]
    total = (causes * draws.normal(n_causes, n_tables, 1)).sum(dim=0)
    if draws.chance(0.12):  # steps
        bounds = draws.normal(n_tables, 1, 3)
        return ((total.unsqueeze(-1) > bounds) * draws.normal(n_tables, 1, 3)).sum(dim=-1)
    return draw_unit(draws)(total + 0.5 * draws.normal(n_tables, 1))

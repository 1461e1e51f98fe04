"""Tables whose columns and target are units of a random neural network."""

from __future__ import annotations

import torch

from autometa_plugins.tabular.priors.columns import draw_causes, show_levels
from autometa_plugins.tabular.priors.draft import Draft, Size, pick_columns, standardise
from autometa_plugins.tabular.priors.draws import Draws
from autometa_plugins.tabular.priors.units import apply_units, draw_unit


def draw_neural(draws: Draws, size: Size) -> Draft:
    """Draw the weights of a network, and columns and scores from its units.

    Causes go in; layers are sparse and noisy. Columns are inputs or hidden units, so a target may cause a column.
    """
    n_tables, n_rows, n, m = size.n_tables, size.n_rows, size.n_columns, size.n_scores
    hidden = draw_causes(draws, n_tables, n_rows, draws.count(1, max(2, min(14, n + 2))))
    units = [hidden]
    depth = draws.count(1, 3)
    width = max(int(n * draws.number(0.6, 1.6)) + 2 * m, 6) + draws.count(0, 10)
    width = max(width, -(-(n + m) // depth))
    noise = draws.log_uniform(1e-3, 0.5, n_tables, 1, 1)
    linear, same = draws.chance(0.35), draws.chance(0.35)
    for _ in range(depth):
        n_in = hidden.shape[-1]
        present = draws.uniform(0, 1, n_tables, n_in, width) < draws.log_uniform(0.15, 1.5, n_tables, 1, 1)
        present[:, 0] |= ~present.any(dim=1)
        weights = draws.normal(n_tables, n_in, width) * present / present.sum(dim=1, keepdim=True).sqrt()
        hidden = hidden @ weights * draws.log_uniform(0.5, 2.5, n_tables, 1, 1)
        hidden = hidden + draws.normal(n_tables, 1, width) * draws.log_uniform(0.05, 1, n_tables, 1, 1)
        if not linear:
            hidden = draw_unit(draws)(hidden) if same else apply_units(draws, hidden)
        hidden = standardise(hidden)
        hidden = hidden + noise * draws.log_uniform(0.3, 3, n_tables, 1, width) * draws.normal(n_tables, n_rows, width)
        units.append(hidden)
    if draws.chance(0.5):  # the last layer gives the scores
        scores, others = hidden[..., :m], torch.cat([*units[:-1], hidden[..., m:]], dim=-1)
    else:
        every = torch.cat(units, dim=-1)
        every = pick_columns(every, draws.orders(n_tables, every.shape[-1]))
        scores, others = every[..., :m], every[..., m:]
    if others.shape[-1] < n:
        others = torch.cat([others, draws.normal(n_tables, n_rows, n - others.shape[-1])], dim=-1)
    columns = pick_columns(others, draws.orders(n_tables, others.shape[-1])[:, :n])
    return Draft(columns=show_levels(draws, columns, size), scores=standardise(scores))

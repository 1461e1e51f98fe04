"""Tables whose rows come from clusters, each of one class or of one level of the target."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from autometa_plugins.tabular.priors.columns import draw_relevance, show_levels
from autometa_plugins.tabular.priors.draft import Draft, Size, pick_rows, standardise
from autometa_plugins.tabular.priors.draws import Draws
from autometa_plugins.tabular.priors.labels import draw_shares, label_by_rank


def draw_mixture(draws: Draws, size: Size) -> Draft:
    """Draw the classes first, then columns around the centres of their clusters.

    Real targets: each cluster has a level and a direction of its own.
    """
    n_tables, n_rows, n = size.n_tables, size.n_rows, size.n_columns
    n_clusters = draws.count(2, 3) if draws.chance(0.4) else 1
    if size.n_classes:
        labels = label_by_rank(draws.uniform(0, 1, n_tables, n_rows), draw_shares(draws, size))
        n_groups = size.n_classes
    else:
        n_groups = draws.count(2, 6)
        labels = draws.whole(0, n_groups - 1, n_tables, n_rows)
    cluster = labels * n_clusters + draws.whole(0, n_clusters - 1, n_tables, n_rows)
    centres = _draw_centres(draws, size, n_groups * n_clusters)
    noise = draws.normal(n_tables, n_rows, n)
    if draws.chance(0.75):
        n_factors = draws.count(1, min(6, n))
        shared = draws.normal(n_tables, n_rows, n_factors) @ draws.normal(n_tables, n_factors, n)
        noise = standardise(draws.log_uniform(0.4, 5, n_tables, 1, 1) * shared / math.sqrt(n_factors) + noise)
    if draws.chance(0.5):
        noise = noise * pick_rows(draws.log_uniform(0.6, 1.6, n_tables, n_groups * n_clusters, n), cluster)
    x = pick_rows(centres, cluster) + noise
    columns = show_levels(draws, x, size)
    if size.n_classes:
        return Draft(columns=columns, scores=x[..., :1], labels=labels)
    level = draws.normal(n_tables, n_groups).gather(1, labels)
    slopes = pick_rows(draws.normal(n_tables, n_groups, n), labels) / math.sqrt(n)
    scores = level + draws.log_uniform(0.05, 1, n_tables, 1) * (noise * slopes).sum(dim=-1)
    return Draft(columns=columns, scores=standardise(scores.unsqueeze(-1)))


def _draw_centres(draws: Draws, size: Size, n_centres: int) -> Tensor:
    n_tables, n = size.n_tables, size.n_columns
    if draws.chance(0.6):
        centres = draws.normal(n_tables, n_centres, n)
    else:  # centres differ in a few directions only
        n_factors = draws.count(1, min(6, n))
        loadings = draws.normal(n_tables, n_factors, n) / math.sqrt(n_factors)
        centres = draws.normal(n_tables, n_centres, n_factors) @ loadings
    if draws.chance(0.3):
        centres = centres * (draws.uniform(0, 1, n_tables, n_centres, n) < 0.3)
    relevance = draw_relevance(draws, size).unsqueeze(1)
    distance = draws.log_uniform(0.8, 6, n_tables, 1, 1)
    # As many columns tell more, distances are those of all columns together.
    return centres * relevance * distance / torch.sqrt(relevance.square().sum(dim=-1, keepdim=True)).clamp(min=1) ** 0.7

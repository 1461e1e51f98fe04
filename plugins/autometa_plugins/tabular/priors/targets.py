"""Real targets from scores: noisy, skewed, heavy-tailed, rounded, censored, with outliers."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from autometa_plugins.tabular.priors.draft import Draft, Size, standardise
from autometa_plugins.tabular.priors.draws import Draws


def draw_targets(draws: Draws, draft: Draft, size: Size) -> Float[Tensor, "table row"]:
    """Make a real target of every row, of mean 0 and deviation 1."""
    n_tables = size.n_tables
    y = standardise(draft.scores[..., :1])
    y = y + draws.log_uniform(0.01, 1, n_tables, 1, 1) * draws.normal(*y.shape)
    y = standardise(y)
    kind = draws.uniform(0, 1, n_tables, 1, 1)
    power = draws.log_uniform(0.3, 1.3, n_tables, 1, 1)
    y = torch.where(kind < 0.25, torch.exp(power * y.clamp(-4, 4)), y)
    y = torch.where((kind >= 0.25) & (kind < 0.35), y * y.abs() ** power, y)
    y = torch.where((kind >= 0.35) & (kind < 0.42), (y * draws.log_uniform(0.7, 4, n_tables, 1, 1)).round(), y)
    y = torch.where((kind >= 0.42) & (kind < 0.47), torch.relu(y + 0.7), y)
    share = draws.log_uniform(0.005, 0.05, n_tables, 1, 1) * (draws.uniform(0, 1, n_tables, 1, 1) < 0.15)
    outlier = draws.uniform(0, 1, *y.shape) < share
    y = y + outlier * y.std(dim=1, keepdim=True) * 3 * draws.normal(*y.shape)
    return standardise(y).squeeze(-1)

"""Tables whose target is a smooth function of all columns together."""

from __future__ import annotations

import math

import torch

from autometa_plugins.tabular.priors.columns import draw_columns, draw_relevance
from autometa_plugins.tabular.priors.draft import Draft, Size, standardise
from autometa_plugins.tabular.priors.draws import Draws

_WAVES = 48


def draw_smooth(draws: Draws, size: Size) -> Draft:
    """Draw sums of random waves, which come close to Gaussian processes (Rahimi & Recht 2007)."""
    shown, felt = draw_columns(draws, size)
    relevance = draw_relevance(draws, size)
    length = relevance.square().sum(dim=1, keepdim=True).sqrt().clamp(min=1e-3)
    scale = draws.log_uniform(0.2, 2, size.n_tables, 1, 1) * (relevance / length).unsqueeze(-1)
    directions = draws.normal(size.n_tables, size.n_columns, _WAVES) * scale
    waves = torch.sin(felt @ directions + draws.uniform(0, 2 * math.pi, size.n_tables, 1, _WAVES))
    return Draft(columns=shown, scores=standardise(waves @ draws.normal(size.n_tables, _WAVES, size.n_scores)))

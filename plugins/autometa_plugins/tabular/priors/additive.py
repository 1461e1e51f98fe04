"""Tables whose target is a sum of functions of single columns."""

from __future__ import annotations

import torch

from autometa_plugins.tabular.priors.columns import draw_columns, draw_relevance
from autometa_plugins.tabular.priors.draft import Draft, Size, standardise
from autometa_plugins.tabular.priors.draws import Draws
from autometa_plugins.tabular.priors.marginals import bend_numbers
from autometa_plugins.tabular.priors.units import ANY, MONOTONE, apply_units

_CLIP = 4.0


def draw_additive(draws: Draws, size: Size) -> Draft:
    """Draw linear, rising, and any functions of the columns, and add them up.

    Half of the tables are functions of what is shown, skew and tails included; the others of what lies behind it.
    """
    shown, felt = draw_columns(draws, size)
    exact = None
    if draws.chance(0.5):
        shown = bend_numbers(draws, shown, size)
        felt = torch.cat([shown[..., : size.n_numeric].clamp(-_CLIP, _CLIP), felt[..., size.n_numeric :]], dim=-1)
        exact = torch.ones(size.n_tables, size.n_columns, dtype=torch.bool)
    kind = draws.one_of([5, 3, 1])
    if kind:
        shift = 0.6 * draws.normal(size.n_tables, 1, size.n_columns)
        felt = standardise(apply_units(draws, 1.2 * felt + shift, MONOTONE if kind == 1 else ANY, most=3))
    weights = draw_relevance(draws, size).unsqueeze(-1) * draws.normal(size.n_tables, size.n_columns, size.n_scores)
    return Draft(columns=shown, scores=standardise(felt @ weights), exact=exact)

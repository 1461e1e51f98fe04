"""Tables whose target is a sum of functions of single columns."""

from __future__ import annotations

from autometa_plugins.tabular.priors.columns import draw_columns, draw_relevance
from autometa_plugins.tabular.priors.draft import Draft, Size, standardise
from autometa_plugins.tabular.priors.draws import Draws
from autometa_plugins.tabular.priors.units import ANY, MONOTONE, apply_units


def draw_additive(draws: Draws, size: Size) -> Draft:
    """Draw linear (half of the tables), rising, and any functions of the columns, and add them up."""
    shown, felt = draw_columns(draws, size)
    kind = draws.one_of([4, 3, 2])
    if kind:
        shift = 0.6 * draws.normal(size.n_tables, 1, size.n_columns)
        felt = standardise(apply_units(draws, 1.2 * felt + shift, MONOTONE if kind == 1 else ANY, most=3))
    weights = draw_relevance(draws, size).unsqueeze(-1) * draws.normal(size.n_tables, size.n_columns, size.n_scores)
    return Draft(columns=shown, scores=standardise(felt @ weights))

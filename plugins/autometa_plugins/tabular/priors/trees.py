"""Tables whose target is a sum of random decision trees."""

from __future__ import annotations

import torch

from autometa_plugins.tabular.priors.columns import draw_columns, draw_relevance
from autometa_plugins.tabular.priors.draft import Draft, Size, pick_columns, pick_rows, standardise
from autometa_plugins.tabular.priors.draws import Draws


def draw_trees(draws: Draws, size: Size) -> Draft:
    """Draw one to twelve trees, each of the same splits at every node of a depth, and add up their leaves."""
    shown, felt = draw_columns(draws, size)
    # Columns that tell nothing stay possible, at odds of one to a million.
    odds = draw_relevance(draws, size) + 1e-6
    depth = draws.count(1, 4)
    scores = torch.zeros(size.n_tables, size.n_rows, size.n_scores, dtype=torch.float64)
    for _ in range(draws.count(1, 12)):
        noise = draws.uniform(1e-12, 1, size.n_tables, depth, size.n_columns)
        # The largest of log(odds) plus Gumbel noise is a draw in proportion to the odds.
        split = (odds.log().unsqueeze(1) - (-noise.log()).log()).argmax(dim=-1)
        values = pick_columns(felt, split)
        threshold = values.gather(1, draws.whole(0, size.n_rows - 1, size.n_tables, 1, depth))
        leaf = ((values > threshold) * 2 ** torch.arange(depth)).sum(dim=-1)
        scores = scores + pick_rows(draws.normal(size.n_tables, 2**depth, size.n_scores), leaf)
    return Draft(columns=shown, scores=standardise(scores))

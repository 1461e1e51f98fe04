"""Which rows of a table are its support, which its query."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import one_hot

from autometa_plugins.tabular.priors.draws import Draws

Labels = Int[Tensor, "table row"]
Places = tuple[Int[Tensor, "table support"], Int[Tensor, "table query"]]


def choose_by_class(draws: Draws, labels: Labels, n_classes: int, n_shot: int, n_query: int) -> Places:
    """Choose rows of every class for support and query, in random order."""
    n_tables, n_rows = labels.shape
    by_class = (labels + draws.uniform(0, 1, n_tables, n_rows)).argsort(dim=1)
    counts = one_hot(labels, n_classes).sum(dim=1)
    first = counts.cumsum(dim=1) - counts
    places = first.unsqueeze(-1) + torch.arange(n_shot + n_query)
    chosen = by_class.gather(1, places.flatten(1)).view(n_tables, n_classes, -1)
    support, query = chosen[..., :n_shot].flatten(1), chosen[..., n_shot:].flatten(1)
    return _shuffled(draws, support), _shuffled(draws, query)


def choose_as_they_come(
    draws: Draws, labels: Labels | None, n_rows: int, n_tables: int, n_shot: int, n_query: int
) -> Places:
    """Choose rows at random; the support has one of every class at least."""
    order = draws.orders(n_tables, n_rows)
    if labels is not None:
        members = one_hot(labels.gather(1, order), int(labels.max()) + 1)
        is_first = ((members.cumsum(dim=1) == 1) & (members == 1)).any(dim=-1)
        order = order.gather(1, (~is_first).to(torch.int64).argsort(dim=1, stable=True))
    support = _shuffled(draws, order[:, :n_shot])
    return support, _shuffled(draws, order[:, n_shot : n_shot + n_query])


def _shuffled(draws: Draws, places: Tensor) -> Tensor:
    return places.gather(1, draws.orders(*places.shape))

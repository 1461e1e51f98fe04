"""Tables whose target follows a rule of a few columns: XOR, parity, a small tree, a lookup, a product, AND, OR."""

from __future__ import annotations

import torch
from torch import Tensor

from autometa_plugins.tabular.priors.draft import Draft, Size, pick_columns, standardise
from autometa_plugins.tabular.priors.draws import Draws
from autometa_plugins.tabular.priors.labels import draw_shares, label_by_rank

RULES = {"xor": 25, "parity": 20, "tree": 20, "lookup": 10, "product": 10, "and": 7.5, "or": 7.5}
"""Rules and how often each is drawn."""
_RELEVANT = {"xor": (2, 2), "product": (2, 2), "parity": (3, 4)}
"""Fewest and most columns of a rule, where they are not 2 and 4."""
_MOST_NOISE = 0.15


def draw_rules(draws: Draws, size: Size) -> Draft:
    """Draw a rule and tables that follow it."""
    return draw_rule(draws, size, list(RULES)[draws.one_of(list(RULES.values()))])


def draw_rule(draws: Draws, size: Size, rule: str) -> Draft:
    """Draw tables that follow a rule of two to four columns, up to 15% of the labels aside.

    Columns are independent, so that one alone tells nothing of an XOR. More than two classes generalise it: levels
    are added up modulo the number of classes.

    Parameters
    ----------
    draws : Draws
    size : Size
    rule : str
        One of ``RULES``.
    """
    columns, place = _draw_columns(draws, size)
    n_classes = size.n_classes or draws.count(2, 4)
    fewest, most = _RELEVANT.get(rule, (2, 4))
    n_relevant = min(draws.count(fewest, most), size.n_columns)
    order = draws.uniform(0, 1, size.n_tables, size.n_columns)
    if rule in ("product", "and", "or"):  # these need an order of values, which levels have not
        order[:, size.n_numeric :] += 1
    relevant = order.argsort(dim=1)[:, :n_relevant]
    share = pick_columns(place, relevant)
    if rule in ("xor", "parity"):
        labels = (share * n_classes).long().sum(dim=-1) % n_classes
    elif rule == "lookup":
        labels = _look_up(draws, share, n_classes)
    elif rule == "tree":
        labels = _descend(draws, share, n_classes)
    else:
        score = {"and": share.amin(dim=-1), "or": share.amax(dim=-1), "product": (share - 0.5).prod(dim=-1)}[rule]
        if not size.n_classes and rule == "product":
            return Draft(columns=columns, scores=standardise(score.unsqueeze(-1)), exact=_mark(relevant, size))
        shares = draw_shares(draws, size) if size.n_classes else torch.full((size.n_tables, n_classes), 1 / n_classes)
        labels = label_by_rank(score, shares)
    wrong = draws.uniform(0, 1, *labels.shape) < draws.uniform(0, _MOST_NOISE, size.n_tables, 1)
    levels = draws.normal(size.n_tables, n_classes).gather(1, labels)
    labels = torch.where(wrong, draws.whole(0, n_classes - 1, *labels.shape), labels)
    scores = labels.to(torch.float64) if size.n_classes else levels
    return Draft(
        columns=columns,
        scores=standardise((scores + 1e-3 * draws.normal(*labels.shape)).unsqueeze(-1)),
        labels=labels if size.n_classes else None,
        exact=_mark(relevant, size),
    )


def _draw_columns(draws: Draws, size: Size) -> tuple[Tensor, Tensor]:
    """Return independent columns, and the place of every value from 0 to 1 among those of its column."""
    n_tables, n_rows = size.n_tables, size.n_rows
    place = draws.uniform(0, 1, n_tables, n_rows, size.n_columns)
    # Some numbers have a few values only.
    n_values = draws.whole(2, 6, n_tables, 1, size.n_numeric)
    stepped = draws.uniform(0, 1, n_tables, 1, size.n_numeric) < 0.5 * draws.uniform(0, 1, n_tables, 1, 1)
    numbers = place[..., : size.n_numeric]
    numbers = torch.where(stepped, ((numbers * n_values).floor() + 0.5) / n_values, numbers)
    levels = (place[..., size.n_numeric :] * size.n_levels).floor()
    place = torch.cat([numbers, (levels + 0.5) / size.n_levels], dim=-1)
    names = draws.orders(n_tables, size.n_categorical, size.n_levels).transpose(1, 2)
    shown = names.gather(1, levels.long()).to(torch.float64)
    bell = torch.special.ndtri(numbers.clamp(1e-4, 1 - 1e-4))
    power = draws.log_uniform(0.3, 1.5, n_tables, 1, size.n_numeric)
    kind = draws.whole(0, 2, n_tables, 1, size.n_numeric)
    numbers = torch.where(kind == 0, numbers, torch.where(kind == 1, bell, torch.exp(power * bell)))
    return torch.cat([standardise(numbers), shown], dim=-1), place


def _mark(relevant: Tensor, size: Size) -> Tensor:
    exact = torch.zeros(size.n_tables, size.n_columns, dtype=torch.bool)
    return exact.scatter(1, relevant, True)


def _look_up(draws: Draws, share: Tensor, n_classes: int) -> Tensor:
    """Cut the columns into cells, each of one class, as many of each class as possible."""
    n = share.shape[-1]
    n_bins = 2
    while n_bins**n < 2 * n_classes:
        n_bins += 1
    cell = ((share * n_bins).long() * n_bins ** torch.arange(n)).sum(dim=-1)
    return draws.orders(share.shape[0], n_bins**n).gather(1, cell) % n_classes


def _descend(draws: Draws, share: Tensor, n_classes: int) -> Tensor:
    """Follow a tree with a column and a threshold of its own at every node."""
    n_tables, n_rows, n = share.shape
    depth = max(2, (n_classes - 1).bit_length())
    column = draws.whole(0, n - 1, n_tables, 2**depth - 1)
    threshold = draws.uniform(0.35, 0.65, n_tables, 2**depth - 1)
    leaf = torch.zeros(n_tables, n_rows, dtype=torch.int64)
    for level in range(depth):
        node = leaf + 2**level - 1
        value = share.gather(2, column.gather(1, node).unsqueeze(-1)).squeeze(-1)
        leaf = 2 * leaf + (value > threshold.gather(1, node)).long()
    return draws.orders(n_tables, 2**depth).gather(1, leaf) % n_classes

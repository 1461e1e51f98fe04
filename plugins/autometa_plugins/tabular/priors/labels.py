"""Classes from scores, each of at least so many rows."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from autometa_plugins.tabular.priors.draft import Draft, Size, standardise
from autometa_plugins.tabular.priors.draws import Draws

_BALANCING_STEPS = 12


def draw_shares(draws: Draws, size: Size) -> Float[Tensor, "table class"]:
    """Draw the shares of classes: equal, or uneven ones, but enough rows of each."""
    n_tables, n_classes = size.n_tables, size.n_classes
    if draws.chance(0.5):
        shares = draws.shares(draws.log_number(1, 8), n_tables, n_classes)
    else:
        shares = torch.full((n_tables, n_classes), 1 / n_classes, dtype=torch.float64)
    least = min(0.9 / n_classes, (size.n_each + 1) / size.n_rows)
    return shares * (1 - n_classes * least) + least


def label_by_rank(score: Float[Tensor, "table row"], shares: Float[Tensor, "table class"]) -> Int[Tensor, "table row"]:
    """Cut a score into classes of these shares."""
    rank = score.argsort(dim=1).argsort(dim=1).to(score.dtype)
    bounds = shares.cumsum(dim=1)[:, :-1] * score.shape[1]
    return (rank.unsqueeze(-1) >= bounds.unsqueeze(1)).sum(dim=-1)


def draw_labels(draws: Draws, draft: Draft, size: Size) -> Int[Tensor, "table row"]:
    """Make classes of scores: cut one of them, take the largest, or the nearest prototype; number them at random."""
    noise = draws.log_uniform(0.003, 0.4, size.n_tables, 1, 1)
    scores = standardise(draft.scores)
    if draft.labels is None:
        scores = scores + noise * draws.normal(*scores.shape)
    by_rank = label_by_rank(scores[..., 0], draw_shares(draws, size))
    if draft.labels is not None:
        labels = draft.labels
    elif size.n_classes == 2 or draws.chance(0.4):
        labels = by_rank
    else:
        labels = _balanced(scores if draws.chance(0.6) else _affinities(draws, scores, size), size)
    enough = one_hot(labels, size.n_classes).sum(dim=1).amin(dim=1) >= size.n_each
    labels = torch.where(enough.unsqueeze(1), labels, by_rank)
    return draws.orders(size.n_tables, size.n_classes).gather(1, labels)


def _affinities(draws: Draws, scores: Tensor, size: Size) -> Tensor:
    """Return how near every row is to a prototype of every class."""
    n = draws.count(2, 4)
    prototypes = 1.2 * draws.normal(size.n_tables, size.n_classes, min(n, scores.shape[-1]))
    return -torch.cdist(scores[..., :n].contiguous(), prototypes, compute_mode="donot_use_mm_for_euclid_dist")


def _balanced(scores: Tensor, size: Size) -> Tensor:
    """Take the class of the largest score, shifted until no class is much rarer than the others."""
    shift = torch.zeros_like(scores[:, :1])
    for _ in range(_BALANCING_STEPS):
        counts = one_hot((scores + shift).argmax(dim=-1), size.n_classes).sum(dim=1, keepdim=True)
        lack = (size.n_rows / size.n_classes / (counts + 1)).log()
        # What is common enough may stay common.
        shift = shift + 0.25 * torch.where(counts < 1.3 * size.n_each + 1, lack.clamp(min=0.2), lack.clamp(max=0))
    return (scores + shift).argmax(dim=-1)

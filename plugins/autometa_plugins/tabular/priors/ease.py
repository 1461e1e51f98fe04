"""How well a simple kernel predicts the rows of a table from one another."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from autometa_plugins.tabular.priors.draft import Size

_MOST_ROWS = 128
_UNEQUAL = 1.5
"""Distance of two levels of a category."""


def find_ease(columns: Tensor, y: Tensor, size: Size) -> Float[Tensor, " table"]:
    """Return the leave-one-out accuracy above chance, or R², of votes by a Laplace kernel; from 0 to 1."""
    columns, y = columns[:, :_MOST_ROWS], y[:, :_MOST_ROWS]
    points = [columns[..., : size.n_numeric].asinh()]
    if size.n_categorical:
        levels = one_hot(columns[..., size.n_numeric :].long(), size.n_levels).flatten(2)
        points.append(levels.to(columns.dtype) * _UNEQUAL / 2)
    x = torch.cat(points, dim=-1)
    kernel = torch.exp(-4 * torch.cdist(x, x, p=1.0) / size.n_columns)
    kernel = kernel * (1 - torch.eye(x.shape[1], dtype=x.dtype))
    if size.n_classes:
        members = one_hot(y, size.n_classes).to(x.dtype)
        votes = kernel @ members / (members.sum(dim=1, keepdim=True) + 1e-3)
        right = (votes.argmax(dim=-1) == y).to(x.dtype).mean(dim=1)
        return ((right - 1 / size.n_classes) / (1 - 1 / size.n_classes)).clamp(min=0)
    guess = (kernel @ y.unsqueeze(-1)).squeeze(-1) / (kernel.sum(dim=-1) + 1e-9)
    # A kernel's votes are drawn to the mean: judge them as the best line through them would do.
    centred, centred_guess = y - y.mean(dim=1, keepdim=True), guess - guess.mean(dim=1, keepdim=True)
    shared = (centred * centred_guess).sum(dim=1).clamp(min=0).square()
    return shared / (centred.square().sum(dim=1) * centred_guess.square().sum(dim=1) + 1e-9)

"""Which columns tell something of the labels."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from autometa_plugins.tabular.comparison import column_distances
from autometa_plugins.tabular.encoding import Rows


class Relevance(nn.Module):
    """Weight each column by how well likeness in it goes with likeness of the labels.

    The correlation, over all pairs of different support rows, of the similarity exp(-decay · distance) in the column
    with that of the labels (kernel alignment, Cristianini et al. 2001). Its positive part is squared. A share of the
    mean is added, so that no column is lost, and the weights are made to sum to 1. Where all labels differ, such as
    with one row of each class, no pair says anything and all columns weigh the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_floor = nn.Parameter(torch.tensor(0.08).log())

    def forward(
        self,
        support: Rows,
        labels_alike: Float[Tensor, "task row row"],
        mask: Bool[Tensor, "task row"],
        decay: Tensor,
        at_once: int,
    ) -> Float[Tensor, "task 2 column"]:
        """Return equal weights and those of relevance, comparing ``at_once`` rows with all others at a time."""
        own = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        pairs = mask.unsqueeze(1) & mask.unsqueeze(2) & ~own
        counts = pairs.sum(dim=(1, 2)).clamp(min=1).to(decay.dtype)[:, None]
        mean = (labels_alike * pairs).sum(dim=(1, 2), keepdim=True) / counts.unsqueeze(-1)
        labels = (labels_alike - mean) * pairs
        sums = support.bent.new_zeros(len(mask), support.bent.shape[-1], 3)
        for start in range(0, mask.shape[1], at_once):
            part = slice(start, start + at_once)
            rows = support.part(part)
            # One less than the similarity, so that a column where all are equal is exactly 0.
            alike = torch.expm1(-decay * column_distances(rows, support)).flatten(2)
            both = torch.stack([labels[:, part].flatten(1), pairs[:, part].to(alike.dtype).flatten(1)], dim=-1)
            sums = sums + torch.cat([alike @ both, alike.square() @ both[..., 1:]], dim=-1)
        together, total, squares = sums.unbind(-1)
        varied = (squares - total.square() / counts).clamp(min=0) * labels.square().sum(dim=(1, 2)).unsqueeze(-1)
        gain = (together / (varied + 1e-9).sqrt()).relu().square()
        gain = gain + self.log_floor.exp() * gain.mean(dim=-1, keepdim=True) + 1e-4
        relevant = gain / gain.sum(dim=-1, keepdim=True)
        return torch.stack([torch.full_like(relevant, 1 / relevant.shape[-1]), relevant], dim=1)

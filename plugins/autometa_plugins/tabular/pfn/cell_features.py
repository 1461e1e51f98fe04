"""What the network is told of a cell."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from autometa_plugins.tabular.columns import Cells
from autometa_plugins.tabular.encoding import Rows

N_CELL_FEATURES = 10


def cell_features(
    cells: Cells,
    rows: Rows,
    support: Cells,
    relevance: Float[Tensor, "task column"],
    counts: Float[Tensor, " task"],
    own: bool = False,
) -> Float[Tensor, "task column row feature"]:
    """Describe every cell: its number on several scales, how usual it is, and how much its column tells of the labels.

    Parameters
    ----------
    cells : Cells
    rows : Rows
        The same, encoded.
    support : Cells
        Of the support rows; nothing is known of those that are padded.
    relevance : Tensor of shape [tasks, columns]
        Weights of the columns, which sum to 1.
    counts : Tensor of shape [tasks]
        Number of support rows.
    own : bool, default=False
        True if the rows are the support rows: each is then compared with the others.
    """
    equal = (cells.entries.unsqueeze(2) == support.entries.unsqueeze(1)) & support.known.unsqueeze(1)
    usual = equal.sum(dim=2).to(rows.bent.dtype) - float(own)
    usual = (usual / (counts - float(own)).clamp(min=1)[:, None, None]).clamp(min=0) * cells.known
    matched = torch.zeros_like(rows.bent)
    matched[..., matched.shape[-1] - cells.n_categorical :] = (rows.levels != 0).to(matched.dtype)
    told = (relevance * relevance.shape[-1]).log1p().unsqueeze(1).expand_as(rows.bent)
    features = [
        rows.clipped,
        rows.bent,
        rows.ranks,
        (2 * rows.clipped).sin(),
        (2 * rows.clipped).cos(),
        cells.known.to(rows.bent.dtype),
        matched,
        usual,
        (usual == 0).to(rows.bent.dtype),
        told,
    ]
    return torch.stack(features, dim=-1).transpose(1, 2)

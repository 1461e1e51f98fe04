"""From the cells of a row to a vector for the row."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from autometa_plugins.tabular.pfn.attention import Attention, FeedForward, Norm
from autometa_plugins.tabular.pfn.cell_features import N_CELL_FEATURES

_N_POOLS = 2


class CellBlock(nn.Module):
    """Let each cell see its column in the support rows, and then its row.

    Parameters
    ----------
    width, n_heads : int
    """

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(Norm(width) for _ in range(3))
        self.along_column = Attention(width, n_heads)
        self.along_row = Attention(width, n_heads)
        self.each = FeedForward(width)

    def memory(self, x: Float[Tensor, "task column row width"]) -> Tensor:
        """Return what rows look up in the support rows' cells ``x``."""
        return self.along_column.memory(self.norms[0](x))

    def forward(
        self, x: Float[Tensor, "task column row width"], memory: Tensor, mask: Bool[Tensor, "task support"]
    ) -> Float[Tensor, "task column row width"]:
        """Return one vector for each cell."""
        x = x + self.along_column(self.norms[0](x), memory, mask)
        rows = self.norms[1](x).transpose(1, 2)
        x = x + self.along_row(rows, self.along_row.memory(rows)).transpose(1, 2)
        return x + self.each(self.norms[2](x))  # type: ignore[no-any-return]


class CellNetwork(nn.Module):
    """Blocks of cells, then means over the columns, two of them weighted by attention.

    Nothing depends on the number or the order of the columns.

    Parameters
    ----------
    width, n_heads, n_blocks : int
    row_width : int
        Of the vector for a row.
    """

    def __init__(self, width: int, n_heads: int, n_blocks: int, row_width: int) -> None:
        super().__init__()
        self.read = nn.Sequential(nn.Linear(N_CELL_FEATURES, width), nn.ReLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(CellBlock(width, n_heads) for _ in range(n_blocks))
        self.norm = Norm(width)
        self.weigh = nn.Linear(width, _N_POOLS * n_heads)
        self.pool = nn.Linear((1 + _N_POOLS) * width, row_width)

    def learn(
        self, features: Float[Tensor, "task column row feature"], mask: Bool[Tensor, "task row"]
    ) -> tuple[Float[Tensor, "task row width"], list[Tensor]]:
        """Return vectors of the support rows, and what is kept of them."""
        x, memories = self.read(features), []
        for block in self.blocks:
            assert isinstance(block, CellBlock)
            memories.append(block.memory(x))
            x = block(x, memories[-1], mask)
        return self._pool(x), memories

    def forward(
        self,
        features: Float[Tensor, "task column row feature"],
        memories: list[Tensor],
        mask: Bool[Tensor, "task support"],
    ) -> Float[Tensor, "task row width"]:
        """Return vectors of rows, each by itself."""
        x = self.read(features)
        for block, memory in zip(self.blocks, memories, strict=True):
            x = block(x, memory, mask)
        return self._pool(x)

    def _pool(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        weights = self.weigh(x).softmax(dim=1).reshape(*x.shape[:-1], _N_POOLS, -1)
        parts = x.reshape(*x.shape[:-1], weights.shape[-1], -1)
        pooled = torch.einsum("tcrph,tcrhs->trphs", weights, parts).flatten(2)
        return self.pool(torch.cat([x.mean(dim=1), pooled], dim=-1))  # type: ignore[no-any-return]

"""Blocks of row vectors, one for each class or target of a row."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from autometa_plugins.tabular.pfn.attention import Attention, FeedForward, Norm


class RowBlock(nn.Module):
    """Let each row see the support rows, and each class the others.

    Parameters
    ----------
    width, n_heads : int
    """

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(Norm(width) for _ in range(3))
        self.along_rows = Attention(width, n_heads)
        self.across = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.across.weight)
        self.each = FeedForward(width)

    def memory(self, x: Float[Tensor, "task out row width"]) -> Tensor:
        """Return what rows look up in the support rows ``x``."""
        return self.along_rows.memory(self.norms[0](x))

    def forward(
        self,
        x: Float[Tensor, "task out row width"],
        memory: Tensor,
        mask: Bool[Tensor, "task support"],
        present: Float[Tensor, "task out"],
    ) -> Float[Tensor, "task out row width"]:
        """Return one vector for each row and class."""
        x = x + self.along_rows(self.norms[0](x), memory, mask)
        x = x + self.across(mean_over_present(self.norms[1](x), present))
        return x + self.each(self.norms[2](x))  # type: ignore[no-any-return]


class RowNetwork(nn.Module):
    """Several blocks; nothing depends on the number or the order of rows and classes.

    Parameters
    ----------
    width, n_heads, n_blocks : int
    """

    def __init__(self, width: int, n_heads: int, n_blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(RowBlock(width, n_heads) for _ in range(n_blocks))
        self.norm = Norm(width)

    def learn(
        self,
        x: Float[Tensor, "task out row width"],
        mask: Bool[Tensor, "task row"],
        present: Float[Tensor, "task out"],
    ) -> tuple[Float[Tensor, "task out row width"], list[Tensor]]:
        """Return vectors of the support rows, and what is kept of them."""
        memories = []
        for block in self.blocks:
            assert isinstance(block, RowBlock)
            memories.append(block.memory(x))
            x = block(x, memories[-1], mask, present)
        return self.norm(x), memories

    def forward(
        self,
        x: Float[Tensor, "task out row width"],
        memories: list[Tensor],
        mask: Bool[Tensor, "task support"],
        present: Float[Tensor, "task out"],
    ) -> Float[Tensor, "task out row width"]:
        """Return vectors of rows, each by itself."""
        for block, memory in zip(self.blocks, memories, strict=True):
            x = block(x, memory, mask, present)
        return self.norm(x)  # type: ignore[no-any-return]


def mean_over_present(
    x: Float[Tensor, "task out row width"], present: Float[Tensor, "task out"]
) -> Float[Tensor, "task 1 row width"]:
    """Return the mean over the classes that the support set holds."""
    shares = present / present.sum(dim=1, keepdim=True).clamp(min=1)
    return (x * shares[:, :, None, None]).sum(dim=1, keepdim=True)

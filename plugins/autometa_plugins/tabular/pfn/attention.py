"""The parts of every block: attention to support rows, and a small network."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Attention(nn.Module):
    """Several heads of attention, whose answer starts at zero.

    Beside the keys that are given there is one of zeros with a value of zeros, so that nothing is found where there
    is nothing to attend to.

    Parameters
    ----------
    width : int
    n_heads : int
        Divides the width.
    """

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.ask = nn.Linear(width, width, bias=False)
        self.keep = nn.Linear(width, 2 * width, bias=False)
        self.answer = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.answer.weight)

    def memory(self, x: Float[Tensor, "task group row width"]) -> Float[Tensor, "task group 2 head row size"]:
        """Return keys and values of rows."""
        kept: Tensor = self.keep(x)
        return kept.reshape(*x.shape[:-1], 2, self.n_heads, -1).permute(0, 1, 3, 4, 2, 5)

    def forward(
        self,
        x: Float[Tensor, "task group row width"],
        memory: Float[Tensor, "task group 2 head support size"],
        mask: Bool[Tensor, "task support"] | None = None,
    ) -> Float[Tensor, "task group row width"]:
        """Attend from rows to the memory of their group.

        Parameters
        ----------
        x : Tensor of shape [tasks, groups, n, width]
        memory : Tensor of shape [tasks, groups, 2, heads, n_support, width / heads]
        mask : Tensor of shape [tasks, n_support], bool, optional
            False where there is no row.
        """
        n_tasks, n_groups, n_rows, width = x.shape
        asked = self.ask(x).reshape(n_tasks * n_groups, n_rows, self.n_heads, -1).transpose(1, 2)
        keys, values = nn.functional.pad(memory, (0, 0, 1, 0)).flatten(0, 1).unbind(1)
        seen = None
        if mask is not None:
            seen = nn.functional.pad(mask, (1, 0), value=True)
            seen = seen[:, None].expand(-1, n_groups, -1).flatten(0, 1)[:, None, None]
        found = nn.functional.scaled_dot_product_attention(asked, keys, values, attn_mask=seen)
        return self.answer(found.transpose(1, 2).reshape(n_tasks, n_groups, n_rows, width))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """A network of one hidden layer, twice as wide, whose answer starts at zero.

    Parameters
    ----------
    width : int
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, 2 * width)
        self.answer = nn.Linear(2 * width, width)
        nn.init.zeros_(self.answer.weight)
        nn.init.zeros_(self.answer.bias)

    def forward(self, x: Float[Tensor, "*place width"]) -> Float[Tensor, "*place width"]:
        """Return one vector for each."""
        return self.answer(torch.relu(self.hidden(x)))  # type: ignore[no-any-return]


class Norm(nn.LayerNorm):
    """Layer normalisation without an offset.

    Parameters
    ----------
    width : int
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, bias=False)

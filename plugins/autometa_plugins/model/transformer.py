"""Attention from tokens to the support set, the one building block of in-context learning."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import autometa as am


class SupportAttention(nn.Module):
    """Pre-norm transformer block whose keys and values are support tokens only.

    Support tokens and query tokens pass through the same weights. Because no token ever looks at a query, keys and
    values of the support are computed once per task and serve any number of queries.

    Parameters
    ----------
    dim : int
        Width of a token.
    n_heads : int
        Divides ``dim``.
    related : bool
        Whether :meth:`forward` will be told which examples are of one class.
    """

    def __init__(self, dim: int, n_heads: int, *, related: bool) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.attention_norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.same_class = nn.Parameter(torch.zeros(n_heads)) if related else None
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def keys_values(self, support: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [tasks, heads, n_support, dim / heads] of support tokens [tasks, n_support, dim]."""
        keys, values = self.key_value(self.attention_norm(support)).chunk(2, dim=-1)
        return self._split(keys), self._split(values)

    def forward(
        self, tokens: Tensor, keys: Tensor, values: Tensor, mask: Tensor, relation: Tensor | None = None
    ) -> Tensor:
        """Let every token look at the support.

        Parameters
        ----------
        tokens : Tensor of shape [tasks, n, dim]
        keys, values : Tensor of shape [tasks, heads, n_support, dim / heads]
        mask : Tensor of shape [tasks, n_support], bool
            True where a support example exists.
        relation : Tensor of shape [tasks, n, n_support], optional
            1 where token and support example are of one class, else 0; each head learns what that means to it.

        Returns
        -------
        Tensor of shape [tasks, n, dim]
        """
        visible = mask[:, None, None, :]
        if relation is not None and self.same_class is not None:
            bias = relation.unsqueeze(1) * self.same_class[:, None, None]
            # The lowest number, not -inf: without any support example the softmax stays a number.
            visible = bias.masked_fill(~visible, torch.finfo(bias.dtype).min)
        queries = self._split(self.query(self.attention_norm(tokens)))
        seen = nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=visible)
        tokens = tokens + self.out(seen.transpose(1, 2).flatten(2))
        deeper: Tensor = self.mlp(tokens)
        return tokens + deeper

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.n_heads, -1).transpose(1, 2)


class ClassMatching(nn.Module):
    """Class logits by attention over the support: the logarithm of the attention each class receives.

    Vinyals et al. 2016, eq. 1, with the cosine similarity of their section 2.1.1. Names of classes never enter, so
    there may be any number of them.
    """

    # Bounds the scale of cosines so that the attention of the most distant class does not underflow float32.
    max_scale = 40.0

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim))
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())

    def directions(self, tokens: Tensor) -> Tensor:
        """Unit vectors to compare, [tasks, n, dim]."""
        return nn.functional.normalize(self.project(tokens), dim=-1)

    def forward(self, tokens: Tensor, support: Tensor, members: Tensor) -> Tensor:
        """Logits [tasks, n, n_way].

        Parameters
        ----------
        tokens : Tensor of shape [tasks, n, dim]
        support : Tensor of shape [tasks, n_support, dim]
            :meth:`directions` of the support tokens.
        members : Tensor of shape [tasks, n_support, n_way]
            One-hot classes, zero rows where padded.
        """
        scale = self.log_scale.exp().clamp(max=self.max_scale)
        similarity = scale * self.directions(tokens) @ support.transpose(1, 2)
        absent = members.sum(-1) == 0
        attention = similarity.masked_fill(absent.unsqueeze(1), torch.finfo(similarity.dtype).min).softmax(dim=-1)
        return (attention @ members).clamp(min=torch.finfo(attention.dtype).tiny).log()


def check_heads(learner: str, dim: int, n_heads: int) -> None:
    """Refuse a width that does not split into heads of equal width.

    Raises
    ------
    InvalidParameter
        Names a width that would work.
    """
    if dim % n_heads:
        raise am.InvalidParameter(
            f"dim={dim} of learner {learner!r} must be a multiple of n_heads={n_heads}; "
            f"{n_heads * max(1, dim // n_heads)} would work."
        )

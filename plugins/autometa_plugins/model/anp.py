"""Attentive neural processes (Kim et al. 2019): every query attends to the support."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.model.neural_process import NeuralProcess, masked_mean, mlp
from autometa_plugins.model.transformer import check_heads


class ANP(NeuralProcess):
    """Pairs (x, y) of the support attend to one another, and every query attends to the pairs by their x.

    Kim et al. 2019, section 3.1, without the latent variable, as ``CANP`` in the comparison of Lee et al. 2020. The
    decoder gets what the query's attention returns, and one mean over the support.

    Parameters
    ----------
    dim : int, default=128
        Width of all layers; a multiple of ``n_heads``.
    n_heads : int, default=8
        Of every attention.
    min_std : float, default=0.1
        Least standard deviation: σ = min_std + (1 - min_std) softplus(s); 0 for no bound, then σ = exp(s). Without
        it training is less stable.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        What turns x into features; "auto" is "identity" for vectors and "conv4" for images.

    Notes
    -----
    The usual recipe of the family (Lee et al. 2020; Nguyen & Grover 2022): 16 tasks of the sampler
    ``gaussian_process`` a step, 100,000 steps of ``make_meta_optimizer("gradient", lr=5e-4)``, whose schedule is a
    cosine.

    References
    ----------
    H. Kim, A. Mnih, J. Schwarz, M. Garnelo, S. M. A. Eslami, D. Rosenbaum, O. Vinyals, Y. W. Teh: Attentive Neural
    Processes. ICLR 2019. J. Lee, Y. Lee, J. Kim, E. Yang, S. J. Hwang, Y. W. Teh: Bootstrapping Neural Processes.
    NeurIPS 2020.
    """

    name: ClassVar[str] = "anp"
    sizes: ClassVar[tuple[str, ...]] = ("dim", "n_heads")

    def __init__(
        self, *, dim: int = 128, n_heads: int = 8, min_std: float = 0.1, backbone: am.BackboneLike = "auto"
    ) -> None:
        self.dim = dim
        self.n_heads = n_heads
        self.min_std = min_std
        self.backbone = backbone

    def reader(self, n_features: int, n_outputs: int) -> nn.Module:
        """Return the encoders of x and of pairs, their attention, and the decoder.

        Raises
        ------
        InvalidParameter
            ``dim`` is no multiple of ``n_heads``.
        """
        check_heads(self.name, self.dim, self.n_heads)
        return _Attentive(n_features, n_outputs, self.dim, self.n_heads)


class _Attentive(nn.Module):
    def __init__(self, n_features: int, n_outputs: int, dim: int, n_heads: int) -> None:
        super().__init__()
        pair = n_features + n_outputs
        self.place = mlp(n_features, dim, dim)
        self.content = mlp(pair, dim, dim)
        self.among_support = _Attention(dim, n_heads)
        self.of_query = _Attention(dim, n_heads)
        self.whole = nn.Sequential(mlp(pair, dim, dim), nn.ReLU())
        self.among_whole = _Attention(dim, n_heads)
        self.mean = mlp(dim, dim, dim)
        self.decoder = mlp(2 * dim + n_features, dim, dim, 2 * n_outputs)

    def read(self, x: Tensor, y: Tensor, mask: Tensor) -> dict[str, Tensor]:
        pairs = torch.cat([x, y], dim=-1)
        content, whole = self.content(pairs), self.whole(pairs)
        content = self.among_support(content, content, content, mask)
        whole = self.among_whole(whole, whole, whole, mask)
        return {
            "place": self.place(x),
            "content": content,
            "mean": self.mean(masked_mean(whole, mask)),
            "mask": mask,
        }

    def answer(self, read: dict[str, Tensor], x: Tensor) -> Tensor:
        seen = self.of_query(self.place(x), read["place"], read["content"], read["mask"])
        mean = read["mean"].unsqueeze(1).expand(-1, x.shape[1], -1)
        answered: Tensor = self.decoder(torch.cat([seen, mean, x], dim=-1))
        return answered


class _Attention(nn.Module):
    """Multi-head attention with a residual layer behind it, both normalised (Lee et al. 2019, MAB)."""

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.queries, self.keys, self.values = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.seen_norm, self.norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        x = self.queries(x)
        q, k, v = (
            t.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for t in (x, self.keys(keys), self.values(values))
        )
        seen = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        x = self.seen_norm(x + seen.transpose(1, 2).flatten(2))
        normed: Tensor = self.norm(x + self.out(x).relu())
        return normed

"""Transformer neural processes (Nguyen & Grover 2022): the support as tokens."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.model.neural_process import NeuralProcess, mlp
from autometa_plugins.model.transformer import SupportAttention, check_heads


class TNP(NeuralProcess):
    """A transformer over tokens (x, y) of the support and tokens (x, blank) of the queries.

    TNP-D of Nguyen & Grover 2022, section 3.2: all tokens attend to the support only, and positions are not encoded,
    so neither order nor other queries matter. A token is x, y and a flag that tells a blank from a target of zero.
    Unlike in the paper, layers are normalised before attention and MLP, not after them, so no warm-up is needed (Xiong
    et al. 2020).

    Parameters
    ----------
    dim : int, default=64
        Width of a token; a multiple of ``n_heads``. MLPs within layers are twice as wide.
    n_layers : int, default=6
        Of attention.
    n_heads : int, default=4
    embedding_layers : int, default=4
        From x, y and flag to a token.
    min_std : float, default=0.0
        Least standard deviation: σ = min_std + (1 - min_std) softplus(s); 0 for no bound, then σ = exp(s) as in the
        paper's code for functions. For images it takes 0.05.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        What turns x into features; "auto" is "identity" for vectors and "conv4" for images.

    Notes
    -----
    The paper's recipe: 16 tasks of the sampler ``gaussian_process`` a step, 100,000 steps of
    ``make_meta_optimizer("gradient", lr=5e-4)``, whose schedule is a cosine.

    References
    ----------
    T. Nguyen, A. Grover: Transformer Neural Processes: Uncertainty-Aware Meta Learning Via Sequence Modeling.
    ICML 2022. R. Xiong et al.: On Layer Normalization in the Transformer Architecture. ICML 2020.
    """

    name: ClassVar[str] = "tnp"
    sizes: ClassVar[tuple[str, ...]] = ("dim", "n_layers", "n_heads", "embedding_layers")

    def __init__(
        self,
        *,
        dim: int = 64,
        n_layers: int = 6,
        n_heads: int = 4,
        embedding_layers: int = 4,
        min_std: float = 0.0,
        backbone: am.BackboneLike = "auto",
    ) -> None:
        self.dim = dim
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.embedding_layers = embedding_layers
        self.min_std = min_std
        self.backbone = backbone

    def reader(self, n_features: int, n_outputs: int) -> nn.Module:
        """Return embedding, transformer and read-out.

        Raises
        ------
        InvalidParameter
            ``dim`` is no multiple of ``n_heads``.
        """
        check_heads(self.name, self.dim, self.n_heads)
        embedding = mlp(n_features + n_outputs + 1, *[self.dim] * self.embedding_layers)
        blocks = [SupportAttention(self.dim, self.n_heads, related=False) for _ in range(self.n_layers)]
        read_out = nn.Sequential(nn.LayerNorm(self.dim), mlp(self.dim, 2 * self.dim, 2 * n_outputs))
        return _Tokens(embedding, blocks, read_out, n_outputs)


class _Tokens(nn.Module):
    def __init__(
        self, embedding: nn.Module, blocks: list[SupportAttention], read_out: nn.Module, n_outputs: int
    ) -> None:
        super().__init__()
        self.n_outputs = n_outputs
        self.embedding = embedding
        self.blocks = nn.ModuleList(blocks)
        self.read_out = read_out

    def read(self, x: Tensor, y: Tensor, mask: Tensor) -> dict[str, Tensor]:
        tokens = self.embedding(torch.cat([x, y, torch.zeros_like(y[..., :1])], dim=-1))
        keys, values = [], []
        for i, block in enumerate(self._layers()):
            key, value = block.keys_values(tokens)
            if i + 1 < len(self.blocks):
                tokens = block(tokens, key, value, mask)
            keys.append(key)
            values.append(value)
        return {"keys": torch.stack(keys, dim=1), "values": torch.stack(values, dim=1), "mask": mask}

    def answer(self, read: dict[str, Tensor], x: Tensor) -> Tensor:
        blank = x.new_zeros(*x.shape[:2], self.n_outputs)
        tokens = self.embedding(torch.cat([x, blank, torch.ones_like(x[..., :1])], dim=-1))
        for block, keys, values in zip(self._layers(), read["keys"].unbind(1), read["values"].unbind(1), strict=True):
            tokens = block(tokens, keys, values, read["mask"])
        answered: Tensor = self.read_out(tokens)
        return answered

    def _layers(self) -> list[SupportAttention]:
        return [block for block in self.blocks if isinstance(block, SupportAttention)]

"""Conditional neural processes (Garnelo et al. 2018): the support set as one mean."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.model.neural_process import NeuralProcess, masked_mean, mlp


class CNP(NeuralProcess):
    """Encode every pair (x, y) of the support, take the mean, and decode it beside the query's x.

    Garnelo et al. 2018, section 2.1, eqs. 2 to 4. The cost of a task grows with its support plus its queries, not with
    their product. Predictions follow the support only as closely as one mean can describe it.

    Parameters
    ----------
    dim : int, default=128
        Width of all layers and of the mean.
    encoder_layers : int, default=4
    decoder_layers : int, default=4
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
    M. Garnelo, D. Rosenbaum, C. Maddison, T. Ramalho, D. Saxton, M. Shanahan, Y. W. Teh, D. Rezende, S. M. A. Eslami:
    Conditional Neural Processes. ICML 2018.
    """

    name: ClassVar[str] = "cnp"
    sizes: ClassVar[tuple[str, ...]] = ("dim", "encoder_layers", "decoder_layers")

    def __init__(
        self,
        *,
        dim: int = 128,
        encoder_layers: int = 4,
        decoder_layers: int = 4,
        min_std: float = 0.1,
        backbone: am.BackboneLike = "auto",
    ) -> None:
        self.dim = dim
        self.encoder_layers = encoder_layers
        self.decoder_layers = decoder_layers
        self.min_std = min_std
        self.backbone = backbone

    def reader(self, n_features: int, n_outputs: int) -> nn.Module:
        """Return encoder and decoder."""
        encoder = mlp(n_features + n_outputs, *[self.dim] * self.encoder_layers)
        decoder = mlp(n_features + self.dim, *[self.dim] * (self.decoder_layers - 1), 2 * n_outputs)
        return _Mean(encoder, decoder)


class _Mean(nn.Module):
    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def read(self, x: Tensor, y: Tensor, mask: Tensor) -> dict[str, Tensor]:
        return {"mean": masked_mean(self.encoder(torch.cat([x, y], dim=-1)), mask)}

    def answer(self, read: dict[str, Tensor], x: Tensor) -> Tensor:
        mean = read["mean"].unsqueeze(1).expand(-1, x.shape[1], -1)
        answered: Tensor = self.decoder(torch.cat([mean, x], dim=-1))
        return answered

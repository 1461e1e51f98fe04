"""The four-block convolutional network of few-shot image classification."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

from torch import Tensor, nn

import autometa as am
from autometa_plugins.backbones.layout import channels_last

if TYPE_CHECKING:
    from optuna import Trial

_N_BLOCKS = 4
_NORMS = ("batch", "group", "none")
_BATCH_NORMS = ("inductive", "transductive")


class Conv4(am.Backbone):
    """Four blocks of 3x3 convolution, normalization, ReLU and 2x2 max-pooling.

    Vinyals et al. 2016, section 4.1.1, and nearly every few-shot paper since: 28x28 images give ``n_filters``
    features, 84x84 images 25 times as many. An axis is halved only while it is longer than 1, so small images
    (8x8 digits) pass too.

    Parameters
    ----------
    n_filters : int, default=64
        Channels of every block.
    norm : {"batch", "group", "none"}, default="batch"
        Normalization of every block. Groups hold at most 8 channels each.
    batch_norm : {"inductive", "transductive"}, default="inductive"
        Which statistics ``norm="batch"`` uses once meta-training is over. ``"inductive"``: running averages of
        meta-training, so that an example's features depend on that example alone. ``"transductive"``: those of the
        examples given together, as in MAML's code; scores are then higher and not comparable with inductive ones.
    n_pools : int, default=4
        How many blocks, from the first on, end in max-pooling. 2 leaves a map for learners that compare places
        (Sung et al. 2018); the module has its shape as ``feature_shape``.
    """

    def __init__(
        self, n_filters: int = 64, norm: str = "batch", batch_norm: str = "inductive", n_pools: int = _N_BLOCKS
    ) -> None:
        self.n_filters = n_filters
        self.norm = norm
        self.batch_norm = batch_norm
        self.n_pools = n_pools

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Return a module mapping images [batch, channels, height, width] to [batch, n_features].

        Raises
        ------
        InvalidParameter
            Inputs are not images, or a parameter has an impossible value.
        """
        self._check(input_shape)
        channels, *size = input_shape
        blocks: list[nn.Module] = []
        for block in range(_N_BLOCKS):
            pool = [2 if length > 1 and block < self.n_pools else 1 for length in size]
            # Batch normalization subtracts the mean of every channel, and any bias with it.
            blocks.append(nn.Conv2d(channels, self.n_filters, 3, padding=1, bias=self.norm != "batch"))
            blocks += self._norm()
            # The largest of four survives a ReLU as it is, so pooling first gives the same with a quarter of the work.
            if pool != [1, 1]:
                blocks.append(nn.MaxPool2d((pool[0], pool[1])))
            blocks.append(nn.ReLU())
            size = [length // step for length, step in zip(size, pool, strict=True)]
            channels = self.n_filters
        return channels_last(_Blocks(nn.Sequential(*blocks), feature_shape=(channels, *size)))

    def _norm(self) -> list[nn.Module]:
        if self.norm == "batch":
            return [nn.BatchNorm2d(self.n_filters, track_running_stats=self.batch_norm == "inductive")]
        if self.norm == "group":
            return [nn.GroupNorm(self.n_filters // math.gcd(self.n_filters, 8), self.n_filters)]
        return []

    def _check(self, input_shape: tuple[int, ...]) -> None:
        if len(input_shape) != 3 or min(input_shape) < 1:
            raise am.InvalidParameter(
                f"backbone 'conv4' needs images of shape (channels, height, width), got input_shape={input_shape!r}; "
                "backbone 'mlp' takes any shape."
            )
        am.check_int("n_filters", self.n_filters, of="backbone 'conv4'")
        am.check_choice("norm", self.norm, _NORMS, of="backbone 'conv4'")
        am.check_choice("batch_norm", self.batch_norm, _BATCH_NORMS, of="backbone 'conv4'")
        am.check_int("n_pools", self.n_pools, least=0, most=_N_BLOCKS, of="backbone 'conv4'")

    @classmethod
    def suggest(cls, trial: Trial, input_shape: tuple[int, ...]) -> Self:
        """Search width and normalization; statistics stay inductive, so that scores can be compared."""
        return cls(
            n_filters=trial.suggest_categorical("n_filters", [32, 64, 128]),
            norm=trial.suggest_categorical("norm", _NORMS),
        )


class _Blocks(nn.Module):
    def __init__(self, blocks: nn.Sequential, feature_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.blocks = blocks
        self.feature_shape = feature_shape
        self.n_features = math.prod(feature_shape)

    @am.fixed_forward
    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.blocks(x)
        return features.flatten(1)

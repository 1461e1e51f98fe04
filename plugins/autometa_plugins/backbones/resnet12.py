"""The twelve-layer residual network of few-shot image classification."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.backbones.layout import channels_last

if TYPE_CHECKING:
    from optuna import Trial

_NORMS = ("batch", "group", "none")
_BATCH_NORMS = ("inductive", "transductive")
_SLOPE = 0.1
_N_BLOCKS = 4


class ResNet12(am.Backbone):
    """Four residual blocks of three 3x3 convolutions with leaky ReLU and 2x2 max-pooling.

    The network of TADAM (Oreshkin et al. 2018) in the widths of MetaOptNet (Lee et al. 2019, section 4.1 and its
    code), which most later work uses: 12.4 million parameters and 640 features of an image. A block ends with the
    sum of its convolutions and a 1x1 convolution of its input, a leaky ReLU of slope 0.1 and max-pooling. An axis is
    halved only while it is longer than 1, so small images pass too.

    Parameters
    ----------
    n_filters : sequence of four int, default=(64, 160, 320, 640)
        Channels of the blocks.
    pool : bool, default=True
        Average the last block over the image; otherwise the features are its channels at every place (16,000 for 84x84
        images).
    drop_rate : float, default=0.0
        Share dropped after a block in meta-training: single values after the first two, squares (DropBlock, Ghiasi et
        al. 2018) after the last two. MetaOptNet has 0.1, reached step by step over 40,000 batches; here it is constant.
    drop_block : int, default=5
        Side of a dropped square, at most the side of the features it is cut from.
    norm : {"batch", "group", "none"}, default="batch"
        Normalization after every convolution. Groups hold at most 8 channels each.
    batch_norm : {"inductive", "transductive"}, default="inductive"
        Which statistics ``norm="batch"`` uses once meta-training is over, see backbone ``conv4``.
    """

    needs_accelerator: ClassVar[bool] = True

    def __init__(
        self,
        n_filters: Sequence[int] = (64, 160, 320, 640),
        pool: bool = True,
        drop_rate: float = 0.0,
        drop_block: int = 5,
        norm: str = "batch",
        batch_norm: str = "inductive",
    ) -> None:
        self.n_filters = n_filters
        self.pool = pool
        self.drop_rate = drop_rate
        self.drop_block = drop_block
        self.norm = norm
        self.batch_norm = batch_norm

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
        for index, n_filters in enumerate(map(int, self.n_filters)):
            halved = [length > 1 for length in size]
            size = [length // 2 if half else length for length, half in zip(size, halved, strict=True)]
            drop = nn.Dropout(self.drop_rate) if index < 2 else DropBlock(self.drop_rate, self.drop_block)
            blocks.append(
                nn.Sequential(
                    _Residual(channels, n_filters, self),
                    nn.MaxPool2d((1 + halved[0], 1 + halved[1])) if any(halved) else nn.Identity(),
                    drop if self.drop_rate else nn.Identity(),
                )
            )
            channels = n_filters
        network = _Network(nn.Sequential(*blocks), (channels, *([1, 1] if self.pool else size)), pool=self.pool)
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=_SLOPE, mode="fan_out", nonlinearity="leaky_relu")
        return channels_last(network)

    def convolution(self, n_in: int, n_out: int, side: int) -> list[nn.Module]:
        """A convolution that keeps height and width, and its normalization."""
        bias = self.norm != "batch"  # batch normalization subtracts any bias with the mean of the channel
        layers: list[nn.Module] = [nn.Conv2d(n_in, n_out, side, padding=side // 2, bias=bias)]
        if self.norm == "batch":
            layers.append(nn.BatchNorm2d(n_out, track_running_stats=self.batch_norm == "inductive"))
        elif self.norm == "group":
            layers.append(nn.GroupNorm(n_out // math.gcd(n_out, 8), n_out))
        return layers

    def _check(self, input_shape: tuple[int, ...]) -> None:
        if len(input_shape) != 3 or min(input_shape) < 1:
            raise am.InvalidParameter(
                "backbone 'resnet12' needs images of shape (channels, height, width), got "
                f"input_shape={input_shape!r}; backbone 'mlp' takes any shape."
            )
        example = (64, 160, 320, 640)
        am.check_ints("n_filters", self.n_filters, length=_N_BLOCKS, of="backbone 'resnet12'", such_as=example)
        am.check_real("drop_rate", self.drop_rate, least=0, below=1, of="backbone 'resnet12'")
        am.check_int("drop_block", self.drop_block, of="backbone 'resnet12'")
        am.check_bool("pool", self.pool, of="backbone 'resnet12'")
        am.check_choice("norm", self.norm, _NORMS, of="backbone 'resnet12'")
        am.check_choice("batch_norm", self.batch_norm, _BATCH_NORMS, of="backbone 'resnet12'")

    @classmethod
    def suggest(cls, trial: Trial, input_shape: tuple[int, ...]) -> Self:
        """Search the share dropped, and whether features are averaged over the image where several places are left."""
        several = max(input_shape[1:], default=1) >= 2 * 2**_N_BLOCKS
        return cls(
            drop_rate=trial.suggest_categorical("drop_rate", [0.0, 0.1]),
            pool=trial.suggest_categorical("pool", [True, False]) if several else True,
        )


class _Residual(nn.Module):
    """Three convolutions beside a 1x1 convolution of the input."""

    def __init__(self, n_in: int, n_out: int, of: ResNet12) -> None:
        super().__init__()
        activation = nn.LeakyReLU(_SLOPE)
        self.body = nn.Sequential(
            *of.convolution(n_in, n_out, 3),
            activation,
            *of.convolution(n_out, n_out, 3),
            activation,
            *of.convolution(n_out, n_out, 3),
        )
        self.shortcut = nn.Sequential(*of.convolution(n_in, n_out, 1))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation(self.body(x) + self.shortcut(x))
        return y


class DropBlock(nn.Module):
    """In training, sets squares of every channel to zero and scales up what is left (Ghiasi et al. 2018).

    Parameters
    ----------
    rate : float
        Share of the values that is to be dropped, in [0, 1).
    side : int
        Of a square; at most the features' own height and width.
    """

    def __init__(self, rate: float, side: int) -> None:
        super().__init__()
        self.rate = rate
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, channels, height, width] to the same shape."""
        if not self.training:
            return x
        height, width = x.shape[-2:]
        side = min(self.side, height, width)
        # Corners of squares that lie within the image: as many as drop the share asked for, if none overlapped.
        rows, columns = height - side + 1, width - side + 1
        rate = min(1.0, self.rate * height * width / (side**2 * rows * columns))
        corners = (torch.rand(*x.shape[:2], rows, columns, device=x.device) < rate).to(x.dtype)
        corners = nn.functional.pad(corners, (side - 1,) * 4)
        keep = 1 - nn.functional.max_pool2d(corners, side, stride=1)
        return x * keep * (keep.numel() / keep.sum().clamp(min=1))


class _Network(nn.Module):
    def __init__(self, blocks: nn.Sequential, feature_shape: tuple[int, ...], pool: bool) -> None:
        super().__init__()
        self.blocks = blocks
        self.pool = pool
        self.feature_shape = feature_shape
        self.n_features = math.prod(feature_shape)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.blocks(x)
        return features.mean((2, 3)) if self.pool else features.flatten(1)

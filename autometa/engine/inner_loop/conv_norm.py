"""Batch and group norm of convolutions, forward, backward, and how both change if the parameters change.

Numbers z of a convolution are pooled before they are normalized; y are those that are left, ``hat`` what normalizing
makes of them. Sums over places have the shape [n, channels], statistics [n or 1, channels, 1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Norm:
    """A normalization: of every channel over all examples, or of every group of channels of one example."""

    name: str
    """Of the layer in the network."""
    groups: int | None
    """None: batch norm."""
    eps: float

    def count(self, n: int, shape: torch.Size) -> int:
        """How many numbers of n examples [channels, height, width] are normalized together."""
        return n * shape.numel() // (shape[0] if self.groups is None else n * self.groups)

    def spread(self, sums: Tensor) -> Tensor:
        """Add up what is normalized together, from sums over places."""
        n, channels = sums.shape
        if self.groups is None:
            return sums.sum(dim=0).view(1, channels, 1, 1)
        of_groups = sums.view(n, self.groups, -1)
        return of_groups.sum(dim=2, keepdim=True).expand_as(of_groups).reshape(n, channels, 1, 1)

    def statistics(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance."""
        if self.groups is None:
            mean, variance = torch.batch_norm_update_stats(z, None, None, 0.0)
            return mean.view(1, -1, 1, 1), variance.view(1, -1, 1, 1)
        count = self.count(len(z), z.shape[1:])
        mean = self.spread(z.sum((2, 3))) / count
        return mean, self.spread((z - mean).square_().sum((2, 3))) / count

    def joined(self, parts: Sequence[tuple[Tensor, Tensor]], lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return mean and variance of all examples from those of some at a time."""
        if len(parts) == 1:
            return parts[0]
        means, variances = (torch.cat(part) for part in zip(*parts, strict=True))
        if self.groups is not None:
            return means, variances
        shares = means.new_tensor(lengths).view(-1, 1, 1, 1) / sum(lengths)
        mean = (means * shares).sum(dim=0, keepdim=True)
        return mean, ((variances + (means - mean).square()) * shares).sum(dim=0, keepdim=True)


class Errors(NamedTuple):
    """What a pass backward leaves for its derivative."""

    of_y: Tensor
    sums: tuple[Tensor, Tensor]
    """Of the gradient in the outputs, and of its product with hat."""
    means: tuple[Tensor, Tensor]
    """Of the gradient in hat, and of its product with hat, over what is normalized together."""


class Change(NamedTuple):
    """How a pass forward changes."""

    of_mean: Tensor
    along: Tensor
    """Mean of hat times the change of z; the scale changes by minus its square times this."""
    of_hat: Tensor


class NormPass:
    """A normalization of what was pooled.

    Parameters
    ----------
    norm : Norm
    y : Tensor of shape [n, channels, height, width]
    statistics : pair of Tensor
        Mean and variance of all that was convolved.
    together : int
        How many numbers these are of.
    gain, shift : Tensor of shape [channels], optional
    """

    def __init__(
        self,
        norm: Norm,
        y: Tensor,
        statistics: tuple[Tensor, Tensor],
        together: int,
        gain: Tensor | None,
        shift: Tensor | None,
    ) -> None:
        self.norm, self.together = norm, together
        self.mean, self.variance = statistics
        self._scale = (self.variance + norm.eps).rsqrt()
        self._gain = None if gain is None else _broad(gain)
        self._hat = y.sub(self.mean).mul_(self._scale)
        self.outputs = self._affine(self._hat, gain, shift)

    def _affine(self, hat: Tensor, gain: Tensor | None, shift: Tensor | None) -> Tensor:
        return hat if gain is None or shift is None else torch.addcmul(_broad(shift), hat, _broad(gain))

    def _times_gain(self, values: Tensor) -> Tensor:
        return values if self._gain is None else values * self._gain

    def _means(self, sums: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        first, second = sums
        return self.norm.spread(first) / self.together, self.norm.spread(second) / self.together

    def backward(self, of_y: Tensor) -> tuple[Tensor, Tensor, Tensor, Errors]:
        """Return the gradient in z: at the places of y, per unit of z, and everywhere; and what to differentiate."""
        sums = of_y.sum((2, 3)), (of_y * self._hat).sum((2, 3))
        flat = None if self._gain is None else self._gain.view(1, -1)
        means = self._means(sums if flat is None else (sums[0] * flat, sums[1] * flat))
        slope = -self._scale.square() * means[1]
        constant = -self._scale * means[0] - slope * self.mean
        at_places = of_y * self._times_gain(self._scale)
        return at_places, slope, constant, Errors(of_y, sums, means)

    def change(
        self, z: Tensor, of_z: Tensor, of_y: Tensor, of_gain: Tensor | None, of_shift: Tensor | None
    ) -> tuple[Tensor, Change]:
        """Return how the outputs change if z, y and the parameters do."""
        of_mean, product = self._means((of_z.sum((2, 3)), ((z - self.mean) * of_z).sum((2, 3))))
        along = product * self._scale
        of_hat = self._scale * (of_y - of_mean - self._hat * along)
        of_outputs = self._times_gain(of_hat)
        if of_gain is not None and of_shift is not None:
            of_outputs = of_outputs + self._affine(self._hat, of_gain, of_shift)
        return of_outputs, Change(of_mean, along, of_hat)

    def change_of_backward(
        self, errors: Errors, change: Change, of_y: Tensor, of_gain: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor], Tensor, tuple[Tensor, Tensor]]:
        """Return how the gradient in z changes if that in the outputs changes by ``of_y``, and the change of sums.

        At the places of y; per unit of the gradient in z, of the change of z, and of z; and everywhere.
        """
        own = of_y.sum((2, 3)), (of_y * self._hat + errors.of_y * change.of_hat).sum((2, 3))
        sums = own
        at_places = self._times_gain(of_y)
        if self._gain is not None and of_gain is not None:
            flat = self._gain.view(1, -1)
            sums = own[0] * flat + errors.sums[0] * of_gain, own[1] * flat + errors.sums[1] * of_gain
            at_places = torch.addcmul(at_places, errors.of_y, _broad(of_gain))
        means = self._means(sums)
        pull = self._scale.square() * errors.means[1]
        slope = self._scale * (pull * change.along - self._scale * means[1])
        constant = pull * change.of_mean - self._scale * means[0] - slope * self.mean
        return at_places * self._scale, (-self._scale * change.along, -pull, slope), constant, own


def _broad(value: Tensor) -> Tensor:
    return value.view(1, -1, 1, 1)

"""Blocks of convolution, normalization, pooling and ReLU on the CPU, with both derivatives written out.

Autograd runs a block as four operations, each of which reads and writes whole images forward and backward, and
differentiates a gradient of convolutions by convolutions with filters as large as images. Here a block pools first,
since normalizing keeps the order of numbers, up to the sign of the gain: a quarter of them are normalized, and
gradients come back through a quarter. The derivative of the gradient is that of Pearlmutter 1994 (Fast Exact
Multiplication by the Hessian): the change of a pass forward and backward if the parameters change.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from autometa.engine.inner_loop import conv_norm
from autometa.engine.inner_loop.conv_norm import Norm, NormPass

NUMBERS_AT_A_TIME = 2**19
"""So many numbers stay in the caches of a core."""
MOST_KEPT = 2**20
SMALL_FILTER = 64
"""A convolution that gives more than ``MOST_KEPT`` numbers, by filters of at most ``SMALL_FILTER``, is computed again
in backward, a few images at a time.

New memory costs more than that: 32 filters of 75 images of 84x84 with normalization, pooling and gradients took 72 ms a
few images at a time and 220 ms at once, of which 125 ms went into fetching pages (one thread of an AMD EPYC, torch
2.13).
"""


class Block(NamedTuple):
    """A convolution and what follows it; a normalization comes before, pooling before or after ReLU."""

    parameters: tuple[str, str | None, str | None, str | None]
    """Names of weight and bias, gain and shift."""
    padding: tuple[int, int]
    norm: Norm | None = None
    pool: tuple[int, int] | None = None
    relu: bool = False


class ConvBlocks(NamedTuple):
    """A network of blocks one after the other, whose features one linear layer may read."""

    blocks: tuple[Block, ...]
    head: tuple[str, str | None] | None
    """Names of weight and bias."""


class Values(NamedTuple):
    """Values of a block's parameters, or their gradients or changes; None where there is no such parameter."""

    weight: Tensor
    bias: Tensor | None
    gain: Tensor | None
    shift: Tensor | None


class Errors(NamedTuple):
    """What a block's pass backward leaves for its derivative."""

    of_y: Tensor
    """Gradient in what ReLU was given."""
    of_z: Tensor
    """Gradient in the convolution's outputs."""
    of_norm: conv_norm.Errors | None


class Change(NamedTuple):
    """How a block's pass forward changes."""

    of_z: Tensor
    of_norm: conv_norm.Change | None


class BlockPass:
    """One block on one task's examples.

    Parameters
    ----------
    block : Block
    x : Tensor of shape [n, channels, height, width]
        Channels last.
    values : Values
    """

    def __init__(self, block: Block, x: Tensor, values: Values) -> None:
        self.block, self._x, self._values = block, x, values
        falling = values.gain is not None and float(values.gain.min()) <= 0
        self._sign = values.gain.sign().view(1, -1, 1, 1) if falling and values.gain is not None else None
        self._parts = self._part()
        self._kept: tuple[Tensor, Tensor | None] | None = None
        pooled, statistics = [], []
        for part in self._parts:
            z = self._convolved(part)
            largest, places = self._pooled(z)
            pooled.append(largest)
            if block.norm is not None:
                statistics.append(block.norm.statistics(z))
            if len(self._parts) == 1:
                self._kept = z, places
        y = pooled[0] if len(pooled) == 1 else torch.cat(pooled)
        self.norm: NormPass | None = None
        if block.norm is not None:
            of_all = block.norm.joined(statistics, [len(part) for part in self._parts])
            together = block.norm.count(len(x), z.shape[1:])
            self.norm = NormPass(block.norm, y, of_all, together, values.gain, values.shift)
            y = self.norm.outputs
        self.outputs = y.relu() if block.relu else y

    def _part(self) -> Sequence[Tensor]:
        """All examples, or a few at a time where it is faster to convolve them again than to keep the numbers."""
        n, _, *size = self._x.shape
        weight, padding = self._values.weight, self.block.padding
        of_one = len(weight) * math.prod(length + 2 * more for length, more in zip(size, padding, strict=True))
        if n * of_one <= MOST_KEPT or weight[0].numel() > SMALL_FILTER:
            return [self._x]
        return torch.split(self._x, max(1, NUMBERS_AT_A_TIME // of_one))

    def _convolved(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self._values.weight, self._values.bias, padding=self.block.padding)

    def _pooled(self, z: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the numbers that are largest once normalized, and their places."""
        if self.block.pool is None:
            return z, None
        signed = z if self._sign is None else z * self._sign
        largest, places = functional.max_pool2d(signed, self.block.pool, return_indices=True)
        return largest if self._sign is None else _at_places(z, places), places

    def _before_pooling(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the convolution of some examples and the places of what was pooled, kept or computed again."""
        if self._kept is not None:
            return self._kept
        z = self._convolved(x)
        return z, self._pooled(z)[1]

    def _through_relu(self, of_outputs: Tensor) -> Tensor:
        if not self.block.relu:
            return of_outputs
        return torch.ops.aten.threshold_backward(of_outputs, self.outputs, 0)  # type: ignore[no-any-return]

    def _back_to_places(self, pooled: Tensor, z: Tensor, places: Tensor | None) -> Tensor:
        """Put numbers where the largest ones were, zeros elsewhere."""
        pool, unpool = self.block.pool, torch.ops.aten.max_pool2d_with_indices_backward
        return pooled if places is None else unpool(pooled, z, pool, pool, (0, 0), (1, 1), False, places)

    def _convolution_backward(
        self, of_z: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]
    ) -> tuple[Any, Any, Any]:
        """Gradients in inputs, weight and bias; None where not wanted."""
        padding, backward = self.block.padding, torch.ops.aten.convolution_backward
        return backward(of_z, x, weight, [len(weight)], (1, 1), padding, (1, 1), False, (0, 0), 1, wanted)  # type: ignore[no-any-return]

    def backward(self, of_outputs: Tensor, *, wants_x: bool, keep: bool) -> tuple[Tensor | None, Values, Errors | None]:
        """Return the gradients in inputs and parameters, and what their derivative needs if it is to be kept."""
        if keep and self._kept is None:
            self._kept, self._parts = self._before_pooling(self._x), [self._x]
        at_places = of_y = self._through_relu(of_outputs)
        errors = None
        if self.norm is not None:
            at_places, slope, constant, errors = self.norm.backward(of_y)
        found, of_z = [], of_y
        for first, x in zip(_firsts(self._parts), self._parts, strict=True):
            own = slice(first, first + len(x))
            z, places = self._before_pooling(x)
            of_z = self._back_to_places(at_places[own], z, places)
            if self.norm is not None:
                rows = own if len(slope) > 1 else slice(None)
                of_z.addcmul_(z, slope[rows]).add_(constant[rows])
            wanted = wants_x, True, self._values.bias is not None
            found.append(self._convolution_backward(of_z, x, self._values.weight, wanted))
        of_x, of_weight, of_bias = found[0] if len(found) == 1 else _joined(found)
        gradients = self._gradients(of_weight, of_bias, None if errors is None else errors.sums)
        return of_x, gradients, Errors(of_y, of_z, errors) if keep else None

    def _gradients(self, of_weight: Tensor, of_bias: Tensor | None, sums: tuple[Tensor, Tensor] | None) -> Values:
        """Of the parameters that there are; gain and shift from sums over places."""
        if sums is None or self._values.gain is None:
            return Values(of_weight, of_bias, None, None)
        return Values(of_weight, of_bias, sums[1].sum(dim=0), sums[0].sum(dim=0))

    def change(self, of_x: Tensor | None, along: Values) -> tuple[Tensor, Change]:
        """Return how the outputs change if the inputs change by ``of_x`` and the parameters by ``along``."""
        z, places = self._before_pooling(self._x)
        of_z = functional.conv2d(self._x, along.weight, along.bias, padding=self.block.padding)
        if of_x is not None:
            of_z += functional.conv2d(of_x, self._values.weight, padding=self.block.padding)
        of_y, of_norm = _at_places(of_z, places), None
        if self.norm is not None:
            of_y, of_norm = self.norm.change(z, of_z, of_y, along.gain, along.shift)
        return self._through_relu(of_y), Change(of_z, of_norm)

    def change_of_backward(
        self,
        errors: Errors,
        change: Change,
        of_x: Tensor | None,
        along: Values,
        of_outputs: Tensor | None,
        wants_x: bool,
    ) -> tuple[Tensor | None, Values]:
        """Return how the gradients in inputs and parameters change, if those in the outputs do by ``of_outputs``."""
        z, places = self._before_pooling(self._x)
        of_y = torch.zeros_like(errors.of_y) if of_outputs is None else self._through_relu(of_outputs)
        sums = None
        if self.norm is None or errors.of_norm is None or change.of_norm is None:
            of_z = self._back_to_places(of_y, z, places)
        else:
            at_places, slopes, constant, sums = self.norm.change_of_backward(
                errors.of_norm, change.of_norm, of_y, along.gain
            )
            of_z = self._back_to_places(at_places, z, places)
            for values, slope in zip((errors.of_z, change.of_z, z), slopes, strict=True):
                of_z.addcmul_(values, slope)
            of_z += constant
        wanted = wants_x, True, along.bias is not None
        by_x, by_weight, by_bias = self._convolution_backward(of_z, self._x, self._values.weight, wanted)
        if of_x is not None:
            by_weight += self._convolution_backward(errors.of_z, of_x, self._values.weight, (False, True, False))[1]
        if wants_x:
            by_x += self._convolution_backward(errors.of_z, self._x, along.weight, (True, False, False))[0]
        return by_x, self._gradients(by_weight, by_bias, sums)


def _firsts(parts: Sequence[Tensor]) -> list[int]:
    """Where every part begins."""
    return [0, *itertools.accumulate(len(part) for part in parts[:-1])]


def _joined(parts: Sequence[tuple[Any, Any, Any]]) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """Gradients in inputs, weight and bias, of all examples from those of some at a time."""
    of_x, of_weight, of_bias = zip(*parts, strict=True)
    return (
        None if of_x[0] is None else torch.cat(of_x),
        torch.stack(of_weight).sum(dim=0),
        None if of_bias[0] is None else torch.stack(of_bias).sum(dim=0),
    )


def _at_places(values: Tensor, places: Tensor | None) -> Tensor:
    """Return the values where the largest numbers were."""
    if places is None:
        return values
    n, channels, height, width = values.shape
    of_example = torch.arange(n).view(-1, 1, 1, 1) * (height * width)
    flat = ((of_example + places) * channels + torch.arange(channels).view(-1, 1, 1)).permute(0, 2, 3, 1)
    rows = values.permute(0, 2, 3, 1).reshape(-1)
    return rows.index_select(0, flat.reshape(-1)).view(flat.shape).permute(0, 3, 1, 2)


def channels_last(x: Tensor) -> Tensor:
    """Lay images [n, channels, height, width] out with channels last, a single channel too.

    Its stride is free, and convolution takes images for channels first where it says so, which is slower.
    """
    n, channels, height, width = x.shape
    return x.movedim(1, -1).reshape(n, -1).view(n, height, width, channels).movedim(-1, 1)

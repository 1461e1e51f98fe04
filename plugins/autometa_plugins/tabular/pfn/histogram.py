"""The distribution of a real target: a Gaussian whose probability is dealt anew to bins."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from autometa_plugins.tabular.scale import exact_type

N_BINS = 32
"""Each holds as much of a Gaussian as every other; a power of 2, so that their shares of it are exact."""
N_SHAPE = N_BINS + 2
"""Numbers that tell the shape of a distribution: logits of the bins, and how far both tails are stretched."""
_LEAST = 0.01
"""No density is less than about this part of the Gaussian's, however sure the logits are: no target is impossible."""
_SHORTEST, _LONGEST = -0.5, 2.0
"""Bounds of the logarithms of the stretches; in tails that are much shorter an outlier would cost too much."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Targets ``centre + spread · u``, where u has the density φ(u) · B · p(bin of u), with B bins of equal mass of φ.

    So within a bin the density has the shape of the Gaussian. The two outer bins reach from ±1.86 to infinity; what
    lies beyond that edge is stretched, so that tails may be longer or shorter than a Gaussian's. A shape of zeros is
    the Gaussian itself.

    Parameters
    ----------
    centre, spread : Tensor of shape [tasks, n, n_outputs]
        Mean and standard deviation of the Gaussian.
    shape : Tensor of shape [tasks, n, n_outputs, N_SHAPE]
        Logits of the bins in ascending order, then the logarithms of the stretches of the lower and the upper tail.
    """

    centre: Float[Tensor, "task row out"]
    spread: Float[Tensor, "task row out"]
    shape: Float[Tensor, "task row out shape"]

    def mean(self) -> Float[Tensor, "task row out"]:
        """Return the mean."""
        return self.centre + self.spread * self._moments()[0]

    def deviation(self) -> Float[Tensor, "task row out"]:
        """Return the standard deviation."""
        return self.spread * self._moments()[1].sqrt()

    def surprise(self, target: Float[Tensor, "task row out"]) -> Float[Tensor, "task row out"]:
        """Return the negative logarithm of the density."""
        u = (target - self.centre) / self.spread
        stretch = self._stretch_at(u)
        u = _stretched(u, (-stretch).exp())
        dealt: Tensor = (N_BINS * _excess(self.shape).gather(-1, _place(u))[..., 0]).log1p()
        return u.square() / 2 + self.spread.log() + stretch + math.log(2 * math.pi) / 2 - dealt

    def cdf(self, target: Float[Tensor, "task row out"]) -> Float[Tensor, "task row out"]:
        """Return the probability of a smaller target."""
        u = (target - self.centre) / self.spread
        u = _stretched(u, (-self._stretch_at(u)).exp())
        shares, below = self._shares()
        place = _place(u)
        inside = N_BINS * torch.special.ndtr(u.to(shares.dtype)).unsqueeze(-1) - place
        probability: Tensor = below.gather(-1, place) + shares.gather(-1, place) * inside
        return probability[..., 0].to(u.dtype)

    def quantiles(self, q: Float[Tensor, " quantile"]) -> Float[Tensor, "quantile task row out"]:
        """Return the targets below which the probabilities ``q`` lie, in the type of the centre."""
        shares, below = self._shares()
        levels = q.to(shares.dtype).expand(*below.shape[:-1], -1).contiguous()
        place = torch.searchsorted(below[..., 1:].contiguous(), levels)
        inside = ((levels - below.gather(-1, place)) / shares.gather(-1, place)).clamp(0, 1)
        number = torch.finfo(shares.dtype)
        mass = ((place + inside) / N_BINS).clamp(number.tiny, 1 - number.eps / 2)
        u: Tensor = torch.special.ndtri(mass).movedim(-1, 0)
        u = _stretched(u, self._stretch_at(u).exp())
        return (self.centre.to(u.dtype) + self.spread.to(u.dtype) * u).to(self.centre.dtype)

    def _stretches(self) -> Float[Tensor, "task row out 2"]:
        return self.shape[..., N_BINS:].clamp(_SHORTEST, _LONGEST)

    def _stretch_at(self, u: Tensor) -> Tensor:
        """Return the logarithm of the stretch of the tail that u [..., tasks, n, n_outputs] lies in, 0 between both."""
        lower, upper = self._stretches().unbind(-1)
        edge = _bins().edges[-1]
        return torch.where(u > edge, upper, torch.where(u < -edge, lower, 0))

    def _moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and variance of u: the Gaussian's and differences from it, which a shape of zeros makes 0."""
        bins, excess = _bins(), _excess(self.shape)
        tails = (excess[..., :: N_BINS - 1] + 1 / N_BINS) * self._stretches().expm1()
        further = tails * self._stretches().expm1()
        mean = (excess * excess.new_tensor(bins.means)).sum(dim=-1) + bins.beyond * (tails[..., 1] - tails[..., 0])
        square = (excess * excess.new_tensor(bins.squares)).sum(dim=-1)
        square = square + (2 * bins.beyond_product * tails + bins.beyond_square * further).sum(dim=-1)
        return mean, 1 + square - mean.square()

    def _shares(self) -> tuple[Tensor, Tensor]:
        """Return the probability of each bin, and that of all bins before it."""
        excess = _excess(self.shape.to(exact_type(self.shape)))
        before = torch.arange(N_BINS, device=excess.device).to(excess) / N_BINS
        return 1 / N_BINS + excess, before + nn.functional.pad(excess.cumsum(dim=-1)[..., :-1], (1, 0))


def _excess(shape: Float[Tensor, "task row out shape"]) -> Float[Tensor, "task row out bin"]:
    """Return the probability of each bin less that of the Gaussian, which is exactly 0 where the logits are."""
    return (1 - _LEAST) * (shape[..., :N_BINS].softmax(dim=-1) - 1 / N_BINS)


def _stretched(u: Tensor, factor: Tensor) -> Tensor:
    """Multiply what lies beyond the outer edges."""
    inner = u.clamp(-_bins().edges[-1], _bins().edges[-1])
    return inner + (u - inner) * factor


def _place(u: Float[Tensor, "task row out"]) -> Int[Tensor, "task row out 1"]:
    return torch.bucketize(u.detach(), u.new_tensor(_bins().edges)).unsqueeze(-1)


@dataclass(frozen=True, slots=True)
class _Bins:
    """Of a standard Gaussian v: the inner edges, and the means of v and v² within each bin.

    ``beyond``, ``beyond_product`` and ``beyond_square`` are the means of |v| - a, |v| (|v| - a) and (|v| - a)² within
    an outer bin, where a is the last edge.
    """

    edges: list[float]
    means: list[float]
    squares: list[float]
    beyond: float
    beyond_product: float
    beyond_square: float


@functools.cache
def _bins() -> _Bins:
    gaussian = NormalDist()
    edges = [gaussian.inv_cdf(number / N_BINS) for number in range(1, N_BINS)]
    density = [0.0, *map(gaussian.pdf, edges), 0.0]
    slope = [0.0, *(edge * gaussian.pdf(edge) for edge in edges), 0.0]
    means = [N_BINS * (low - high) for low, high in pairwise(density)]
    squares = [1 + N_BINS * (low - high) for low, high in pairwise(slope)]
    edge, mean, square = edges[-1], means[-1], squares[-1]
    return _Bins(edges, means, squares, mean - edge, square - edge * mean, square - 2 * edge * mean + edge**2)

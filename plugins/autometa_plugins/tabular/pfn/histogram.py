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
_LEAST = 0.01
"""No density is less than this part of the Gaussian's, however sure the logits are: no target is impossible."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Targets ``centre + spread · u``, where u has the density φ(u) · B · p(bin of u), with B bins of equal mass of φ.

    Within a bin, those at both ends included, the density has the shape of the Gaussian; so the tails beyond the last
    edge, ±1.86, are a Gaussian's, with as much probability as the outer bins have. With equal logits it is the
    Gaussian itself.

    Parameters
    ----------
    centre, spread : Tensor of shape [tasks, n, n_outputs]
        Mean and standard deviation of the Gaussian.
    logits : Tensor of shape [tasks, n, n_outputs, N_BINS]
        Of the bins, in ascending order.
    """

    centre: Float[Tensor, "task row out"]
    spread: Float[Tensor, "task row out"]
    logits: Float[Tensor, "task row out bin"]

    def mean(self) -> Float[Tensor, "task row out"]:
        """Return the mean."""
        return self.centre + self.spread * self._shift()

    def deviation(self) -> Float[Tensor, "task row out"]:
        """Return the standard deviation."""
        excess = _excess(self.logits)
        squares = (excess * excess.new_tensor(_bins().second_moments)).sum(dim=-1)
        variance: Tensor = 1 + squares - self._shift().square()
        return self.spread * variance.sqrt()

    def surprise(self, target: Float[Tensor, "task row out"]) -> Float[Tensor, "task row out"]:
        """Return the negative logarithm of the density."""
        u = (target - self.centre) / self.spread
        dealt: Tensor = (N_BINS * _excess(self.logits).gather(-1, _place(u))[..., 0]).log1p()
        return u.square() / 2 + self.spread.log() + math.log(2 * math.pi) / 2 - dealt

    def cdf(self, target: Float[Tensor, "task row out"]) -> Float[Tensor, "task row out"]:
        """Return the probability of a smaller target."""
        u = (target - self.centre) / self.spread
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
        return (self.centre.to(u.dtype) + self.spread.to(u.dtype) * u).to(self.centre.dtype)

    def _shift(self) -> Float[Tensor, "task row out"]:
        """Return the mean of u."""
        excess = _excess(self.logits)
        return (excess * excess.new_tensor(_bins().means)).sum(dim=-1)

    def _shares(self) -> tuple[Tensor, Tensor]:
        """Return the probability of each bin, and that of all bins before it."""
        excess = _excess(self.logits.to(exact_type(self.logits)))
        before = torch.arange(N_BINS, device=excess.device).to(excess) / N_BINS
        return 1 / N_BINS + excess, before + nn.functional.pad(excess.cumsum(dim=-1)[..., :-1], (1, 0))


def _excess(logits: Float[Tensor, "task row out bin"]) -> Float[Tensor, "task row out bin"]:
    """Return the probability of each bin less that of the Gaussian, which is exactly 0 where the logits are."""
    return (1 - _LEAST) * (logits.softmax(dim=-1) - 1 / N_BINS)


def _place(u: Float[Tensor, "task row out"]) -> Int[Tensor, "task row out 1"]:
    return torch.bucketize(u.detach(), u.new_tensor(_bins().edges)).unsqueeze(-1)


@dataclass(frozen=True, slots=True)
class _Bins:
    """Of a standard Gaussian: inner edges, and the first two moments within each bin."""

    edges: list[float]
    means: list[float]
    second_moments: list[float]


@functools.cache
def _bins() -> _Bins:
    gaussian = NormalDist()
    edges = [gaussian.inv_cdf(number / N_BINS) for number in range(1, N_BINS)]
    density = [0.0, *map(gaussian.pdf, edges), 0.0]
    slope = [0.0, *(edge * gaussian.pdf(edge) for edge in edges), 0.0]
    return _Bins(
        edges,
        [N_BINS * (low - high) for low, high in pairwise(density)],
        [1 + N_BINS * (low - high) for low, high in pairwise(slope)],
    )

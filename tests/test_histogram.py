"""The histogram of real targets: closed forms that agree with integrals, and the Gaussian where logits are equal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from autometa_plugins.tabular.pfn.histogram import N_BINS, N_SHAPE, Histogram
from scipy.stats import norm
from torch import Tensor

from derivatives import finite_differences


def drawn(dtype: torch.dtype = torch.float64, size: float = 1.5) -> Histogram:
    """Distributions [2, 3, 1] of all shapes."""
    generator = torch.Generator().manual_seed(0)
    centre, spread, shape = (
        torch.randn(2, 3, 1, *more, generator=generator, dtype=torch.float64) for more in ((), (), (N_SHAPE,))
    )
    return Histogram(
        centre.to(dtype),
        (spread / 2).exp().to(dtype),
        torch.cat([size * shape[..., :N_BINS], shape[..., N_BINS:] / 2], dim=-1).to(dtype),
    )


def gaussian(dtype: torch.dtype = torch.float64) -> Histogram:
    return Histogram(drawn(dtype).centre, drawn(dtype).spread, torch.zeros(2, 3, 1, N_SHAPE, dtype=dtype))


def fine_grid(found: Histogram) -> tuple[Tensor, Tensor]:
    """Targets [2, 3, 19200], each in the middle of a piece of a bin, and the lengths of the pieces."""
    edges = [-30.0, *norm.ppf(np.arange(1, N_BINS) / N_BINS), 30.0]
    u = torch.from_numpy(np.interp(np.arange(600 * N_BINS + 1) / 600, np.arange(N_BINS + 1), edges))
    pieces = found.centre + found.spread * u
    return (pieces[..., 1:] + pieces[..., :-1]) / 2, pieces.diff(dim=-1)


def one_by_one(found: Histogram, n: int) -> Histogram:
    """The same distributions for ``n`` targets each, in place of the outputs."""
    parts = found.centre, found.spread, found.shape
    return Histogram(*(part.repeat_interleave(n, dim=2) for part in parts))


def test_equal_logits_are_exactly_the_gaussian() -> None:
    found = gaussian(torch.float32)
    assert torch.equal(found.mean(), found.centre)
    assert torch.equal(found.deviation(), found.spread)
    exact, q = gaussian(), torch.tensor([1e-9, 0.05, 0.5, 0.77, 1 - 1e-9], dtype=torch.float64)
    gauss = torch.distributions.Normal(exact.centre, exact.spread)
    torch.testing.assert_close(exact.quantiles(q), gauss.icdf(q[:, None, None, None]))
    for target in (-7.0, 0.3, 2.0, 40.0):
        y = torch.full_like(exact.centre, target)
        torch.testing.assert_close(exact.surprise(y), -gauss.log_prob(y))
        torch.testing.assert_close(exact.cdf(y), gauss.cdf(y))


@pytest.mark.parametrize("size", [0.3, 1.5, 8.0])
def test_moments_and_probabilities_are_integrals_of_the_density(size: float) -> None:
    found = drawn(size=size)
    y, lengths = fine_grid(found)
    mass = (-one_by_one(found, y.shape[-1]).surprise(y)).exp() * lengths
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(mass.sum(dim=-1, keepdim=True), torch.ones_like(found.centre), **close)
    mean = (mass * y).sum(dim=-1, keepdim=True)
    torch.testing.assert_close(found.mean(), mean, **close)
    torch.testing.assert_close(found.deviation(), (mass * (y - mean).square()).sum(-1, keepdim=True).sqrt(), **close)
    for place in (50, 9_000, 12_345):
        below = mass[..., :place].sum(dim=-1, keepdim=True) + mass[..., place : place + 1] / 2
        torch.testing.assert_close(found.cdf(y[..., place : place + 1]), below, **close)


@pytest.mark.parametrize("size", [0.3, 1.5, 200.0])
def test_quantiles_invert_the_probabilities_and_never_decrease(size: float) -> None:
    found = drawn(size=size)
    q = torch.linspace(1e-6, 1 - 1e-6, 4_001, dtype=torch.float64)
    quantiles = found.quantiles(q)
    assert quantiles.shape == (4_001, 2, 3, 1)
    assert (quantiles.diff(dim=0) > 0).all()
    for place in (0, 1, 1_777, 2_000, 4_000):
        torch.testing.assert_close(found.cdf(quantiles[place]), q[place].expand(2, 3, 1))
    turned = torch.tensor([3, 0, 2])
    assert torch.equal(found.quantiles(q[turned]), quantiles[turned])


def test_quantiles_far_out_are_finite_in_single_precision() -> None:
    found = drawn(torch.float32, size=200.0)
    q = torch.tensor([5e-324, 1e-300, 1e-12, 1 - 1e-12, 1 - 1.2e-16], dtype=torch.float64)
    quantiles = found.quantiles(q)
    assert quantiles.dtype == torch.float32
    assert quantiles.isfinite().all()
    assert (quantiles.diff(dim=0) > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_target_is_impossible_however_sure_the_logits_are(dtype: torch.dtype) -> None:
    found = drawn(dtype, size=1e4)
    found.shape[..., N_BINS:].abs_()  # shorter tails than the Gaussian's cost more by themselves
    for target in (-30.0, 0.0, 30.0):
        y = torch.full_like(found.centre, target)
        gauss = -torch.distributions.Normal(found.centre, found.spread).log_prob(y)
        assert (found.surprise(y) <= gauss + found.shape[..., N_BINS:].amax(dim=-1) + np.log(100.1)).all()
    assert (found.deviation() > 0).all()
    assert found.mean().isfinite().all()


def test_draws_are_distributed_as_it_says() -> None:
    found = drawn()
    y = found.quantiles(torch.from_numpy(np.random.default_rng(0).random(20_000)))
    torch.testing.assert_close(y.mean(dim=0), found.mean(), rtol=0.05, atol=0.05)
    torch.testing.assert_close(y.std(dim=0), found.deviation(), rtol=0.05, atol=0.05)


def test_tails_are_those_of_a_stretched_gaussian() -> None:
    found = drawn()
    edge = norm.ppf(1 - 1 / N_BINS)
    for sign, stretch in ((-1, found.shape[..., N_BINS]), (1, found.shape[..., N_BINS + 1])):
        beyond = torch.tensor([1.0, 3.0], dtype=torch.float64)
        far = found.centre + found.spread * sign * (edge + stretch.clamp(-0.5, 2).exp() * beyond)
        slope = one_by_one(found, 2).surprise(far).diff(dim=-1)
        torch.testing.assert_close(slope, torch.full_like(slope, norm.logpdf(edge + 1) - norm.logpdf(edge + 3)))


def test_gradients_of_the_likelihood_and_of_moments_are_finite_differences() -> None:
    found, y = drawn(), torch.tensor([0.3, -1.0, 4.0], dtype=torch.float64)[None, :, None].expand(2, 3, 1)
    parts = [part.clone().requires_grad_() for part in (found.centre, found.spread, found.shape)]

    def loss() -> Tensor:
        moved = Histogram(*parts)
        return moved.surprise(y).sum() + moved.mean().square().sum() + moved.deviation().log().sum()

    gradients = torch.autograd.grad(loss(), parts)
    with torch.no_grad():
        for part, gradient in zip(parts, gradients, strict=True):
            torch.testing.assert_close(gradient, finite_differences(loss, part), rtol=1e-5, atol=1e-7)

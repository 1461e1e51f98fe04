"""What a learner that predicts a distribution of real targets must keep to."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from autometa.contracts.examples import TaskBatch
from autometa.contracts.learner import Learner
from autometa.testing.expectations import expect, expect_close

_N_LEVELS = 200
_FARTHEST_MEAN, _FARTHEST_DEVIATION = 0.1, 0.25
"""How far the moments of so many quantiles may be from those told, in standard deviations: long tails are cut off."""
_REACH, _N_PLACES, _FARTHEST_WHOLE = 12.0, 601, 0.05
"""Standard deviations from the mean that a density is integrated over, the places there, and how far it may be off."""


def expect_distribution(learner: Learner, module: nn.Module, batch: TaskBatch) -> None:
    """Expect means that are those of ``predict``, positive deviations, and its quantiles and density, if any."""
    x = _x(batch)
    with torch.no_grad():
        adapted = learner.adapt(module, batch.support)
        outputs = learner.predict(module, adapted, x)
        mean, deviation = learner.predict_distribution(module, adapted, x)
    expect_close(mean, outputs, "the means of predict_distribution() are not what predict() returns")
    expect(
        deviation.shape == mean.shape and (deviation > 0).all(),
        f"the standard deviations of predict_distribution() {tuple(deviation.shape)} must be positive and "
        f"of the shape of the means {tuple(mean.shape)}.",
    )
    if "quantiles" in learner.provides:
        quantiles = _quantiles(learner, module, batch, _levels(x))
        _expect_quantiles(quantiles, mean)
        _expect_moments(quantiles, mean, deviation)
        _expect_each_alone(learner, module, batch, quantiles)
    if "density" in learner.provides:
        _expect_density(learner, module, batch, mean, deviation)


def _expect_density(learner: Learner, module: nn.Module, batch: TaskBatch, mean: Tensor, deviation: Tensor) -> None:
    """Expect a density whose integral is 1 and whose mean is that of ``predict``, at the first query of each task."""
    x, centre, spread = _x(batch)[:, :1], mean[:, :1], deviation[:, :1]
    place = torch.linspace(-_REACH, _REACH, _N_PLACES, dtype=mean.dtype, device=mean.device)
    x = x.repeat_interleave(_N_PLACES, dim=1)
    for output in range(mean.shape[-1]):
        y = centre.repeat(1, _N_PLACES, 1)
        y[..., output] = centre[..., output] + spread[..., output] * place
        with torch.no_grad():
            told = learner.predict_log_density(module, learner.adapt(module, batch.support), x, y)
        expect(
            told.shape == y.shape and bool(told.isfinite().all()),
            f"predict_log_density() returned {tuple(told.shape)} for y {tuple(y.shape)}; it must return finite numbers "
            "of that shape.",
        )
        density = told[..., output].exp() * spread[..., output]
        whole = torch.trapezoid(density, place, dim=1)
        off = torch.trapezoid(density * place, place, dim=1)
        expect(
            ((whole - 1).abs() <= _FARTHEST_WHOLE).all(),
            f"the density of predict_log_density() has the integral {whole.min():.2f} to {whole.max():.2f}, not 1.",
        )
        expect(
            (off.abs() <= _FARTHEST_MEAN).all(),
            f"the mean of the density is {off.abs().max():.2f} standard deviations from that of "
            "predict_distribution().",
        )


def _expect_quantiles(quantiles: Tensor, mean: Tensor) -> None:
    wanted = (_N_LEVELS, *mean.shape)
    expect(
        quantiles.shape == wanted,
        f"predict_quantiles() returned {tuple(quantiles.shape)}; [quantiles, tasks, n, n_outputs] is {wanted}.",
    )
    expect(quantiles.isfinite().all(), "predict_quantiles() returned quantiles that are not finite.")
    rounding = 1e-9 * (1 + quantiles.abs().amax(dim=0))
    expect((quantiles.diff(dim=0) >= -rounding).all(), "predict_quantiles() returned quantiles that decrease.")


def _expect_moments(quantiles: Tensor, mean: Tensor, deviation: Tensor) -> None:
    """Compare with the mean and the standard deviation that follow from the quantiles by integration."""
    gap = ((quantiles.mean(dim=0) - mean).abs() / deviation).max()
    expect(
        gap <= _FARTHEST_MEAN,
        f"the mean of the quantiles is {gap:.2f} standard deviations from that of predict_distribution().",
    )
    ratio = quantiles.std(dim=0) / deviation
    expect(
        ((ratio - 1).abs() <= _FARTHEST_DEVIATION).all(),
        f"the standard deviation of the quantiles is {ratio.min():.2f} to {ratio.max():.2f} times that of "
        "predict_distribution().",
    )


def _expect_each_alone(learner: Learner, module: nn.Module, batch: TaskBatch, quantiles: Tensor) -> None:
    levels, few = _levels(_x(batch)), torch.tensor([150, 10], device=quantiles.device)
    expect_close(
        _quantiles(learner, module, batch, levels[few]),
        quantiles[few],
        "a quantile depends on those that are asked for beside it, or on their order",
    )
    single = [batch[i : i + 1] for i in range(len(batch))]
    alone = torch.cat([_quantiles(learner, module, one, levels[few]) for one in single], dim=1)
    expect_close(alone, quantiles[few], "quantiles of a task depend on the other tasks of the batch")
    first = replace(batch, query=batch.query.select(slice(1)))
    alone = _quantiles(learner, module, first, levels[few])
    expect_close(alone, quantiles[few][:, :, :1], "quantiles of a query depend on the queries beside it")


def _quantiles(learner: Learner, module: nn.Module, batch: TaskBatch, levels: Tensor) -> Tensor:
    with torch.no_grad():
        return learner.predict_quantiles(module, learner.adapt(module, batch.support), _x(batch), levels)


def _levels(x: Tensor) -> Tensor:
    return (torch.arange(_N_LEVELS, dtype=x.dtype, device=x.device) + 0.5) / _N_LEVELS


def _x(batch: TaskBatch) -> Tensor:
    assert isinstance(batch.query.x, Tensor)
    return batch.query.x

"""Weights of the experts by their leave-one-out errors, and how sure the mixture may be."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

_FAR_BELOW = -1e3


class Mixture(nn.Module):
    """Weights proportional to prior · exp(-β · nats): the nats with which an expert predicts left-out rows.

    Pseudo-Bayesian model averaging (Yao et al. 2018, Using stacking to average Bayesian predictive distributions,
    section 3.4), with a power β below 1, as leave-one-out errors of few rows are noisy.

    Parameters
    ----------
    priors : sequence of float
        Prior weight of each expert.
    power : float, default=0.3
        β.
    """

    def __init__(self, priors: Sequence[float], power: float = 0.3) -> None:
        super().__init__()
        self.log_prior = nn.Parameter(torch.tensor(priors).log())
        self.log_power = nn.Parameter(torch.tensor(power).log())

    def weigh(self, nats: Float[Tensor, "task expert *out"]) -> Float[Tensor, "task expert *out"]:
        """Return weights of the experts, which sum to 1, from their nats."""
        prior = self.log_prior.reshape(-1, *[1] * (nats.dim() - 2))
        return (prior - self.log_power.exp() * nats).softmax(dim=1)


class ClassMixture(Mixture):
    """A mixture of scores around 0 and 1 of the classes, and the factor that turns it into logits.

    log factor = offset + shots · log(rows per class) + ways · log(classes) - loss · r. Here r is the mean of the nats
    with which the mixture itself, times ``sharpness``, predicts left-out rows, divided by those of guessing, at
    most 2. Rows that are alone in their class cannot be predicted from the others and do not count; where there are
    no others, the weights are the prior ones, r is 1, and ``blind`` is added. The coefficients were fitted on
    synthetic tables.

    Parameters
    ----------
    priors : sequence of float
        Prior weight of each expert.
    """

    def __init__(self, priors: Sequence[float]) -> None:
        super().__init__(priors)
        self.log_sharpness = nn.Parameter(torch.tensor(4.0).log())
        self.offset = nn.Parameter(torch.tensor(0.44))
        self.shots = nn.Parameter(torch.tensor(0.27))
        self.ways = nn.Parameter(torch.tensor(0.57))
        self.loss = nn.Parameter(torch.tensor(0.75))
        self.blind = nn.Parameter(torch.tensor(0.33))

    def nats(
        self, scores: Float[Tensor, "task expert row way"], members: Float[Tensor, "task row way"]
    ) -> Float[Tensor, "task expert"]:
        """Sum the log losses of scores of left-out rows."""
        counts = members.sum(dim=1, keepdim=True)
        logits = (self.log_sharpness.exp() * scores).masked_fill((counts == 0).unsqueeze(1), _FAR_BELOW)
        judged = members * (counts > 1)
        return -(logits.log_softmax(dim=-1) * judged.unsqueeze(1)).sum(dim=(-1, -2))

    def factor(
        self, mixed: Float[Tensor, "task row way"], members: Float[Tensor, "task row way"]
    ) -> Float[Tensor, " task"]:
        """Return the factor that turns the mixture into logits, from its scores of left-out rows."""
        counts = members.sum(dim=1)
        judged = (counts * (counts > 1)).sum(dim=-1)
        ways = (counts > 0).sum(dim=-1).clamp(min=2).to(mixed.dtype)
        guessing = judged.clamp(min=1) * ways.log()
        blind = judged == 0
        ratio = torch.where(blind, 1.0, (self.nats(mixed.unsqueeze(1), members)[:, 0] / guessing).clamp(max=2))
        shots = (counts.sum(dim=-1) / ways).clamp(min=1)
        log_factor = self.offset + self.shots * shots.log() + self.ways * ways.log() - self.loss * ratio
        return (log_factor + self.blind * blind).exp()


class RealMixture(Mixture):
    """A mixture of predictions of standardised targets, one for each target, and its standard deviation.

    variance = (sum of squared left-out residuals of the mixture + a) / (rows + a) · (1 + b / rows): shrunk to that of
    the targets by ``a`` rows, and widened for how little few rows tell. The coefficients were fitted on synthetic
    tables.

    Parameters
    ----------
    priors : sequence of float
        Prior weight of each expert.
    """

    _SHRUNK = 0.3

    def __init__(self, priors: Sequence[float]) -> None:
        super().__init__(priors)
        self.log_shrinkage = nn.Parameter(torch.tensor(1.5).log())
        self.log_widening = nn.Parameter(torch.tensor(12.0).log())

    def nats(
        self,
        predicted: Float[Tensor, "task expert row out"],
        targets: Float[Tensor, "task row out"],
        mask: Bool[Tensor, "task row"],
    ) -> Float[Tensor, "task expert out"]:
        """Return rows / 2 · log of the mean squared error on left-out rows, shrunk a little to 1."""
        rows = mask.sum(dim=1)[:, None, None]
        squares = ((predicted - targets.unsqueeze(1)).square() * mask[:, None, :, None]).sum(dim=2)
        return rows / 2 * torch.log((squares + self._SHRUNK) / (rows + self._SHRUNK))

    def deviation(
        self,
        mixed: Float[Tensor, "task row out"],
        targets: Float[Tensor, "task row out"],
        mask: Bool[Tensor, "task row"],
    ) -> Float[Tensor, "task out"]:
        """Return the standard deviation of a new observation from predictions of left-out rows."""
        rows = mask.sum(dim=1, keepdim=True)
        squares = ((mixed - targets).square() * mask.unsqueeze(-1)).sum(dim=1)
        shrinkage, widening = self.log_shrinkage.exp(), self.log_widening.exp()
        return ((squares + shrinkage) / (rows + shrinkage) * (1 + widening / rows.clamp(min=1))).sqrt()

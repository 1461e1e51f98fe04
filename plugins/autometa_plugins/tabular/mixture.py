"""Weights of the experts by their leave-one-out errors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Mixture(nn.Module):
    """Weights proportional to prior · exp(-β · nats): the nats with which an expert predicts left-out rows.

    Pseudo-Bayesian model averaging (Yao et al. 2018, Using stacking to average Bayesian predictive distributions), with
    a power β below 1, as leave-one-out errors of few rows are noisy.

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

    def judge(
        self,
        left_out: Float[Tensor, "task expert row out"],
        targets: Float[Tensor, "task row out"],
        mask: Bool[Tensor, "task row"],
    ) -> tuple[Float[Tensor, "task expert 1 #out"], Float[Tensor, "task 1 #out"]]:
        """Return the experts' weights, and how sure their mixture may be.

        Parameters
        ----------
        left_out : Tensor of shape [tasks, experts, n, n_outputs]
            What each expert predicts for support rows from the others.
        targets : Tensor of shape [tasks, n, n_outputs]
        mask : Tensor of shape [tasks, n], bool
        """
        raise NotImplementedError

    def labels_alike(self, targets: Float[Tensor, "task row out"]) -> Float[Tensor, "task row row"]:
        """Return how alike the targets of two rows are, for the relevance of the columns."""
        raise NotImplementedError

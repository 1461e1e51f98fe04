"""A mixture of predictions of real targets, and its standard deviation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from autometa_plugins.tabular.mixture import Mixture

_FAR_APART = 3.0
_SHRUNK = 0.3


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
        return rows / 2 * torch.log((squares + _SHRUNK) / (rows + _SHRUNK))

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

    def judge(
        self,
        left_out: Float[Tensor, "task expert row out"],
        targets: Float[Tensor, "task row out"],
        mask: Bool[Tensor, "task row"],
    ) -> tuple[Float[Tensor, "task expert 1 out"], Float[Tensor, "task 1 out"]]:
        """Return the experts' weights for each target, and the standard deviations of standardised targets."""
        weights = self.weigh(self.nats(left_out, targets, mask)).unsqueeze(2)
        return weights, self.deviation((left_out * weights).sum(dim=1), targets, mask).unsqueeze(1)

    def labels_alike(self, targets: Float[Tensor, "task row out"]) -> Float[Tensor, "task row row"]:
        """Return the negative distance of standardised targets, at most 3; the mean over several."""
        return -(targets.unsqueeze(2) - targets.unsqueeze(1)).abs().clamp(max=_FAR_APART).mean(dim=-1)

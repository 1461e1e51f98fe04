"""A mixture of classifiers, and how sure it may be."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from autometa_plugins.tabular.mixture import Mixture

_FAR_BELOW = -1e3
_MOST_SHOTS = 10.0


class ClassMixture(Mixture):
    """A mixture of scores around 0 and 1 of the classes, and the factor that turns it into logits.

    log factor = offset + shots · log(rows per class) + ways · log(classes) - loss · r. Here r is the mean of the nats
    with which the mixture itself, times ``sharpness``, predicts left-out rows, divided by those of guessing, at
    most 2. Rows that are alone in their class cannot be predicted from the others and do not count; where there are
    no others, the weights are the prior ones, r is 1, and ``blind`` is added. More than 10 rows per class count as
    10: beyond, the logits would be too sure. The coefficients were fitted on synthetic tables.

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
        shots = (counts.sum(dim=-1) / ways).clamp(1, _MOST_SHOTS)
        log_factor = self.offset + self.shots * shots.log() + self.ways * ways.log() - self.loss * ratio
        return (log_factor + self.blind * blind).exp()

    def judge(
        self,
        left_out: Float[Tensor, "task expert row way"],
        targets: Float[Tensor, "task row way"],
        mask: Bool[Tensor, "task row"],
    ) -> tuple[Float[Tensor, "task expert 1 1"], Float[Tensor, "task 1 1"]]:
        """Return the experts' weights, and the factor of the logits."""
        weights = self.weigh(self.nats(left_out, targets))[:, :, None, None]
        return weights, self.factor((left_out * weights).sum(dim=1), targets)[:, None, None]

    def labels_alike(self, targets: Float[Tensor, "task row way"]) -> Float[Tensor, "task row row"]:
        """Return 1 where two rows are of one class."""
        return targets @ targets.mT

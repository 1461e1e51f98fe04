"""Upper confidence bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from torch import Tensor, nn

import autometa as am
from autometa_plugins.control.bandit_actor import BanditActor, BanditFacts, Counts, surely

if TYPE_CHECKING:
    from optuna import Trial


class UCB(BanditActor):
    """Pull the arm whose mean is largest within what chance allows (Auer et al. 2002, UCB1).

    Arms that were not pulled come first.

    Parameters
    ----------
    width : float, default=0.25
        What multiplies the bound √(2 log t / n) after t pulls, n of them of the arm; 1 in the paper, for any rewards in
        [0, 1] and any number of pulls.
    """

    name: ClassVar[str] = "ucb"
    greedy: ClassVar[bool] = True  # type: ignore[misc]

    def __init__(self, *, width: float = 0.25) -> None:
        self.width = width

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return what is known of the bandits, see :meth:`BanditActor.build`.

        Raises
        ------
        InvalidParameter
            ``width`` is below 0.
        """
        am.check_real("width", self.width, least=0, of="learner 'ucb'")
        return super().build(info)

    def logits(self, module: BanditFacts, counts: Counts) -> Tensor:
        """Choose the arm of the largest bound."""
        n = counts.pulls.clamp(min=1)
        bound = (2 * counts.time.clamp(min=1).log().unsqueeze(-1) / n).sqrt()
        worth = counts.paid / n + self.width * bound
        return surely(worth.masked_fill(counts.pulls == 0, float("inf")))

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the width."""
        return cls(width=trial.suggest_float("width", 0.02, 2.0, log=True))

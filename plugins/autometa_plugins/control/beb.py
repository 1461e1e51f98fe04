"""Planning in the mean of what is believed, with a bonus."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from torch import Tensor, nn

import autometa as am
from autometa_plugins.control.tabular_actor import Counts, Processes, ProcessFacts, TabularActor

if TYPE_CHECKING:
    from optuna import Trial


class BEB(TabularActor):
    """Do what is best in the mean process, where an action pays more the less it was tried (Kolter & Ng 2009).

    Bayesian exploration bonus: mean chances and rewards are those of the posterior, and to an action that was rewarded
    n times ``bonus`` / (n + 1) is added. The prior is that of ``TabularActor``.

    Parameters
    ----------
    bonus : float, default=0.5
        0: greedy. The longer the trial, the larger the best one: in 10 episodes of ``mdp`` 0.5, in 50 of them 1.
    replan : {"step", "episode"}, default="step"
        When it plans anew. "episode" costs less, and learns less: 151 instead of 162 in 10 episodes of ``mdp``.
    """

    name: ClassVar[str] = "beb"
    greedy: ClassVar[bool] = True  # type: ignore[misc]

    def __init__(self, *, bonus: float = 0.5, replan: Literal["step", "episode"] = "step") -> None:
        self.bonus = bonus
        self.replan = replan

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return what is known of the processes, see :meth:`TabularActor.build`.

        Raises
        ------
        InvalidParameter
            ``bonus`` is below 0 or no number, or ``replan`` is not known.
        """
        am.check_real("bonus", self.bonus, least=0, most=1e6, of=f"learner {self.name!r}")
        am.check_choice("replan", self.replan, ("step", "episode"), of=f"learner {self.name!r}")
        return super().build(info)

    @property
    def plans_at_every_step(self) -> bool:
        """Whether it plans anew at every step."""
        return self.replan == "step"

    def supposed(self, module: ProcessFacts, counts: Counts, past: Tensor) -> Processes:
        """Return the posterior mean of each task, with the bonus."""
        weight = counts.prior + counts.led
        chance = weight[..., :-1] / weight.sum(-1, keepdim=True)
        reward = counts.mean_paid + self.bonus / (1 + counts.told)
        return Processes(chance.unsqueeze(1), reward.unsqueeze(1))

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the bonus."""
        return cls(bonus=trial.suggest_float("bonus", 0.05, 5.0, log=True))

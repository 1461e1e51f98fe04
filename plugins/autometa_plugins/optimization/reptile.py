"""Reptile (Nichol, Achiam & Schulman 2018): move towards the adapted weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor, nn

import autometa as am

if TYPE_CHECKING:
    from optuna import Trial


class Reptile(am.MetaOptimizer):
    """Move θ a share of the way to the mean of the weights adapted to each task's support *and* query.

    No derivative goes through the adaptation, and the query set is training data like any other. What adaptation
    does not change, such as learned step sizes, stays as it is.

    Parameters
    ----------
    step_size : float, default=0.5
        Share of the way, in (0, 1], falling linearly to zero over meta-training.

    References
    ----------
    A. Nichol, J. Achiam, J. Schulman: On First-Order Meta-Learning Algorithms. arXiv 1803.02999, algorithm 2
    (batched Reptile).
    """

    requires: ClassVar[frozenset[str]] = frozenset({"inner_gradient"})
    shares_tasks: ClassVar[bool] = True

    def __init__(self, *, step_size: float = 0.5) -> None:
        self.step_size = step_size

    def start(self, learner: am.Learner, module: nn.Module, info: am.TaskInfo) -> None:
        """Take over ``module``."""
        am.check_real("step_size", self.step_size, above=0, most=1, of="meta-optimizer 'reptile'", such_as=0.5)
        self.learner_, self.module_ = learner, module
        self.replay_: am.Replay[Tensor] = am.Replay(learner.replayable)
        self.moved_: list[str] = []

    def step(self, batch: am.TaskBatch) -> dict[str, Tensor]:
        """Take one step; record the mean loss of the adapted weights on the query, which they have seen."""
        share = self.step_size * (1 - self.progress)
        loss, *means = self.replay_(self._loss_and_means, batch)
        parameters = dict(self.module_.named_parameters())
        with torch.no_grad():
            for name, mean in zip(self.moved_, means if self.average is None else self.average(means), strict=True):
                parameters[name].lerp_(mean, share)
        return {"loss": loss.clone()}

    @torch.no_grad()
    def _loss_and_means(self, batch: am.TaskBatch) -> list[Tensor]:
        """Mean query loss of the adapted weights, and their means over the tasks, those of ``moved_``."""
        parameters = dict(self.module_.named_parameters())
        adapted = self.learner_.adapt(self.module_, batch.support.join(batch.query))
        outputs = self.learner_.predict(self.module_, adapted, batch.query.x)
        self.moved_ = list(adapted)
        means = [_mean_like(value, parameters[name]) for name, value in adapted.items()]
        return [am.task_losses(self.learner_, outputs, batch.query).mean(), *means]

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the first step size."""
        return cls(step_size=trial.suggest_float("step_size", 0.05, 1.0, log=True))


def _mean_like(adapted: Tensor, start: Tensor) -> Tensor:
    """Mean over tasks, and over the head's rows where all of them started from one."""
    mean = adapted.mean(dim=0)
    return mean if mean.shape == start.shape else mean.mean(dim=0, keepdim=True)

"""Meta-training that only remembers examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

import autometa as am

_PATIENCE = 20
"""Batches in a row of which nothing is kept, after which the run ends."""


class Collect(am.MetaOptimizer):
    """Hand every batch of meta-train tasks to a learner that remembers examples; no gradient is taken.

    The learner decides how much it keeps. Where tasks have an end, one step shows them all. Elsewhere a run ends once
    the learner keeps nothing of several batches in a row, as its memory is full. Then the learner settles.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"memory"})

    def start(self, learner: am.Learner, module: nn.Module, info: am.TaskInfo) -> None:
        """Take over ``module``."""
        self.learner_, self.module_ = learner, module
        self.idle_, self.finished = 0, False
        self.rest_: Iterator[am.TaskBatch] | None = None

    def draw(self, sampler: am.TaskSampler, n_tasks: int, seed: int) -> am.TaskBatch:
        """Begin to go through all tasks where they have an end; elsewhere draw some."""
        self.rest_ = sampler.whole_tasks("train")
        return super().draw(sampler, n_tasks, seed) if self.rest_ is None else next(self.rest_)

    def step(self, batch: am.TaskBatch) -> dict[str, Tensor]:
        """Show the batch, and all tasks after it, to the learner; there is no loss, so 0 is recorded."""
        device, rest, self.rest_ = batch.support.y.device, self.rest_, None
        with torch.no_grad():
            kept = self.learner_.remember(self.module_, batch)
            self.idle_ = 0 if kept else self.idle_ + 1
            if rest is not None:
                for more in rest:
                    self.learner_.remember(self.module_, more.to(device, batch.support.x.dtype))
                self.idle_ = _PATIENCE
            self.finished = self.idle_ >= _PATIENCE
            if self.finished:
                self.learner_.settle(self.module_)
        return {"loss": torch.zeros((), device=device)}

    def state_dict(self) -> dict[str, int]:
        """How long nothing has been kept."""
        return {"idle": self.idle_}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from :meth:`state_dict`."""
        self.idle_ = state["idle"]
        self.finished = self.idle_ >= _PATIENCE

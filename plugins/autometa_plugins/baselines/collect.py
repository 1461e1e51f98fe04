"""Meta-training that only remembers examples."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

import autometa as am

_PATIENCE = 20
"""Batches in a row of which nothing is kept, after which the run ends."""


class Collect(am.MetaOptimizer):
    """Hand every batch of meta-train tasks to a learner that remembers examples; no gradient is taken.

    The learner decides how much it keeps. A run ends once it keeps nothing of several batches in a row: its memory is
    full, or it has seen everything.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"memory"})

    def start(self, learner: am.Learner, module: nn.Module, info: am.TaskInfo) -> None:
        """Take over ``module``."""
        self.learner_, self.module_ = learner, module
        self.idle_, self.finished = 0, False

    def step(self, batch: am.TaskBatch) -> dict[str, Tensor]:
        """Show the batch to the learner; there is no loss, so 0 is recorded."""
        with torch.no_grad():
            kept = self.learner_.remember(self.module_, batch)
        self.idle_ = 0 if kept else self.idle_ + 1
        self.finished = self.idle_ >= _PATIENCE
        return {"loss": torch.zeros((), device=batch.support.y.device)}

    def state_dict(self) -> dict[str, int]:
        """How long nothing has been kept."""
        return {"idle": self.idle_}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from :meth:`state_dict`."""
        self.idle_ = state["idle"]
        self.finished = self.idle_ >= _PATIENCE

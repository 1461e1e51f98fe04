"""Meta-training by heart."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

import autometa as am


class Collect(am.MetaOptimizer):
    """Hand every batch of meta-train tasks to a learner that remembers examples; no gradient is taken.

    How much is kept is the learner's business; once its memory is full, further steps change nothing.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"memory"})

    def start(self, learner: am.Learner, module: nn.Module, info: am.TaskInfo) -> None:
        """Take over ``module``."""
        self.learner_, self.module_ = learner, module

    def step(self, batch: am.TaskBatch) -> dict[str, Tensor]:
        """Show the batch to the learner; there is no loss, so 0 is recorded."""
        with torch.no_grad():
            self.learner_.remember(self.module_, batch)
        return {"loss": torch.zeros((), device=batch.support.y.device)}

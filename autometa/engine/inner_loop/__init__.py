"""The inner loop of gradient-based learners. The house and ``autometa`` import from here, never from its files."""

from autometa.engine.inner_loop.descent import call_per_task, descend, per_task
from autometa.engine.inner_loop.support_loss import SupportLoss, loss_on

__all__ = ["SupportLoss", "call_per_task", "descend", "loss_on", "per_task"]

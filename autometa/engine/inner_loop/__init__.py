"""The inner loop of gradient-based learners: gradient descent on many tasks at once."""

from autometa.engine.inner_loop.descent import call_per_task, descend, loss_on, per_task

__all__ = ["call_per_task", "descend", "loss_on", "per_task"]

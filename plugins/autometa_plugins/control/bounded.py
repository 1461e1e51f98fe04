"""Decisions within the bounds of actions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import autometa as am


class Bounded(nn.Module):
    """A network whose outputs are logits of choices, or means of real actions in units of their bounds.

    Parameters
    ----------
    info : TaskInfo
    """

    middle: Tensor
    """Between the bounds, [n_outputs]."""
    reach: Tensor
    """From the middle to a bound, [n_outputs]."""

    def __init__(self, info: am.TaskInfo) -> None:
        super().__init__()
        self.is_choice = info.action_bounds is None
        low, high = info.action_bounds or ((-1.0,) * info.n_outputs, (1.0,) * info.n_outputs)
        bounds = torch.tensor([low, high])
        self.register_buffer("middle", bounds.mean(0))
        self.register_buffer("reach", (bounds[1] - bounds[0]) / 2)

    def decided(self, outputs: Tensor, spread: Tensor | None) -> am.Choice | am.Normal:
        """Return what outputs [..., n_outputs] decide.

        Parameters
        ----------
        outputs : Tensor
        spread : Tensor or None
            Log of the standard deviation of real actions, in their own units; None: these are choices.
        """
        if spread is None:
            return am.Choice(outputs)
        return am.Normal(self.middle + self.reach * outputs, spread.expand_as(outputs))

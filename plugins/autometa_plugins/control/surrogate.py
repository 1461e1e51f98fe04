"""What proximal policy optimization ascends."""

from __future__ import annotations

import torch
from torch import Tensor

import autometa as am


def log_ratios(policy: am.Choice | am.Normal, seen: am.Experience) -> Tensor:
    """Log of the probability of every action over that which it was drawn with, [tasks, time]; 0 where padded."""
    return torch.where(seen.mask, policy.log_prob(seen.action) - seen.log_prob, 0)


def clipped(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Ratio times advantage at every step, where moving the ratio past 1 ± clip gains nothing (PPO, eq. 7).

    Parameters
    ----------
    ratio, advantage : Tensor of shape [tasks, time]
    clip : float
    """
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)

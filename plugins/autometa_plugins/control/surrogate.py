"""What proximal policy optimization ascends."""

from __future__ import annotations

import torch
from torch import Tensor

import autometa as am


def log_ratios(policy: am.Choice | am.Normal, seen: am.Experience) -> Tensor:
    """Log of the probability of every action over that which it was drawn with, [tasks, time]; 0 where padded.

    Raises
    ------
    InvalidData
        It is not known with what probability actions were drawn, as in demonstrations.
    """
    now = policy.log_prob(seen.action)
    # A policy that is no number itself has diverged: that is for others to tell.
    is_unknown = (seen.mask & seen.log_prob.isnan() & ~now.detach().isnan()).any(1)
    if bool(is_unknown.any()):
        raise am.InvalidData(
            f"log_prob of what happened is NaN in {int(is_unknown.sum())} of {len(seen)} tasks, as in demonstrations, "
            "and a learner that adapts by policy gradients must know with what probability each action was drawn; let "
            "it learn from what an actor did (autometa.collect), or use one that needs none, such as 'rl2'."
        )
    return torch.where(seen.mask, now - seen.log_prob, 0)


def clipped(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Ratio times advantage at every step, where moving the ratio past 1 ± clip gains nothing (PPO, eq. 7).

    Parameters
    ----------
    ratio, advantage : Tensor of shape [tasks, time]
    clip : float
    """
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)

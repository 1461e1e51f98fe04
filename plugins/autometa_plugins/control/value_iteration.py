"""What every action is worth in a Markov decision process that is known, by backward induction."""

from __future__ import annotations

import torch
from torch import Tensor


def action_values(chance: Tensor, reward: Tensor, horizon: int, *, at_random: bool = False) -> Tensor:
    """Return the expected reward from each step to the end of an episode.

    Parameters
    ----------
    chance : Tensor of shape [tasks, states, actions, states]
        Probability of every next state.
    reward : Tensor of shape [tasks, states, actions]
        Expected rewards.
    horizon : int
        Steps of an episode.
    at_random : bool, default=False
        Whether later actions are all equally likely, instead of the best ones.

    Returns
    -------
    Tensor of shape [tasks, horizon, states, actions]
        Values of acting so at that step.
    """
    found = [reward]
    for _ in range(horizon - 1):
        later = found[-1].mean(2) if at_random else found[-1].amax(2)
        found.append(reward + (chance @ later[:, None, :, None]).squeeze(3))
    return torch.stack(found[::-1], 1)

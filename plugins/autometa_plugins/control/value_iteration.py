"""The best that can be done in a Markov decision process that is known, by backward induction."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import torch
from torch import Tensor


def action_values(chance: Tensor, reward: Tensor, horizon: int, *, at_random: bool = False) -> Tensor:
    """Return the expected reward from each step to the end of an episode.

    Parameters
    ----------
    chance : Tensor of shape [tasks, states, actions, states]
        Probability of every next state; what is missing to 1 is that of the episode's end.
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
    return torch.stack(list(from_the_last(chance, reward, horizon, at_random=at_random))[::-1], 1)


def first_action_values(chance: Tensor, reward: Tensor, horizon: int, *, at_random: bool = False) -> Tensor:
    """Return :func:`action_values` of the first step, [tasks, states, actions]; those of the others are not kept."""
    return deque(from_the_last(chance, reward, horizon, at_random=at_random), maxlen=1).pop()


def from_the_last(chance: Tensor, reward: Tensor, horizon: int, *, at_random: bool = False) -> Iterator[Tensor]:
    """Tell :func:`action_values` of one step after the other, each [tasks, states, actions], the last step first."""
    yield (found := reward)
    for _ in range(horizon - 1):
        later = found.mean(2) if at_random else found.amax(2)
        found = reward + (chance.flatten(1, 2) @ later.unsqueeze(2)).view_as(reward)
        yield found

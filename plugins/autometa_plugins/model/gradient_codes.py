"""Gradients as inputs of a network, and networks that turn them into weights."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn


def log_and_sign(values: Tensor, p: float = 10.0) -> Tensor:
    """Magnitude and sign of numbers whose sizes differ by orders, [..., 2].

    Andrychowicz et al. 2016, Learning to learn by gradient descent by gradient descent, appendix A: log(|v|) / p and
    the sign of v, or -1 and exp(p) v where v is smaller than exp(-p). Both are continuous.

    Parameters
    ----------
    values : Tensor
    p : float, default=10.0
        Sizes below exp(-p) are told apart by the second number alone.
    """
    magnitude = values.abs().clamp(min=math.exp(-p)).log() / p
    return torch.stack([magnitude, (values * math.exp(p)).clamp(-1, 1)], dim=-1)


_P = 7.0
"""The p of Munkhdalai & Yu 2017."""


class FactorMLP(nn.Module):
    """Numbers from numbers of any size, each by itself; zero from zero.

    Parameters
    ----------
    hidden : int
        Width of the two layers within.
    start : {1, -1}
        1: untrained, give numbers of the same sign as their inputs; -1: of the opposite sign.
    """

    def __init__(self, hidden: int, start: Literal[1, -1]) -> None:
        super().__init__()
        last = nn.Linear(hidden, 1)
        nn.init.constant_(last.bias, start)
        self.layers = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), last)

    def forward(self, values: Tensor) -> Tensor:
        """Map a tensor to one of its shape."""
        codes = log_and_sign(values, _P)
        made: Tensor = self.layers(codes).squeeze(-1)
        return made * codes[..., 1]


class FactorLSTM(nn.Module):
    """Numbers from sequences of numbers of any size, one for every step; zero from zero.

    Parameters
    ----------
    hidden : int
        Size of the state.
    start : {1, -1}
        1: untrained, give numbers of the same sign as their inputs; -1: of the opposite sign.
    """

    def __init__(self, hidden: int, start: Literal[1, -1]) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 1)
        nn.init.constant_(self.out.bias, start)

    def forward(self, values: Tensor) -> Tensor:
        """Map sequences [tasks, steps, n], each of the n by itself, to sequences of the same shape."""
        codes = log_and_sign(values.mT, _P)
        states, _ = self.lstm(codes.flatten(0, 1))
        made: Tensor = self.out(states).view(codes.shape[:-1]) * codes[..., 1]
        return made.mT

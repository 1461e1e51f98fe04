"""Gradients as inputs of a network."""

from __future__ import annotations

import math

import torch
from torch import Tensor


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

"""Derivatives by the definition, which those of autograd are held against."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import autometa as am


def finite_differences(function: Callable[[], Tensor], parameter: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Central differences of a scalar function of a parameter, which is moved place by place and put back."""
    slopes = torch.zeros_like(parameter).flatten()
    values = parameter.data.view(-1)
    for place in range(values.numel()):
        before = values[place].item()
        values[place] = before + epsilon
        above = function()
        values[place] = before - epsilon
        slopes[place] = (above - function()) / (2 * epsilon)
        values[place] = before
    return slopes.view_as(parameter)


def build_moved(learner: am.Learner, info: am.TaskInfo, spread: float = 0.1, seed: int = 0) -> nn.Module:
    """θ in double precision, every parameter moved away from its start: a zero there would hide mistakes."""
    torch.manual_seed(seed)
    module = learner.build(info).double()
    for parameter in module.parameters():
        parameter.data += spread * torch.randn_like(parameter)
    return module

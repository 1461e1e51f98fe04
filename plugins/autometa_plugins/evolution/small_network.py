"""A small network with weights of its own for every task, and what is known at the ends of each weight.

A layer's weights are [tasks, n_out, n_in + 1]: the last column, the biases, meets a constant input of 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import autometa as am


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known at the two ends of a layer's weights when its support examples pass."""

    pre: Tensor
    """Activities before the weights, [tasks, n_support, n_in + 1]."""
    post: Tensor
    """Activities behind the weights, [tasks, n_support, n_out]."""
    err: Tensor
    """Errors behind the weights, [tasks, n_support, n_out]."""
    share: Tensor
    """What each example counts in a mean over its task's examples, [tasks, n_support, 1]."""

    def err_pre(self) -> Tensor:
        """The gradient of the task's mean loss, [tasks, n_out, n_in + 1]."""
        return (self.err * self.share).mT @ self.pre


def outputs_of(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    """Logits or means [tasks, n, n_outputs] for inputs [tasks, n, *features]."""
    return _activities(weights, x)[1]


def propagate(weights: Sequence[Tensor], support: am.Examples) -> list[Signals]:
    """Send the support forward and its errors backward; return the signals of every layer.

    The errors are those of the mean cross-entropy over the classes that a task has, or of the mean squared error.
    """
    inputs, outputs = _activities(weights, support.x)
    mask = support.mask.unsqueeze(-1).to(outputs.dtype)
    share = mask / mask.sum(dim=1, keepdim=True).clamp(min=1)
    targets = support.targets().to(outputs.dtype)
    if support.is_classification:
        absent = ~support.one_hot().any(dim=1, keepdim=True)
        post = outputs.masked_fill(absent, torch.finfo(outputs.dtype).min).softmax(dim=-1)
        error = post - targets
    else:
        post = outputs.tanh()  # unbounded, its products with errors would let single tasks diverge
        error = 2 / outputs.shape[-1] * (outputs - targets)
    signals = []
    for weight, pre in zip(reversed(weights), reversed(inputs), strict=True):
        signals.append(Signals(pre, post, error, share))
        post = pre[..., :-1]
        error = (error @ weight[..., :-1]) * (1 - post * post)
    return signals[::-1]


def _activities(weights: Sequence[Tensor], x: Tensor) -> tuple[list[Tensor], Tensor]:
    """Inputs of every layer with their 1, [tasks, n, n_in + 1], and the outputs."""
    values, inputs = x.flatten(2), []
    for layer, weight in enumerate(weights):
        if layer:
            values = values.tanh()
        inputs.append(torch.cat([values, torch.ones_like(values[..., :1])], dim=-1))
        values = inputs[-1] @ weight.mT
    return inputs, values

"""Proximal policy optimization of every task's own weights on the episodes of a round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.control.linear_baseline import episode_advantages
from autometa_plugins.control.own_policy import OwnPolicy
from autometa_plugins.control.policy_network import PolicyNetwork
from autometa_plugins.control.surrogate import clipped, log_ratios

_KEPT, _KEPT_SQUARES, _SMALL = 0.9, 0.999, 1e-8
_DISCOUNT, _TRACE, _CLIP = 0.99, 0.97, 0.2


class DescendingPolicy(OwnPolicy):
    """A policy network whose weights :func:`improved` adapts; subclasses store its ``steps`` and ``lr`` too."""

    steps: int
    lr: float

    def check(self) -> None:
        """Refuse parameters that cannot be."""
        super().check()
        am.check_int("steps", self.steps, least=0, of=f"learner {self.name!r}")
        am.check_real("lr", self.lr, above=0, of=f"learner {self.name!r}", such_as=1e-3)

    def adapt(self, module: nn.Module, memory: dict[str, Any], experience: am.Experience) -> dict[str, Any]:
        """Improve every task's own weights, or those that all start from, by what happened in a round."""
        assert isinstance(module, PolicyNetwork)
        before = memory.get("weights") or am.per_task(module, len(experience), module.own)
        weights = improved(module, before, experience, steps=self.steps, lr=self.lr)
        return {"weights": weights, "rounds": memory["rounds"] + 1}


def improved(
    module: PolicyNetwork, weights: Mapping[str, Tensor], seen: am.Experience, *, steps: int, lr: float
) -> dict[str, Tensor]:
    """Return weights after steps of Adam on the clipped surrogate (Schulman et al. 2017, eq. 7), in all tasks at once.

    Advantages are taken within episodes against a linear baseline (discount 0.99, λ 0.97); the clip is 0.2. Nothing
    of it can be differentiated.

    Parameters
    ----------
    module : PolicyNetwork
    weights : dict of Tensor, each [tasks, *shape]
    seen : Experience
        A round of episodes.
    steps : int
    lr : float

    Raises
    ------
    InvalidData
        It is not known with what probability actions were drawn.
    """
    advantage = episode_advantages(seen, _DISCOUNT, _TRACE).detach()
    count = seen.mask.sum(1).clamp(min=1)
    values = {name: value.detach() for name, value in weights.items()}
    means, squares = ({name: torch.zeros_like(value) for name, value in values.items()} for _ in range(2))
    for step in range(1, steps + 1):
        with torch.enable_grad():
            values = {name: value.detach().requires_grad_() for name, value in values.items()}
            policy = module.decide(values, seen.observation)
            gain = clipped(log_ratios(policy, seen).exp(), advantage, _CLIP).sum(1) / count
            slopes = torch.autograd.grad(gain.sum(), list(values.values()))
        for name, slope in zip(values, slopes, strict=True):
            means[name] = _KEPT * means[name] + (1 - _KEPT) * slope
            squares[name] = _KEPT_SQUARES * squares[name] + (1 - _KEPT_SQUARES) * slope.square()
            spread = (squares[name] / (1 - _KEPT_SQUARES**step)).sqrt() + _SMALL
            values[name] = values[name].detach() + lr * means[name] / (1 - _KEPT**step) / spread
    return {name: value.detach() for name, value in values.items()}

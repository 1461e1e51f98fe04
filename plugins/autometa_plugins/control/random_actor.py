"""The actor that has learned nothing."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

import autometa as am


class RandomActor(am.Actor):
    """Choose every action with the same probability.

    Real actions are uniform within their bounds to the second moment: normal numbers around the middle.
    """

    default_meta_optimizer: ClassVar[str | None] = None
    provides: ClassVar[frozenset[str]] = frozenset()

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the shape of the decisions; there is nothing to learn."""
        return UniformPolicy(info)

    def start(self, module: nn.Module, n_tasks: int) -> dict[str, Tensor]:
        """Return a memory of nothing."""
        return {}

    def act(
        self, module: nn.Module, memory: dict[str, Tensor], observation: Tensor
    ) -> tuple[am.Decision, dict[str, Tensor]]:
        """Decide at random."""
        assert isinstance(module, UniformPolicy)
        return am.Decision(module.policy(len(observation)), None), memory

    def observe(self, module: nn.Module, memory: dict[str, Tensor], transition: am.Transition) -> dict[str, Tensor]:
        """Learn nothing."""
        return memory


class UniformPolicy(nn.Module):
    """The same decision everywhere.

    Parameters
    ----------
    info : TaskInfo
    """

    middle: Tensor
    log_std: Tensor

    def __init__(self, info: am.TaskInfo) -> None:
        super().__init__()
        self.is_choice = info.action_bounds is None
        low, high = info.action_bounds or ((0.0,) * info.n_outputs, (0.0,) * info.n_outputs)
        bounds = torch.tensor([low, high])
        self.register_buffer("middle", bounds.mean(0))
        self.register_buffer("log_std", ((bounds[1] - bounds[0]) / 12**0.5).log())

    def policy(self, n_tasks: int) -> am.Choice | am.Normal:
        """Return the policy of so many tasks."""
        middle = self.middle.expand(n_tasks, -1)
        return am.Choice(middle) if self.is_choice else am.Normal(middle, self.log_std.expand(n_tasks, -1))

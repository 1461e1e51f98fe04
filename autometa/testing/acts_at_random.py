"""The actor that checks act with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from autometa.contracts.actor import Actor
from autometa.contracts.experience import Transition
from autometa.contracts.policies import Choice, Decision, Normal
from autometa.contracts.tasks import TaskInfo


class ActsAtRandom(Actor):
    """Acts at random."""

    default_meta_optimizer = None
    provides = frozenset()

    def build(self, info: TaskInfo) -> nn.Module:
        """Return the middle and the spread of the actions."""
        low, high = torch.tensor(info.action_bounds or ((0.0,) * info.n_outputs,) * 2)
        return nn.ParameterDict({
            "middle": nn.Parameter((low + high) / 2, requires_grad=False),
            "log_std": nn.Parameter(((high - low) / 12**0.5).log(), requires_grad=False),
        })  # fmt: skip

    def start(self, module: nn.Module, n_tasks: int) -> dict[str, Tensor]:
        """Remember nothing."""
        return {}

    def act(self, module: nn.Module, memory: Any, observation: Tensor) -> tuple[Decision, Any]:
        """Decide at random."""
        assert isinstance(module, nn.ParameterDict)
        middle, log_std = (module[name].to(observation).expand(len(observation), -1) for name in ("middle", "log_std"))
        is_choice = bool(log_std.isinf().all())
        return Decision(Choice(middle) if is_choice else Normal(middle, log_std), None), memory

    def observe(self, module: nn.Module, memory: Any, transition: Transition) -> Any:
        """Learn nothing."""
        return memory

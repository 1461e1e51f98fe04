"""A policy without a memory, whose weights each task may have its own of."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.control.bounded import Bounded
from autometa_plugins.control.sequence_actor import Critic


class PolicyNetwork(Bounded):
    """From an observation to a decision: a backbone with a linear layer, and the spread of real actions.

    Parameters
    ----------
    backbone : nn.Module with ``n_features``
    info : TaskInfo
    critic : nn.Module with ``n_features``, optional
        Features of the observations for values; None: there is no critic.
    """

    def __init__(self, backbone: nn.Module, info: am.TaskInfo, critic: nn.Module | None = None) -> None:
        super().__init__(info)
        self.backbone = backbone
        self.policy = nn.Linear(int(backbone.n_features), info.n_outputs)  # type: ignore[arg-type]
        nn.init.orthogonal_(self.policy.weight, 0.01)
        nn.init.zeros_(self.policy.bias)
        self.log_std = None if self.is_choice else nn.Parameter(torch.full((info.n_outputs,), -0.5))
        self.own = [name for name, value in self.named_parameters() if value.requires_grad]
        """Names of the parameters that a task may have its own of: no frozen ones."""
        self.n_shot = info.n_shot
        self.critic = critic
        if critic is not None:
            self.value = Critic(int(critic.n_features), 0)  # type: ignore[arg-type]

    @property
    def value_scale(self) -> Tensor:
        """Unit in which the critic learns returns; the meta-optimizer changes it in place."""
        return self.value.scale

    @am.fixed_forward
    def forward(self, observation: Tensor) -> Tensor:
        """Map [n, *observation] to [n, n_outputs]: logits, or means in units of the bounds."""
        outputs: Tensor = self.policy(self.backbone(observation))
        return outputs

    def decide(self, weights: Mapping[str, Tensor], observation: Tensor) -> am.Choice | am.Normal:
        """Decide by every task's own weights, each [tasks, *shape], for observations [tasks, n, *observation]."""
        outputs = am.call_per_task(self, weights, observation)
        return self.decided(outputs, None if self.is_choice else weights["log_std"].unsqueeze(1) + self.reach.log())

    def decide_alike(self, observation: Tensor) -> am.Choice | am.Normal:
        """Decide by the weights that all tasks start from, for observations [tasks, n, *observation]."""
        outputs = am.apply_per_task(self, observation)
        return self.decided(outputs, None if self.log_std is None else self.log_std + self.reach.log())

    def values(self, observation: Tensor) -> Tensor | None:
        """Expected returns [tasks, n] of the rest of the episode; None without a critic."""
        if self.critic is None:
            return None
        values: Tensor = self.value(am.apply_per_task(self.critic, observation))
        return values

"""Actors without a memory of steps: a small policy network, whose weights a task may have its own of."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor, nn

import autometa as am
from autometa_plugins.control.policy_network import PolicyNetwork


class OwnPolicy(am.RoundActor):
    """A policy network whose weights adapt to a world after every round of episodes.

    Subclasses implement ``adapt`` and store these parameters beside their own, and have a ``name``.

    Parameters
    ----------
    episodes : int or "auto"
        Episodes of a round. "auto": all that there are to adapt in.
    backbone : str, Backbone, nn.Module or callable
        From observations to features. "auto": two layers of 64 with tanh for vectors, conv4 with group norm for images.
    greedy : bool
        Whether it takes the most probable action when it is judged, instead of drawing one.
    """

    name: ClassVar[str]
    has_critic: ClassVar[bool] = False
    needs_meta_training: ClassVar[frozenset[str]] = frozenset({"control"})

    episodes: int | Literal["auto"]
    backbone: am.BackboneLike

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the network that all tasks start from.

        Raises
        ------
        InvalidParameter
            Names the parameter, its value and what would work.
        """
        self.check()
        critic = self._features(info) if self.has_critic else None
        return PolicyNetwork(self._features(info), info, critic)

    def check(self) -> None:
        """Refuse parameters that cannot be; subclasses add their own."""
        whose = f"learner {self.name!r}"
        am.check_int("episodes", self.episodes, most=100_000, also=("auto",), of=whose)
        am.check_bool("greedy", self.greedy, of=whose)

    def start(self, module: nn.Module, n_tasks: int) -> dict[str, Any]:
        """Return the weights that all tasks start from, and no round yet."""
        assert isinstance(module, PolicyNetwork)
        weights = am.per_task(module, n_tasks, module.own)
        return {"weights": weights, "rounds": module.middle.new_zeros(n_tasks)}

    def round_size(self, module: nn.Module) -> int:
        """Return the episodes of a round."""
        assert isinstance(module, PolicyNetwork)
        return max(1, module.n_shot) if self.episodes == "auto" else self.episodes

    def decide(
        self, module: nn.Module, memory: dict[str, Any], observation: Tensor, episode: Tensor | None = None
    ) -> am.Decision:
        """Decide by every task's own weights, in every episode alike."""
        assert isinstance(module, PolicyNetwork)
        return am.Decision(module.decide(memory["weights"], observation), None)

    def _features(self, info: am.TaskInfo) -> nn.Module:
        if self.backbone != "auto":
            return am.build_backbone(self.backbone, info.input_shape)
        if len(info.input_shape) == 3:
            return am.make_backbone("backbones/conv4", norm="group").build(info.input_shape)
        return am.make_backbone("backbones/mlp", hidden=(64, 64), activation="tanh").build(info.input_shape)

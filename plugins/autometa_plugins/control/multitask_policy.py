"""One policy for all worlds."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

import autometa as am
from autometa_plugins.control.policy_network import PolicyNetwork
from autometa_plugins.control.shared_policy import SharedPolicy


class MultitaskPolicy(SharedPolicy):
    """A policy that is trained in all worlds as if they were one, and learns nothing of a new one.

    What it does not reach is what there is to gain by finding out which world it is.

    Parameters
    ----------
    backbone : str, Backbone, nn.Module or callable, default="auto"
        From observations to features. "auto": two layers of 64 with tanh for vectors, conv4 with group norm for images.
    greedy : bool, default=True
        Whether it takes the most probable action when it is judged, instead of drawing one.
    """

    name: ClassVar[str] = "multitask_policy"
    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"greedy"})
    episodes = "auto"

    def __init__(self, *, backbone: am.BackboneLike = "auto", greedy: bool = True) -> None:
        self.backbone = backbone
        self.greedy = greedy

    def start(self, module: nn.Module, n_tasks: int) -> dict[str, Any]:
        """Return a memory of nothing."""
        return {}

    def decide(
        self, module: nn.Module, memory: dict[str, Any], observation: Tensor, episode: Tensor | None = None
    ) -> am.Decision:
        """Decide as in all worlds."""
        assert isinstance(module, PolicyNetwork)
        return am.Decision(module.decide_alike(observation), None)

    def adapt(self, module: nn.Module, memory: dict[str, Any], experience: am.Experience) -> dict[str, Any]:
        """Learn nothing."""
        return memory

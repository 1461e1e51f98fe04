"""One policy for all worlds, trained further in each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from torch import Tensor, nn

import autometa as am
from autometa_plugins.control.policy_descent import DescendingPolicy
from autometa_plugins.control.policy_network import PolicyNetwork
from autometa_plugins.control.shared_policy import SharedPolicy

if TYPE_CHECKING:
    from optuna import Trial


class FineTunedPolicy(DescendingPolicy, SharedPolicy):
    """A policy that is trained in all worlds as if they were one; then PPO goes on in the new world.

    Parameters
    ----------
    steps : int, default=10
        Steps of Adam on each round of episodes.
    lr : float, default=1e-3
        Their learning rate.
    episodes : int or "auto", default="auto"
        Episodes of a round. "auto": all that there are to adapt in.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        From observations to features. "auto": two layers of 64 with tanh for vectors, conv4 with group norm for images.
    greedy : bool, default=True
        Whether it takes the most probable action when it is judged, instead of drawing one.
    """

    name: ClassVar[str] = "fine_tuned_policy"
    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"steps", "lr", "episodes", "greedy"})

    def __init__(
        self,
        *,
        steps: int = 10,
        lr: float = 1e-3,
        episodes: int | Literal["auto"] = "auto",
        backbone: am.BackboneLike = "auto",
        greedy: bool = True,
    ) -> None:
        self.steps = steps
        self.lr = lr
        self.episodes = episodes
        self.backbone = backbone
        self.greedy = greedy

    def start(self, module: nn.Module, n_tasks: int) -> dict[str, Any]:
        """Return no round yet: before the first one no task has weights of its own."""
        assert isinstance(module, PolicyNetwork)
        return {"rounds": module.middle.new_zeros(n_tasks)}

    def decide(
        self, module: nn.Module, memory: dict[str, Any], observation: Tensor, episode: Tensor | None = None
    ) -> am.Decision:
        """Decide by every task's own weights, or before the first round by those of all."""
        assert isinstance(module, PolicyNetwork)
        if "weights" in memory:
            return super().decide(module, memory, observation, episode)
        return am.Decision(module.decide_alike(observation), None)

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the steps in a new world."""
        return cls(steps=trial.suggest_int("steps", 1, 40), lr=trial.suggest_float("lr", 1e-4, 1e-2, log=True))

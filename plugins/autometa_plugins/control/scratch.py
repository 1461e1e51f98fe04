"""A policy that knows no other world."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import autometa as am
from autometa_plugins.control.policy_descent import DescendingPolicy

if TYPE_CHECKING:
    from optuna import Trial


class Scratch(DescendingPolicy):
    """PPO in the new world alone, from a network that was trained in no other.

    Parameters
    ----------
    steps : int, default=20
        Steps of Adam on each round of episodes.
    lr : float, default=1e-2
        Their learning rate.
    episodes : int or "auto", default=2
        Episodes of a round. "auto": all that there are to adapt in.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        From observations to features. "auto": two layers of 64 with tanh for vectors, conv4 with group norm for images.
    greedy : bool, default=True
        Whether it takes the most probable action when it is judged, instead of drawing one.
    """

    name: ClassVar[str] = "scratch"
    default_meta_optimizer: ClassVar[str | None] = None
    provides: ClassVar[frozenset[str]] = frozenset()
    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"steps", "lr", "episodes", "greedy"})
    needs_meta_training: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        *,
        steps: int = 20,
        lr: float = 1e-2,
        episodes: int | Literal["auto"] = 2,
        backbone: am.BackboneLike = "auto",
        greedy: bool = True,
    ) -> None:
        self.steps = steps
        self.lr = lr
        self.episodes = episodes
        self.backbone = backbone
        self.greedy = greedy

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the steps."""
        return cls(steps=trial.suggest_int("steps", 1, 40), lr=trial.suggest_float("lr", 1e-4, 3e-2, log=True))

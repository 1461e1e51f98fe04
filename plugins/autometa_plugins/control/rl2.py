"""RL²: what a network remembers of a trial is all that was learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from torch import nn

import autometa as am
from autometa_plugins.control.sequence_actor import SequenceActor

if TYPE_CHECKING:
    from optuna import Trial


class RL2(SequenceActor):
    """A network that reads sequences acts; its state is all that it learns of a world (Duan et al. 2016).

    A token is an observation together with the action, the reward and the end of the step before it (Wang et al. 2016).
    The state is kept over the episodes of a trial, so that what one of them showed serves the next.

    Parameters
    ----------
    reader : str or Learner, default="gru"
        A learner that reads sequences ("gru", "lstm", "mann", "snail", "plastic"), whose cell is the memory.
    hidden_size : int or None, default=64
        Of a reader given by name; None: its own.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        What turns observations into features. "auto": conv4 for images; vectors are read as they are.
    privileged : bool, default=False
        Whether the critic sees the hidden parameters of the tasks in meta-training. The policy never does.
    greedy : bool, default=True
        Whether it takes the most probable action when it is judged, instead of drawing one.
    """

    name: ClassVar[str] = "rl2"

    def __init__(
        self,
        *,
        reader: str | am.Learner = "gru",
        hidden_size: int | None = 64,
        backbone: am.BackboneLike = "auto",
        privileged: bool = False,
        greedy: bool = True,
    ) -> None:
        self.reader = reader
        self.hidden_size = hidden_size
        self.backbone = backbone
        self.privileged = privileged
        self.greedy = greedy

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return backbone, cell, policy and critic, see :meth:`SequenceActor.build`."""
        am.check_bool("privileged", self.privileged, of="learner 'rl2'")
        return super().build(info)

    def critic_sees(self, info: am.TaskInfo) -> int:
        """Return all hidden parameters if the critic is privileged, else none."""
        return info.n_hidden if self.privileged else 0

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the size of the memory."""
        return cls(hidden_size=trial.suggest_categorical("hidden_size", [64, 32, 128]))

"""An actor that does what a reference solver would do, and needs no solver any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

import autometa as am
from autometa_plugins.control.sequence_actor import SequenceActor

if TYPE_CHECKING:
    from optuna import Trial


class Imitated(SequenceActor):
    """A network that reads sequences and learned what to do from the advice of somebody who can tell.

    Where the adviser knows what the actor knows, such as Gittins indices in a bandit, this distils a solver into the
    network. Where the adviser knows the task, decisions become those of somebody who guesses it from what he saw, as
    those of a decision-pretrained transformer are (Lee et al. 2023).

    Parameters
    ----------
    reader : str or Learner, default="gru"
        A learner that reads sequences ("gru", "lstm", "mann", "snail", "plastic"), whose cell is the memory.
    hidden_size : int or None, default=64
        Of a reader given by name; None: its own.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        What turns observations into features. "auto": conv4 for images; vectors are read as they are.
    greedy : bool, default=True
        Whether it takes the most probable action when it is judged, instead of drawing one.
    """

    name: ClassVar[str] = "imitated"
    default_meta_optimizer: ClassVar[str | None] = "control/imitation"
    provides: ClassVar[frozenset[str]] = frozenset({"decisions"})

    def __init__(
        self,
        *,
        reader: str | am.Learner = "gru",
        hidden_size: int | None = 64,
        backbone: am.BackboneLike = "auto",
        greedy: bool = True,
    ) -> None:
        self.reader = reader
        self.hidden_size = hidden_size
        self.backbone = backbone
        self.greedy = greedy

    def critic_sees(self, info: am.TaskInfo) -> None:
        """Return None: what is advised needs no values."""

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the size of the memory."""
        return cls(hidden_size=trial.suggest_categorical("hidden_size", [64, 32, 128]))

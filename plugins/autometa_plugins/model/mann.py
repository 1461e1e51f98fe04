"""A network with an external memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import autometa as am
from autometa_plugins.model.cells.cell import Cell
from autometa_plugins.model.cells.external_memory import ExternalMemory
from autometa_plugins.model.sequence_learner import SequenceLearner, check_sizes

if TYPE_CHECKING:
    from optuna import Trial


class MANN(SequenceLearner):
    """Memory-augmented neural network: an LSTM writes what it reads into slots and looks it up by content.

    Santoro et al. 2016, section 3, with the least-recently-used access of section 3.2: every step writes to the slots
    read before or to those used least, which are emptied first. A step reads, by the softmax of cosines, before it
    writes, so that all queries share one memory. See :class:`SequenceLearner` for how examples become tokens.

    Parameters
    ----------
    hidden_size : int, default=200
        Of the LSTM.
    n_slots, slot_size : int, default=128, 40
        Of the memory.
    n_heads : int, default=4
    decay : float, default=0.95
        Share of a slot's usage that is left after a step.
    strength : float, default=1.0
        Multiplies the cosines before the softmax; each head meta-learns its own from here on.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        What turns examples into features. "auto": conv4 for images; vectors are read as they are.
    n_labels : int or "auto", default="auto"
        Slots for classes. "auto": as many as the tasks of meta-training have classes.
    n_orders : int, default=4
        Orders in which adaptation reads the support set.
    along_weight : float, default=1.0
        Weight of the loss along the support beside that of the query.
    chunk : int or None, default=None
        Keep the activations of this many steps for the gradient and recompute the others. None: keep all, which takes
        memory in proportion to the length of the support set.

    References
    ----------
    A. Santoro, S. Bartunov, M. Botvinick, D. Wierstra, T. Lillicrap: Meta-Learning with Memory-Augmented Neural
    Networks. ICML 2016.
    """

    name: ClassVar[str] = "mann"

    def __init__(
        self,
        *,
        hidden_size: int = 200,
        n_slots: int = 128,
        slot_size: int = 40,
        n_heads: int = 4,
        decay: float = 0.95,
        strength: float = 1.0,
        backbone: am.BackboneLike = "auto",
        n_labels: int | Literal["auto"] = "auto",
        n_orders: int = 4,
        along_weight: float = 1.0,
        chunk: int | None = None,
    ) -> None:
        self.hidden_size = hidden_size
        self.n_slots = n_slots
        self.slot_size = slot_size
        self.n_heads = n_heads
        self.decay = decay
        self.strength = strength
        self.backbone = backbone
        self.n_labels = n_labels
        self.n_orders = n_orders
        self.along_weight = along_weight
        self.chunk = chunk

    def build_cell(self, width: int, length: int) -> Cell:
        """Return controller and memory."""
        check_sizes(self, "hidden_size", "n_slots", "slot_size", "n_heads")
        if self.n_slots < self.n_heads:
            raise am.InvalidParameter(
                f"n_slots={self.n_slots} of learner 'mann' must be at least n_heads={self.n_heads}: every head writes "
                "to a slot."
            )
        am.check_real("decay", self.decay, least=0, most=1, of="learner 'mann'", such_as=0.95)
        am.check_real("strength", self.strength, above=0, of="learner 'mann'", such_as=1.0)
        return ExternalMemory(
            width,
            hidden_size=self.hidden_size,
            n_slots=self.n_slots,
            slot_size=self.slot_size,
            n_heads=self.n_heads,
            decay=self.decay,
            strength=self.strength,
            length=length,
        )

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search what the strength starts from, and the size of the controller."""
        return cls(
            hidden_size=trial.suggest_categorical("hidden_size", [100, 200]),
            strength=trial.suggest_float("strength", 1.0, 20.0, log=True),
        )

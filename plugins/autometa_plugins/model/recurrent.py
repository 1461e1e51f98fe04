"""An LSTM and a GRU that read the support set."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import autometa as am
from autometa_plugins.model.cells.cell import Cell
from autometa_plugins.model.cells.recurrent import RecurrentCell
from autometa_plugins.model.sequence_learner import SequenceLearner, check_sizes

if TYPE_CHECKING:
    from optuna import Trial


class Recurrent(SequenceLearner):
    """A recurrent network reads the support set, and its state is all that was learned."""

    kind: ClassVar[Literal["lstm", "gru"]]

    def __init__(
        self,
        *,
        hidden_size: int = 128,
        n_layers: int = 1,
        backbone: am.BackboneLike = "auto",
        n_labels: int | Literal["auto"] = "auto",
        n_orders: int = 4,
        along_weight: float = 1.0,
        chunk: int | None = None,
    ) -> None:
        self.hidden_size = hidden_size
        self.n_layers = n_layers
        self.backbone = backbone
        self.n_labels = n_labels
        self.n_orders = n_orders
        self.along_weight = along_weight
        self.chunk = chunk

    def build_cell(self, width: int, length: int) -> Cell:
        """Return the recurrent network."""
        check_sizes(self, "hidden_size", "n_layers")
        return RecurrentCell(self.kind, width, int(self.hidden_size), int(self.n_layers), length)

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the size."""
        return cls(
            hidden_size=trial.suggest_categorical("hidden_size", [64, 128, 256]),
            n_layers=trial.suggest_int("n_layers", 1, 2),
        )


class LSTM(Recurrent):
    """An LSTM reads the support set, and its state is all that was learned.

    Hochreiter et al. 2001 trained recurrent networks to learn in this way; Santoro et al. 2016 and Duan et al. 2016
    gave it the form of :class:`SequenceLearner`, which says how examples become tokens.

    Parameters
    ----------
    hidden_size : int, default=128
    n_layers : int, default=1
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
    S. Hochreiter, A. S. Younger, P. R. Conwell: Learning to Learn Using Gradient Descent. ICANN 2001.
    """

    name: ClassVar[str] = "lstm"
    kind: ClassVar[Literal["lstm", "gru"]] = "lstm"


class GRU(Recurrent):
    """A GRU (Cho et al. 2014) reads the support set, and its state is all that was learned.

    The same as learner "lstm" with another cell.

    Parameters
    ----------
    hidden_size : int, default=128
    n_layers : int, default=1
    backbone : str, Backbone, nn.Module or callable, default="auto"
    n_labels : int or "auto", default="auto"
    n_orders : int, default=4
    along_weight : float, default=1.0
    chunk : int or None, default=None
        See :class:`LSTM`.
    """

    name: ClassVar[str] = "gru"
    kind: ClassVar[Literal["lstm", "gru"]] = "gru"

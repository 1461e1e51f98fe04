"""A network whose connections learn while it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import autometa as am
from autometa_plugins.model.cells.cell import Cell
from autometa_plugins.model.cells.plastic import PlasticCell
from autometa_plugins.model.sequence_learner import SequenceLearner, check_sizes

if TYPE_CHECKING:
    from optuna import Trial


class Plastic(SequenceLearner):
    """A recurrent network with fast Hebbian weights, whose strength the network itself computes.

    Differentiable neuromodulated plasticity (Miconi et al. 2019, section 3.1): each step associates the active units
    with those active a step before, with a strength that the network computes. The associations decay and add to the
    slow weights; they are used as in Ba et al. 2016, which is close to ``modulated=False``. Each unit has one
    coefficient of plasticity; Miconi et al. have one for each connection. See :class:`SequenceLearner` for how
    examples become tokens.

    Parameters
    ----------
    hidden_size : int, default=64
    decay : float, default=0.95
        Share of the fast weights that is left after a step.
    modulated : bool, default=True
        Let the network compute the strength of each update; otherwise it is one meta-learned number.
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
    T. Miconi, A. Rawal, J. Clune, K. O. Stanley: Backpropamine: Training Self-Modifying Neural Networks with
    Differentiable Neuromodulated Plasticity. ICLR 2019.
    J. Ba, G. Hinton, V. Mnih, J. Z. Leibo, C. Ionescu: Using Fast Weights to Attend to the Recent Past. NeurIPS 2016.
    """

    name: ClassVar[str] = "plastic"

    def __init__(
        self,
        *,
        hidden_size: int = 64,
        decay: float = 0.95,
        modulated: bool = True,
        backbone: am.BackboneLike = "auto",
        n_labels: int | Literal["auto"] = "auto",
        n_orders: int = 4,
        along_weight: float = 1.0,
        chunk: int | None = None,
    ) -> None:
        self.hidden_size = hidden_size
        self.decay = decay
        self.modulated = modulated
        self.backbone = backbone
        self.n_labels = n_labels
        self.n_orders = n_orders
        self.along_weight = along_weight
        self.chunk = chunk

    def build_cell(self, width: int, length: int) -> Cell:
        """Return the plastic network."""
        check_sizes(self, "hidden_size")
        am.check_real("decay", self.decay, least=0, most=1, of="learner 'plastic'", such_as=0.95)
        am.check_bool("modulated", self.modulated, of="learner 'plastic'")
        return PlasticCell(width, hidden_size=self.hidden_size, decay=self.decay, modulated=self.modulated)

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the size and the decay."""
        return cls(
            hidden_size=trial.suggest_categorical("hidden_size", [32, 64, 128]),
            decay=trial.suggest_float("decay", 0.8, 1.0),
        )

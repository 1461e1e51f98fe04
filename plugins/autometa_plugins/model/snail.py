"""Temporal convolutions and attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import autometa as am
from autometa_plugins.model.cells.cell import Cell
from autometa_plugins.model.cells.snail import snail
from autometa_plugins.model.sequence_learner import SequenceLearner, check_sizes

if TYPE_CHECKING:
    from optuna import Trial


class SNAIL(SequenceLearner):
    """A simple neural attentive learner: causal convolutions gather, causal attention looks up.

    Mishra et al. 2018, section 3 and fig. 2. The paper's sizes are ``n_filters=128`` and
    ``attention=((64, 32), (256, 128), (512, 256))``; the defaults here take a tenth of the time.
    The paper shows a label together with its example; here it comes one step late, see :class:`SequenceLearner`. The
    support set is read once for all queries.

    Parameters
    ----------
    n_filters : int, default=32
        Of every convolution.
    attention : tuple of (int, int), default=((64, 32), (64, 64), (128, 64))
        Sizes of keys and values of each attention block.
    length : int or "auto", default="auto"
        Steps that the convolutions between two attention blocks span. "auto": those of a support set of
        meta-training and a query. Longer sequences can be read; attention spans all of them.
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
    N. Mishra, M. Rohaninejad, X. Chen, P. Abbeel: A Simple Neural Attentive Meta-Learner. ICLR 2018.
    """

    name: ClassVar[str] = "snail"

    def __init__(
        self,
        *,
        n_filters: int = 32,
        attention: tuple[tuple[int, int], ...] = ((64, 32), (64, 64), (128, 64)),
        length: int | Literal["auto"] = "auto",
        backbone: am.BackboneLike = "auto",
        n_labels: int | Literal["auto"] = "auto",
        n_orders: int = 4,
        along_weight: float = 1.0,
        chunk: int | None = None,
    ) -> None:
        self.n_filters = n_filters
        self.attention = attention
        self.length = length
        self.backbone = backbone
        self.n_labels = n_labels
        self.n_orders = n_orders
        self.along_weight = along_weight
        self.chunk = chunk

    def build_cell(self, width: int, length: int) -> Cell:
        """Return convolutions and attention."""
        check_sizes(self, "n_filters")
        am.check_int("length", self.length, also=("auto",), of="learner 'snail'")
        if not isinstance(self.attention, list | tuple) or not self.attention:
            raise am.InvalidParameter(
                f"attention={self.attention!r} of learner 'snail' must be pairs of positive sizes of keys and values, "
                "such as ((64, 32),)."
            )
        for sizes in self.attention:
            am.check_ints("attention", sizes, length=2, of="learner 'snail'", such_as=(64, 32))
        span = length if self.length == "auto" else int(self.length)
        return snail(width, attention=self.attention, n_filters=int(self.n_filters), length=span)

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the number of filters."""
        return cls(n_filters=trial.suggest_categorical("n_filters", [32, 64, 128]))

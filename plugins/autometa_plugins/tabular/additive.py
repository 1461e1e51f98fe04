"""Kernels that are a mean over the columns."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from autometa_plugins.tabular.comparison import Comparison
from autometa_plugins.tabular.kernel_ridge import Kernel


class AdditiveLaplace(Kernel):
    """The mean over the columns of exp(-decay · distance): sums of a function of each column.

    The decay is that of :class:`Comparison`, which relevance and naive Bayes share.

    Parameters
    ----------
    ridge : float
    relevant : bool, default=False
        Weight the columns by relevance instead of equally.
    """

    def __init__(self, ridge: float, relevant: bool = False) -> None:
        super().__init__(ridge)
        self.relevant = relevant

    def forward(self, compared: Comparison) -> Float[Tensor, "task row support"]:
        """Return the kernel of rows and support rows."""
        return compared.similarity[:, int(self.relevant)]

"""Kernels that fall with the mean squared distance."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from autometa_plugins.tabular.comparison import Comparison
from autometa_plugins.tabular.kernel_ridge import Kernel


class RBF(Kernel):
    """exp(-decay · mean squared distance over the columns): smooth functions.

    Parameters
    ----------
    ridge, decay : float
    relevant : bool, default=False
        Weight the columns by relevance instead of equally.
    """

    def __init__(self, ridge: float, decay: float, relevant: bool = False) -> None:
        super().__init__(ridge, decay)
        self.relevant = relevant

    def forward(self, compared: Comparison) -> Float[Tensor, "task row support"]:
        """Return the kernel of rows and support rows."""
        return (-self.decay * compared.squared[:, int(self.relevant)]).exp()

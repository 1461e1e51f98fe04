"""Kernels that fall with the mean distance over the columns."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from autometa_plugins.tabular.comparison import Comparison
from autometa_plugins.tabular.kernel_ridge import Kernel


class ProductLaplace(Kernel):
    """exp(-decay · mean distance): a product over the columns of Laplace kernels of asinh z.

    Parameters
    ----------
    ridge, decay : float
    relevance : float, default=0
        Share of the weights that are by relevance; the others are equal.
    """

    def __init__(self, ridge: float, decay: float, relevance: float = 0.0) -> None:
        super().__init__(ridge, decay)
        self.relevance = relevance

    def forward(self, compared: Comparison) -> Float[Tensor, "task row support"]:
        """Return the kernel of rows and support rows."""
        equal, relevant = compared.distance.unbind(1)
        return (-self.decay * (equal + self.relevance * (relevant - equal))).exp()


class RankLaplace(Kernel):
    """exp(-decay · sum of the differences of ranks / columns^power): blind to any monotone change of a column.

    Parameters
    ----------
    ridge, decay : float
    power : float, default=1
        1 takes the mean over the columns; with less, rows of many columns are further apart.
    """

    def __init__(self, ridge: float, decay: float, power: float = 1.0) -> None:
        super().__init__(ridge, decay)
        self.power = power

    def forward(self, compared: Comparison) -> Float[Tensor, "task row support"]:
        """Return the kernel of rows and support rows."""
        n_columns: float = compared.alike.shape[1] ** self.power
        return (-self.decay * compared.ranks / n_columns).exp()

"""Kernels of linear and quadratic functions."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from autometa_plugins.tabular.comparison import Comparison
from autometa_plugins.tabular.kernel_ridge import Kernel


class Linear(Kernel):
    """The mean product over the columns of standardised numbers; equal categories count 1.5.

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
        return compared.product[:, int(self.relevant)]


class BentLinear(Kernel):
    """The linear kernel of asinh z: outliers weigh by their logarithm."""

    def forward(self, compared: Comparison) -> Float[Tensor, "task row support"]:
        """Return the kernel of rows and support rows."""
        return compared.bent_product


class Quadratic(Kernel):
    """(1 + linear)²: products of two columns."""

    def forward(self, compared: Comparison) -> Float[Tensor, "task row support"]:
        """Return the kernel of rows and support rows."""
        return (1 + compared.product[:, 0]).square()

"""Kernel ridge regression with its leave-one-out predictions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from autometa_plugins.tabular.comparison import Comparison
from autometa_plugins.tabular.scale import exact_type

LEAST_RIDGE = 1e-3
"""Smaller ridges count as this one: kernels in single precision are positive but for their rounding."""


class Kernel(nn.Module):
    """A positive definite kernel of rows, and the ridge that goes with it.

    Parameters
    ----------
    ridge : float
        λ.
    decay : float, optional
        How fast the kernel falls with the distance, where it has a distance.
    """

    def __init__(self, ridge: float, decay: float | None = None) -> None:
        super().__init__()
        self.log_ridge = nn.Parameter(torch.tensor(ridge).log())
        if decay is not None:
            self.log_decay = nn.Parameter(torch.tensor(decay).log())

    @property
    def ridge(self) -> Tensor:
        """λ as a tensor."""
        return self.log_ridge.exp().clamp(min=LEAST_RIDGE)

    @property
    def decay(self) -> Tensor:
        """The decay as a tensor."""
        return self.log_decay.exp()

    def forward(self, compared: Comparison) -> Float[Tensor, "task row support"]:
        """Return the kernel of rows and support rows."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class RidgeFit:
    """A solution: predictions are ``kernel @ coefficients``."""

    coefficients: Float[Tensor, "task support out"]
    left_out: Float[Tensor, "task support out"]


def fit_kernel_ridge(
    kernel: Float[Tensor, "task support support"],
    targets: Float[Tensor, "task support out"],
    mask: Bool[Tensor, "task support"],
    ridge: Float[Tensor, ""],
) -> RidgeFit:
    """Solve kernel ridge regression and predict every support row from all the others.

    With A = K + λI the coefficients are α = A⁻¹y (Saunders et al. 1998). The prediction for row i from a fit to all
    other rows is yᵢ - αᵢ / (A⁻¹)ᵢᵢ (Rasmussen & Williams 2006, eq. 5.12), so that no further fit is needed. Proof: let
    f be the fit without row i, and put f(xᵢ) in the place of yᵢ. The fit to all rows is then f as well, as row i adds
    no error to it, and its coefficient of row i is 0. That coefficient is αᵢ + (A⁻¹)ᵢᵢ (f(xᵢ) - yᵢ).

    Parameters
    ----------
    kernel : Tensor of shape [tasks, n, n]
    targets : Tensor of shape [tasks, n, n_outputs]
        Zero where the mask is False.
    mask : Tensor of shape [tasks, n], bool
    ridge : Tensor, scalar
        λ.
    """
    exact = exact_type(kernel)
    real = mask.to(exact)
    y = targets.to(exact)
    matrix = kernel.to(exact) * real.unsqueeze(1) * real.unsqueeze(2)
    identity = torch.eye(kernel.shape[-1], dtype=exact, device=kernel.device)
    root = torch.linalg.cholesky((matrix + matrix.mT) / 2 + ridge.to(exact) * identity)
    inverse_root = torch.linalg.solve_triangular(root, identity.expand_as(root), upper=False)
    coefficients = inverse_root.mT @ (inverse_root @ y)
    left_out = y - coefficients / inverse_root.square().sum(dim=-2).unsqueeze(-1)
    return RidgeFit(coefficients.to(targets.dtype), left_out.to(targets.dtype))

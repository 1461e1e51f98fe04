"""The experts: kernels with their ridges, and classes' densities."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from autometa_plugins.tabular.additive import AdditiveLaplace
from autometa_plugins.tabular.comparison import Comparison
from autometa_plugins.tabular.encoding import Rows
from autometa_plugins.tabular.gaussian import gaussian_classes
from autometa_plugins.tabular.kernel_ridge import Kernel
from autometa_plugins.tabular.laplace import ProductLaplace, RankLaplace
from autometa_plugins.tabular.linear import BentLinear, Linear, Quadratic
from autometa_plugins.tabular.naive_bayes import naive_bayes
from autometa_plugins.tabular.rbf import RBF

N_DENSITIES = 3
_NATS_PER_SCORE = 4.0
_LARGEST_SCORE = 2.0


def all_kernels() -> nn.ModuleList:
    """Return the kernels of the ridge regressions, with the bandwidths and ridges they start from."""
    return nn.ModuleList(
        [
            ProductLaplace(ridge=0.1, decay=1.0),
            Linear(ridge=0.1),
            Linear(ridge=1.0),
            RBF(ridge=0.2, decay=0.7),
            AdditiveLaplace(ridge=0.1),
            AdditiveLaplace(ridge=1.0),
            RankLaplace(ridge=0.1, decay=2.5, power=0.7),
            AdditiveLaplace(ridge=0.1, relevant=True),
            RBF(ridge=0.1, decay=1.0, relevant=True),
            Linear(ridge=0.3, relevant=True),
            RankLaplace(ridge=0.1, decay=2.0),
            BentLinear(ridge=0.3),
            ProductLaplace(ridge=0.1, decay=1.5, relevance=0.5),
            ProductLaplace(ridge=0.1, decay=0.7, relevance=1.0),
            Quadratic(ridge=0.5),
        ]
    )


def kernels_of(kernels: nn.ModuleList, compared: Comparison) -> Float[Tensor, "task expert row support"]:
    """Return every kernel of the compared rows."""
    return torch.stack([kernel(compared) for kernel in kernels], dim=1)


def density_scores(
    compared: Comparison,
    rows: Rows,
    support: Rows,
    members: Float[Tensor, "task support way"],
    speaks: Tensor,
    first: int | None = None,
) -> Float[Tensor, "task 3 row way"]:
    """Return scores around 1 / ways from three naive Bayes classifiers.

    Kernel densities summed over the columns, the same times 2 / √columns, as columns repeat each other, and
    Gaussians, also tempered. Four nats more than the mean of the task's classes are a score of 1 more. The arguments
    are those of :func:`naive_bayes` and :func:`gaussian_classes`.
    """
    tempered = 2 * compared.alike.shape[1] ** -0.5
    own = None if first is None else members[:, first : first + rows.bent.shape[1]]
    by_kernel = naive_bayes(compared, members, first)
    by_gaussian = gaussian_classes(rows.bent, support.bent, members, speaks, own)
    logs = torch.stack([by_kernel, tempered * by_kernel, tempered * by_gaussian], dim=1)
    present = (members.sum(dim=1) > 0).to(logs.dtype)[:, None, None]
    ways = present.sum(dim=-1, keepdim=True).clamp(min=1)
    centred = logs - (logs * present).sum(dim=-1, keepdim=True) / ways
    return ((centred / _NATS_PER_SCORE).clamp(-_LARGEST_SCORE, _LARGEST_SCORE) + 1 / ways) * present


def ridge_of(kernels: nn.ModuleList, number: int) -> Tensor:
    """Return the ridge of one kernel."""
    kernel = kernels[number]
    assert isinstance(kernel, Kernel)
    return kernel.ridge

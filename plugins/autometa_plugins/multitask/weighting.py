"""How much each training task counts: equally, by its noise, or without conflicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Weighting = Literal["equal", "uncertainty", "pcgrad"]
WEIGHTINGS = ("equal", "uncertainty", "pcgrad")


def uncertainty_weighted(
    losses: Float[Tensor, " task"], log_variances: Float[Tensor, " task"], *, classification: bool
) -> Float[Tensor, " task"]:
    """Losses of tasks weighted by learned noise.

    Kendall et al. 2018, eq. 7 for squared errors, ``loss / (2 σ²) + log σ``, whose best variance σ² is the loss;
    and eq. 10 for cross-entropies, ``loss / σ² + log σ``, whose best σ² is twice the loss.

    Parameters
    ----------
    losses : Tensor of shape [tasks]
    log_variances : Tensor of shape [tasks]
        ``log σ²``.
    classification : bool
    """
    factor = 1.0 if classification else 0.5
    return factor * (-log_variances).exp() * losses + log_variances / 2


def without_conflicts(
    losses: Callable[[bool, bool], Tensor], ids: Tensor, trunk: Sequence[Tensor]
) -> Float[Tensor, ""]:
    """Return the mean loss with PCGrad's gradient for the trunk and its own gradient for everything else.

    Yu et al. 2020, algorithm 1: each task's gradient is projected onto the normal plane of every other task's
    gradient that it conflicts with, one after the other in random order; the projected gradients are added up. A
    projected gradient is a combination of the tasks' gradients, so the sum of all is the gradient of the tasks'
    losses weighted by :func:`projected_weights`, and no meta-optimizer needs to know of it.

    Parameters
    ----------
    losses : callable
        Losses [tasks], called with whether the trunk and whether the rest shall be differentiated.
    ids : Tensor of shape [tasks]
        Which task each loss is of. What one task contributes to the mean is one loss here.
    trunk : sequence of Tensor
        The parameters that tasks share.
    """
    tasks, which = torch.unique(ids, return_inverse=True)
    of_trunk = losses(True, False)
    shares = of_trunk.new_zeros(len(tasks)).index_add(0, which, of_trunk / len(of_trunk))
    gradients = [
        torch.cat([g.flatten() for g in torch.autograd.grad(one, trunk, retain_graph=True, materialize_grads=True)])
        for one in shares
    ]
    weights = projected_weights(torch.stack(gradients))
    surrogate = (weights * shares).sum() + losses(False, True).mean()
    return surrogate + (shares.sum() - surrogate).detach()


def projected_weights(gradients: Float[Tensor, "task parameter"]) -> Float[Tensor, " task"]:
    """How often each task's gradient counts in the sum of all projected ones; 1 everywhere without conflicts.

    Orders are drawn from torch's current random state.
    """
    # A projected gradient is kept as its coefficients: all dot products follow from those between the gradients.
    products = gradients @ gradients.mT
    lengths = products.diagonal().clamp(min=torch.finfo(products.dtype).tiny)
    n = len(products)
    coefficients = torch.eye(n, dtype=products.dtype, device=products.device)
    rows = torch.arange(n, device=products.device)
    # Every task goes through the others in an order of its own, all at the same time.
    orders = torch.rand(n, n, device=products.device).argsort(dim=1)
    for others in orders.unbind(dim=1):
        conflict = (coefficients * products[others]).sum(dim=1).clamp(max=0)
        conflict = conflict.masked_fill(others == rows, 0)
        coefficients[rows, others] -= conflict / lengths[others]
    return coefficients.sum(dim=0)

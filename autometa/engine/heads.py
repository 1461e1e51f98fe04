"""Linear heads fitted on fixed features, one for each task."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from autometa.contracts.examples import Examples
from autometa.engine.inner_loop import SupportLoss
from autometa.errors import Incompatible

Head = dict[str, Tensor]


def fit_head(
    features: Float[Tensor, "task n feature"],
    support: Examples,
    *,
    steps: int,
    lr: float = 1.0,
    weight_decay: float = 0.0,
    start: nn.Linear | Head | None = None,
) -> Head:
    """Fit a linear head on every task's support features by gradient descent.

    Features are centred and scaled to a mean squared length of 1 over the support, so the loss (cross-entropy, or
    half the squared error summed over outputs) has curvature at most 1 in every direction: ``lr=1`` is stable whatever
    the features' scale and number, and ``steps`` alone says how closely the support is fitted.

    Parameters
    ----------
    features : Tensor of shape [tasks, n, n_features]
    support : Examples
        Targets and mask of the same ``n`` examples.
    steps : int
    lr : float, default=1.0
    weight_decay : float, default=0.0
        Of the weights' distance from where they start.
    start : dict or nn.Linear, optional
        Head to start from: ``weight`` [n_outputs, n_features], ``bias`` [n_outputs]. Zero when left out.

    Returns
    -------
    dict of ``weight`` [tasks, n_outputs, n_features] and ``bias`` [tasks, n_outputs]
        For the features as they were given.

    Raises
    ------
    Incompatible
        The tasks have another number of outputs than the head to start from.
    """
    mask = support.mask.to(features.dtype).unsqueeze(-1)
    share = mask / mask.sum(dim=1, keepdim=True).clamp(min=1)
    centre = (features * share).sum(dim=1, keepdim=True)
    centred = features - centre
    length = (centred.square() * share).sum(dim=(1, 2), keepdim=True).sqrt()
    length = length.where(length > torch.finfo(features.dtype).eps, 1.0)
    inputs = centred / length

    offset = apply_head(start, features) if start is not None else features.new_zeros(())
    y = support.y if support.is_classification else support.y.to(features.dtype)
    loss = SupportLoss(support.with_parts(x=features, y=y))
    n_outputs = loss.n_outputs
    if start is not None and offset.shape[-1] != n_outputs:
        raise Incompatible(
            f"the head was trained for {offset.shape[-1]} outputs, which mean the same in every task, and this task "
            f"has {n_outputs}; meta-train on tasks with as many, or use a learner whose head starts anew."
        )
    weight = features.new_zeros(len(features), n_outputs, features.shape[-1])
    bias = features.new_zeros(len(features), 1, n_outputs)
    # The support loss is the mean over outputs, here they are summed and halved.
    rate = lr if support.is_classification else lr * n_outputs / 2
    for _ in range(steps):
        outputs = torch.baddbmm(bias, inputs, weight.mT) + offset
        gradient = loss.gradient(loss.predictions(outputs))
        weight = torch.baddbmm(weight, gradient.mT, inputs, beta=1 - lr * weight_decay, alpha=-rate)
        bias = torch.sub(bias, gradient.sum(dim=1, keepdim=True), alpha=rate)

    weight = weight / length
    bias = (bias - centre @ weight.mT).squeeze(1)
    if start is None:
        return {"weight": weight, "bias": bias}
    first = start if isinstance(start, dict) else {"weight": start.weight, "bias": start.bias}
    return {"weight": weight + first["weight"], "bias": bias + first["bias"]}


def apply_head(head: nn.Linear | Head, features: Float[Tensor, "task n feature"]) -> Float[Tensor, "task n out"]:
    """Outputs [tasks, n, n_outputs] of a head (one for all tasks, or one each) for features [tasks, n, n_features]."""
    if isinstance(head, nn.Linear):
        return head(features)  # type: ignore[no-any-return]
    bias = head["bias"].unsqueeze(-2) if head["bias"].dim() == 2 else head["bias"]
    return features @ head["weight"].mT + bias


def solve_ridge(x: Tensor, y: Tensor, mask: Tensor, penalty: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and intercept that minimize ``|x w + b - y|² + penalty |w|²`` over the unmasked rows of every task.

    Parameters
    ----------
    x : Tensor of shape [tasks, n, n_features]
    y : Tensor of shape [tasks, n, n_outputs]
    mask : Tensor of shape [tasks, n], of the dtype of ``x``
        1 where a row counts, else 0.
    penalty : scalar Tensor, positive

    Returns
    -------
    weights : Tensor of shape [tasks, n_features, n_outputs]
    intercept : Tensor of shape [tasks, 1, n_outputs]
    """
    counts = mask.sum(1).clamp(min=1)[:, None, None]
    mask = mask.unsqueeze(-1)
    x_mean, y_mean = ((t * mask).sum(1, keepdim=True) / counts for t in (x, y))
    x, y = (x - x_mean) * mask, (y - y_mean) * mask
    xt = x.transpose(1, 2)
    n, n_features = x.shape[1:]
    penalties = penalty * torch.eye(min(n, n_features), dtype=x.dtype, device=x.device)
    if n < n_features:
        weights = xt @ torch.linalg.solve(x @ xt + penalties, y)
    else:
        weights = torch.linalg.solve(xt @ x + penalties, xt @ y)
    return weights, y_mean - x_mean @ weights

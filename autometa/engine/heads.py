"""Linear heads fitted on fixed features, one for each task."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autometa.contracts.examples import Examples
from autometa.engine.inner_loop import descend, loss_on

Head = dict[str, Tensor]


def fit_head(
    features: Tensor,
    support: Examples,
    *,
    steps: int,
    lr: float = 1.0,
    weight_decay: float = 0.0,
    start: nn.Linear | Head | None = None,
) -> Head:
    """Fit a linear head on every task's support features by gradient descent.

    The descent sees centred features whose mean squared length over the support is 1, so the loss (cross-entropy,
    or half the squared error) has curvature at most 1 in every direction: ``lr=1`` is stable whatever the features'
    scale and number, and ``steps`` alone says how closely the support is fitted.

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
    """
    share = (support.mask / support.mask.sum(dim=1, keepdim=True).clamp(min=1)).unsqueeze(-1).to(features.dtype)
    centre = (features * share).sum(dim=1, keepdim=True)
    centred = (features - centre) * support.mask.unsqueeze(-1)
    length = (centred.square() * share).sum(dim=(1, 2), keepdim=True).sqrt()
    length = length.where(length > torch.finfo(features.dtype).eps, 1.0)

    offset = apply_head(start, features) if start is not None else 0.0
    loss = loss_on(support)
    scale = 1.0 if support.is_classification else 0.5
    n_outputs = support.n_classes if support.is_classification else support.targets().shape[-1]
    n_tasks, n_features = len(features), features.shape[-1]
    change = descend(
        nn.Linear(n_features, n_outputs, device="meta"),
        {"weight": features.new_zeros(n_tasks, n_outputs, n_features), "bias": features.new_zeros(n_tasks, n_outputs)},
        Examples(centred / length, support.y, support.mask, support.n_classes),
        steps=steps,
        rates=lr,
        loss=lambda outputs: scale * loss(outputs + offset),
        weight_decay={"weight": weight_decay},
        strategy="vmap",
    )
    weight = change["weight"] / length
    bias = change["bias"] - (weight @ centre.mT).squeeze(-1)
    if start is None:
        return {"weight": weight, "bias": bias}
    first = start if isinstance(start, dict) else {"weight": start.weight, "bias": start.bias}
    return {"weight": weight + first["weight"], "bias": bias + first["bias"]}


def apply_head(head: nn.Linear | Head, features: Tensor) -> Tensor:
    """Outputs [tasks, n, n_outputs] of a head (one for all tasks, or one each) for features [tasks, n, n_features]."""
    if isinstance(head, nn.Linear):
        return head(features)  # type: ignore[no-any-return]
    bias = head["bias"].unsqueeze(-2) if head["bias"].dim() == 2 else head["bias"]
    return features @ head["weight"].mT + bias

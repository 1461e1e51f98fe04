"""The one way a learner is used: adapt on the support, predict the query, be judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from autometa.contracts.examples import Examples, TaskBatch
from autometa.contracts.losses import IGNORED_CLASS
from autometa.errors import PluginError

if TYPE_CHECKING:
    from autometa.contracts.learner import Learner


def forward(learner: Learner, module: nn.Module, support: Examples, x: Tensor) -> Float[Tensor, "task n out"]:
    """Adapt to every task and return the outputs for its inputs ``x`` [tasks, n, *features]."""
    return predict_outputs(learner, module, learner.adapt(module, support), present_classes(support), x)


def present_classes(support: Examples) -> Bool[Tensor, "task way"] | None:
    """Which classes each support set holds; None for regression."""
    return support.one_hot().sum(dim=1) > 0 if support.is_classification else None


def predict_outputs(
    learner: Learner, module: nn.Module, adapted: Any, present: Tensor | None, x: Tensor
) -> Float[Tensor, "task n out"]:
    """Predict from an adapted state; a class the support lacks is never chosen, unless the learner knows it."""
    outputs = learner.predict(module, adapted, x)
    if outputs.dim() != 3 or outputs.shape[:2] != x.shape[:2]:
        raise PluginError(
            f"{type(learner).__name__}.predict returned {tuple(outputs.shape)} for x {tuple(x.shape)}; "
            "it must return [tasks, n, n_outputs]."
        )
    if present is None or learner.predicts_unseen_classes:
        return outputs
    if outputs.shape[-1] != present.shape[-1]:
        raise PluginError(
            f"{type(learner).__name__}.predict returned {outputs.shape[-1]} outputs for tasks of {present.shape[-1]} "
            "classes; it must return one logit per class of the support (Examples.n_classes)."
        )
    return outputs.masked_fill(~present.unsqueeze(1), torch.finfo(outputs.dtype).min)


def task_losses(learner: Learner, outputs: Tensor, query: Examples) -> Float[Tensor, "task"]:
    """Return the loss of every task, leaving out padded places and queries of a class that the support lacks.

    No learner can answer those that :func:`predict_outputs` forbids to; as scores they count as wrong.
    """
    if query.is_classification:
        answerable = outputs.gather(2, query.y.unsqueeze(2)).squeeze(2) > torch.finfo(outputs.dtype).min
        y = query.y.masked_fill(~(query.mask & answerable), IGNORED_CLASS)
    else:
        mask = query.mask if query.y.dim() == 2 else query.mask.unsqueeze(-1)
        y = query.y.masked_fill(~mask, torch.nan)
    return learner.loss(outputs, y)


def query_losses(
    learner: Learner, module: nn.Module, batch: TaskBatch, *, adapted: Any = None
) -> Float[Tensor, "task"]:
    """Adapt to the support of every task and return the loss on its query, [tasks].

    ``adapted`` is what ``learner.adapt`` returned for these tasks, where that is known already.
    """
    assert isinstance(batch.query.x, Tensor)
    if adapted is None:
        adapted = learner.adapt(module, batch.support)
    outputs = predict_outputs(learner, module, adapted, present_classes(batch.support), batch.query.x)
    return task_losses(learner, outputs, batch.query)


def task_scores(outputs: Tensor, query: Examples) -> Float[Tensor, "task"]:
    """Return the accuracy, or the mean squared error, of every task."""
    counts = query.mask.sum(dim=1).clamp(min=1)
    if query.is_classification:
        right = (outputs.argmax(dim=-1) == query.y) & query.mask
        return right.sum(dim=1).to(outputs.dtype) / counts
    squares = (outputs - query.targets()).square().mean(dim=-1) * query.mask
    return squares.sum(dim=1) / counts

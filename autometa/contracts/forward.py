"""The one way a learner is used: adapt on the support, predict the query, be judged."""

from __future__ import annotations

from enum import Enum
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from autometa.contracts.examples import Examples, TaskBatch
from autometa.contracts.losses import IGNORED_CLASS, squared_error
from autometa.errors import PluginError


class Adapted(Enum):
    """What stands for an adapted state that is still to be found; None may be a state."""

    NOT_YET = "not yet"


class AnyLearner(Protocol):
    """The part of a learner that is used here; see ``autometa.Learner``."""

    @property
    def predicts_unseen_classes(self) -> bool:
        """True if it may predict a class that the support set lacks."""

    @property
    def has_own_loss(self) -> bool:
        """True if its loss is another than the problem's."""

    def adapt(self, module: nn.Module, support: Examples) -> Any:
        """Learn every task from its support set."""

    def predict(self, module: nn.Module, adapted: Any, x: Tensor) -> Tensor:
        """Outputs for inputs ``x``."""

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Mean loss of each task."""


def forward(
    learner: AnyLearner, module: nn.Module, support: Examples, x: Tensor, *, adapted: Any = Adapted.NOT_YET
) -> Float[Tensor, "task n out"]:
    """Adapt to every task and return the outputs for its inputs ``x`` [tasks, n, *features].

    ``adapted`` is what ``learner.adapt`` returned for these tasks, where that is known already.
    """
    if adapted is Adapted.NOT_YET:
        adapted = learner.adapt(module, support)
    return predict_outputs(learner, module, adapted, present_classes(support), x)


def present_classes(support: Examples) -> Bool[Tensor, "task way"] | None:
    """Which classes each support set holds; None for real targets."""
    return support.one_hot().sum(dim=1) > 0 if support.is_classification else None


def predict_outputs(
    learner: AnyLearner, module: nn.Module, adapted: Any, present: Tensor | None, x: Tensor
) -> Float[Tensor, "task n out"]:
    """Predict from an adapted state; a class the support lacks is never chosen, unless the learner knows it.

    Without any class in the support all are alike: their outputs are 0.
    """
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
    nothing = ~present.any(dim=-1)[:, None, None]
    return outputs.masked_fill(~present.unsqueeze(1), torch.finfo(outputs.dtype).min).masked_fill(nothing, 0.0)


def task_losses(learner: AnyLearner, outputs: Tensor, query: Examples) -> Float[Tensor, " task"]:
    """Return the loss of every task, leaving out padded places and queries of a class that the support lacks.

    It is the learner's own loss, or that of the problem. No learner can answer the queries that
    :func:`predict_outputs` forbids it to answer; in scores they count as wrong. NaN where :func:`diverged` says so.
    """
    own = learner.loss if learner.has_own_loss else query.problem_record.loss
    if query.is_classification:
        answerable = outputs.gather(2, query.y.unsqueeze(2)).squeeze(2) != torch.finfo(outputs.dtype).min
        y = query.y.masked_fill(~(query.mask & answerable), IGNORED_CLASS)
        losses = own(outputs, y)
    elif query.is_known_to_be_full and query.y.numel() and own is squared_error:
        losses = squared_error(outputs, query.y, is_full=True)
    else:
        mask = query.mask if query.y.dim() == 2 else query.mask.unsqueeze(-1)
        losses = own(outputs, query.y.masked_fill(~mask, torch.nan))
    return losses + diverged(outputs, query)


def query_losses(
    learner: AnyLearner, module: nn.Module, batch: TaskBatch, *, adapted: Any = Adapted.NOT_YET
) -> Float[Tensor, " task"]:
    """Adapt to the support of every task and return the loss on its query, [tasks].

    ``adapted`` is what ``learner.adapt`` returned for these tasks, where that is known already.
    """
    assert isinstance(batch.query.x, Tensor)
    outputs = forward(learner, module, batch.support, batch.query.x, adapted=adapted)
    return task_losses(learner, outputs, batch.query)


def task_scores(outputs: Tensor, query: Examples) -> Float[Tensor, " task"]:
    """Return the score of every task: accuracy, or mean squared error; NaN where :func:`diverged` says so."""
    return query.problem_record.score(outputs, query) + diverged(outputs, query)


def diverged(outputs: Tensor, query: Examples) -> Float[Tensor, " task"]:
    """Return NaN for every task with a query that has no answer, and 0 for the others, [tasks].

    An answer is made of finite numbers. Of logits some may be -inf, for classes that are impossible, but not all. Added
    to losses and scores, which may hide what is not finite (the arg max of NaN is class 0), NaN is found when they are
    read; nothing here waits for the device.
    """
    outputs = outputs.detach()
    if query.is_classification:
        told = outputs.amax(dim=-1, keepdim=True)
    else:
        told = outputs - (query.y if query.y.dim() == 3 else query.y.unsqueeze(-1))
    zeros = told * 0.0
    if not query.is_known_to_be_full:
        zeros = zeros.masked_fill(~query.mask.unsqueeze(-1), 0.0)
    return zeros.sum(dim=(1, 2))

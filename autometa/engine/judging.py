"""The one judge of learners: outputs, losses and scores of tasks, and how long they take."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from autometa.contracts.examples import Examples, TaskBatch
from autometa.contracts.forward import Adapted, forward, task_losses, task_scores
from autometa.contracts.learner import Learner
from autometa.engine.pulse import step_finished
from autometa.errors import Incompatible, InvalidParameter


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a learner answered to the queries of a batch, and how good that is; the latter is worked out when asked for.

    Parameters
    ----------
    outputs : Tensor of shape [tasks, n, n_outputs]
        Logits, or real targets, for every query; those of padded places mean nothing.
    query : Examples
        What was asked, and the right answers.
    learner : Learner
    """

    outputs: Float[Tensor, "task query out"]
    query: Examples
    learner: Learner

    @property
    def losses(self) -> Float[Tensor, " task"]:
        """Loss of every task, [tasks]: the learner's own, or the problem's. Padded places do not count."""
        return task_losses(self.learner, self.outputs, self.query)

    @property
    def scores(self) -> Float[Tensor, " task"]:
        """Score of every task, [tasks]: its accuracy, or mean squared error in the units of the targets drawn."""
        return task_scores(self.outputs, self.query)

    @property
    def errors(self) -> Float[Tensor, " task"]:
        """Scores turned round where larger ones are better, [tasks]: the share of wrong classes."""
        return self.query.problem_record.error(self.scores)


def judge(learner: Learner, module: nn.Module, batch: TaskBatch, *, adapted: Any = Adapted.NOT_YET) -> Outcome:
    """Adapt to the support of every task and judge the answers to its query.

    Parameters
    ----------
    learner : Learner
    module : nn.Module
        θ, in evaluation mode where that makes a difference.
    batch : TaskBatch
    adapted : optional
        What ``learner.adapt`` returned for these tasks, where that is known already.

    Returns
    -------
    Outcome
        Differentiable in θ if gradients are enabled and the learner is.

    Raises
    ------
    InvalidParameter
        An argument is of another kind.
    Incompatible
        The tasks have another number of real targets than the learner predicts.

    Examples
    --------
    >>> import autometa as am
    >>> import torch
    >>> tasks, learner = am.make_tasks("sinusoid"), am.make_learner("ridge")
    >>> with torch.no_grad():
    ...     outcome = am.judge(learner, learner.build(tasks.info), tasks.sample(3, split="valid", seed=0))
    >>> outcome.outputs.shape, outcome.scores.shape
    (torch.Size([3, 10, 1]), torch.Size([3]))
    """
    given = (("learner", learner, Learner), ("module", module, nn.Module), ("batch", batch, TaskBatch))
    for name, value, kind in given:
        if not isinstance(value, kind):
            known = "a torch.nn.Module" if kind is nn.Module else f"an autometa.{kind.__name__}"
            raise InvalidParameter(f"{name}={value!r:.80} of judge must be {known} object.")
    query = batch.query
    assert isinstance(query.x, Tensor)
    outputs = forward(learner, module, batch.support, query.x, adapted=adapted)
    wanted = query.y.shape[2] if query.y.dim() == 3 else 1
    if not query.is_classification and outputs.shape[-1] != wanted:  # arithmetic would stretch one over the others
        raise Incompatible(
            f"{type(learner).__name__} predicts {outputs.shape[-1]} real targets and the tasks have {wanted}."
        )
    return Outcome(outputs, query, learner)


@dataclass(frozen=True, slots=True)
class Seconds:
    """How long a learner took."""

    adapt: float
    """To adapt to all tasks of a batch together."""
    predict: float
    """To predict all their queries."""


@torch.no_grad()
def timed(learner: Learner, module: nn.Module, batch: TaskBatch) -> Seconds:
    """Adapt to the support of every task and predict its query, on the clock."""
    assert isinstance(batch.query.x, Tensor)
    device = batch.query.x.device
    _wait(device)
    started = time.perf_counter()
    adapted = learner.adapt(module, batch.support)
    _wait(device)
    adapting = time.perf_counter()
    forward(learner, module, batch.support, batch.query.x, adapted=adapted)
    _wait(device)
    step_finished()
    return Seconds(adapting - started, time.perf_counter() - adapting)


def _wait(device: torch.device) -> None:
    """Let queued work finish, so that a clock read next is true."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)

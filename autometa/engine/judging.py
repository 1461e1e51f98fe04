"""The one judge of learners: outputs, losses and scores of tasks, and how long they take."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, overload

import torch
from jaxtyping import Float
from torch import Tensor, nn

from autometa.contracts.actor import Actor
from autometa.contracts.base_learner import BaseLearner
from autometa.contracts.environments import Environments
from autometa.contracts.examples import Examples, TaskBatch
from autometa.contracts.experience import Experience
from autometa.contracts.forward import Adapted, forward, task_losses, task_scores
from autometa.contracts.learner import Learner
from autometa.contracts.round_actor import RoundActor
from autometa.engine.collecting import collect
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


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """What an actor got in trials of the tasks of a batch.

    Parameters
    ----------
    experience : Experience
        All that happened.
    environments : Environments
    memory
        After each trial.
    learner : Actor
    """

    experience: Experience
    environments: Environments
    memory: Any
    learner: Actor

    @property
    def returns(self) -> Float[Tensor, "task episode"]:
        """Return of every episode of a trial, those to adapt in first; NaN where the actor decided by no number."""
        seen = self.experience
        wrong = (seen.log_prob.isnan() & seen.mask).any(1, keepdim=True)
        return seen.returns(self.environments.info.n_episodes).masked_fill(wrong, torch.nan)

    @property
    def losses(self) -> Float[Tensor, " task"]:
        """What meta-training descends: the negative sum of the rewards of the whole trial.

        The exploring of an actor that learns in rounds is for what comes of it: episodes that are judged count alone.
        """
        first = self.environments.info.n_shot if isinstance(self.learner, RoundActor) else 0
        return -self.returns[:, first:].sum(1)

    @property
    def scores(self) -> Float[Tensor, " task"]:
        """Mean return of the episodes that are judged, those after the adaptation."""
        return self.returns[:, self.environments.info.n_shot :].mean(1)

    @property
    def errors(self) -> Float[Tensor, " task"]:
        """Negative scores, of which smaller ones are better."""
        return self.environments.problem_record.error(self.scores)

    @property
    def normalized(self) -> Float[Tensor, "task episode"] | None:
        """Returns above a random actor's, in units of what the best of who knows the tasks gains on average here.

        None if not known; NaN where there is nothing to gain.
        """
        return normalize_returns(self.returns, self.environments.reference)


def normalize_returns(
    returns: Float[Tensor, "task episode"], reference: Mapping[str, Tensor]
) -> Float[Tensor, "task episode"] | None:
    """Return how far returns are above ``"random"``, in mean gains of ``"best"``; None where either is not known.

    The gain is that of all tasks: in a bandit whose arms are alike there is nothing to gain, and a share of it would
    mean nothing.
    """
    if not {"random", "best"} <= set(reference):
        return None
    low, high = reference["random"], reference["best"]
    gain = (high - low).mean()
    return (returns - low.unsqueeze(1)) / torch.where(gain > 0, gain, torch.nan)


@overload
def judge(learner: Learner, module: nn.Module, batch: TaskBatch, *, adapted: Any = Adapted.NOT_YET) -> Outcome: ...


@overload
def judge(
    learner: Actor, module: nn.Module, batch: Environments, *, adapted: Any = Adapted.NOT_YET
) -> TrialOutcome: ...


def judge(
    learner: BaseLearner, module: nn.Module, batch: TaskBatch | Environments, *, adapted: Any = Adapted.NOT_YET
) -> Outcome | TrialOutcome:
    """Adapt to the support of every task and judge the answers to its query; an actor lives through trials instead.

    Parameters
    ----------
    learner : Learner or Actor
    module : nn.Module
        θ, in evaluation mode where that makes a difference.
    batch : TaskBatch or Environments
    adapted : optional
        What ``learner.adapt`` returned for these tasks, where that is known already; the memory that an actor has
        before the trials.

    Returns
    -------
    Outcome or TrialOutcome
        The first is differentiable in θ if gradients are enabled and the learner is.

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
    if isinstance(batch, Environments):
        return _judge_actor(learner, module, batch, adapted)
    given = (("learner", learner, Learner), ("module", module, nn.Module), ("batch", batch, TaskBatch))
    for name, value, kind in given:
        if not isinstance(value, kind):
            known = "a torch.nn.Module" if kind is nn.Module else f"an autometa.{kind.__name__}"
            raise InvalidParameter(f"{name}={value!r:.80} of judge must be {known} object.")
    assert isinstance(learner, Learner)
    query = batch.query
    assert isinstance(query.x, Tensor)
    outputs = forward(learner, module, batch.support, query.x, adapted=adapted)
    wanted = query.y.shape[2] if query.y.dim() == 3 else 1
    if not query.is_classification and outputs.shape[-1] != wanted:  # arithmetic would stretch one over the others
        raise Incompatible(
            f"{type(learner).__name__} predicts {outputs.shape[-1]} real targets and the tasks have {wanted}."
        )
    return Outcome(outputs, query, learner)


def _judge_actor(
    actor: BaseLearner, module: nn.Module, environments: Environments, memory: Any, may_wait: bool = True
) -> TrialOutcome:
    if not isinstance(actor, Actor):
        raise InvalidParameter(f"learner={actor!r:.80} of judge must be an autometa.Actor object: it is to act.")
    info = environments.info
    experience, after = collect(
        actor,
        module,
        environments,
        n_episodes=info.n_episodes,
        horizon=info.horizon,
        memory=None if memory is Adapted.NOT_YET else memory,
        greedy=actor.greedy,
        may_wait=may_wait,
    )
    return TrialOutcome(experience, environments, after, actor)


def adapt_and_judge(
    learner: BaseLearner, module: nn.Module, batch: TaskBatch | Environments, *, may_wait: bool = True
) -> tuple[Any, Outcome | TrialOutcome]:
    """Return what a learner adapted to the tasks of a batch, which is an actor's memory, and its outcome.

    An actor in rounds that may not wait depends on no value, see :func:`collect`.
    """
    if isinstance(batch, Environments):
        outcome = _judge_actor(learner, module, batch, Adapted.NOT_YET, may_wait)
        return outcome.memory, outcome
    assert isinstance(learner, Learner)
    adapted = learner.adapt(module, batch.support)
    return adapted, judge(learner, module, batch, adapted=adapted)


@dataclass(frozen=True, slots=True)
class Seconds:
    """How long a learner took."""

    adapt: float
    """To adapt to all tasks of a batch together."""
    predict: float
    """To predict all their queries."""


@torch.no_grad()
def timed(learner: BaseLearner, module: nn.Module, batch: TaskBatch | Environments) -> Seconds:
    """Adapt to the support of every task and predict its query, on the clock.

    What an actor takes for its trials is divided between their episodes of either kind.
    """
    if isinstance(batch, Environments):
        return _timed_trials(learner, module, batch)
    assert isinstance(batch.query.x, Tensor)
    assert isinstance(learner, Learner)
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


def _timed_trials(actor: BaseLearner, module: nn.Module, environments: Environments) -> Seconds:
    info, device = environments.info, environments.key.device
    _wait(device)
    started = time.perf_counter()
    _judge_actor(actor, module, environments, Adapted.NOT_YET)
    _wait(device)
    step_finished()
    seconds = time.perf_counter() - started
    return Seconds(seconds * info.n_shot / info.n_episodes, seconds * info.n_query / info.n_episodes)


def _wait(device: torch.device) -> None:
    """Let queued work finish, so that a clock read next is true."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)

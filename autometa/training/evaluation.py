"""Judging a learner on tasks it has never seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from autometa.contracts.base_learner import BaseLearner
from autometa.contracts.environments import Environments
from autometa.contracts.examples import Examples, TaskBatch
from autometa.contracts.objectives import Objective
from autometa.contracts.seeding import derive_seed
from autometa.contracts.tasks import Split, TaskInfo, TaskSampler
from autometa.engine.device import place_of
from autometa.engine.few_threads import enough_threads
from autometa.engine.folding import describe_normalization
from autometa.engine.judging import adapt_and_judge
from autometa.engine.measure import Measure
from autometa.engine.pulse import step_finished
from autometa.engine.random_state import seeded
from autometa.training.finite import check_drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Scores of one learner on held-out tasks."""

    scores: NDArray[np.float64]
    """Score per task [n_tasks], in the targets' own units: by the objective asked for, or the problem's metric."""
    metric_scores: NDArray[np.float64]
    """The same by the problem's metric: accuracy, mean squared error or return."""
    losses: NDArray[np.float64]
    """Loss per task [n_tasks]."""
    tasks: NDArray[np.int64]
    """Number of the task that each score belongs to [n_tasks]; an entity drawn twice has two scores."""
    queries: NDArray[np.int64]
    """Query examples of each task [n_tasks]: of a class where every task has classes of its own, else of the task.
    Control: episodes that are judged."""
    normalization: str
    """How the network normalises; see ``describe_normalization``."""

    def per_task(self, *, metric: bool = False) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Distinct tasks and the mean score of each; with ``metric``, that by the problem's metric."""
        tasks, inverse = np.unique(self.tasks, return_inverse=True)
        scores = self.metric_scores if metric else self.scores
        return tasks, np.bincount(inverse, weights=scores) / np.bincount(inverse)


Look: TypeAlias = Callable[[Any, Any, Any], None]
"""Look at a batch, at the state adapted to its tasks, and at the outcome."""


def evaluate(
    learner: BaseLearner,
    module: nn.Module,
    sampler: TaskSampler,
    *,
    split: Split,
    n_tasks: int,
    seed: int,
    look: Look | None = None,
    objective: Objective | None = None,
) -> Evaluation:
    """Adapt to held-out tasks and score their queries; no autograd graph is built and nothing is changed.

    The tasks depend on the sampler, ``split``, ``n_tasks`` and ``seed`` alone, so every learner gets the same:
    :func:`drawn_again` returns one of them. The score of a task is not finite where the learner gives no finite answer
    to one of its queries. Without an ``objective`` it is that of the problem's metric. ``look`` sees what is judged,
    batch by batch.

    Raises
    ------
    InvalidData
        A score is not finite, and a task drawn holds values that are not.
    Incompatible
        The learner lacks what the objective needs.
    """
    device, dtype = place_of(module)
    tasks, queries, at_once = [], [], sampler.info.problem_record.tasks_at_once

    def draw() -> Iterator[TaskBatch | Environments]:
        for start in range(0, n_tasks, at_once):
            count = min(at_once, n_tasks - start)
            drawn = sampler.sample(count, split=split, seed=derive_seed(seed, split, start))
            tasks.append((drawn.ids if drawn.ids is not None else torch.arange(start, start + count)).cpu().numpy())
            queries.append(_queries_of(drawn, sampler.info))
            yield drawn.to(device, dtype)

    measure = None if objective is None else Measure(objective, learner, module, sampler.info)
    with seeded(derive_seed(seed, "evaluate"), device):
        losses, metric_scores = judge_all(learner, module, draw(), sampler.info, look=seen_by(measure, look))
    scores = metric_scores if measure is None else measure.scores()
    for start in sorted({int(i) // at_once * at_once for i in np.flatnonzero(~np.isfinite(scores + metric_scores))}):
        count = min(at_once, n_tasks - start)
        check_drawn(sampler.sample(count, split=split, seed=derive_seed(seed, split, start)), sampler, split)
    return Evaluation(
        scores=scores,
        metric_scores=metric_scores,
        losses=losses,
        tasks=np.concatenate(tasks),
        queries=np.concatenate(queries),
        normalization=describe_normalization(module),
    )


def _queries_of(batch: TaskBatch | Environments, info: TaskInfo) -> NDArray[np.int64]:
    if isinstance(batch, Environments):
        return np.full(len(batch), info.n_query, dtype=np.int64)
    return count_queries(batch.query, info)


def count_queries(query: Examples, info: TaskInfo) -> NDArray[np.int64]:
    """Count the query examples of every task [tasks], padding left out; see :attr:`Evaluation.queries`."""
    assert query.mask is not None
    count = query.mask.sum(1)
    if info.problem_record.has_classes and not info.shared_classes:
        counts_of = torch.zeros(len(count), info.n_outputs, dtype=torch.long, device=count.device)
        counts_of.scatter_add_(1, query.y.long().clamp(0, info.n_outputs - 1), query.mask.long())
        count = counts_of.amax(1)
    return count.cpu().numpy()


def seen_by(*looks: Look | None) -> Look:
    """Have several look at what is judged, one after the other; None stands for nobody."""

    def look(batch: Any, adapted: Any, outcome: Any) -> None:
        for one in looks:
            if one is not None:
                one(batch, adapted, outcome)

    return look


def drawn_again(sampler: TaskSampler, place: int, *, split: Split, seed: int) -> TaskBatch:
    """Return a batch of one: the task that :func:`evaluate` judged in this place, counted from 0."""
    at_once = sampler.info.problem_record.tasks_at_once
    first = place // at_once * at_once
    index = place - first
    drawn: TaskBatch = sampler.sample(index + 1, split=split, seed=derive_seed(seed, split, first))
    return drawn[index:]


@torch.no_grad()
def judge_all(
    learner: BaseLearner,
    module: nn.Module,
    batches: Iterable[TaskBatch | Environments],
    info: TaskInfo,
    *,
    look: Look | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Judge batches of tasks in turn, with θ in evaluation mode.

    Parameters
    ----------
    learner : Learner or Actor
    module : nn.Module
    batches : iterable of TaskBatch or Environments
    info : TaskInfo
    look : callable, optional
        Sees what is judged, batch by batch.

    Returns
    -------
    losses, scores : ndarray of shape [tasks]
        Scores in the targets' own units; neither is finite where the learner gave no finite answer.
    """
    was_training = module.training
    module.eval()
    losses, scores = [], []
    for batch in batches:
        with enough_threads(module, *batch.inputs):
            adapted, outcome = adapt_and_judge(learner, module, batch)
            if look is not None:
                look(batch, adapted, outcome)
        losses.append(outcome.losses.double())
        scores.append(info.in_target_units(outcome.scores.double()))
        step_finished()
    module.train(was_training)
    return torch.cat(losses).cpu().numpy(), torch.cat(scores).cpu().numpy()

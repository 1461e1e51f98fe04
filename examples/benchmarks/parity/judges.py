"""What a meta-trained learner is measured by: the score of its tasks, a likelihood, or its course along a sequence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from embedded import embedded
from numpy.typing import NDArray
from torch import Tensor, nn

import autometa as am
from autometa.training import evaluate

TASKS_AT_ONCE = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What was found in one setting."""

    setting: str
    metric: str
    n_query: int
    scores: NDArray[Any]
    """One number for each meta-test task."""
    is_reference: bool = False
    """True if it is what no learner can beat, whatever was learned."""


def by_score(entry: Any, learner: am.Learner, module: nn.Module, seed: int) -> Iterator[Judged]:
    """Accuracy or squared error on the queries, in every setting."""
    for name, setting in entry.settings.items():
        parameters = dict(setting)
        learner.set_params(**parameters.pop("learner", {}))
        tasks = entry.tasks(**parameters)
        judged = embedded(module, tasks) if entry.embedded else (module, tasks)
        found = evaluate(learner, *judged, split="test", n_tasks=entry.test_tasks, seed=seed)
        yield Judged(setting=name, metric=tasks.info.metric, n_query=tasks.info.n_query, scores=found.scores)


def by_likelihood(entry: Any, learner: am.Learner, module: nn.Module, seed: int) -> Iterator[Judged]:
    """Mean log-likelihood of a query's target, in nats, and that of the exact process on the same tasks."""
    for name, setting in entry.settings.items():
        tasks = entry.tasks(**setting)
        own, exact = [], []
        for batch, n_tasks, at in _batches(entry, tasks, module, seed):
            with torch.no_grad():
                adapted = learner.adapt(module, batch.support)
                own.append(log_likelihood(*learner.predict_distribution(module, adapted, batch.query.x), batch.query))
            exact.append(tasks.oracle_log_likelihood(n_tasks, split="test", seed=at))
        for who, found in (("", own), (": exact process", exact)):
            yield Judged(
                setting=name + who,
                metric="log-likelihood",
                n_query=tasks.info.n_query,
                scores=torch.cat(found).double().cpu().numpy(),
                is_reference=found is exact,
            )


def log_likelihood(mean: Tensor, deviation: Tensor, query: am.Examples) -> Tensor:
    """Mean over the queries of each task of the normal log-density of the target, [tasks]."""
    standard = (query.targets() - mean) / deviation
    each = (-0.5 * standard.square() - deviation.log() - 0.5 * math.log(2 * math.pi)).sum(-1) * query.mask
    return each.sum(1) / query.mask.sum(1)


def by_instance(entry: Any, learner: Any, module: nn.Module, seed: int) -> Iterator[Judged]:
    """Accuracy at the first, second, ... example of a class in a sequence, each predicted before its class is told."""
    found: dict[str, list[Tensor]] = {name: [] for name in entry.settings}
    tasks = entry.tasks()
    for batch, _, _ in _batches(entry, tasks, module, seed):
        sequence = batch.support
        with torch.no_grad():
            right = learner.along(module, sequence).argmax(-1) == sequence.y
        members = sequence.one_hot()
        instance = (members.cumsum(1) * members).sum(-1)
        for name, setting in entry.settings.items():
            here = (instance == setting["instance"]) & sequence.mask
            found[name].append((right & here).sum(1) / here.sum(1))
    for name, parts in found.items():
        yield Judged(setting=name, metric="accuracy", n_query=1, scores=torch.cat(parts).double().cpu().numpy())


def _batches(
    entry: Any, tasks: am.TaskSampler, module: nn.Module, seed: int
) -> Iterator[tuple[am.TaskBatch, int, int]]:
    """Meta-test tasks where θ is, how many, and the seed that draws them."""
    place = next(module.parameters())
    module.eval()
    for first in range(0, entry.test_tasks, TASKS_AT_ONCE):
        n_tasks = min(TASKS_AT_ONCE, entry.test_tasks - first)
        at = am.derive_seed(seed, "test", first)
        yield tasks.sample(n_tasks, split="test", seed=at).to(place.device, place.dtype), n_tasks, at


JUDGES: dict[str, Callable[[Any, Any, nn.Module, int], Iterator[Judged]]] = {
    "score": by_score,
    "likelihood": by_likelihood,
    "instance": by_instance,
}

"""Greedy choice of an ensemble's members by their answers to the meta-valid tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autometa.contracts.examples import Examples, TaskBatch
from autometa.contracts.learner import Learner
from autometa.contracts.objectives import Objective
from autometa.engine.judging import Outcome

Votes: TypeAlias = Sequence[Tensor]
"""A learner's answers that are averaged, batch by batch: probabilities of classes, or real predictions, [tasks, n,
n_outputs]."""
Badness: TypeAlias = Callable[[Votes], tuple[float, ...]]
"""How bad mean votes are; of two, the smaller is better, and what comes first counts first."""

ROUNDS = 25
"""Most votes in a bag; a share of a member is a multiple of one over their number."""


def select(votes: Sequence[Votes], badness: Badness, rounds: int = ROUNDS) -> list[int]:
    """Choose members greedily, with replacement; return how many votes each has.

    The bag begins with the best few, as many as are best together (sorted initialisation). Then, round by round, comes
    in whoever makes the mean of all votes best, who may be in it already. Of the bags of all rounds the best counts;
    of equal ones the first and smallest. So it is never worse than the best single one.

    Parameters
    ----------
    votes : sequence of Votes
        Of each candidate.
    badness : callable
        Judges mean votes.
    rounds : int, default=25

    References
    ----------
    Caruana et al. 2004, Ensemble selection from libraries of models, sections 2 and 2.2.
    """
    alone = [badness(one) for one in votes]
    order = sorted(range(len(votes)), key=lambda i: (alone[i], i))
    bag: list[int] = []
    bags: list[tuple[tuple[float, ...], list[int]]] = []
    for i in order[:rounds]:
        bag = [*bag, i]
        bags.append((badness(_mean(votes, bag)), bag))
    best, bag = min(bags, key=lambda found: found[0])
    kept = bag
    total = [sum(parts[1:], parts[0]) for parts in zip(*(votes[i] for i in bag), strict=True)]
    while len(bag) < rounds:
        grown = [[(t + v) / (len(bag) + 1) for t, v in zip(total, one, strict=True)] for one in votes]
        found = [badness(mean) for mean in grown]
        chosen = min(range(len(votes)), key=lambda i: (found[i], i))
        bag = [*bag, chosen]
        total = [t + v for t, v in zip(total, votes[chosen], strict=True)]
        if found[chosen] < best:
            best, kept = found[chosen], bag
    return [kept.count(i) for i in range(len(votes))]


def _mean(votes: Sequence[Votes], bag: Sequence[int]) -> Votes:
    return [sum(parts[1:], parts[0]) / len(bag) for parts in zip(*(votes[i] for i in bag), strict=True)]


class VotesLook:
    """Collects the votes of a learner, and what was asked, while the learner is judged."""

    def __init__(self) -> None:
        self.votes: list[Tensor] = []
        self.queries: list[Examples] = []

    def __call__(self, batch: TaskBatch, adapted: object, outcome: Outcome) -> None:
        """Look at one batch."""
        outputs = outcome.outputs.detach().cpu().double()
        self.votes.append(outputs.softmax(dim=-1) if outcome.query.is_classification else outputs)
        self.queries.append(outcome.query.to("cpu", torch.float64))

    @property
    def are_finite(self) -> bool:
        """True if every query has an answer."""
        return all(
            bool(votes[query.mask].isfinite().all()) for votes, query in zip(self.votes, self.queries, strict=True)
        )


class MetaValidError:
    """Mean error of votes over the meta-valid tasks, each task once; between equal ones the mean loss decides.

    Parameters
    ----------
    queries : sequence of Examples
        What was asked, batch by batch.
    tasks : array of shape [n_tasks]
        Number of the task that each place is about; an entity that was drawn twice counts once.
    learner : Learner
        The ensemble, whose loss counts.
    objective : Objective, optional
        What the comparison is about, in the place of the error; None: the metric of the problem.
    """

    def __init__(
        self,
        queries: Sequence[Examples],
        tasks: NDArray[np.int64],
        learner: Learner,
        objective: Objective | None = None,
    ) -> None:
        self._queries, self._learner, self._objective = queries, learner, objective
        _, self._place = np.unique(tasks, return_inverse=True)

    def __call__(self, votes: Votes) -> tuple[float, float]:
        """Judge mean votes."""
        judged = [
            Outcome(_outputs(mean, query), query, self._learner)
            for mean, query in zip(votes, self._queries, strict=True)
        ]
        error = self._mean([one.errors for one in judged]) if self._objective is None else self._of_objective(judged)
        return error, self._mean([one.losses for one in judged])

    def _of_objective(self, judged: Sequence[Outcome]) -> float:
        assert self._objective is not None
        scores = torch.cat([self._objective.score(one.outputs, one.query) for one in judged])
        if scores.ndim == 1:
            return self._mean([scores]) * (-1 if self._objective.higher_is_better else 1)
        return sum(abs(self._mean([part])) for part in scores.T)

    def _mean(self, parts: Sequence[Tensor]) -> float:
        values = torch.cat(list(parts)).numpy()
        mean = (np.bincount(self._place, weights=values) / np.bincount(self._place)).mean()
        return float(f"{mean:.10g}")  # what differs by rounding alone is equal


def _outputs(mean: Tensor, query: Examples) -> Tensor:
    """Turn mean votes into outputs; a class without probability is one that could not be answered."""
    return mean.log().clamp(min=torch.finfo(mean.dtype).min) if query.is_classification else mean

"""The meta-test tasks that a learner does worst on, and what it answered there, as small as a storage wants it."""

from __future__ import annotations

import math
from typing import Any

import torch

from autometa.comparison.execution.shown_trials import MOST_CHARACTERS, shown_world
from autometa.contracts.environments import Environments
from autometa.contracts.examples import TaskBatch
from autometa.contracts.tasks import TaskInfo
from autometa.engine.judging import Outcome, TrialOutcome

HARDEST = 3
"""Tasks kept."""
MOST_ANSWERS = 100
"""Answers kept of each, to its first queries."""


class HardTasks:
    """Keeps the tasks with the worst finite scores of all that it looks at, batch by batch; of equal ones the first.

    Of an entity that is drawn several times the draw with the worst score counts.

    Parameters
    ----------
    info : TaskInfo
    """

    def __init__(self, info: TaskInfo) -> None:
        self.info = info
        self._n_seen = 0
        self._found: list[tuple[float, int, dict[str, Any]]] = []

    def __call__(self, batch: TaskBatch | Environments, adapted: Any, outcome: Outcome | TrialOutcome) -> None:
        """Look at one batch."""
        errors = outcome.errors.double().cpu()
        names = (self._n_seen + torch.arange(len(batch)) if batch.ids is None else batch.ids).tolist()
        for index in errors.argsort(descending=True, stable=True).tolist():
            error = float(errors[index])
            if len(self._found) == HARDEST and not error > self._found[-1][0]:
                break  # all that follow have smaller errors
            if math.isfinite(error):
                self._keep(error, names[index], outcome, index)
        self._n_seen += len(batch)

    def _keep(self, error: float, name: int, outcome: Outcome | TrialOutcome, index: int) -> None:
        if any(known == name and error <= worse for worse, known, _ in self._found):
            return
        score = self.info.in_target_units(outcome.scores[index].double())
        kept = {
            "place": self._n_seen + index,
            "task": name,
            "score": float(f"{float(score):.4g}"),
            **_answers(outcome, index),
        }
        others = [found for found in self._found if found[1] != name]
        self._found = sorted([*others, (error, name, kept)], key=lambda found: -found[0])[:HARDEST]

    def kept(self) -> list[dict[str, Any]]:
        """Return the hardest first: ``place`` among all drawn, number of the ``task``, ``score``, and ``answers``.

        Answers to the queries are numbers of classes, or the first real target with four digits. Where learners act
        there is what :func:`shown_world` keeps instead.
        """
        return [kept for *_, kept in self._found]


def _answers(outcome: Outcome | TrialOutcome, index: int) -> dict[str, Any]:
    if isinstance(outcome, TrialOutcome):
        return shown_world(outcome, index, MOST_CHARACTERS // HARDEST)
    outputs = outcome.outputs[index][outcome.query.mask[index]][:MOST_ANSWERS].cpu()
    if outcome.query.is_classification:
        return {"answers": outputs.argmax(dim=-1).tolist()}
    return {"answers": [float(f"{value:.4g}") for value in outputs[:, 0].tolist()]}

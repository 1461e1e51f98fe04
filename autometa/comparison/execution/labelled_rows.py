"""How a learner does for new entities with so many labelled rows: none, one, two, and on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autometa.comparison.execution.adaptation_curve import CURVE_TASKS, with_first_rows
from autometa.comparison.execution.calibration import calibration_of
from autometa.comparison.execution.patient_storage import lost_in
from autometa.comparison.plan.domains import Domain
from autometa.contracts.examples import TaskBatch
from autometa.contracts.plugin_code import one_line, plugin_code
from autometa.contracts.problems import TASKS_AT_ONCE
from autometa.contracts.seeding import derive_seed
from autometa.engine.judging import Outcome
from autometa.engine.measure import Measure
from autometa.engine.random_state import seeded
from autometa.training import MetaTraining
from autometa.training.evaluation import judge_all

ROWS = (0, 1, 2, 5, 10, 20)
"""Numbers of labelled rows tried, as far as half of the entities have as many."""
MOST_ENTITIES = 200
"""Most entities behind one point."""


def by_labelled_rows(training: MetaTraining, domain: Domain) -> dict[str, Any]:
    """Judge a learner on meta-test entities with few labelled rows and more; nothing where tasks have no end.

    Entities and query rows are the same for every number of rows and every learner. An entity with fewer rows gives
    those that it has.

    Returns
    -------
    dict
        ``labelled``: ``tasks``, the numbers of the entities; ``points``: for each number of ``rows``, the ``scores`` of
        the entities and what :mod:`calibration` measures; or the ``error`` that the learner raised.
    """
    if not domain.info.labels_are_shared:
        return {}
    batches = _drawn(training, domain)
    if not batches:
        return {}
    known = np.concatenate([batch.support.mask.sum(dim=1).cpu().numpy() for batch in batches])
    tasks = np.concatenate([_ids(batch) for batch in batches])
    values = [rows for rows in ROWS if rows <= np.median(known) and (rows or not training.learner.needs_support)]
    return {
        "labelled": {
            "tasks": np.unique(tasks).tolist(),
            "points": [{"rows": rows, **_point(training, domain, batches, tasks, rows)} for rows in values],
        }
    }


def _drawn(training: MetaTraining, domain: Domain) -> list[TaskBatch]:
    """Draw every meta-test entity, or as many as there is room for; several times where they are few."""
    most = min(MOST_ENTITIES, domain.settings.n_test_tasks)
    once = _draw(training, domain, most, 0)
    n_entities = sum(map(len, once))
    if n_entities == 0:
        return []
    times = max(1, min(CURVE_TASKS, domain.settings.n_test_tasks) // n_entities)
    return once + [batch for time in range(1, times) for batch in _draw(training, domain, most, time)]


def _draw(training: MetaTraining, domain: Domain, most: int, time: int) -> list[TaskBatch]:
    seed = derive_seed(domain.seed("labelled rows"), time)
    found: list[TaskBatch] = []
    for batch in domain.sampler.each_task(max(ROWS), split="test", seed=seed) or ():
        left = most - sum(map(len, found))
        pieces = (batch[start : min(start + TASKS_AT_ONCE, left)] for start in range(0, len(batch), TASKS_AT_ONCE))
        found += [piece.to(training.device, training.dtype) for piece in pieces if len(piece)]
        if len(batch) >= left:
            break
    return found


def _ids(batch: TaskBatch) -> NDArray[np.int64]:
    assert batch.ids is not None
    return np.asarray(batch.ids.cpu().numpy(), dtype=np.int64)


def _point(
    training: MetaTraining, domain: Domain, batches: Sequence[TaskBatch], tasks: NDArray[np.int64], rows: int
) -> dict[str, Any]:
    """Judge with so many labelled rows; where that fails the reason is recorded, and the rest of the run still counts.

    The learner's own randomness is the same for every number of rows.
    """
    learner, module, info = training.learner, training.module, domain.info
    calibration = calibration_of(learner, module, has_classes=info.problem_record.has_classes)
    measure = None if domain.objective is None else Measure(domain.objective, learner, module, info)

    def look(batch: TaskBatch, adapted: Any, outcome: Outcome) -> None:
        if calibration is not None:
            calibration(batch, adapted, outcome)
        if measure is not None:
            measure(batch, adapted, outcome)

    try:
        with plugin_code(), seeded(0, training.device):
            _, scores = judge_all(learner, module, (with_first_rows(batch, rows) for batch in batches), info, look=look)
        scores = scores if measure is None else measure.scores()
        measured = {} if calibration is None else calibration.measured()
    except Exception as error:
        if lost_in(error) is not None:
            raise
        return {"error": one_line(error)}
    if not np.isfinite([*scores, *measured.values()]).all():
        return {"error": "its answers are not finite."}
    _, place = np.unique(tasks, return_inverse=True)
    return {"scores": (np.bincount(place, weights=scores) / np.bincount(place)).tolist(), **measured}

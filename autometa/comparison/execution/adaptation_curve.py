"""How a meta-trained learner adapts: its score over adaptation steps or shots, and its time for one task."""

from __future__ import annotations

from statistics import median
from typing import Any, cast

import numpy as np
import torch
from sklearn.base import clone

from autometa.comparison.execution.patient_storage import lost_in
from autometa.comparison.execution.shown_trials import shown_trials
from autometa.comparison.plan.domains import Domain
from autometa.contracts.actor import Actor
from autometa.contracts.base_learner import BaseLearner
from autometa.contracts.environments import Environments
from autometa.contracts.examples import TaskBatch, map_inputs
from autometa.contracts.plugin_code import one_line, plugin_code
from autometa.contracts.problems import TASKS_AT_ONCE
from autometa.contracts.seeding import derive_seed
from autometa.contracts.tasks import Split
from autometa.engine.judging import TrialOutcome, judge, timed
from autometa.engine.measure import Measure
from autometa.engine.random_state import seeded
from autometa.engine.size import held_mebibytes
from autometa.training import MetaTraining
from autometa.training.evaluation import judge_all

CURVE_TASKS = 50
"""Most meta-test tasks behind one point of an adaptation curve."""
STEPS = (0, 1, 3, 5, 10, 30, 100)
"""Adaptation steps tried, up to twice the learner's own number."""
SHOTS = (1, 2, 3, 5, 10, 20, 50, 100)
"""Support sizes tried, up to the distribution's own."""
CURVE_TRIALS = 250
"""Most meta-test tasks behind the returns by episode."""
TIMED_TASKS = 10


def adaptation_curve(training: MetaTraining, domain: Domain, *, over_shots: bool = True) -> dict[str, Any]:
    """Score a learner over shots, and over its number of adaptation steps if it has such a number.

    Parameters
    ----------
    training : MetaTraining
    domain : Domain
    over_shots : bool, default=True
        False leaves out the curves over shots.

    Returns
    -------
    dict
        ``axis``: ``"adaptation steps"`` or ``"shots"``, or ``"episodes"`` of a trial, from 1, where learners act;
        ``adaptation``: list of [value, score], NaN where the learner gives answers that are not finite, as it may for
        more steps than it was trained with. Beside adaptation steps, ``over_shots`` is the same over shots, up to a
        number for which the learner raises, and ``over_shots_error`` then the reason. Where learners act also what
        :func:`shown_trials` keeps.
    """
    learner, n_shot = training.learner, domain.info.n_shot
    if domain.info.problem_record.acts:
        outcome = _live_through_trials(training, domain)
        returns = [[number, float(score)] for number, score in enumerate(outcome.returns.mean(0), start=1)]
        return {"axis": "episodes", "adaptation": returns, **shown_trials(outcome)}
    if not over_shots and "steps" not in learner.adaptation_parameters:
        return {"axis": "shots", "adaptation": []}
    batch = _draw(training, domain, CURVE_TASKS)
    if "steps" in learner.adaptation_parameters:
        own = int(learner.get_params(deep=False)["steps"])
        values = sorted({step for step in STEPS if step <= 2 * own} | {own})
        points = [[step, _score(clone(learner).set_params(steps=step), training, batch, domain)] for step in values]
        beside = _over_shots(training, domain, batch) if over_shots else {}
        return {"axis": "adaptation steps", "adaptation": points, **beside}
    points = [
        [shots, _score(learner, training, with_fewer_shots(batch, shots), domain)]
        for shots in _numbers_of_shots(n_shot)
    ]
    return {"axis": "shots", "adaptation": points}


def _numbers_of_shots(n_shot: int) -> list[int]:
    return sorted({shots for shots in SHOTS if shots < n_shot} | {n_shot})


def _over_shots(training: MetaTraining, domain: Domain, batch: TaskBatch) -> dict[str, Any]:
    """Score a learner over shots with its own number of steps; where it raises, the rest of the run still counts."""
    points: list[list[float]] = []
    try:
        with plugin_code():
            for shots in _numbers_of_shots(domain.info.n_shot):
                points.append([shots, _score(training.learner, training, with_fewer_shots(batch, shots), domain)])
    except Exception as error:
        if lost_in(error) is not None:
            raise
        return {"over_shots": points, "over_shots_error": one_line(error)}
    return {"over_shots": points}


@torch.no_grad()
def _live_through_trials(training: MetaTraining, domain: Domain) -> TrialOutcome:
    worlds = _draw_worlds(domain).to(training.device, training.dtype)
    return judge(cast(Actor, training.learner), training.module.eval(), worlds)


def curve_returns(domain: Domain) -> dict[str, float]:
    """Mean returns of an episode that are known of the worlds behind the returns by episode, ``"best"`` first."""
    reference = _draw_worlds(domain).reference
    return {name: float(reference[name].mean()) for name in ("best", "random") if name in reference}


def known_returns(domain: Domain) -> dict[str, float]:
    """Mean returns of an episode that are known of the worlds judged on: ``"random"`` and ``"best"``, or nothing."""
    seed, n_tasks, at_once = domain.seed("test"), domain.settings.n_test_tasks, domain.info.problem_record.tasks_at_once
    found: dict[str, list[torch.Tensor]] = {}
    for start in range(0, n_tasks, at_once):  # as evaluate() draws them
        count = min(at_once, n_tasks - start)
        drawn = domain.sampler.sample(count, split="test", seed=derive_seed(seed, "test", start))
        for name, returns in drawn.reference.items():
            found.setdefault(name, []).append(returns.double())
    return {name: float(torch.cat(returns).mean()) for name, returns in found.items()}


def _draw_worlds(domain: Domain) -> Environments:
    n_tasks = min(CURVE_TRIALS, domain.settings.n_test_tasks)
    drawn: Environments = domain.sampler.sample(n_tasks, split="test", seed=domain.seed("curve"))
    return drawn


def milliseconds_per_task(training: MetaTraining, domain: Domain, *, split: Split = "test") -> dict[str, float]:
    """Measure the median milliseconds to adapt to one task and to predict its query, one task at a time."""
    batch = _draw(training, domain, TIMED_TASKS, split)
    learner, module = training.learner, training.module.eval()
    timed(learner, module, batch[:1])  # the first call of a network pays for its set-up
    taken = [timed(learner, module, batch[i : i + 1]) for i in range(len(batch))]
    return {
        "adapt_ms": 1000 * median(seconds.adapt for seconds in taken),
        "predict_ms": 1000 * median(seconds.predict for seconds in taken),
    }


def mebibytes_per_task(training: MetaTraining, domain: Domain) -> float:
    """Return the MiB of θ and of the state adapted to one task, see :func:`held_mebibytes`."""
    return held_mebibytes(training.learner, training.module, _draw(training, domain, 1))


def with_fewer_shots(batch: TaskBatch, shots: int) -> TaskBatch:
    """Keep the first ``shots`` support examples of each class, or of each task in regression."""
    support = batch.support
    if not support.is_classification:
        return with_first_rows(batch, shots)
    member = support.one_hot()
    return _with_kept(batch, (member.cumsum(dim=1) * member).sum(dim=-1), shots)


def with_first_rows(batch: TaskBatch, rows: int) -> TaskBatch:
    """Keep the first ``rows`` support examples of each task, whatever their classes; of 0 a padded place stays."""
    mask = batch.support.mask.long()
    return _with_kept(batch, mask.cumsum(dim=1) * mask, rows)


def _with_kept(batch: TaskBatch, rank: torch.Tensor, most: int) -> TaskBatch:
    """Keep the support examples of rank 1 to ``most``; 0 is the rank of padding."""
    support = batch.support
    keep = (rank > 0) & (rank <= most)
    longest = max(1, int(keep.sum(dim=1).max()))
    rows = (~keep).to(torch.int8).argsort(dim=1, stable=True)[:, :longest]

    def take(values: torch.Tensor) -> torch.Tensor:
        index = rows.reshape(*rows.shape, *[1] * (values.dim() - 2)).expand(*rows.shape, *values.shape[2:])
        return values.gather(1, index)

    kept = take(keep)

    def take_kept(values: torch.Tensor) -> torch.Tensor:
        chosen = take(values)
        return chosen.masked_fill(~kept.reshape(*kept.shape, *[1] * (chosen.dim() - 2)), 0)

    fewer = support.with_parts(x=map_inputs(take_kept, support.x), y=take_kept(support.y), mask=kept)
    return TaskBatch(support=fewer, query=batch.query, classes=batch.classes, ids=batch.ids)


def _draw(training: MetaTraining, domain: Domain, most: int, split: Split = "test") -> TaskBatch:
    n_tasks = min(most, domain.settings.n_test_tasks)
    drawn: TaskBatch = domain.sampler.sample(n_tasks, split=split, seed=domain.seed("curve"))
    return drawn.to(training.device, training.dtype)


def _score(learner: BaseLearner, training: MetaTraining, batch: TaskBatch, domain: Domain) -> float:
    """Mean score of the tasks; the learner's own randomness is the same for every point of a curve."""
    info, objective = training.sampler.info, domain.objective
    measure = None if objective is None else Measure(objective, learner, training.module, info)
    parts = (batch[start : start + TASKS_AT_ONCE] for start in range(0, len(batch), TASKS_AT_ONCE))
    with seeded(0, training.device):
        _, scores = judge_all(learner, training.module, parts, info, look=measure)
    scores = scores if measure is None else measure.scores()
    return float(scores.mean()) if np.isfinite(scores).all() else np.nan

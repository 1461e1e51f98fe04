"""One final run: meta-train the best hyperparameters again from another seed, and judge them on meta-test tasks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from optuna.trial import FixedTrial, Trial

from autometa.comparison.execution.adaptation_curve import adaptation_curve, mebibytes_per_task, milliseconds_per_task
from autometa.comparison.execution.calibration import MeasuredBeside, calibration_of
from autometa.comparison.execution.guards import COPIES, copies_elsewhere, guard
from autometa.comparison.execution.hard_tasks import HardTasks
from autometa.comparison.execution.kept_best import KeptBest
from autometa.comparison.execution.label_files import model_file
from autometa.comparison.execution.labelled_rows import by_labelled_rows
from autometa.comparison.execution.patient_storage import SystemFailure, lost_in
from autometa.comparison.execution.trial import start_training
from autometa.comparison.plan.domains import Domain
from autometa.comparison.plan.pair import Pair
from autometa.contracts.learner import Learner
from autometa.contracts.plugin_code import one_line, plugin_code
from autometa.contracts.step_sizes import advice_on_steps
from autometa.errors import InvalidParameter, TrainingDiverged
from autometa.estimators.meta_estimator import MetaEstimator
from autometa.training import MetaTraining, evaluate
from autometa.training.evaluation import Look, seen_by

CURVE_POINTS = 4
"""Points on the curve of the meta-valid score over outer steps, not counting the one before the first step; the θ of
the best one is kept."""
HISTORY_POINTS = 500
"""Most outer steps whose loss is kept."""


def run_final(pair: Pair, params: Mapping[str, Any], trial: Trial, device: torch.device, models: Path | None) -> float:
    """Run the final of one seed and store its results in the trial's user attribute ``"result"``.

    Parameters
    ----------
    params : mapping
        Hyperparameters of the best trial.
    models : Path, optional
        Folder in which the meta-trained estimator is saved.

    Returns
    -------
    float
        Mean score on the meta-test tasks of the distribution trained on.
    """
    number = trial.user_attrs["slot"]
    training, curve, kept_step = train_final(pair, params, number, device)
    result = judge_final(pair, training, models, number) | {"curve": curve, "kept_step": kept_step}
    trial.set_user_attr("result", result)
    return float(np.mean(result["scores"]))


def judge_final(pair: Pair, training: MetaTraining, models: Path | None, number: int) -> dict[str, Any]:
    """Judge what was meta-trained on all that counts, save it, and return what a final run stores of both."""
    domain = pair.domain.on(training.device)  # its own tasks: those meta-trained on may have other shots
    calibration = _calibration(training)
    own = meta_test(pair, training, domain, look=calibration)
    labelled = by_labelled_rows(training, domain)
    result = {
        **own,
        **({} if calibration is None else {"calibration": calibration.measured()}),
        **_training_record(training),
        **adaptation_curve(training, domain, over_shots=not labelled),
        **labelled,
    }
    if models is not None:
        result |= _keep(training, models / model_file(pair, number))
    if pair.elsewhere:
        result["elsewhere"] = {other.label: _judge_elsewhere(pair, training, other) for other in pair.elsewhere}
    if number == 0:  # one run of a learner tells
        result["guards"] = guard(training, domain)
        for other in pair.elsewhere:
            result["elsewhere"][other.label]["guards"] = {COPIES: copies_elsewhere(pair.domain, other)}
    return result


def _calibration(training: MetaTraining) -> MeasuredBeside | None:
    """Return what measures how far a learner's doubt can be believed; None where it tells none."""
    problem, learner = training.sampler.info.problem_record, training.learner
    if problem.acts or not isinstance(learner, Learner):
        return None
    found = calibration_of(learner, training.module, has_classes=problem.has_classes)
    return None if found is None else MeasuredBeside(found, training.device)


def meta_test(pair: Pair, training: MetaTraining, domain: Domain, *, look: Look | None = None) -> dict[str, Any]:
    """Judge what was meta-trained on the meta-test tasks of one distribution, the same for every learner.

    ``look`` sees all that is judged.

    Raises
    ------
    TrainingDiverged
        A score is not a finite number.
    """
    hardest = HardTasks(domain.info)
    judged = evaluate(
        training.learner,
        training.module,
        domain.sampler,
        split="test",
        n_tasks=domain.settings.n_test_tasks,
        seed=domain.seed("test"),
        objective=domain.objective,
        look=seen_by(hardest, look),
    )
    numbers, scores = judged.per_task()
    _, metric_scores = judged.per_task(metric=True)
    wrong = ~np.isfinite(scores + metric_scores)
    if wrong.any():
        advice = advice_on_steps(training.learner, training.meta_optimizer)
        raise TrainingDiverged(
            f"learner {pair.learner!r} gives answers that are not finite to {wrong.sum()} of {len(scores)} meta-test "
            f"tasks of {domain.label!r} after {training.step_count} outer steps; {advice}."
        )
    return {
        "tasks": numbers.tolist(),
        "scores": scores.tolist(),
        **({} if domain.objective is None else {"metric_scores": metric_scores.tolist()}),
        "normalization": judged.normalization,
        "n_shot": domain.info.n_shot,
        "n_query": _range_text(judged.queries),
        "hardest": hardest.kept(),
        **milliseconds_per_task(training, domain),
        "mebibytes": mebibytes_per_task(training, domain),
    }


def _range_text(numbers: NDArray[np.int64]) -> int | str:
    """Return the number if all are the same, else the smallest and the largest, such as ``"5–20"``."""
    least, most = int(numbers.min()), int(numbers.max())
    return least if least == most else f"{least}–{most}"


def _judge_elsewhere(pair: Pair, training: MetaTraining, domain: Domain) -> dict[str, Any]:
    """Judge on another distribution; where that fails the reason is recorded, and the rest of the run still counts."""
    try:
        with plugin_code():
            return meta_test(pair, training, domain.on(training.device))
    except Exception as error:
        if lost_in(error) is not None:
            raise
        return {"error": one_line(error)}


def train_final(
    pair: Pair, params: Mapping[str, Any], number: int, device: torch.device
) -> tuple[MetaTraining, list[list[float]], int]:
    """Meta-train with given hyperparameters and the seed of final ``number``.

    Returns
    -------
    training : MetaTraining
        With the θ of the best point of the curve.
    curve : list of [outer step, seconds, score on the meta-valid tasks]
    kept_step : int
        Outer steps before that point.
    """
    components = pair.candidate.draw(FixedTrial({**pair.space.defaults, **params}))
    training = start_training(pair, components, device, seed=pair.seed("final", number))
    kept = KeptBest(pair, training)
    curve = [[0.0, 0.0, kept.look()]]
    for k in range(1, CURVE_POINTS + 1 if training.n_steps else 1):
        training.run_to(k / CURVE_POINTS)
        if training.step_count > curve[-1][0]:
            curve.append([float(training.step_count), training.seconds, kept.look()])
    kept.restore()
    return training, curve, kept.step


def _training_record(training: MetaTraining) -> dict[str, Any]:
    history = training.history[["step", "seconds", "loss"]]
    thinned = history.iloc[:: max(1, -(-len(history) // HISTORY_POINTS))]
    return {
        "history": [[float(number) for number in row] for row in thinned.to_numpy()],
        "steps": training.step_count,
        "meta_train_seconds": training.seconds,
    }


def to_estimator(training: MetaTraining) -> MetaEstimator:
    """Wrap a finished meta-training as the estimator for its problem."""
    return training.sampler.info.problem_record.estimator.from_training(training)  # type: ignore[no-any-return]


def _keep(training: MetaTraining, path: Path) -> dict[str, Any]:
    """Save the estimator; if it could not be loaded again, because no plugin offers its learner, say so instead.

    Raises
    ------
    SystemFailure
        The file cannot be written, which is no fault of the learner's.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        to_estimator(training).save(path)
    except InvalidParameter as error:
        return {"not_saved": str(error)}
    except OSError as error:
        reason = getattr(error.__cause__ or error, "strerror", None) or error
        raise SystemFailure(f"the model {str(path)!r} cannot be written ({reason}); {SystemFailure.NEXT}") from error
    return {"model": path.name}

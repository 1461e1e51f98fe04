"""One trial: meta-train with the hyperparameters drawn, and judge on the meta-valid tasks at a few rungs."""

from __future__ import annotations

import math

import optuna
import torch
from optuna.trial import Trial

from autometa.comparison.plan.pair import Pair
from autometa.contracts.base_learner import BaseLearner
from autometa.contracts.meta_optimizer import MetaOptimizer
from autometa.errors import TrainingDiverged
from autometa.training import MetaTraining, evaluate

RUNGS = (0.25, 0.5, 1.0)
"""Shares of meta-training after which a trial is judged, and perhaps stopped."""


def run_trial(
    pair: Pair, components: tuple[BaseLearner, MetaOptimizer | None], trial: Trial, device: torch.device
) -> float:
    """Run a trial of the components drawn for it and return its score on the meta-valid tasks.

    The seeds of the initial θ, of the batches and of the meta-valid tasks are those of every other trial on these
    tasks, so that trials differ in their hyperparameters alone.

    Raises
    ------
    optuna.TrialPruned
        The pruner stopped it; the score reported last is kept.
    TrainingDiverged
        The loss or the score is no longer finite.
    """
    training = start_training(pair, components, device, seed=pair.seed("train"))
    rungs = RUNGS if training.n_steps else RUNGS[-1:]
    score = math.nan
    for rung, share in enumerate(rungs):
        training.run_to(share)
        score = validation_score(pair, training)
        trial.report(score, rung)
        trial.set_user_attr("steps", training.step_count)
        trial.set_user_attr("meta_train_seconds", training.seconds)
        if share < 1.0 and trial.should_prune():
            raise optuna.TrialPruned
    return score


def start_training(
    pair: Pair, components: tuple[BaseLearner, MetaOptimizer | None], device: torch.device, *, seed: int
) -> MetaTraining:
    """Set up a meta-training run of the components with the budget of the comparison."""
    settings = pair.settings
    return MetaTraining(
        *components,
        pair.domain.sampler,
        n_steps=settings.max_steps,
        tasks_per_step=settings.tasks_per_step,
        seed=seed,
        max_seconds=settings.seconds_per_run,
        device=device,
    )


def validation_score(pair: Pair, training: MetaTraining) -> float:
    """Mean score on the meta-valid tasks, the same ones for every learner and trial.

    Raises
    ------
    TrainingDiverged
        It is not a finite number.
    """
    judged = evaluate(
        training.learner,
        training.module,
        training.sampler,
        split="valid",
        n_tasks=pair.settings.n_valid_tasks,
        seed=pair.seed("valid"),
    )
    score = float(judged.per_task()[1].mean())
    if not math.isfinite(score):
        raise TrainingDiverged(
            f"learner {pair.learner!r} has a meta-valid score of {score} on {pair.tasks!r} after "
            f"{training.step_count} outer steps: it gives answers that are not finite; lower the learning rates."
        )
    return score

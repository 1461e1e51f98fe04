"""One trial: meta-train with the hyperparameters drawn, and judge on the meta-valid tasks at a few rungs."""

from __future__ import annotations

import time

import optuna
import torch
from optuna.trial import Trial

from autometa.comparison.execution.adaptation_curve import milliseconds_per_task
from autometa.comparison.execution.kept_best import KeptBest
from autometa.comparison.execution.leg import Leg
from autometa.comparison.plan.pair import Pair
from autometa.comparison.plan.search_space import Drawn
from autometa.engine.size import held_mebibytes
from autometa.training import MetaTraining

RUNGS = (0.25, 0.5, 0.75, 1.0)
"""Shares of meta-training after which a trial is judged, and perhaps stopped."""


def run_trial(pair: Pair, components: Drawn, trial: Trial, device: torch.device, leg: Leg | None = None) -> float:
    """Run a trial of the components drawn for it and return its best score on the meta-valid tasks.

    A run whose score has clearly turned down ends early. The untrained θ does not count here, as all trials share it; a
    final run keeps it where it is the best. The seeds of the initial θ, of the batches and of the meta-valid tasks are
    those of every other trial on these tasks, so that trials differ in their hyperparameters alone.

    Parameters
    ----------
    leg : Leg, optional
        The part of it to run in a race; None: all of it.

    Raises
    ------
    optuna.TrialPruned
        The pruner stopped it, or it has paused, and the score reported last is kept; or it takes more memory than
        ``max_memory``, which the attribute ``"over_limit"`` says. Where that is so before meta-training, the trial has
        no score.
    TrainingDiverged
        The loss or the score is no longer finite.
    """
    training = start_training(pair, components, device, seed=pair.seed("train"))
    _check_memory(pair, training, trial)
    kept = KeptBest(pair, training)
    if leg is not None:
        leg.resume(training, kept)
    looked = len(kept.looks)
    for rung, share in enumerate(RUNGS if training.n_steps else RUNGS[-1:]):
        if rung >= looked:
            training.run_to(share)
            began = time.monotonic()
            kept.look()
            trial.set_user_attr("look_seconds", time.monotonic() - began)
        trial.report(kept.looks[rung], rung)
        trial.set_user_attr("steps", training.step_count)
        trial.set_user_attr("meta_train_seconds", training.seconds)
        if kept.has_turned_down:
            break
        if leg is not None and leg.until <= share < 1.0:
            trial.set_user_attr("valid_scores", kept.scores.tolist())
            leg.pause(trial.user_attrs["slot"], training, kept)
            _measure_latency(pair, training, trial)
            raise optuna.TrialPruned
        if leg is None and share < 1.0 and trial.should_prune():
            _measure_latency(pair, training, trial)
            raise optuna.TrialPruned
    if leg is not None:
        trial.set_user_attr("valid_scores", kept.scores.tolist())
    if training.n_steps:
        _check_memory(pair, training, trial)
    _measure_latency(pair, training, trial)
    return kept.score


def _check_memory(pair: Pair, training: MetaTraining, trial: Trial) -> None:
    """End a trial of a learner that takes too much memory for one task, as far as can be told by now."""
    settings = pair.settings
    if settings.max_memory is None:
        return
    task = training.sampler.sample(1, split="valid", seed=pair.seed("size")).to(training.device, training.dtype)
    over = settings.over_limit(mebibytes=held_mebibytes(training.learner, training.module, task))
    if over:
        trial.set_user_attr("over_limit", over)
        raise optuna.TrialPruned(over)


def _measure_latency(pair: Pair, training: MetaTraining, trial: Trial) -> None:
    """Tell how long a meta-valid task takes, if that is limited: a trial within the limit goes before all others."""
    if pair.settings.max_latency is not None:
        taken = milliseconds_per_task(training, pair.domain.on(training.device), split="valid")
        trial.set_user_attr("milliseconds", taken["adapt_ms"] + taken["predict_ms"])


def start_training(pair: Pair, components: Drawn, device: torch.device, *, seed: int) -> MetaTraining:
    """Set up a meta-training run of the components with the budget of the comparison."""
    settings = pair.settings
    return MetaTraining(
        components.learner,
        components.meta_optimizer,
        pair.domain.sampler if components.tasks is None else components.tasks,
        n_steps=settings.max_steps,
        tasks_per_step=settings.tasks_per_step,
        seed=seed,
        max_seconds=settings.seconds_per_run,
        device=device,
    )

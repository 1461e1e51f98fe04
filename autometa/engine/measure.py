"""Scores of tasks by an objective, collected while a learner is judged."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from autometa.contracts.base_learner import BaseLearner
from autometa.contracts.examples import TaskBatch
from autometa.contracts.forward import diverged
from autometa.contracts.learner import Learner
from autometa.contracts.objectives import Objective
from autometa.contracts.scores import exact
from autometa.contracts.tasks import TaskInfo
from autometa.engine.judging import Outcome
from autometa.errors import Incompatible

LEAST_DEVIATION = 1e-6
"""A smaller standard deviation counts as this much, in units of the targets drawn: log-likelihoods are finite."""


class Measure:
    """Look at batches that are judged, and score their tasks by an objective.

    Parameters
    ----------
    objective : Objective
    learner : Learner
    module : nn.Module
    info : TaskInfo

    Raises
    ------
    Incompatible
        The learner lacks what the objective needs.
    """

    def __init__(self, objective: Objective, learner: BaseLearner, module: nn.Module, info: TaskInfo) -> None:
        check_measurable(objective, learner)
        assert isinstance(learner, Learner)
        self.objective, self.learner, self.module, self.info = objective, learner, module, info
        self._found: list[Tensor] = []

    def __call__(self, batch: TaskBatch, adapted: Any, outcome: Outcome) -> None:
        """Look at one batch."""
        query, told = outcome.query, outcome.outputs
        if "distribution" in self.objective.needs:
            assert isinstance(query.x, Tensor)
            told = log_density_of(self.learner, self.module, adapted, query.x, query.targets())
        found = self.objective.score(told, query)
        wrong = exact(diverged(outcome.outputs, query))
        self._found.append(found + (wrong if found.dim() == 1 else wrong.unsqueeze(1)))

    def scores(self) -> NDArray[np.float64]:
        """Return the scores of all tasks seen, [tasks], in the targets' own units; NaN where an answer is."""
        found = torch.cat(self._found).double().cpu()
        if found.dim() == 2:
            found = (found * found.nan_to_num().sum(dim=0).sign()).sum(dim=1)
        scores: NDArray[np.float64] = self.info.in_target_units(found, self.objective).numpy()
        return scores


def check_measurable(objective: Objective, learner: BaseLearner) -> None:
    """Refuse a learner that lacks what an objective needs.

    Raises
    ------
    Incompatible
        Names both.
    """
    lacking = sorted(objective.needs - learner.provides)
    if lacking:
        raise Incompatible(
            f"objective={objective.name!r} asks for a predictive distribution of the targets, and "
            f"{type(learner).__name__} predicts none (it does not provide {', '.join(map(repr, lacking))})."
        )


def log_density_of(
    learner: Learner, module: nn.Module, adapted: Any, x: Tensor, y: Float[Tensor, "task n out"]
) -> Float[Tensor, "task n out"]:
    """Return the logarithm of the density that a learner gives to targets, in units of the targets drawn.

    It is the learner's own if it provides ``"density"``, else that of a Gaussian with the mean and the standard
    deviation told.
    """
    if "density" in learner.provides:
        return exact(learner.predict_log_density(module, adapted, x, y))
    mean, deviation = (exact(moment) for moment in learner.predict_distribution(module, adapted, x))
    deviation = deviation.clamp(min=LEAST_DEVIATION)
    distance = (exact(y) - mean) / deviation
    return -0.5 * distance.square() - deviation.log() - 0.5 * math.log(2 * math.pi)

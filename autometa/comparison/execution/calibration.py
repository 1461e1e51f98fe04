"""How far a learner's own doubt can be believed: intervals of real targets, probabilities of classes."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autometa.comparison.execution.patient_storage import lost_in
from autometa.contracts.examples import TaskBatch
from autometa.contracts.learner import Learner
from autometa.contracts.plugin_code import one_line, plugin_code
from autometa.contracts.scores import BINS, log_loss
from autometa.engine.judging import Outcome
from autometa.engine.quantiles import quantiles_of
from autometa.engine.random_state import seeded

LEVEL = 0.9
"""Share of new observations that an interval should cover."""


class Calibration(Protocol):
    """Collects what a learner says of its own doubt, batch by batch."""

    def __call__(self, batch: TaskBatch, adapted: Any, outcome: Outcome) -> None:
        """Look at one batch."""

    def measured(self) -> dict[str, float]:
        """What was found, by name."""


def calibration_of(learner: Learner, module: nn.Module, *, has_classes: bool) -> Calibration | None:
    """Return what measures a learner; None for one that predicts real targets without a distribution."""
    if has_classes:
        return Probabilities()
    return Intervals(learner, module) if "distribution" in learner.provides else None


class MeasuredBeside:
    """Looks at what is judged without any say in it: no error of its own, and no draw, changes a score.

    Parameters
    ----------
    calibration : Calibration
    device : torch.device
    """

    def __init__(self, calibration: Calibration, device: torch.device) -> None:
        self.calibration, self.device = calibration, device
        self._error: str | None = None

    def __call__(self, batch: TaskBatch, adapted: Any, outcome: Outcome) -> None:
        """Look at one batch, unless an earlier one could not be looked at."""
        if self._error is None:
            try:
                with plugin_code(), seeded(0, self.device):
                    self.calibration(batch, adapted, outcome)
            except Exception as error:
                if lost_in(error) is not None:
                    raise
                self._error = one_line(error)

    def measured(self) -> dict[str, Any]:
        """Return what was found, or the ``error``."""
        if self._error is not None:
            return {"error": self._error}
        found = self.calibration.measured()
        return found if np.isfinite([*found.values()]).all() else {"error": "its answers are not finite."}


class Intervals:
    """Share of the queries within the central interval of `LEVEL`, mean over tasks: ``coverage``."""

    def __init__(self, learner: Learner, module: nn.Module) -> None:
        self.learner, self.module = learner, module
        self._covered: list[Tensor] = []

    def __call__(self, batch: TaskBatch, adapted: Any, outcome: Outcome) -> None:
        """Ask for the ends of the interval, which are a Gaussian's unless the learner has quantiles of its own."""
        query, ends = batch.query, ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
        low, high = quantiles_of(self.learner, self.module, adapted, query.x, ends)
        within = (low <= query.targets()) & (query.targets() <= high)
        share = within.double().mean(dim=2) * query.mask
        self._covered.append((share.sum(dim=1) / query.mask.sum(dim=1)).cpu())

    def measured(self) -> dict[str, float]:
        """Return the mean over tasks."""
        return {"coverage": float(torch.cat(self._covered).mean())}


class Probabilities:
    """Mean ``log_loss`` over tasks, and the expected ``calibration_error`` over all queries."""

    def __init__(self) -> None:
        self._losses: list[Tensor] = []
        self._sure: list[NDArray[np.float64]] = []
        self._right: list[NDArray[np.bool_]] = []

    def __call__(self, batch: TaskBatch, adapted: Any, outcome: Outcome) -> None:
        """Read the probabilities of the classes."""
        query = batch.query
        probabilities = outcome.outputs.double().softmax(dim=-1)
        self._losses.append(log_loss(outcome.outputs, query).cpu())
        sure, answer = probabilities.max(dim=2)
        self._sure.append(sure[query.mask].cpu().numpy())
        self._right.append((answer == query.y)[query.mask].cpu().numpy())

    def measured(self) -> dict[str, float]:
        """Return both."""
        error = expected_calibration_error(np.concatenate(self._sure), np.concatenate(self._right))
        return {"log_loss": float(torch.cat(self._losses).mean()), "calibration_error": error}


def expected_calibration_error(sure: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Return the mean distance of probability and share of right answers, over bins of equal width.

    Parameters
    ----------
    sure : array of shape [n]
        Probability of the most probable class.
    right : array of shape [n]
    """
    place = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    gap = np.bincount(place, weights=sure - right, minlength=BINS)
    return float(np.abs(gap).sum() / len(sure))

"""The θ that counts of a run: the one with the best meta-valid score, for more meta-training may make it worse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autometa.comparison.plan.pair import Pair
from autometa.contracts.step_sizes import advice_on_steps
from autometa.errors import TrainingDiverged
from autometa.training import MetaTraining, evaluate

CLEARLY = 2.0
"""Standard errors by which a score is clearly behind the best before it."""
IN_A_ROW = 2
"""Looks that must be clearly behind before more are given up: one may be a dip, from which a run recovers."""


class KeptBest:
    """Looks at the meta-valid scores of a run, and keeps the θ of the best; of two equal ones the later.

    Parameters
    ----------
    pair : Pair
    training : MetaTraining

    Attributes
    ----------
    score : float
        The best mean score so far; NaN before the first look.
    scores : array of shape [n_valid_tasks]
        Of the best look.
    step : int
        Outer steps before it.
    looks : list of float
        Mean scores of all looks.
    """

    def __init__(self, pair: Pair, training: MetaTraining) -> None:
        self.pair, self.training = pair, training
        self.score, self.step = math.nan, 0
        self._behind = 0
        self.scores: NDArray[np.float64] = np.zeros(0)
        self.looks: list[float] = []
        self._state: dict[str, torch.Tensor] = {}

    def look(self) -> float:
        """Judge θ as it is on the meta-valid tasks, the same ones in every look; return its mean score.

        Raises
        ------
        TrainingDiverged
            It is not a finite number.
        """
        scores = self._judge()
        score = float(scores.mean())
        better = self.pair.domain.problem.higher_is_better
        if math.isnan(self.score) or (score >= self.score if better else score <= self.score):
            self.score, self.step, self.scores = score, self.training.step_count, scores
            self._state = {name: value.clone() for name, value in self.training.module.state_dict().items()}
            self._behind = 0
        else:
            behind = self.scores - scores
            error = float(behind.std(ddof=1)) / math.sqrt(len(behind)) if len(behind) > 1 else math.inf
            self._behind = self._behind + 1 if abs(float(behind.mean())) > CLEARLY * error else 0
        self.looks.append(score)
        return score

    @property
    def has_turned_down(self) -> bool:
        """True if the last scores were clearly behind the best, over the same tasks."""
        return self._behind >= IN_A_ROW

    def restore(self) -> None:
        """Give the run the θ of its best score."""
        if self.step != self.training.step_count:
            self.training.module.load_state_dict(self._state)
        self._state = {}

    def state_dict(self) -> dict[str, Any]:
        """Return all that the looks at a run that goes on need: numbers, and under ``"state"`` tensors by name."""
        return {
            "looks": list(self.looks),
            "scores": self.scores.tolist(),
            "step": self.step,
            "behind": self._behind,
            "state": dict(self._state),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.looks, self.scores = list(state["looks"]), np.asarray(state["scores"])
        self.score, self.step, self._behind = float(self.scores.mean()), state["step"], state["behind"]
        self._state = dict(state["state"])

    def _judge(self) -> NDArray[np.float64]:
        pair, training = self.pair, self.training
        judged = evaluate(
            training.learner,
            training.module,
            training.sampler,
            split="valid",
            n_tasks=pair.settings.n_valid_tasks,
            seed=pair.seed("valid"),
            objective=pair.domain.objective,
        )
        scores: NDArray[np.float64] = judged.per_task()[1]
        if not math.isfinite(mean := float(scores.mean())):
            advice = advice_on_steps(training.learner, training.meta_optimizer)
            raise TrainingDiverged(
                f"learner {pair.learner!r} has a meta-valid score of {mean} on {pair.tasks!r} after "
                f"{training.step_count} outer steps: it gives answers that are not finite; {advice}."
            )
        return scores

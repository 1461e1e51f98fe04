"""What comparisons may be about beside the metric of the problem: one record each.

A further objective is one more record here, and its function in :mod:`autometa.contracts.scores`. Nothing here imports
torch.
"""

from __future__ import annotations

import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from torch import Tensor

    from autometa.contracts.examples import Examples

LEAST_PROBABILITY = 1e-6
"""A smaller probability of the right class counts as this much: log loss would be infinite where a class that no
labelled example has is taken to be impossible. So no query costs more than 13.8."""
AUTO = "auto"
"""Stands for the metric of the problem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """How well a learner did on a task, other than by the metric of the problem.

    Parameters
    ----------
    name : str
        As ``autometa.compare(objective=...)`` takes it, and in tables and files.
    title : str
        Name in texts and figures.
    problem : str
        The problem that it is about, as in ``TaskInfo.problem``.
    higher_is_better : bool
        True if a larger score is a better one. If not, the mean score of many tasks is not below 0.
    is_share : bool, default=False
        True if a score is told in percent.
    bounds : pair of float, default=(-inf, inf)
        The least and the largest mean score of many tasks.
    score_range : pair of float, default=(-inf, inf)
        The least and the largest score of one task, whoever computed it.
    unit_power : int, default=0
        Power of the targets' unit in which a score is told.
    is_log_density : bool, default=False
        True if it is the logarithm of a density of targets, to which a change of unit adds.
    score_path : str
        Path of the function, see :attr:`score`.
    needs : frozenset of str, default=frozenset()
        What a learner must name in ``provides``: with ``"distribution"``, the function gets the logarithm of the
        density that the learner gives to each target in the place of its outputs.
    """

    name: str
    title: str
    problem: str
    higher_is_better: bool
    is_share: bool = False
    bounds: tuple[float, float] = (-math.inf, math.inf)
    score_range: tuple[float, float] = (-math.inf, math.inf)
    unit_power: int = 0
    is_log_density: bool = False
    score_path: str
    needs: frozenset[str] = frozenset()

    @property
    def score(self) -> Callable[[Tensor, Examples], Tensor]:
        """Import and return the function: from outputs [tasks, n, n_outputs] and the query's ``Examples`` to [tasks].

        Or to [tasks, parts]: then the score of a task is the sum of its parts, each with the sign of its mean over all
        tasks. So the mean score is the sum of the sizes of these means.
        """
        return cast("Callable[[Tensor, Examples], Tensor]", pkgutil.resolve_name(self.score_path))

    def in_target_units(self, scores: Tensor, scale: float) -> Tensor:
        """Tell scores of tasks as drawn in the targets' own units, of which one drawn unit has ``scale``."""
        return scores * scale**self.unit_power - (math.log(scale) if self.is_log_density else 0.0)


OBJECTIVES = {
    objective.name: objective
    for objective in (
        Objective(
            name="log_loss",
            title="log loss",
            problem="classification",
            higher_is_better=False,
            bounds=(0.0, -math.log(LEAST_PROBABILITY)),
            score_range=(0.0, math.inf),
            score_path="autometa.contracts.scores:log_loss",
        ),
        Objective(
            name="brier",
            title="Brier score",
            problem="classification",
            higher_is_better=False,
            bounds=(0.0, 2.0),
            score_range=(0.0, 2.0),
            score_path="autometa.contracts.scores:brier",
        ),
        Objective(
            name="calibration_error",
            title="calibration error",
            problem="classification",
            higher_is_better=False,
            is_share=True,
            bounds=(0.0, 1.0),
            score_range=(-1.0, 1.0),
            score_path="autometa.contracts.scores:calibration_gaps",
        ),
        Objective(
            name="r2",
            title="R²",
            problem="regression",
            higher_is_better=True,
            bounds=(-math.inf, 1.0),
            score_range=(-math.inf, 1.0),
            score_path="autometa.contracts.scores:r2",
        ),
        Objective(
            name="mae",
            title="mean absolute error",
            problem="regression",
            higher_is_better=False,
            bounds=(0.0, math.inf),
            score_range=(0.0, math.inf),
            unit_power=1,
            score_path="autometa.contracts.scores:mean_absolute_error",
        ),
        Objective(
            name="log_likelihood",
            title="log-likelihood",
            problem="regression",
            higher_is_better=True,
            is_log_density=True,
            score_path="autometa.contracts.scores:mean_log_density",
            needs=frozenset({"distribution"}),
        ),
    )
}
"""All of them, by name; the metric of each problem is one beside these."""

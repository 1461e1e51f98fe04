"""The kinds of problem that tasks pose, one record each.

Whoever must tell one kind of problem from another asks its record. Nothing here imports torch: a record names what is
heavy by its path, and learners by their full name.
"""

from __future__ import annotations

import functools
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from autometa.checks import check_choice
from autometa.contracts.objectives import AUTO, OBJECTIVES, Objective
from autometa.errors import Incompatible, InvalidParameter

if TYPE_CHECKING:
    from torch import Tensor


TASKS_AT_ONCE = 25
"""Tasks per forward pass when learners are judged. Fixed, for it decides which tasks a seed stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What sets one kind of problem apart.

    Parameters
    ----------
    name : str
        As in ``TaskInfo.problem``.
    metric : str
        Name of a task's score in tables and files.
    metric_title : str
        Name of the score in texts and figures.
    higher_is_better : bool
        True if a larger score is a better one.
    is_share : bool
        True if a score is a share, 0 to 1, which people read in percent.
    unit_power : int
        Power of the targets' unit in which a score is told: 2 for squared errors, 0 where targets have no unit.
    has_classes : bool
        True if targets are indices of classes; sizes such as ``n_shot`` then count examples of a class, else of a task.
    loss_path : str, optional
        Path of the default loss, see :attr:`loss`; ``Learner.loss`` may override it. None where learners act.
    score_path : str, optional
        Path of the score, see :attr:`score`. None where learners act: a return is its own score.
    learner : str
        Full name of the default learner.
    rows_learner : str, optional
        Full name of the default learner for rows of features without meta-training, where it is installed.
    table_learner : str, optional
        Full name of the default learner for the tasks of a table, where it is installed.
    estimator_path : str
        Path of the estimator.
    acts : bool, default=False
        True if tasks are environments, and learners act in them.
    tasks_at_once : int, default=25
        Tasks that are drawn and judged together; it decides which tasks a seed stands for.
    bounds : pair of float, default=(-inf, inf)
        The least and the largest mean score of many tasks.
    score_range : pair of float, default=(-inf, inf)
        The least and the largest score of one task, whoever computed it.
    """

    name: str
    metric: str
    metric_title: str
    higher_is_better: bool
    is_share: bool
    unit_power: int
    has_classes: bool
    loss_path: str | None
    score_path: str | None
    learner: str
    rows_learner: str | None = None
    table_learner: str | None = None
    estimator_path: str
    acts: bool = False
    tasks_at_once: int = TASKS_AT_ONCE
    bounds: tuple[float, float] = (-math.inf, math.inf)
    score_range: tuple[float, float] = (-math.inf, math.inf)

    @property
    def loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Import and return the loss: from outputs and targets as in ``Learner.loss`` to [tasks]."""
        return self._named("loss")  # type: ignore[no-any-return]

    @property
    def score(self) -> Callable[[Tensor, Any], Tensor]:
        """Import and return the score: from outputs [tasks, n, n_outputs] and the query's ``Examples`` to [tasks]."""
        return self._named("score")  # type: ignore[no-any-return]

    def _named(self, what: str) -> Any:
        path = getattr(self, f"{what}_path")
        if path is None:
            why = "its learners act" if self.acts else f"it is judged by {self.metric!r}"
            raise Incompatible(f"problem {self.name!r} has no {what} of outputs: {why}; use autometa.judge.")
        return _found(path)

    def judged_by(self, objective: Objective | None) -> Problem:
        """Return the record with the metric, direction and unit of an objective; it has no score of outputs alone.

        None stands for the problem's own metric.
        """
        if objective is None:
            return self
        return replace(
            self,
            metric=objective.name,
            metric_title=objective.title,
            higher_is_better=objective.higher_is_better,
            is_share=objective.is_share,
            bounds=objective.bounds,
            score_range=objective.score_range,
            unit_power=objective.unit_power,
            score_path=None,
        )

    @property
    def estimator_name(self) -> str:
        """Name of the estimator's class."""
        return self.estimator_path.rpartition(":")[2]

    @property
    def estimator(self) -> type[Any]:
        """Import and return the estimator's class."""
        return _found(self.estimator_path)  # type: ignore[no-any-return]

    def error(self, scores: Tensor) -> Tensor:
        """Return errors, of which smaller ones are better: 1 - score for a share, else the score or its negative."""
        if not self.higher_is_better:
            return scores
        return 1 - scores if self.is_share else -scores


PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem(
            name="classification",
            metric="accuracy",
            metric_title="accuracy",
            higher_is_better=True,
            is_share=True,
            bounds=(0.0, 1.0),
            score_range=(0.0, 1.0),
            unit_power=0,
            has_classes=True,
            loss_path="autometa.contracts.losses:cross_entropy",
            score_path="autometa.contracts.scores:accuracy",
            learner="metric/prototypical",
            rows_learner="tabular/kernel_experts",
            table_learner="tabular/mixed_effects",
            estimator_path="autometa.estimators.classifier:FewShotClassifier",
        ),
        Problem(
            name="regression",
            metric="mse",
            metric_title="mean squared error",
            higher_is_better=False,
            is_share=False,
            bounds=(0.0, math.inf),
            score_range=(0.0, math.inf),
            unit_power=2,
            has_classes=False,
            loss_path="autometa.contracts.losses:squared_error",
            score_path="autometa.contracts.scores:mean_squared_error",
            learner="optimization/ridge",
            rows_learner="tabular/kernel_experts",
            table_learner="tabular/mixed_effects",
            estimator_path="autometa.estimators.regressor:FewShotRegressor",
        ),
        Problem(
            name="control",
            metric="return",
            metric_title="return",
            higher_is_better=True,
            is_share=False,
            unit_power=0,
            has_classes=False,
            loss_path=None,
            score_path=None,
            learner="control/rl2",
            estimator_path="autometa.estimators.agent:MetaAgent",
            acts=True,
            tasks_at_once=250,
        ),
    )
}
"""All problems, by name."""


def find_problem(name: str) -> Problem:
    """Return the record of a problem.

    Raises
    ------
    InvalidParameter
        There is no such problem.
    """
    check_choice("problem", name, PROBLEMS)
    return PROBLEMS[name]


def problem_of_targets(y: Tensor) -> Problem:
    """Return the problem of targets that do not name theirs: indices are of classes, real numbers of a regression."""
    return PROBLEMS["regression" if y.is_floating_point() else "classification"]


def objectives_of(problem: Problem) -> dict[str, Objective | None]:
    """Return what a comparison on a problem may be about, by name; None stands for its own metric, which is first."""
    further = {name: objective for name, objective in OBJECTIVES.items() if objective.problem == problem.name}
    return {problem.metric: None, **further}


def objective_names() -> tuple[str, ...]:
    """Return the names of all objectives, ``"auto"`` first."""
    return tuple(dict.fromkeys([AUTO, *(name for problem in PROBLEMS.values() for name in objectives_of(problem))]))


def find_objective(problem: Problem, name: str) -> Objective | None:
    """Return the objective of a name, None for ``"auto"`` and the problem's own metric.

    Raises
    ------
    InvalidParameter
        The problem has no such objective.
    """
    known = objectives_of(problem)
    if name not in known and name != AUTO:
        raise InvalidParameter(
            f"objective={name!r} is none of {problem.name}, which has {', '.join(map(repr, (AUTO, *known)))}."
        )
    return known.get(name)


def problem_of_metric(metric: str) -> Problem:
    """Return the problem whose scores have this name, judged by them.

    Raises
    ------
    InvalidParameter
        There is no such metric.
    """
    found = {
        name: (problem, objective)
        for problem in PROBLEMS.values()
        for name, objective in objectives_of(problem).items()
    }
    check_choice("metric", metric, found)
    problem, objective = found[metric]
    return problem.judged_by(objective)


@functools.cache
def _found(path: str) -> Any:
    return pkgutil.resolve_name(path)

"""What baselines share that are fitted to all entities and moved towards a new one by its few rows."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.model_selection import GroupKFold
from torch import Tensor, nn

import autometa as am
from autometa_plugins.baselines.estimators import Answer, Array, array, estimator_maker
from autometa_plugins.baselines.memory import EntityRows, TrainingRows

if TYPE_CHECKING:
    from optuna import Trial

N_FOLDS = 5


class EntityModel(Protocol):
    """A model of all entities, as :meth:`EntityLearner.learn` returns it."""

    def know(self, x: Array, targets: Array) -> Array:
        """What the rows x [k, n_features] and targets [k, n_outputs] of an entity tell of it; a vector of numbers."""

    def answer(self, x: Array, known: Array) -> Array:
        """Means, or logits, [tasks, n, n_outputs] for rows [tasks, n, n_features] of entities known [tasks, m]."""


class EntityLearner(am.Learner):
    """Learn one model from the remembered rows of all meta-train entities; know a new entity by a few numbers.

    Labels must mean the same in every task, or be real. Without a row of the entity, the population is the answer. A
    saved model holds the remembered rows, unless the subclass says otherwise.

    A subclass has the parameter ``max_rows``, the size of the memory.
    """

    default_meta_optimizer: ClassVar[str | None] = "baselines/collect"
    provides: ClassVar[frozenset[str]] = frozenset({"memory"})
    predicts_unseen_classes: ClassVar[bool] = True
    needs_meta_training: ClassVar[frozenset[str]] = frozenset({"classification", "regression"})

    name: ClassVar[str]
    max_rows: int

    @abstractmethod
    def check(self, info: am.TaskInfo) -> None:
        """Refuse parameters or tasks that cannot work."""

    @abstractmethod
    def learn(self, rows: TrainingRows) -> EntityModel:
        """Learn from the rows of all entities, of which there may be none."""

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return an empty memory.

        Raises
        ------
        Incompatible
            Class labels are drawn anew for each task, so rows of other tasks would only mislead.
        InvalidParameter
            A parameter cannot work.
        """
        if info.problem_record.has_classes and not info.shared_classes:
            raise am.Incompatible(
                f"learner {self.name!r} needs labels that mean the same in every task, and these tasks draw their "
                "classes anew (shared_classes=False); use learner 'sklearn'."
            )
        am.check_int("max_rows", self.max_rows, of=f"learner {self.name!r}")
        self.check(info)
        return self.memory(info.problem_record.has_classes, math.prod(info.input_shape), info.n_outputs)

    def memory(self, has_classes: bool, n_features: int, n_outputs: int) -> EntityRows:
        """Return an empty memory."""
        return EntityRows(has_classes, n_features, n_outputs, self.max_rows)

    def remember(self, module: nn.Module, batch: am.TaskBatch) -> int:
        """Keep the rows of meta-train tasks while there is room; return how many."""
        assert isinstance(module, EntityRows)
        return module.keep(batch)

    def settle(self, module: nn.Module) -> None:
        """Learn from the rows."""
        assert isinstance(module, EntityRows)
        module.model(self.learn)

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return ``{"known": [tasks, m]}``, what the rows tell of every entity."""
        assert isinstance(module, EntityRows)
        assert isinstance(support.x, Tensor)
        targets = support.targets()
        missing = module.n_outputs - targets.shape[-1]
        if missing < 0 or (missing and not module.has_classes):
            raise am.Incompatible(
                f"learner {self.name!r} knows tasks with {module.n_outputs} outputs, and this task has "
                f"{targets.shape[-1]}; meta-train on tasks with as many, or use learner 'sklearn'."
            )
        model = module.model(self.learn)
        targets = nn.functional.pad(targets, (0, missing))
        known = [
            model.know(array(x[mask]), array(y[mask]))
            for x, y, mask in zip(support.x, targets, support.mask, strict=True)
        ]
        return {"known": torch.as_tensor(np.stack(known), dtype=support.x.dtype, device=support.x.device)}

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Means, or logits, [tasks, n, n_outputs]."""
        assert isinstance(module, EntityRows)
        return self.like(x, module.model(self.learn).answer(rows_of(x), array(adapted["known"])))

    @staticmethod
    def like(x: Tensor, values: Array) -> Tensor:
        """Return values as a tensor of the kind of ``x``."""
        return torch.as_tensor(values, dtype=x.dtype, device=x.device)


class EntityEstimator(EntityLearner):
    """An :class:`EntityLearner` around a scikit-learn estimator.

    Parameters
    ----------
    estimator : str or scikit-learn estimator, default="auto"
        As of learner "sklearn"; "auto" is logistic or ridge regression.
    max_rows : int, default=5000
        Size of the memory.
    """

    def __init__(self, estimator: str | BaseEstimator = "auto", max_rows: int = 5000) -> None:
        self.estimator = estimator
        self.max_rows = max_rows

    def check(self, info: am.TaskInfo) -> None:
        """Refuse an estimator that is unknown or solves another problem."""
        estimator_maker(self.estimator, info.problem_record.has_classes, self.name)

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the kind of estimator."""
        return cls(estimator=trial.suggest_categorical("estimator", ["auto", "hist_gradient_boosting"]))


def of_each(answer: Answer, x: Array) -> Array:
    """Ask about rows [tasks, n, n_features] all at once; outputs [tasks, n, n_outputs]."""
    found = answer(x.reshape(-1, x.shape[-1]))
    return found.reshape(*x.shape[:2], found.shape[-1])


def out_of_fold(fit: Any, rows: TrainingRows) -> Array:
    """Answers for all rows, [n, n_outputs], each by a pool fitted on other entities."""
    answers = np.zeros_like(rows.targets)
    if rows.n_entities < 2:
        return answers
    for known, asked in GroupKFold(min(N_FOLDS, rows.n_entities)).split(rows.x, groups=rows.entity):
        answers[asked] = fit(rows.x[known], rows.targets[known])(rows.x[asked])
    return answers


def rows_of(x: Tensor) -> Array:
    """Rows of numbers [tasks, n, n_features], in double precision."""
    numbers: Array = x.detach().cpu().double().flatten(2).numpy()
    return numbers

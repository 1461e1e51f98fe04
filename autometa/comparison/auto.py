"""AutoFewShotClassifier and AutoFewShotRegressor: the comparison's winner as one scikit-learn estimator."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from autometa.comparison.compare import compare
from autometa.comparison.plan.entrants import Learners
from autometa.comparison.plan.portfolio import WarmStart
from autometa.comparison.plan.settings import Search
from autometa.contracts.tasks import TaskSampler
from autometa.errors import Incompatible
from autometa.estimators import FewShotClassifier, FewShotRegressor
from autometa.host import make_tasks


class _AutoFewShot(BaseEstimator):
    problem: ClassVar[str]
    plain: ClassVar[type[FewShotClassifier] | type[FewShotRegressor]]

    def __init__(
        self,
        learners: Learners | Sequence[Learners] | Mapping[str, Learners] = "all",
        n_trials: int = 20,
        budget: float | None = None,
        n_test_tasks: int = 200,
        n_valid_tasks: int = 100,
        n_seeds: int = 1,
        max_steps: int = 500,
        tasks_per_step: int = 16,
        search: Search = "race",
        time_budget: float | str | timedelta | None = None,
        ensemble: bool = False,
        warm_start: WarmStart | None = None,
        storage: str | None = None,
        name: str | None = None,
        output: str | os.PathLike[str] | None = None,
        device: str | torch.device = "auto",
        n_workers: int = 1,
        random_state: int | None = None,
        verbose: int = 0,
        objective: str = "auto",
        max_latency: float | None = None,
        max_memory: float | None = None,
    ) -> None:
        self.learners = learners
        self.n_trials = n_trials
        self.budget = budget
        self.n_test_tasks = n_test_tasks
        self.n_valid_tasks = n_valid_tasks
        self.n_seeds = n_seeds
        self.max_steps = max_steps
        self.tasks_per_step = tasks_per_step
        self.search = search
        self.time_budget = time_budget
        self.ensemble = ensemble
        self.warm_start = warm_start
        self.storage = storage
        self.name = name
        self.output = output
        self.device = device
        self.n_workers = n_workers
        self.random_state = random_state
        self.verbose = verbose
        self.objective = objective
        self.max_latency = max_latency
        self.max_memory = max_memory

    def meta_fit(
        self,
        tasks: Any,
        y: Any = None,
        *,
        task: Any = None,
        n_shot: int | None = None,
        n_query: int | None = None,
        stratified: bool = True,
        order: Any = None,
    ) -> Self:
        """Compare the learners on many tasks and keep the winner.

        Parameters
        ----------
        tasks : TaskSampler, str, DataFrame or array of shape [n, n_columns]
            A task distribution or its name; or, with ``y`` and ``task``, the rows of a table.
        y, task : array-like of shape [n] or column names, optional
            Targets of the table's rows, and which task each belongs to.
        n_shot, n_query, stratified, order : optional
            Which rows of a table's tasks to adapt on and to be judged on; see :meth:`FewShotClassifier.meta_fit`.

        Returns
        -------
        self
            With ``comparison_``, ``leaderboard_`` and ``best_estimator_`` (not yet fitted to a task).

        Raises
        ------
        Incompatible
            The tasks are of another problem.
        InvalidParameter, UnknownName, InvalidData, StorageError
            As :func:`autometa.compare`; Incompatible also where no learner keeps to the limits.
        """
        plain = self.plain(random_state=self.random_state)
        sampler: TaskSampler = plain._sampler(
            tasks, y, task, stratified=stratified, order=order, n_shot=n_shot, n_query=n_query
        )
        sampler = make_tasks(sampler)
        if sampler.info.problem != self.problem:
            raise Incompatible(
                f"tasks={type(sampler).__name__} are {sampler.info.problem}; "
                f"{type(self).__name__} is for {self.problem}."
            )
        comparison = compare(
            sampler,
            self.learners,
            n_trials=self.n_trials,
            budget=self.budget,
            n_test_tasks=self.n_test_tasks,
            n_valid_tasks=self.n_valid_tasks,
            n_seeds=self.n_seeds,
            max_steps=self.max_steps,
            tasks_per_step=self.tasks_per_step,
            search=self.search,
            time_budget=self.time_budget,
            ensemble=self.ensemble,
            warm_start=self.warm_start,
            objective=self.objective,
            max_latency=self.max_latency,
            max_memory=self.max_memory,
            storage=self.storage,
            name=self.name,
            output=self.output,
            device=self.device,
            n_workers=self.n_workers,
            random_state=0 if self.random_state is None else self.random_state,
            verbose=self.verbose,
        )
        self.comparison_ = comparison
        self.leaderboard_ = comparison.leaderboard
        self.best_estimator_ = comparison.best_estimator().set_params(device=self.device)
        if hasattr(self, "estimator_"):
            del self.estimator_
        self._show_learned()
        return self

    def fit(self, X: Any, y: Any) -> Self:
        """Adapt the winner to one task; without :meth:`meta_fit`, fit a plain few-shot estimator.

        Parameters
        ----------
        X : array-like of shape [n, n_features], or of a meta-trained input's shape
        y : array-like of shape [n]
        """
        self.estimator_ = clone(self._current()).fit(X, y)
        self._show_learned()
        return self

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the winner and the task it is fitted to, if it is; :func:`autometa.load` returns it as what it is.

        Raises
        ------
        NotFittedError
            Nothing has been learned.
        """
        current = self._current()
        if not (hasattr(self, "estimator_") or hasattr(self, "best_estimator_")):
            raise NotFittedError(f"This {type(self).__name__} has learned nothing to save yet; call meta_fit or fit.")
        current.save(path)

    def _current(self) -> FewShotClassifier | FewShotRegressor:
        """The estimator that answers: fitted to a task, or the winner as it was meta-trained, or a plain one."""
        for name in ("estimator_", "best_estimator_"):
            if hasattr(self, name):
                return getattr(self, name)  # type: ignore[no-any-return]
        return self.plain(device=self.device, random_state=self.random_state)

    def _answering(self) -> Any:
        check_is_fitted(self)
        return self._current()

    def _show_learned(self) -> None:
        """Have the attributes of the estimator that answers."""
        current = self._current()
        for name in ("classes_", "n_features_in_", "feature_names_in_"):
            if hasattr(current, name):
                setattr(self, name, getattr(current, name))
            elif hasattr(self, name):
                delattr(self, name)

    def __sklearn_clone__(self) -> Self:
        copied: Self = super().__sklearn_clone__()
        for name in ("comparison_", "leaderboard_", "best_estimator_"):
            if hasattr(self, name):
                setattr(copied, name, getattr(self, name))
        copied._show_learned()
        return copied

    def __getstate__(self) -> dict[str, Any]:
        # Optuna's storages hold locks and open connections, which cannot be pickled; leaderboard_ can
        return {name: value for name, value in super().__getstate__().items() if name != "comparison_"}

    def __sklearn_is_fitted__(self) -> bool:
        return self._current().__sklearn_is_fitted__()

    def __sklearn_tags__(self) -> Tags:
        return self._current().__sklearn_tags__()


class AutoFewShotClassifier(ClassifierMixin, _AutoFewShot):
    """A few-shot classifier that chooses and tunes its own learner.

    ``meta_fit`` compares the learners on a task distribution and keeps the winner; ``fit`` adapts it to a task.

    Parameters
    ----------
    learners, n_trials, budget, n_test_tasks, n_valid_tasks, n_seeds, max_steps, tasks_per_step, search, \
time_budget, ensemble, warm_start, storage, name, output, device, n_workers, verbose, objective, max_latency, max_memory
        As :func:`autometa.compare`; a race with fewer test tasks and seeds by default, because only the winner is
        wanted. ``time_budget="30min"`` is for all of ``meta_fit``.
    random_state : int, optional
        None stands for 0 in ``meta_fit``.

    Attributes
    ----------
    comparison_ : Comparison
        Not kept by pickling.
    leaderboard_ : pandas.DataFrame
        Of a race those that came to its end; ``comparison_.race`` tells when the others left it.
    best_estimator_ : FewShotClassifier
        The winner, meta-trained.
    """

    problem = "classification"
    plain = FewShotClassifier

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict classes, [n]."""
        return np.asarray(self._answering().predict(X))

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Predict class probabilities, [n, n_classes]."""
        return np.asarray(self._answering().predict_proba(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the mean accuracy; see :meth:`FewShotClassifier.score`."""
        return float(self._answering().score(X, y, sample_weight))


class AutoFewShotRegressor(RegressorMixin, _AutoFewShot):
    """A few-shot regressor that chooses and tunes its own learner; see :class:`AutoFewShotClassifier`."""

    problem = "regression"
    plain = FewShotRegressor

    def predict(
        self, X: Any, return_std: bool = False
    ) -> NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Predict values, [n], and with ``return_std`` their standard deviations; see :class:`FewShotRegressor`."""
        return self._answering().predict(X, return_std)  # type: ignore[no-any-return]

    def predict_quantiles(self, X: Any, q: Any) -> NDArray[np.float64]:
        """Predict quantiles of new observations, [n, n_quantiles]; see :class:`FewShotRegressor`."""
        return np.asarray(self._answering().predict_quantiles(X, q))

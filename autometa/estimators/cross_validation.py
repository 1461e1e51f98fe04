"""How well an estimator does on entities of a table that it has never seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_consistent_length

from autometa.checks import LARGEST_SEED, check_int, check_ints
from autometa.contracts.seeding import derive_seed
from autometa.errors import InvalidData, InvalidParameter, warn_user
from autometa.estimators.entities import entity_names
from autometa.estimators.table_sampler import take_columns
from autometa.tables.frames import as_column, as_frame
from autometa.tables.targets import read_target
from autometa.tables.text import refuse_missing

Scorer: TypeAlias = Callable[[Any, pd.DataFrame, NDArray[Any]], float]
Rows: TypeAlias = NDArray[np.int64]

_LEAST_PROBABILITY = 1e-12


def cross_validate_tasks(
    estimator: BaseEstimator,
    X: Any,
    y: Any,
    task: Any,
    *,
    cv: Any = 5,
    n_shot: int | Sequence[int] = 5,
    order: Any = None,
    scoring: str | Callable[..., float] | Sequence[str] | None = None,
    meta_fit_params: Mapping[str, Any] | None = None,
    random_state: int = 0,
) -> pd.DataFrame:
    """Judge an estimator on new entities of a table, of each of which a few rows are labelled.

    The entities are divided into folds. For every fold a clone learns from all rows of the other entities; then each
    entity of the fold is new to it: a clone is fitted to ``n_shot`` of its rows and scored on others. An estimator
    without ``meta_fit`` is fitted to the rows of the other entities once and scored on the same rows: what pooling
    everything gives.

    Parameters
    ----------
    estimator : estimator
        Such as :class:`FewShotClassifier` or :class:`FewShotRegressor`, or, to compare with, any classifier or
        regressor of scikit-learn. It is left as it is.
    X : DataFrame or array of shape [n, n_features]
    y : array-like of shape [n] or column name
    task : array-like of shape [n] or column name
        The entity (school, patient, machine) of each row. A column given by its name is no feature.
    cv : int, splitter or iterable, default=5
        Number of folds of entities, at least 2; or a splitter of scikit-learn that keeps groups together, such as
        ``LeaveOneGroupOut()``; or pairs of row numbers to learn from and to judge on.
    n_shot : int or sequence of int, default=5
        Labelled rows of each new entity, 0 for none: any of its rows, whatever their class. With several numbers the
        fewer are among the more, and all are scored on the same rows of an entity.
    order : array-like of shape [n] or column name, optional
        Numbers or dates: the earliest rows of each entity are labelled, not any.
    scoring : str, callable or sequence of str, optional
        Scorers of scikit-learn, a column for each. By default ``accuracy`` and ``log_loss`` of a classifier, and of a
        regressor ``mse`` and ``mae``, in the units of ``y``.
    meta_fit_params : mapping, optional
        Arguments of ``meta_fit`` beside those that follow from here: ``n_shot`` (the most),
        ``stratified=False`` and ``order``, which may be overridden.
    random_state : int, default=0
        Decides the folds, and which rows of an entity are labelled: the same for every estimator.

    Returns
    -------
    DataFrame
        A row for every entity and number of labelled rows: ``task``, ``fold``, ``n_shot``, ``n_query`` (rows scored
        on), and the scores. Labelled rows of a class that no entity learned from has are left out, with a warning, as
        nothing can be adapted to them; among the rows scored on they stay. An entity without a row to spare for a
        number has no row with it; a warning tells how many there are.

    Raises
    ------
    InvalidParameter
        An argument cannot work; the message names it.
    InvalidData
        Rows are missing something, or no entity has more rows than ``n_shot``.

    Examples
    --------
    >>> import autometa as am
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> school = np.repeat(np.arange(12), 20)
    >>> hours = rng.uniform(0, 9, (240, 1))
    >>> score = 2 * hours[:, 0] + rng.normal(0, 3, 12)[school] + rng.normal(0, 1, 240)
    >>> frame = am.cross_validate_tasks(am.FewShotRegressor(random_state=0), hours, score, school, n_shot=(0, 5))
    >>> mean = frame.groupby("n_shot")["mse"].mean()
    >>> bool(mean[5] < mean[0])
    True
    """
    shots = _check_shots(n_shot)
    check_int("random_state", random_state, least=0, most=LARGEST_SEED)
    problem = _problem_of(estimator)
    X, y, task, order = take_columns(X, y=y, task=task, order=order)
    frame, names = as_frame(X).reset_index(drop=True), entity_names(task, may_miss=False)
    targets = read_target(as_column(y, "y"), problem)[1]
    times = None if order is None else as_column(order, "order")
    if times is not None:
        refuse_missing(times, "order")
    check_consistent_length(frame, names, targets, *([] if times is None else [times]))
    scorers = _scorers(scoring, problem)
    labels = as_column(task, "task")
    rows, left_out = [], 0
    for fold, (train, test) in enumerate(_folds(cv, frame, targets, names, random_state)):
        start = clone(estimator)
        if hasattr(start, "meta_fit"):
            given = {"n_shot": max(shots), "stratified": False, "order": None if times is None else times[train]}
            given |= dict(meta_fit_params or {})
            start.meta_fit(frame.iloc[train], targets[train], task=names[train], **given)
        else:
            start.fit(frame.iloc[train], targets[train])
        is_new = _of_new_classes(start, targets, train)
        for own in _rows_of_entities(names, test, times, random_state):
            served = [shot for shot in shots if shot < len(own)]
            left_out += len(shots) - len(served)
            query = own[max(served, default=len(own)) :]
            for shot in served:
                known = own[:shot][~is_new[own[:shot]]]
                adapted = _adapt(start, frame.iloc[known], targets[known])
                scores = {name: score(adapted, frame.iloc[query], targets[query]) for name, score in scorers.items()}
                rows.append({"task": labels[own[0]], "fold": fold, "n_shot": shot, "n_query": len(query), **scores})
    if not rows:
        raise InvalidData(f"n_shot={n_shot}: no entity has more rows than that, so that none is left to be judged on.")
    if left_out:
        warn_user(
            f"{left_out} of {left_out + len(rows)} pairs of an entity and a number of n_shot={n_shot} are left out: "
            "the entity has too few rows."
        )
    return pd.DataFrame(rows)


def _check_shots(n_shot: Any) -> tuple[int, ...]:
    if isinstance(n_shot, (Sequence, np.ndarray)) and not isinstance(n_shot, str):
        n_shot = list(n_shot)
        check_ints("n_shot", n_shot, least=0)
        return tuple(sorted({int(shot) for shot in n_shot}))
    check_int("n_shot", n_shot, least=0)
    return (int(n_shot),)


def _problem_of(estimator: Any) -> str:
    if isinstance(estimator, Pipeline) and hasattr(estimator[-1], "meta_fit"):
        raise InvalidParameter(
            f"estimator={type(estimator).__name__} ends in {type(estimator[-1]).__name__}, whose meta_fit a pipeline "
            "does not call; give that estimator itself, and X as the steps before it return it."
        )
    if isinstance(estimator, BaseEstimator):
        if is_classifier(estimator):
            return "classification"
        if is_regressor(estimator):
            return "regression"
    raise InvalidParameter(f"estimator={estimator!r} is no classifier and no regressor; give one, not its class.")


def _scorers(scoring: Any, problem: str) -> dict[str, Scorer]:
    if scoring is None:
        return dict(_ACCURACIES if problem == "classification" else _ERRORS)
    if callable(scoring):
        return {getattr(scoring, "__name__", "score"): scoring}
    names = [scoring] if isinstance(scoring, str) else scoring
    if not isinstance(names, Iterable) or not all(isinstance(name, str) for name in names):
        raise InvalidParameter(
            f"scoring={scoring!r} must be the name of a scorer of scikit-learn, several names, or a function of "
            "(estimator, X, y)."
        )
    known = get_scorer_names()
    for name in names:
        if name not in known:
            raise InvalidParameter(
                f"scoring={name!r} is no scorer of scikit-learn; sklearn.metrics.get_scorer_names() lists them."
            )
    return {name: get_scorer(name) for name in names}


def _folds(
    cv: Any, frame: pd.DataFrame, targets: NDArray[Any], names: NDArray[np.object_], seed: int
) -> Iterator[tuple[Rows, Rows]]:
    """Yield rows to learn from and rows to judge on; no entity is on both sides."""
    if isinstance(cv, (int, np.integer)) and not isinstance(cv, bool):
        known = np.unique(names)
        check_int("cv", cv, least=2)
        if len(known) < cv:
            raise InvalidParameter(f"cv={cv} is more than the {len(known)} entities of task; take at most as many.")
        shuffled = np.random.default_rng(derive_seed(seed, "folds")).permutation(known)
        for held_out in np.array_split(shuffled, cv):
            inside = np.isin(names, held_out)
            yield np.flatnonzero(~inside), np.flatnonzero(inside)
        return
    if isinstance(cv, str) or not (hasattr(cv, "split") or isinstance(cv, Iterable)):
        raise InvalidParameter(f"cv={cv!r} must be a number of folds, a splitter, or pairs of row numbers.")
    pairs = cv.split(frame, targets, names) if hasattr(cv, "split") else cv
    for train, test in ((np.asarray(train), np.asarray(test)) for train, test in pairs):
        both = np.intersect1d(names[train], names[test])
        if len(both):
            raise InvalidParameter(
                f"cv={cv!r} puts rows of the entity {both[0]!r} on both sides; take one that keeps groups together, "
                "such as GroupKFold."
            )
        yield train, test


def _rows_of_entities(names: NDArray[np.object_], test: Rows, times: pd.Series | None, seed: int) -> Iterator[Rows]:
    """Yield the rows of each entity in the order in which they are labelled."""
    for name, places in pd.Series(test).groupby(names[test], sort=True):
        own = places.to_numpy()
        if times is None:
            yield np.random.default_rng(derive_seed(seed, "labelled", str(name))).permutation(own)
        else:
            yield own[times.iloc[own].argsort(kind="stable").to_numpy()]


def _of_new_classes(start: Any, targets: NDArray[Any], train: Rows) -> NDArray[np.bool_]:
    """Tell which rows have a class that an estimator with ``meta_fit`` has not met, and warn of them, [n]."""
    if not is_classifier(start) or not hasattr(start, "meta_fit"):
        return np.zeros(len(targets), dtype=bool)
    found = ~np.isin(targets, targets[train])
    if found.any():
        warn_user(
            f"no entity to learn from has the class {targets[found][0]!r}: {found.sum()} rows of such classes are not "
            "adapted to, but scored on."
        )
    return np.asarray(found)


def _adapt(start: Any, X: pd.DataFrame, y: NDArray[Any]) -> Any:
    """Return the estimator that answers for an entity with these labelled rows."""
    if not hasattr(start, "meta_fit"):
        return start
    return clone(start).fit(X, y)


def _log_loss(estimator: Any, X: pd.DataFrame, y: NDArray[Any]) -> float:
    """Mean negative log-probability of the true classes; a class that the estimator does not know has almost none."""
    place = {label: number for number, label in enumerate(estimator.classes_.tolist())}
    columns = np.array([place.get(label, -1) for label in y.tolist()])
    shares = np.where(columns < 0, 0.0, estimator.predict_proba(X)[np.arange(len(y)), columns])
    return float(-np.log(np.maximum(shares, _LEAST_PROBABILITY)).mean())


_ACCURACIES: Mapping[str, Scorer] = {
    "accuracy": lambda estimator, X, y: float(np.mean(estimator.predict(X) == y)),
    "log_loss": _log_loss,
}
_ERRORS: Mapping[str, Scorer] = {
    "mse": lambda estimator, X, y: float(np.mean(np.square(estimator.predict(X) - y))),
    "mae": lambda estimator, X, y: float(np.mean(np.abs(estimator.predict(X) - y))),
}

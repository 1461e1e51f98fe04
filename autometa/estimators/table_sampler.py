"""A table given to ``meta_fit`` as X, y and task."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import check_consistent_length

from autometa.contracts.tasks import TaskSampler
from autometa.errors import InvalidParameter, warn_user
from autometa.host import make_tasks
from autometa.tables.frames import as_column, as_frame, check_column
from autometa.tables.targets import read_target
from autometa.tables.text import refuse_missing


def take_columns(X: Any, **columns: Any) -> tuple[Any, ...]:
    """Return X and the columns, such as y and task, that may be names of columns of ``X``, which then are no features.

    Raises
    ------
    InvalidData
        X has no such column.
    InvalidParameter
        A list of names stands in the place of one, or two have the same name.
    """
    named: dict[Any, str] = {}
    for argument, name in columns.items():
        _refuse_names(argument, name, X)
        if name is None or not _is_name(name):
            continue
        check_column(argument, name, as_frame(X), of="X")
        if name in named:
            raise InvalidParameter(f"{named[name]} and {argument} are both {name!r}; they must be two columns.")
        named[name] = argument
    if not named:
        return (X, *columns.values())
    frame = as_frame(X)
    taken = {argument: frame[name] for name, argument in named.items()}
    return (frame.drop(columns=list(named)), *(taken.get(argument, value) for argument, value in columns.items()))


def take_target(X: Any, y: Any) -> tuple[Any, Any]:
    """Return X and y, which may be the name of a column of ``X``, which then is no feature."""
    if not isinstance(y, str):
        return X, y
    X, y = take_columns(X, y=y)
    return X, y


def table_sampler(
    X: Any,
    y: Any,
    task: Any,
    *,
    problem: str,
    stratified: bool = True,
    order: Any = None,
    whole: bool = False,
    **sizes: int | None,
) -> TaskSampler:
    """Make the task sampler of a table.

    Parameters
    ----------
    X : DataFrame or array of shape [n, n_columns]
    y, task : array-like of shape [n]
    problem : {"classification", "regression"}
    stratified : bool, default=True
        Whether ``n_shot`` counts the rows of each class.
    order : array-like of shape [n], optional
        What tells which row of a task is earlier.
    whole : bool, default=False
        Whether all entities are for meta-training, none held out.
    **sizes
        ``n_shot``, ``n_query``. Without ``n_shot``, half of the rows of the median task, between 1 and 10.

    Raises
    ------
    InvalidParameter, InvalidData
        One of the three is missing, or they disagree.
    """
    for name, value in (("y", y), ("task", task)):
        if value is None:
            raise InvalidParameter(f"{name}=None: a table needs all three, as in meta_fit(X, y, task=ids).")
    frame = as_frame(X).reset_index(drop=True)
    targets, tasks = as_column(y, "y"), as_column(task, "task")
    check_consistent_length(frame, targets, tasks)
    _, values = read_target(targets, problem)
    data = frame.copy(deep=False)
    taken = [str(name) for name in frame.columns]
    target, task_column = _unused("target", taken), _unused("task", taken)
    data[target], data[task_column] = values, tasks
    given: dict[str, Any] = {name: size for name, size in sizes.items() if size is not None}
    if order is not None:
        times = as_column(order, "order")
        check_consistent_length(frame, times)
        refuse_missing(times, "order")
        given["order"] = _unused("order", taken)
        data[given["order"]] = times
    if "n_shot" not in given:
        given["n_shot"] = _n_shot(data[target], tasks, per_class=problem == "classification" and stratified)
    held_out = {"valid_fraction": 0, "test_fraction": 0, "every_entity": True} if whole else {}
    return make_tasks(
        "tasks/table",
        data=data,
        task=task_column,
        target=target,
        problem=problem,
        stratified=stratified,
        **given,
        **held_out,
    )


def _n_shot(targets: pd.Series, tasks: pd.Series, *, per_class: bool) -> int:
    """Return half of the rows of the median task, of each of its classes, between 1 and 10; say so."""
    by_task = targets.groupby(tasks.astype(str), sort=False)
    rows = by_task.size().to_numpy(dtype=np.float64)
    if per_class:
        rows = rows / by_task.nunique().to_numpy(dtype=np.float64)
    median, n_shot = _half_of_the_median(rows)
    each = "task and class" if per_class else "task"
    warn_user(
        f"n_shot was left out: {n_shot} support row{'s' * (n_shot != 1)} of each {each}, half of the {median:g} that "
        f"the median {each} has, between 1 and 10. Give n_shot to choose."
    )
    return n_shot


def usual_n_shot(names: NDArray[np.object_]) -> int:
    """Return half of the rows of the median task, between 1 and 10."""
    return _half_of_the_median(np.unique(names, return_counts=True)[1].astype(np.float64))[1]


def _half_of_the_median(rows: NDArray[np.float64]) -> tuple[float, int]:
    median = float(np.median(rows)) if len(rows) else 0.0
    return median, int(min(10, max(1, median // 2)))


def _refuse_names(argument: str, value: Any, X: Any) -> None:
    """Refuse a list of column names in the place of one name."""
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(name, str) for name in value):
        return
    frame = as_frame(X)
    if len(value) != len(frame) and all(name in frame.columns for name in value):
        raise InvalidParameter(
            f"{argument}={value!r} is a list of names; give the name of one column, such as "
            f"{argument}={value[0]!r}, or a value for each row."
        )


def _is_name(value: Any) -> bool:
    return isinstance(value, (str, int, np.integer)) and not isinstance(value, bool)


def _unused(name: str, taken: list[str]) -> str:
    while name in taken:
        name += "_"
    return name

"""A table given to ``meta_fit`` as X, y and task."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_consistent_length

from autometa.contracts.tasks import TaskSampler
from autometa.errors import InvalidParameter
from autometa.host import make_tasks
from autometa.tables.frames import as_column, as_frame, check_column
from autometa.tables.targets import read_target


def take_columns(X: Any, y: Any, task: Any) -> tuple[Any, Any, Any]:
    """Return X, y and task where ``y`` or ``task`` may name a column of ``X``, which then is no feature.

    Raises
    ------
    InvalidData
        X has no such column.
    InvalidParameter
        A list of names stands in the place of one.
    """
    for argument, name in (("y", y), ("task", task)):
        _refuse_names(argument, name, X)
        if name is None or not _is_name(name):
            continue
        check_column(argument, name, as_frame(X), of="X")
    if task is not None and _is_name(task):
        frame = as_frame(X)
        X, task = frame.drop(columns=task), frame[task]
    if y is not None and _is_name(y):
        frame = as_frame(X)
        if y not in frame.columns:
            raise InvalidParameter(f"y and task are both {y!r}; they must be two columns.")
        X, y = frame.drop(columns=y), frame[y]
    return X, y, task


def table_sampler(X: Any, y: Any, task: Any, *, problem: str, **sizes: int | None) -> TaskSampler:
    """Make the task sampler of a table.

    Parameters
    ----------
    X : DataFrame or array of shape [n, n_columns]
    y, task : array-like of shape [n]
    problem : {"classification", "regression"}
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
    given = {name: size for name, size in sizes.items() if size is not None}
    if "n_shot" not in given:
        given["n_shot"] = _n_shot(data[target], tasks, problem)
    return make_tasks("tasks/table", data=data, task=task_column, target=target, problem=problem, **given)


def _n_shot(targets: pd.Series, tasks: pd.Series, problem: str) -> int:
    """Return half of the rows of the median task, of each of its classes, between 1 and 10; say so."""
    by_task = targets.groupby(tasks.astype(str), sort=False)
    rows = by_task.size().to_numpy(dtype=np.float64)
    per_class = problem == "classification"
    if per_class:
        rows = rows / by_task.nunique().to_numpy(dtype=np.float64)
    median = float(np.median(rows)) if len(rows) else 0.0
    n_shot = int(min(10, max(1, median // 2)))
    each = "task and class" if per_class else "task"
    warnings.warn(
        f"n_shot was left out: {n_shot} support row{'s' * (n_shot != 1)} of each {each}, half of the {median:g} that "
        f"the median {each} has, between 1 and 10. Give n_shot to choose.",
        UserWarning,
        stacklevel=5,
    )
    return n_shot


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

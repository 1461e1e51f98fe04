"""A table given to ``meta_fit`` as X, y and task."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_consistent_length, column_or_1d

from autometa.contracts.tasks import TaskSampler
from autometa.errors import InvalidData, InvalidParameter
from autometa.host import make_tasks


def table_sampler(X: Any, y: Any, task: Any, *, problem: str, **sizes: int | None) -> TaskSampler:
    """Make the task sampler of a table.

    Parameters
    ----------
    X : DataFrame or array of shape [n, n_columns]
    y, task : array-like of shape [n]
    problem : {"classification", "regression"}
    **sizes
        ``n_shot``, ``n_query``; None leaves the sampler's default.

    Raises
    ------
    InvalidParameter, InvalidData
        One of the three is missing, or they disagree.
    """
    for name, value in (("y", y), ("task", task)):
        if value is None:
            raise InvalidParameter(f"{name}=None: a table needs all three, as in meta_fit(X, y, task=ids).")
    frame = X.reset_index(drop=True) if isinstance(X, pd.DataFrame) else _as_frame(X)
    check_consistent_length(frame, y, task)
    names = [str(name) for name in frame.columns]
    target, task_column = _unused("target", names), _unused("task", names)
    data = frame.copy(deep=False)
    data[target] = column_or_1d(y)
    data[task_column] = column_or_1d(task)
    given = {name: size for name, size in sizes.items() if size is not None}
    return make_tasks("tasks/table", data=data, task=task_column, target=target, problem=problem, **given)


def _as_frame(X: Any) -> pd.DataFrame:
    array = np.asarray(X)
    if array.ndim != 2:
        raise InvalidData(f"X has {array.ndim} axes; a table of rows and columns is needed.")
    return pd.DataFrame(array).infer_objects()


def _unused(name: str, taken: list[str]) -> str:
    while name in taken:
        name += "_"
    return name

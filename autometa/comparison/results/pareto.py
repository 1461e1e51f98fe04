"""Which learners are not dominated: none other scores as well at no more time and memory."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

PARETO = ["tasks", "learner", "score", "milliseconds_per_task", "mebibytes", "on_front", "trained_on"]
COSTS = ["milliseconds_per_task", "mebibytes"]


def pareto_of(leaderboard: pd.DataFrame, higher_is_better: Mapping[str, bool]) -> pd.DataFrame:
    """Return score and costs of every learner, and whether it is on the front of those on the same tasks.

    Parameters
    ----------
    leaderboard : pandas.DataFrame
        ``tasks``, ``learner``, ``score``, ``adapt_ms``, ``predict_ms``, ``mebibytes``, ``trained_on``.
    higher_is_better : mapping from tasks to bool

    Returns
    -------
    pandas.DataFrame
        Columns :data:`PARETO`, in the order of the leaderboard.
    """
    found = leaderboard.assign(milliseconds_per_task=milliseconds_per_task(leaderboard), on_front=False)
    for tasks, rows in found.groupby("tasks", sort=False):
        score = rows["score"] * (-1.0 if higher_is_better[str(tasks)] else 1.0)
        known = [name for name in COSTS if rows[name].notna().all()]
        prices = np.column_stack([score, *(rows[name] for name in known)]).astype(np.float64)
        found.loc[rows.index, "on_front"] = not_dominated(prices)
    return found[PARETO].astype({"on_front": bool}).reset_index(drop=True)


def milliseconds_per_task(leaderboard: pd.DataFrame) -> pd.Series[float]:
    """Return how long adapting to one task and predicting its query take."""
    return leaderboard["adapt_ms"] + leaderboard["predict_ms"]


def not_dominated(prices: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which rows no other row beats: is at most as large in every column and smaller in one.

    Parameters
    ----------
    prices : array of shape [n, n_columns]
        Smaller is better. A row with NaN is beaten.
    """
    at_most = (prices[:, None] <= prices[None]).all(axis=2)
    smaller = (prices[:, None] < prices[None]).any(axis=2)
    return np.asarray(~(at_most & smaller).any(axis=0) & ~np.isnan(prices).any(axis=1), dtype=np.bool_)

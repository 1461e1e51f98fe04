"""A table of scores, autometa's or another library's, read as a matrix for every learner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from autometa.comparison.results.crossed_effects import UNBOUNDED, Bounds, Scores
from autometa.contracts.problems import Problem, problem_of_metric
from autometa.errors import InvalidData, InvalidParameter

NEEDED = ("tasks", "learner", "seed", "task", "score")
TRAINED_ON = "trained_on"

Key = tuple[Any, ...]
"""What stands for a learner: its name, and what it was trained on where the table tells that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadScores:
    """The scores of a table, by task distribution and learner."""

    names: list[str]
    """Columns that tell learners apart."""
    scores: Mapping[str, Mapping[Key, Scores]]
    """[n_tasks, n_runs] for each learner; those of one distribution share their tasks."""
    higher_is_better: Mapping[str, bool]
    problems: Mapping[str, Problem | None]
    """Whose metric the scores are of; None where it is not one of autometa's."""
    bounds: Mapping[str, Bounds]
    """The least and the largest mean score, by what is known of the metric."""


def read_scores(scores: pd.DataFrame, *, higher_is_better: bool | Mapping[str, bool] | None = None) -> ReadScores:
    """Read a table of scores, see :func:`autometa.significance`.

    Raises
    ------
    InvalidParameter
        The direction is not known.
    InvalidData
        A column is missing or has missing values, a score is missing, not finite, there twice or beyond the range of
        its metric, the scores of one distribution are of several metrics, or learners were judged on different tasks.
    """
    lacking = [name for name in NEEDED if name not in getattr(scores, "columns", ())]
    if lacking:
        raise InvalidData(f"scores lacks the columns {', '.join(map(repr, lacking))}; it needs {', '.join(NEEDED)}.")
    names = ["learner", TRAINED_ON] if TRAINED_ON in scores.columns else ["learner"]
    for name in (*dict.fromkeys((*names, *NEEDED[:-1])), *(["metric"] if "metric" in scores.columns else [])):
        if n_missing := int(scores[name].isna().sum()):
            raise InvalidData(f"column {name!r} of scores has no value in {n_missing} of {len(scores)} rows; fill it.")
    found: dict[str, dict[Key, Scores]] = {}
    better: dict[str, bool] = {}
    problems: dict[str, Problem | None] = {}
    bounds: dict[str, Bounds] = {}
    for tasks, of in scores.groupby("tasks", sort=False):
        label = str(tasks)
        matrices = {key: _matrix(rows, label, key) for key, rows in of.groupby(names, sort=False)}
        metric = _metric(label, of)
        better[label] = _direction(label, metric, higher_is_better)
        problems[label] = _problem(metric)
        _check_same_tasks(label, matrices)
        found[label] = {key: matrix.to_numpy() for key, matrix in matrices.items()}
        _check_range(label, problems[label], found[label])
        bounds[label] = _bounds(problems[label], found[label].values())
    return ReadScores(names=names, scores=found, higher_is_better=better, problems=problems, bounds=bounds)


def _matrix(rows: pd.DataFrame, tasks: str, key: Key) -> pd.DataFrame:
    who = f"learner {key[0]!r} on {tasks!r}"
    twice = rows.duplicated(["seed", "task"])
    if twice.any():
        first = rows[twice].iloc[0]
        raise InvalidData(
            f"scores holds two rows for {who}, seed {_plain(first['seed'])}, task {_plain(first['task'])}."
        )
    try:
        numbers = rows["score"].astype(np.float64)
    except (TypeError, ValueError) as error:
        other = next(value for value in rows["score"] if not isinstance(value, (int, float, np.number)))
        raise InvalidData(f"column 'score' holds {other!r} for {who}, which is no number.") from error
    matrix = rows.assign(score=numbers).pivot(index="task", columns="seed", values="score")  # noqa: PD010
    wrong = ~np.isfinite(matrix.to_numpy())
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise InvalidData(
            f"scores lacks a finite score for {who}, seed {_plain(matrix.columns[column])}, task "
            f"{_plain(matrix.index[row])}; every run must be judged on every task."
        )
    return matrix


def _plain(value: Any) -> str:
    """Show a value without NumPy's name for its type."""
    return repr(value.item() if isinstance(value, np.generic) else value)


def _check_same_tasks(tasks: str, of_learner: Mapping[Key, pd.DataFrame]) -> None:
    first = next(iter(of_learner))
    for key, matrix in of_learner.items():
        if not matrix.index.equals(of_learner[first].index):
            raise InvalidData(
                f"on {tasks!r}, learners {first[0]!r} and {key[0]!r} were judged on different tasks; scores are "
                "compared task by task."
            )


def _metric(tasks: str, rows: pd.DataFrame) -> str | None:
    """Return the metric of the scores on a distribution; None where there is no such column."""
    metrics = [str(metric) for metric in rows["metric"].unique()] if "metric" in rows.columns else []
    if len(metrics) > 1:
        raise InvalidData(
            f"the scores on {tasks!r} are of several metrics, {' and '.join(map(repr, metrics))}, which cannot be "
            "compared; give those of one, or other names of tasks."
        )
    return metrics[0] if metrics else None


def _problem(metric: str | None) -> Problem | None:
    try:
        return problem_of_metric(str(metric))
    except InvalidParameter:
        return None  # another library's


def _check_range(tasks: str, problem: Problem | None, scores: Mapping[Key, Scores]) -> None:
    """Refuse scores that the metric cannot have; shares may be in percent, all of them.

    They are read as percentages where more of them are above 1 than between 0 and 1: one that is 7 among shares is a
    mistake, one that is 0.5 among percentages is none.
    """
    if problem is None:
        return
    least, most = problem.score_range
    of_all = np.concatenate([of.ravel() for of in scores.values()])
    sizes = np.abs(of_all[of_all != 0])
    if problem.is_share and np.count_nonzero(sizes > 1 + _ROUNDING) > sizes.size / 2:
        least, most = 100 * least, 100 * most
    for key, of in scores.items():
        beyond = of[(of < least - _ROUNDING) | (of > most + _ROUNDING)]
        if beyond.size:
            shares = ", or percentages throughout" if problem.is_share else ""
            raise InvalidData(
                f"column 'score' holds {beyond[0]:g} for learner {key[0]!r} on {tasks!r}, but {problem.metric!r} is a "
                f"number {_span(*problem.score_range)}{shares}; mend the score, or name another metric and give "
                "higher_is_better."
            )


_ROUNDING = 1e-6
"""How far single precision may take a score beyond its range."""


def _span(least: float, most: float) -> str:
    if np.isinf(most):
        return f"of at least {least:g}"
    return f"of at most {most:g}" if np.isinf(least) else f"from {least:g} to {most:g}"


def _bounds(problem: Problem | None, scores: Iterable[Scores]) -> Bounds:
    """Return the bounds of the metric; none where a mean score is beyond them, as accuracies in percent are."""
    if problem is None:
        return UNBOUNDED
    least, most = problem.bounds
    are_within = all(((least <= means) & (means <= most)).all() for means in (of.mean(axis=0) for of in scores))
    return problem.bounds if are_within else UNBOUNDED


def _direction(tasks: str, metric: str | None, given: bool | Mapping[str, bool] | None) -> bool:
    if isinstance(given, bool):
        return given
    if given is not None:
        if tasks not in given:
            raise InvalidParameter(f"higher_is_better says nothing about {tasks!r}; give True or False for it.")
        return bool(given[tasks])
    record = _problem(metric)
    if record is None:
        raise InvalidParameter(
            f"higher_is_better is needed: the scores of {tasks!r} "
            + ("have no column 'metric'." if metric is None else f"are of metric {metric!r}, which is not autometa's.")
        )
    return record.higher_is_better

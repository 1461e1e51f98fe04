"""The verdict on learners from a table of their scores, autometa's or another library's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from autometa.comparison.results.statistics import significance_of
from autometa.contracts.problems import problem_of_metric
from autometa.errors import InvalidData, InvalidParameter

NEEDED = ("tasks", "learner", "seed", "task", "score")
TRAINED_ON = "trained_on"
_NOBODY: Mapping[str, Collection[tuple[str, ...]]] = {}


def significance(scores: pd.DataFrame, *, higher_is_better: bool | Mapping[str, bool] | None = None) -> pd.DataFrame:
    """Tell which learners differ, counting the training run and the tasks as random.

    A learner's scores on the same tasks spread over training runs, often far more than the mean over tasks is
    uncertain. So the test takes runs and tasks as crossed random effects: variances of the means over runs and over
    tasks add up, with Satterthwaite's degrees of freedom (see `autometa.comparison.results.crossed_effects`). With one
    run of a learner nothing can be said about the learner. p-values are corrected within a task distribution for the
    number of pairs decided there (Holm 1979).

    Parameters
    ----------
    scores : pandas.DataFrame
        One row per score: ``tasks`` (the distribution), ``learner``, ``seed`` (the training run), ``task``, ``score``.
        Every run must be judged on every task of its distribution. Where there is a column ``trained_on``, a learner
        trained on other tasks counts as another. ``Comparison.scores`` and its ``scores.csv`` are such tables.
    higher_is_better : bool or mapping from tasks to bool, optional
        Left out: by the column ``metric``, which names one of autometa's.

    Returns
    -------
    pandas.DataFrame
        One row per distribution and pair: ``tasks``, ``learner_a``, ``learner_b``, ``difference`` (a minus b),
        ``ci_low``, ``ci_high`` (95%), ``p_value``, ``p_holm``, ``verdict`` ("different", "no difference found" or "not
        decided"), ``better`` (the learner that is, or None), ``runs_needed`` (training runs of each that would make a
        difference of this size significant, as the runs spread here; for pairs not decided, the number that usually
        decides), ``p_models`` (Wilcoxon's signed-rank test over tasks: of these trained models, not of the learners),
        ``p_beside_best`` (of pairs with the best mean: below 5%, the other is not the best of all; the rest hold the
        best of all in 95% of comparisons, Gupta 1965; one-sided, corrected for the number of others; else NaN); with
        ``trained_on`` also ``trained_on_a`` and ``trained_on_b``.

    Raises
    ------
    InvalidParameter
        The direction is not known.
    InvalidData
        A column is missing, a score is missing, not finite or there twice, or learners were judged on different tasks.

    Examples
    --------
    >>> import autometa as am, numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> rows = [("digits", learner, seed, task, skill + rng.normal(0, 0.02) + rng.normal(0, 0.1))
    ...         for learner, skill in (("a", 0.7), ("b", 0.9)) for seed in range(4) for task in range(50)]
    >>> scores = pd.DataFrame(rows, columns=["tasks", "learner", "seed", "task", "score"])
    >>> am.significance(scores, higher_is_better=True)[["verdict", "better"]].values.tolist()
    [['different', 'b']]
    """
    return verdicts(scores, higher_is_better=higher_is_better)


def verdicts(
    scores: pd.DataFrame,
    *,
    higher_is_better: bool | Mapping[str, bool] | None = None,
    cannot_win: Mapping[str, Collection[tuple[str, ...]]] = _NOBODY,
) -> pd.DataFrame:
    """As :func:`significance`, with some that cannot be the best, by tasks: learners and what they were trained on."""
    lacking = [name for name in NEEDED if name not in getattr(scores, "columns", ())]
    if lacking:
        raise InvalidData(f"scores lacks the columns {', '.join(map(repr, lacking))}; it needs {', '.join(NEEDED)}.")
    names = ["learner", TRAINED_ON] if TRAINED_ON in scores.columns else ["learner"]
    found, better = {}, {}
    for tasks, of in scores.groupby("tasks", sort=False):
        label = str(tasks)
        found[label] = {key: _matrix(rows, label, key) for key, rows in of.groupby(names, sort=False)}
        better[label] = _direction(label, of, higher_is_better)
        _check_same_tasks(label, found[label])
    matrices = {tasks: {key: matrix.to_numpy() for key, matrix in of.items()} for tasks, of in found.items()}
    frame = significance_of(matrices, better, cannot_win)
    return _apart(frame, names)


def _matrix(rows: pd.DataFrame, tasks: str, key: tuple[Any, ...]) -> pd.DataFrame:
    who = f"learner {key[0]!r} on {tasks!r}"
    twice = rows.duplicated(["seed", "task"])
    if twice.any():
        first = rows[twice].iloc[0]
        raise InvalidData(f"scores holds two rows for {who}, seed {first['seed']!r}, task {first['task']!r}.")
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
            f"scores lacks a finite score for {who}, seed {matrix.columns[column]!r}, task {matrix.index[row]!r}; "
            "every run must be judged on every task."
        )
    return matrix


def _check_same_tasks(tasks: str, of_learner: Mapping[tuple[Any, ...], pd.DataFrame]) -> None:
    first = next(iter(of_learner))
    for key, matrix in of_learner.items():
        if not matrix.index.equals(of_learner[first].index):
            raise InvalidData(
                f"on {tasks!r}, learners {first[0]!r} and {key[0]!r} were judged on different tasks; scores are "
                "compared task by task."
            )


def _direction(tasks: str, rows: pd.DataFrame, given: bool | Mapping[str, bool] | None) -> bool:
    if isinstance(given, bool):
        return given
    if given is not None:
        if tasks not in given:
            raise InvalidParameter(f"higher_is_better says nothing about {tasks!r}; give True or False for it.")
        return bool(given[tasks])
    metric = str(rows["metric"].iloc[0]) if "metric" in rows.columns else None
    try:
        return problem_of_metric(str(metric)).higher_is_better
    except InvalidParameter:
        raise InvalidParameter(
            f"higher_is_better is needed: the scores of {tasks!r} "
            + ("have no column 'metric'." if metric is None else f"are of metric {metric!r}, which is not autometa's.")
        ) from None


def _apart(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Give the learner and what it was trained on columns of their own."""
    for side in ("learner_a", "learner_b"):
        keys = list(frame[side])
        frame[side] = pd.Series([key[0] for key in keys], dtype=object)
        if len(names) > 1:
            frame[f"{TRAINED_ON}_{side[-1]}"] = pd.Series([key[1] for key in keys], dtype=object)
    frame["better"] = pd.Series([None if key is None else key[0] for key in frame["better"]], dtype=object)
    return frame

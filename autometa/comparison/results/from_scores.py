"""The verdict on learners from a table of their scores, autometa's or another library's."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pandas as pd

from autometa.comparison.results.score_frame import TRAINED_ON, read_scores
from autometa.comparison.results.statistics import significance_of

_NOBODY: Mapping[str, Collection[tuple[str, ...]]] = {}


def significance(scores: pd.DataFrame, *, higher_is_better: bool | Mapping[str, bool] | None = None) -> pd.DataFrame:
    """Tell which learners differ, counting the training run and the tasks as random.

    A learner's scores on the same tasks spread over training runs, often far more than the mean over tasks is
    uncertain. So the test takes runs and tasks as crossed random effects: variances of the means over runs and over
    tasks add up, with Satterthwaite's degrees of freedom (see `autometa.comparison.results.crossed_effects`). With one
    run of a learner, or on one task, nothing can be said about the learner. p-values are corrected within a task
    distribution for the number of pairs decided there (Holm 1979).

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
        decides, NaN on one task), ``p_models`` (Wilcoxon's signed-rank test over tasks: of these trained models, not
        of the learners), ``p_beside_best`` (of pairs with the best mean: below 5%, the other is not the best of all;
        the rest hold the best of all in 95% of comparisons, Gupta 1965; one-sided, corrected for the number of others;
        else NaN),
        ``run_spread`` (standard deviation of the difference from run to run; NaN for a single run); with
        ``trained_on`` also ``trained_on_a`` and ``trained_on_b``.

    Raises
    ------
    InvalidParameter
        The direction is not known.
    InvalidData
        A column is missing or has missing values, a score is missing, not finite, there twice or beyond the range of
        its metric (shares may all be in percent), the scores of one distribution are of several metrics, or learners
        were judged on different tasks.

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
    read = read_scores(scores, higher_is_better=higher_is_better)
    return _apart(significance_of(read.scores, read.higher_is_better, cannot_win, read.bounds), read.names)


def _apart(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Give the learner and what it was trained on columns of their own."""
    for side in ("learner_a", "learner_b"):
        keys = list(frame[side])
        frame[side] = pd.Series([key[0] for key in keys], dtype=object)
        if len(names) > 1:
            frame[f"{TRAINED_ON}_{side[-1]}"] = pd.Series([key[1] for key in keys], dtype=object)
    frame["better"] = pd.Series([None if key is None else key[0] for key in frame["better"]], dtype=object)
    return frame

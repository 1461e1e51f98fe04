"""How probable it is that learners differ by more than is of practical account."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from autometa.checks import check_choice, check_int
from autometa.comparison.results.crossed_effects import LEVEL, Estimate, Part, Scores, difference_of, is_decidable
from autometa.comparison.results.ropes import Rope, ropes_of
from autometa.comparison.results.score_frame import TRAINED_ON, Key, ReadScores, read_scores
from autometa.comparison.results.signed_rank import Posterior, signed_rank, signed_rank_with_errors
from autometa.comparison.results.statistics import DIFFERENT, NOT_DECIDED
from autometa.contracts.seeding import derive_seed
from autometa.errors import InvalidData, InvalidParameter

EQUIVALENT = "practically equivalent"
ALL = "all"
"""What stands for the task distributions where these are what is counted."""
EQUIVALENCE = [
    "tasks", "learner_a", "learner_b", "n", "difference", "rope", "rope_words", "p_a", "p_equivalent", "p_b", "verdict",
    "better", "p_a_models", "p_equivalent_models", "p_b_models",
]  # fmt: skip
_UNKNOWN = Posterior(math.nan, math.nan, math.nan)


def practical_equivalence(
    scores: pd.DataFrame,
    *,
    rope: float | Mapping[str, float] | None = None,
    over: Literal["tasks", "distributions"] = "tasks",
    method: Literal["signed_rank", "mean"] = "signed_rank",
    pairs: Literal["all", "best"] = "all",
    higher_is_better: bool | Mapping[str, bool] | None = None,
    baseline: str | None = None,
    n_samples: int = 10_000,
    random_state: int = 0,
) -> pd.DataFrame:
    """Tell which learners differ by more than is of practical account, and which can be taken for each other.

    A test that finds no difference does not say that there is none. This one can: it gives the probabilities that one
    learner is practically better, that they are practically equivalent, and that the other is, by the Bayesian
    signed-rank test with a region of practical equivalence, "rope" (Benavoli et al. 2017, section 4.2; prior weight 0.5
    at a difference of 0). The test of the paper is of the trained models at hand, ``p_a_models`` and so on. Here
    training runs are random as well: each draw from the posterior takes away an error that all tasks share, with the
    variance of the run means and Satterthwaite's degrees of freedom. Without that, a learner differs from itself.

    Parameters
    ----------
    scores : pandas.DataFrame
        As for :func:`autometa.significance`.
    rope : float, or mapping from tasks to float, optional
        Difference of mean scores, either way, that nobody would act on; in units of the score, at least 0. Left out: of
        accuracies 0.01, one point; of errors a hundredth of that of ``baseline``; of returns a hundredth of the way
        from the worst learner's to the best's.
    over : {"tasks", "distributions"}, default="tasks"
        What counts as one observation: a task, and each distribution is judged by itself; or the mean over the tasks of
        a distribution, in units of its rope, of the learners that were judged on all of them.
    method : {"signed_rank", "mean"}, default="signed_rank"
        What is asked. ``"signed_rank"``: on most tasks, or most means of two; where tasks differ by far more than the
        rope, learners are then never equivalent. ``"mean"``: of the mean alone, which is what leaderboards tell; its
        posterior is a t distribution, as in section 3.3 of the paper, here with the variances of the crossed random
        effects of :func:`autometa.significance`.
    pairs : {"all", "best"}, default="all"
        All pairs, or the learner with the best mean beside each other one.
    higher_is_better : bool or mapping from tasks to bool, optional
        Left out: by the column ``metric``, which names one of autometa's.
    baseline : str, optional
        Learner whose error the rope is a hundredth of. Left out, or where it was not judged: the median of all.
    n_samples : int, default=10000
        Draws from the posterior.
    random_state : int, default=0
        Seed of the draws. A probability of 0.95 has a standard error of 0.002 by 10000 of them.

    Returns
    -------
    pandas.DataFrame
        One row per distribution and pair: ``tasks`` (or "all"), ``learner_a``, ``learner_b``, ``n`` (tasks or
        distributions), ``difference`` (mean of a minus b; over distributions in ropes, positive where a is better),
        ``rope`` (in the same units) and ``rope_words``; ``p_a`` (a is practically better), ``p_equivalent``, ``p_b``,
        of the learners: NaN where one of them has a single run; ``verdict`` ("different", "practically equivalent" or
        "not decided") by a probability of 95%, ``better`` (the learner that is, or None); ``p_a_models``,
        ``p_equivalent_models``, ``p_b_models`` of the trained models at hand; with ``trained_on`` also
        ``trained_on_a`` and ``trained_on_b``.

    Raises
    ------
    InvalidParameter
        An argument is none of those above, or the direction or a rope is not known.
    InvalidData
        As for :func:`autometa.significance`; or over distributions, fewer than two have learners in common.

    Examples
    --------
    >>> import autometa as am, numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> rows = [("digits", learner, seed, task, skill + rng.normal(0, 0.001) + rng.normal(0, 0.02))
    ...         for learner, skill in (("a", 0.7), ("b", 0.701), ("c", 0.8)) for seed in range(4) for task in range(50)]
    >>> scores = pd.DataFrame(rows, columns=["tasks", "learner", "seed", "task", "score"])
    >>> found = am.practical_equivalence(scores, rope=0.01, method="mean", higher_is_better=True)
    >>> found[["learner_a", "learner_b", "verdict", "better"]].values.tolist()
    [['a', 'b', 'practically equivalent', None], ['a', 'c', 'different', 'c'], ['b', 'c', 'different', 'c']]
    """
    check_choice("over", over, ("tasks", "distributions"))
    check_choice("method", method, ("signed_rank", "mean"))
    check_choice("pairs", pairs, ("all", "best"))
    check_int("n_samples", n_samples, least=100, most=1_000_000)
    check_int("random_state", random_state, least=0)
    read = read_scores(scores, higher_is_better=higher_is_better)
    ropes = ropes_of(read, rope, baseline=baseline)
    judge = _Judge(method, n_samples, random_state)
    rows = (_over_tasks if over == "tasks" else _over_distributions)(read, ropes, pairs, judge)
    return _apart(pd.DataFrame(list(rows), columns=EQUIVALENCE), read.names)


@dataclass(frozen=True, slots=True)
class _Judge:
    """How probabilities are worked out."""

    method: str
    n_samples: int
    random_state: int

    def _draws(self, *labels: str) -> np.random.Generator:
        return np.random.default_rng(derive_seed(self.random_state, *labels))

    def on_tasks(self, a: Scores, b: Scores, sign: float, rope: float, *labels: str) -> tuple[Posterior, Posterior]:
        """Return what is known of two learners by their tasks, and of the trained models at hand."""
        if len(a) < 2:  # one task says nothing of others
            return _UNKNOWN, _UNKNOWN
        decided = is_decidable(a) and is_decidable(b)
        differences = sign * (a.mean(axis=1) - b.mean(axis=1))
        if self.method == "mean":
            found = _scaled(difference_of(a, b), sign)
            return of_mean(found, rope) if decided else _UNKNOWN, of_mean(_plain(differences), rope)
        rng, n = self._draws(*labels), self.n_samples
        models = signed_rank(differences, rope, n_samples=n, rng=rng)
        if not decided:
            return _UNKNOWN, models
        _, *of_runs = difference_of(a, b).parts
        shared = Estimate(0.0, tuple(of_runs))
        return signed_rank(differences, rope, n_samples=n, rng=rng, shared_error=shared), models

    def on_distributions(
        self, found: Sequence[Estimate], decided: bool, *labels: str
    ) -> tuple[Posterior, Posterior]:  # fmt: skip
        """Likewise by the differences on each distribution, in ropes."""
        if len(found) < 2:
            return _UNKNOWN, _UNKNOWN
        values = np.array([one.value for one in found])
        if self.method == "mean":  # the error of each, by tasks and runs, is part of how far they are spread
            return of_mean(_plain(values), 1.0) if decided else _UNKNOWN, of_mean(_plain(values), 1.0)
        rng, n = self._draws(*labels), self.n_samples
        models = signed_rank(values, 1.0, n_samples=n, rng=rng)
        if not decided:
            return _UNKNOWN, models
        errors = [Estimate(0.0, one.parts) for one in found]
        return signed_rank_with_errors(values, errors, 1.0, n_samples=n, rng=rng), models


def of_mean(mean: Estimate, rope: float) -> Posterior:
    """Posterior of a mean under a flat prior: a t distribution around its estimate."""
    if mean.error == 0:
        return Posterior(*(float(there) for there in (mean.value < -rope, abs(mean.value) <= rope, mean.value > rope)))
    low, high = ((edge - mean.value) / mean.error for edge in (-rope, rope))
    below, above = float(student.cdf(low, mean.degrees)), float(student.sf(high, mean.degrees))
    return Posterior(below, 1 - below - above, above)


def _plain(values: NDArray[np.float64]) -> Estimate:
    """Mean of independent values."""
    if len(values) < 2:
        return Estimate(float(values.mean()), ())
    return Estimate(float(values.mean()), (Part(float(values.var(ddof=1)) / len(values), len(values) - 1),))


def _over_tasks(read: ReadScores, ropes: Mapping[str, Rope], pairs: str, judge: _Judge) -> Iterator[dict[str, Any]]:
    for tasks, of_learner in read.scores.items():
        sign = 1.0 if read.higher_is_better[tasks] else -1.0
        means = {key: sign * float(matrix.mean()) for key, matrix in of_learner.items()}
        for a, b in _pairs(means, pairs):
            one, other = of_learner[a], of_learner[b]
            posteriors = judge.on_tasks(one, other, sign, ropes[tasks].width, tasks, *map(str, (*a, *b)))
            yield {
                "tasks": tasks,
                "learner_a": a,
                "learner_b": b,
                "n": len(one),
                "difference": float(one.mean() - other.mean()),
                "rope": ropes[tasks].width,
                "rope_words": ropes[tasks].words,
                **_told(a, b, *posteriors),
            }


def _over_distributions(
    read: ReadScores, ropes: Mapping[str, Rope], pairs: str, judge: _Judge
) -> Iterator[dict[str, Any]]:
    settings = settings_of(read)
    common = [key for key in next(iter(settings.values()), {}) if all(key in of for of in settings.values())]
    if len(settings) < 2 or len(common) < 2:
        raise InvalidData(
            f"over='distributions' needs two or more of them with two or more learners in common; here are "
            f"{len(settings)} with {len(common)}."
        )
    for _, tasks in settings:
        if not ropes[tasks].width > 0:
            raise InvalidParameter(
                f"the rope of {tasks!r} is 0, and over distributions differences are told in ropes; give rope another."
            )
    signs = {label: (1.0 if read.higher_is_better[label[1]] else -1.0) / ropes[label[1]].width for label in settings}

    def differences(a: Key, b: Key) -> list[Estimate]:
        return [_scaled(difference_of(of[a], of[b]), signs[label]) for label, of in settings.items()]

    means = {key: float(np.mean([signs[label] * of[key].mean() for label, of in settings.items()])) for key in common}
    words = ", ".join(dict.fromkeys(f"{tasks}: {ropes[tasks].width:.3g}" for _, tasks in settings))
    for a, b in _pairs(means, pairs):
        found = differences(a, b)
        decided = all(is_decidable(of[a]) and is_decidable(of[b]) for of in settings.values())
        posteriors = judge.on_distributions(found, decided, ALL, *map(str, (*a, *b)))
        yield {
            "tasks": ALL,
            "learner_a": a,
            "learner_b": b,
            "n": len(found),
            "difference": float(np.mean([one.value for one in found])),
            "rope": 1.0,
            "rope_words": words,
            **_told(a, b, *posteriors),
        }


def settings_of(read: ReadScores) -> dict[tuple[str, str], dict[Key, Scores]]:
    """Return the scores by what was trained on and judged on, with the names alone of the learners.

    Where the table does not tell what was trained on, it is what was judged on.
    """
    found: dict[tuple[str, str], dict[Key, Scores]] = {}
    for tasks, of_learner in read.scores.items():
        for key, matrix in of_learner.items():
            label = (str(key[1]) if len(key) > 1 else tasks, tasks)
            found.setdefault(label, {})[key[:1]] = matrix
    return found


def _pairs(means: Mapping[Key, float], pairs: str) -> list[tuple[Key, Key]]:
    """Return all pairs, or the best beside each other; larger means are better."""
    if pairs == "all" or not means:
        return list(combinations(means, 2))
    best = max(means, key=means.__getitem__)
    return [(best, other) for other in means if other != best]


def _scaled(one: Estimate, factor: float) -> Estimate:
    parts = tuple(Part(part.variance * factor**2, part.degrees) for part in one.parts)
    return Estimate(one.value * factor, parts)


def _told(a: Key, b: Key, learners: Posterior, models: Posterior) -> dict[str, Any]:
    verdict, better = NOT_DECIDED, None
    if learners.within >= LEVEL:
        verdict = EQUIVALENT
    elif max(learners.above, learners.below) >= LEVEL:
        verdict, better = DIFFERENT, a if learners.above > learners.below else b
    return {
        "p_a": learners.above,
        "p_equivalent": learners.within,
        "p_b": learners.below,
        "verdict": verdict,
        "better": better,
        "p_a_models": models.above,
        "p_equivalent_models": models.within,
        "p_b_models": models.below,
    }


def _apart(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Give the learner and what it was trained on columns of their own."""
    for side in ("a", "b"):
        keys = list(frame[f"learner_{side}"])
        frame[f"learner_{side}"] = pd.Series([key[0] for key in keys], dtype=object)
        if len(names) > 1 and all(len(key) > 1 for key in keys):
            frame[f"{TRAINED_ON}_{side}"] = pd.Series([key[1] for key in keys], dtype=object)
    frame["better"] = pd.Series([None if key is None else key[0] for key in frame["better"]], dtype=object)
    return frame

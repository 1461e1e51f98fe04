"""Bayesian signed-rank test with a region of practical equivalence (Benavoli, Corani, Demšar and Zaffalon 2017, "Time
for a change: a tutorial for comparing multiple classifiers through Bayesian analysis", section 4.2).

Which differences there are is not known: a Dirichlet process with one prior observation at 0 says how often each of
those seen comes back. Of two that come back, the mean is below the region, within it or above it; a draw from the
posterior tells how probable each of the three is, and the answer is how often each is the most probable.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from autometa.comparison.results.crossed_effects import Estimate

PRIOR = 0.5
"""Weight of the prior observation, as in the paper, where every difference seen weighs 1."""
STRATA = 100
"""Values of a common error that stand for its distribution."""
DIGITS = 12
"""Differences that agree to so many places are equal: means over runs differ in the last one where scores agree."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Posterior:
    """How probable it is that the differences are mostly below the region, within it, or above it."""

    below: float
    within: float
    above: float


def signed_rank(
    differences: Numbers,
    rope: float,
    *,
    n_samples: int,
    rng: np.random.Generator,
    shared_error: Estimate | None = None,
) -> Posterior:
    """Judge differences that come back alike, such as those of tasks.

    Parameters
    ----------
    differences : array of shape [n]
        One of each task.
    rope : float
        Half the width of the region, at least 0; with 0 there is none.
    n_samples : int
        Draws from the posterior.
    rng : Generator
    shared_error : Estimate, optional
        Error that all differences share, such as that of the training runs at hand: a mean of 0 with its parts. Draws
        take it away, as often as its t distribution says. Left out: there is none, as in the paper.

    Returns
    -------
    Posterior
    """
    ordered = np.sort(np.round(differences, DIGITS))
    counts = np.zeros(3)
    errors = np.zeros(1)
    if shared_error is not None and shared_error.error > 0:
        places = (np.arange(STRATA) + 0.5) / STRATA
        errors = shared_error.error * student.ppf(places, shared_error.degrees)
    share = -(-n_samples // len(errors))
    for error in errors:
        for start in range(0, share, 1000):  # keeps memory small
            weights = _weights(min(1000, share - start), len(ordered), rng)
            counts += _winners(weights, ordered - error, rope)
    return Posterior(*(counts / counts.sum()).tolist())


def signed_rank_with_errors(
    differences: Numbers, errors: list[Estimate], rope: float, *, n_samples: int, rng: np.random.Generator
) -> Posterior:
    """Judge differences that each have an error of their own, such as the mean of each task distribution.

    Parameters
    ----------
    differences : array of shape [n]
    errors : list of n Estimates
        Means of 0 with their parts.
    rope, n_samples, rng
        As for :func:`signed_rank`.

    Returns
    -------
    Posterior
    """
    weights = _weights(n_samples, len(differences), rng)
    drawn = np.round(np.tile(differences, (n_samples, 1)), DIGITS)
    for place, error in enumerate(errors):
        if error.error > 0:
            drawn[:, place] -= error.error * student.rvs(error.degrees, size=n_samples, random_state=rng)
    counts = np.zeros(3)
    for one, shifted in zip(weights, drawn, strict=True):
        order = np.argsort(shifted)
        counts += _winners(one[np.r_[0, 1 + order]][None], shifted[order], rope)
    return Posterior(*(counts / counts.sum()).tolist())


def _weights(n_samples: int, n: int, rng: np.random.Generator) -> Numbers:
    """Draw how often the prior observation, first, and each difference come back, [n_samples, 1 + n]."""
    drawn = rng.standard_exponential((n_samples, 1 + n))
    drawn[:, 0] = rng.standard_gamma(PRIOR, n_samples)
    return np.asarray(drawn / drawn.sum(axis=1, keepdims=True), dtype=np.float64)


def _winners(weights: Numbers, ordered: Numbers, rope: float) -> Numbers:
    """Count the draws in which each of the three is the most probable.

    ``ordered`` are differences that rise, and ``weights`` [samples, 1 + n] theirs after that of the prior observation.
    """
    above = _mass_above(weights[:, 0], weights[:, 1:], ordered, 2 * rope)
    below = _mass_above(weights[:, 0], weights[:, :0:-1], -ordered[::-1], 2 * rope)
    within = 1 - above - below if rope > 0 else np.full_like(above, -1.0)
    best = np.argmax(np.stack([below, within, above], axis=1), axis=1)
    return np.bincount(best, minlength=3).astype(np.float64)


def _mass_above(prior: Numbers, weights: Numbers, ordered: Numbers, limit: float) -> Numbers:
    """Probability that the sum of two that come back is above a limit, [samples]; a sum at the limit counts half."""
    # tail[k]: weight of all differences from the k-th on
    tail = np.zeros((len(weights), weights.shape[1] + 1))
    tail[:, :-1] = np.cumsum(weights[:, ::-1], axis=1)[:, ::-1]
    ordered, rest = np.round(ordered, DIGITS), np.round(limit - ordered, DIGITS)
    first, past = (np.searchsorted(ordered, rest, side=side) for side in ("left", "right"))
    pairs = 0.5 * np.einsum("st,st->s", weights, tail[:, first] + tail[:, past])
    alone = weights @ (np.heaviside(ordered - np.round(limit, DIGITS), 0.5))
    both_prior = 0.5 * prior**2 if limit == 0 else 0.0
    return np.asarray(pairs + 2 * prior * alone + both_prior, dtype=np.float64)

"""How much of what sets rows apart is their entity's, and how far a few rows move an entity from the population."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax

from autometa_plugins.baselines.estimators import Array
from autometa_plugins.baselines.memory import TrainingRows

_N_STEPS, _N_HALVINGS = 50, 30
_TOLERANCE = 1e-10
_DIGITS = 9
"""Digits of an offset that steps do not change; without the others, classes that are alike have equal offsets."""


def pseudo_rows(rows: TrainingRows, values: Array) -> Array:
    """Rows that the population counts for beside those of one entity: variance within over variance between, [m].

    With λ such rows, the best linear prediction of an entity's level from k of its rows is k / (k + λ) of their mean.
    The variances are those of a one-way analysis of variance (Searle, Casella & McCulloch 1992, section 3.6). λ is
    infinite where entities do not differ, and 1 where rows cannot tell (one entity, or one row of each).

    Parameters
    ----------
    values : array of shape [n, m]
        Deviations of the rows from what the population would have.
    """
    n, counts = len(rows), rows.counts
    if rows.n_entities < 2 or n == rows.n_entities:
        return np.ones(values.shape[1])
    means = rows.sums(values) / counts
    within = np.square(values - means[rows.entity]).sum(0) / (n - rows.n_entities)
    spread = (counts * np.square(means - values.mean(0))).sum(0) / (rows.n_entities - 1)
    between = (spread - within) / ((n - np.square(counts).sum() / n) / (rows.n_entities - 1))
    found = np.full(values.shape[1], np.inf)
    return np.asarray(np.divide(within, between, out=found, where=between > 1e-12 * spread))


def log_odds_variance(rows: TrainingRows, log_odds: Array) -> float:
    """Variance of entities' offsets of log-odds, by moments.

    An offset b moves the sum of an entity's residuals by b times their variance V, so that its square is V + b² V² in
    the mean (as in DerSimonian & Laird 1986). It is 1 where rows cannot tell.

    Parameters
    ----------
    log_odds : array of shape [n, n_classes]
        Answers of a pool that has not seen the entity.
    """
    if rows.n_entities < 2 or len(rows) == rows.n_entities:
        return 1.0
    shares = softmax(log_odds, axis=1)
    residuals, variance = rows.sums(rows.targets - shares), rows.sums(shares * (1 - shares))
    return float(max(0.0, (np.square(residuals) - variance).sum() / max(np.square(variance).sum(), 1e-12)))


def shrunken_mean(residuals: Array, pseudo: Array) -> Array:
    """Offset of an entity from the residuals [k, m] of its rows, [m]: k / (k + λ) of their mean."""
    return np.asarray(residuals.sum(0) / (len(residuals) + pseudo))


def shrunken_log_odds(log_odds: Array, targets: Array, variance: float) -> Array:
    """Offsets of an entity's log-odds that are most probable given its rows, [n_classes]; their prior is Gaussian.

    Parameters
    ----------
    log_odds : array of shape [k, n_classes]
        Answers without offsets.
    targets : array of shape [k, n_classes]
        One-hot classes.
    variance : float
        Of the prior; 0 leaves no offset.
    """
    offset = np.zeros(targets.shape[1])
    if not len(targets) or variance <= 0:
        return offset
    height = _height(log_odds, targets, variance, offset)
    for _ in range(_N_STEPS):
        shares = softmax(log_odds + offset, axis=1)
        slope = (targets - shares).sum(0) - offset / variance
        curvature = np.diag(shares.sum(0) + 1 / variance) - shares.T @ shares
        step = np.linalg.solve(curvature, slope)
        for _ in range(_N_HALVINGS):  # where Newton's step goes too far
            reached = _height(log_odds, targets, variance, offset + step)
            if reached >= height:
                break
            step = step / 2
        offset, height = offset + step, reached
        if np.abs(step).max() < _TOLERANCE:
            break
    return np.asarray(np.round(offset, _DIGITS))


def _height(log_odds: Array, targets: Array, variance: float, offset: Array) -> float:
    """Logarithm of the probability of an offset, but for a constant."""
    moved = log_odds + offset
    told = (moved * targets).sum() - np.logaddexp.reduce(moved, axis=1).sum()
    return float(told - np.square(offset).sum() / (2 * variance))

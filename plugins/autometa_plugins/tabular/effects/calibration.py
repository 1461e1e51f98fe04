"""What makes standard deviations and probabilities right: measured on simulated newcomers."""

# Annotations are evaluated at once: names in those of a NamedTuple are not found later, as by the API reference.
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from autometa_plugins.tabular.effects.episodes import SHOTS, Episodes, gather
from autometa_plugins.tabular.effects.newcomers import Model, deviations, learn, means
from autometa_plugins.tabular.effects.pools import Array, best_temperature
from autometa_plugins.tabular.effects.training_rows import TrainingRows
from autometa_plugins.tabular.effects.variances import Covariance

_SHARE, _DEVIATIONS = 0.9, 1.6448536
"""Share of observations that lie within so many standard deviations of a Gaussian."""
_LEAST = 1e-12


class Choice(NamedTuple):
    """What is chosen by the losses of newcomers: pools by name, and the covariance of effects beside the first."""

    pool: str
    population: str
    covariance: Covariance


def calibrate(
    model: Model,
    rows: TrainingRows,
    answers: Mapping[str, Array],
    choices: Sequence[Choice],
    chosen: NDArray[np.int64],
    newcomers: list[Episodes],
) -> Model:
    """Scale a model so that intervals or probabilities of simulated newcomers are right, for each of ``SHOTS``.

    A newcomer is answered as was chosen without looking at its entity: the best of many on the entities at hand is
    better on them than on others. Where no entity has so many rows, the factor is that of the most that any has.

    Parameters
    ----------
    model : Model
    rows : TrainingRows
    answers : mapping of str to array of shape [rows, outputs]
        Out-of-fold answers of every pool.
    choices : sequence of Choice
    chosen : array of shape [entities]
        Number of the choice that is made without the entity.
    newcomers : list of Episodes
    """
    measured = {few.n_shot: _factor(model, rows, answers, choices, chosen, few) for few in newcomers}
    found = {shot: measured.get(shot, 1.0) for shot in SHOTS}
    for fewer, more in pairwise(SHOTS):
        if more not in measured:
            found[more] = found[fewer]
    return replace(model, calibration=torch.tensor(list(found.values()), dtype=torch.float64))


def _factor(
    model: Model,
    rows: TrainingRows,
    answers: Mapping[str, Array],
    choices: Sequence[Choice],
    chosen: NDArray[np.int64],
    few: Episodes,
) -> float:
    values: list[Array] = []
    places: list[Array] = []
    of_episode = chosen[rows.entity[few.query[:, 0]]]
    for number in np.unique(of_episode):
        own, choice = few.take(of_episode == number), choices[number]
        covariance = choice.covariance
        tried = replace(model, weights=covariance.weights, noise=covariance.noise, degrees=covariance.degrees)
        values.append(_asked(tried, rows, answers[choice.pool if few.n_shot else choice.population], own))
        places.append(own.query[own.query >= 0])
    if rows.has_classes:
        return best_temperature(np.concatenate(values), rows.targets[np.concatenate(places)])
    return widening(np.concatenate(values), np.concatenate(places), rows.entity)


def _asked(model: Model, rows: TrainingRows, answers: Array, few: Episodes) -> Array:
    """Log-odds of the queries, or their distances from the means in standard deviations, [queries, outputs]."""
    (x, targets, base), (x_asked, targets_asked, base_asked) = (
        tuple(gather(torch.from_numpy(values), places) for values in (rows.x, rows.targets, answers))
        for places in (few.support, few.query)
    )
    known = learn(model, x, base, targets, torch.ones(few.support.shape, dtype=torch.bool))
    outputs = means(model, known, x_asked, base_asked)
    if not rows.has_classes:
        outputs = (outputs - targets_asked) / deviations(model, known, x_asked)
    return outputs[few.mask].numpy()


def widening(distances: Array, places: NDArray[np.int64], entity: NDArray[np.int64]) -> float:
    """Factor of standard deviations with which 90% of the rows of a new entity lie in the interval for 90%.

    It is a quantile of the distances. Of few values the empirical quantile for 90% covers less than 90% of new ones
    (the k-th of n covers k / (n + 1) on average), so a higher one is taken; how many values there are tells
    :func:`n_independent`.

    Parameters
    ----------
    distances : array of shape [queries, outputs]
        In standard deviations, with signs or without.
    places : array of shape [queries]
        Row that each query is; a row may be asked for often.
    entity : array of shape [rows]
    """
    n = n_independent(distances, places, entity[places])
    level = np.clip((_SHARE * (n + 1) - 1) / max(n - 1, _LEAST), _SHARE, 1.0)
    return max(float(np.quantile(np.abs(distances), level)), _LEAST) / _DEVIATIONS


def n_independent(distances: Array, places: NDArray[np.int64], entity: NDArray[np.int64]) -> float:
    """How many independent values are worth as much as these, of which those of one entity are alike.

    Parameters
    ----------
    distances : array of shape [queries, outputs]
    places, entity : array of shape [queries]
    """
    n_rows = len(np.unique(places))
    names, number = np.unique(entity, return_inverse=True)
    if len(names) < 2:
        return float(n_rows)
    each = n_rows / len(names)
    alike = _correlation(np.abs(distances), number, each)
    return float(n_rows / (1 + (each - 1) * alike))


def _correlation(values: Array, number: NDArray[np.int64], each: float) -> float:
    """Correlation of the values of one entity, of which ``each`` are different, from the analysis of variance."""
    count = np.bincount(number)[:, None]
    sums = np.stack([np.bincount(number, column) for column in values.T], axis=1)
    own = sums / count
    within = float(np.square(values - own[number]).mean()) * each / max(each - 1, _LEAST)
    between = float(own.var(axis=0, ddof=1).mean()) - within / each
    return max(between, 0.0) / max(between + within, _LEAST) if each > 1 else 1.0

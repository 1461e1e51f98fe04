"""A factor of standard deviations and quantiles, learned on tasks that meta-training has not seen."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from autometa.contracts.base_learner import BaseLearner
from autometa.contracts.learner import Learner
from autometa.contracts.seeding import derive_seed
from autometa.contracts.tasks import TaskSampler
from autometa.engine.device import place_of
from autometa.engine.few_threads import enough_threads
from autometa.engine.quantiles import quantiles_of
from autometa.engine.random_state import seeded
from autometa.errors import InvalidParameter

HELD_OUT = 0.25
"""Part of the entities of a table that deviations are measured on."""
_FEWEST = 8
"""Entities of a table below which so few would be held out that they tell nothing."""
_N_TASKS, _AT_ONCE = 200, 25
_SHARE = 0.9
"""Of the observations, within the interval that is measured."""
_INTERVAL = (0.05, 0.5, 0.95)
"""Quantiles: both ends of that interval, and the median between them."""
_N_RESAMPLED, _IN_NOISE = 200, 1.5
"""A factor at most so many standard errors below 1 is 1, and one that is not much further off is near 1."""
_LEAST, _MOST = 1e-3, 1e3
_FARTHEST = 1e6


def needs_calibration(learner: BaseLearner, problem_has_classes: bool) -> bool:
    """Tell whether a learner has a predictive distribution that it does not fit to new tasks by itself."""
    return not problem_has_classes and "distribution" in learner.provides and "calibrated" not in learner.provides


def part_held_out(sampler: TaskSampler) -> TaskSampler | None:
    """Return a table sampler of which a part of the entities are held out; None where it has too few."""
    n_entities = sampler.info.n_base_tasks
    if n_entities is None or n_entities < _FEWEST:
        return None
    held: TaskSampler = copy.copy(sampler).set_params(valid_fraction=HELD_OUT)
    return held


def deviation_scale(learner: Learner, module: nn.Module, sampler: TaskSampler, seed: int) -> float:
    """Measure by what standard deviations are to be multiplied, on meta-valid tasks.

    With it, 90% of the new observations lie in the interval between the quantiles 0.05 and 0.95, the learner's own or
    those of a Gaussian, if their distances from the median are multiplied by it; the standard deviation of a
    distribution that is stretched so is too. Intervals are made narrower with care: the logarithm of a factor below 1
    is shrunken by its noise (James & Stein 1961), which a bootstrap over tasks tells. Without meta-valid tasks it is 1.
    """
    distances = _distances(learner, module, sampler, seed)
    if len(distances) < 2:
        return 1.0
    found = _scale(distances)
    if found >= 1:
        return found
    generator = np.random.default_rng(derive_seed(seed, "resampled"))
    draws = generator.integers(len(distances), size=(_N_RESAMPLED, len(distances)))
    noise = float(np.std([np.log(_scale([distances[i] for i in drawn])) for drawn in draws]))
    size = abs(float(np.log(found)))
    return 1.0 if size <= _IN_NOISE * noise else float(found ** (1 - (_IN_NOISE * noise / size) ** 2))


def _scale(distances: list[NDArray[np.float64]]) -> float:
    return float(np.clip(np.quantile(np.concatenate(distances), _SHARE), _LEAST, _MOST))


def _distances(learner: Learner, module: nn.Module, sampler: TaskSampler, seed: int) -> list[NDArray[np.float64]]:
    """Distances of query targets from their medians, by that of the interval's end; those of one entity together."""
    device, dtype = place_of(module)
    seed = derive_seed(seed, "calibration")
    try:
        batch = sampler.sample(_N_TASKS, split="valid", seed=seed)
    except InvalidParameter:  # no task is held out
        return []
    module = copy.deepcopy(module).eval()
    by_entity: dict[int, list[NDArray[np.float64]]] = {}
    for start in range(0, len(batch), _AT_ONCE):
        part = batch[start : start + _AT_ONCE].to(device, dtype)
        with torch.no_grad(), seeded(seed, device), enough_threads(module, part.query.x):
            adapted = learner.adapt(module, part.support)
            low, median, high = quantiles_of(learner, module, adapted, part.query.x, _INTERVAL)
        error = part.query.targets() - median
        distance = (error.abs() / torch.where(error > 0, high - median, median - low)).double().cpu().numpy()
        mask = part.query.mask.cpu().numpy()
        for i, (values, exists) in enumerate(zip(distance, mask, strict=True)):
            entity = start + i if part.ids is None else int(part.ids[i])
            by_entity.setdefault(entity, []).append(values[exists].ravel())
    found = [np.concatenate(values) for values in by_entity.values()]
    # An interval of length 0 is too small, however many times; NaN comes of a learner that failed and tells nothing.
    found = [np.minimum(values, _FARTHEST) for values in found]
    return [values for values in found if len(values) and not np.isnan(values).any()]

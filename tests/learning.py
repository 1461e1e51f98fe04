"""Claims that something learns, which hold on any processor and with any seed.

A training is chaotic: another processor, another number of threads or another seed ends elsewhere. So a test never
compares its result with a number that was read off one machine. It compares with chance, with the untrained learner
or with a baseline, on the same tasks, and asks for a margin of four standard errors of the paired differences::

    before, after = untrained_and_trained(learner, am.make_meta_optimizer("gradient"), tasks, n_steps=100)
    assert_better(after, before, tasks.info)
    assert_better(after, chance(tasks.info), tasks.info)

Three variables of the environment show how firmly the claims hold: ``AUTOMETA_TEST_SEED`` is added to the seed of every
training (draw it from :func:`training_seed`), ``AUTOMETA_TEST_THREADS`` is the number of threads of torch, OpenMP and
BLAS (one if unset), and ``AUTOMETA_TEST_MARGINS`` names a file that gets a line for each claim: its kind (``better`` or
``alike``), how many standard errors lie between the two sides, and its test.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from torch import Tensor, nn

import autometa as am
from autometa.training import MetaTraining, evaluate

STANDARD_ERRORS = 4.0
"""How clear a difference must be: with many tasks chance alone makes one in 30,000 this clear, with 10 one in 640."""
FEWEST_TASKS = 10
"""Tasks that a standard error needs at least."""

Values = NDArray[np.float64] | Tensor | Sequence[float] | float
"""One value per task, always in the same order, or one number for all tasks."""


def training_seed(seed: int = 0) -> int:
    """The seed of a training: the test's own, moved by ``AUTOMETA_TEST_SEED``."""
    return seed + int(os.environ.get("AUTOMETA_TEST_SEED", "0"))


def chance(info: am.TaskInfo) -> float:
    """Accuracy of guessing among equally frequent classes."""
    return 1 / info.n_outputs


def judged(
    learner: am.Learner,
    module: nn.Module,
    tasks: am.TaskSampler,
    *,
    n_tasks: int = 200,
    values: Literal["scores", "losses"] = "scores",
) -> NDArray[np.float64]:
    """Scores or losses on test tasks, one per distinct task; the tasks are the same in every call."""
    evaluation = evaluate(learner, module, tasks, split="test", n_tasks=n_tasks, seed=0)
    _, inverse = np.unique(evaluation.tasks, return_inverse=True)
    return np.bincount(inverse, weights=getattr(evaluation, values)) / np.bincount(inverse)


def trained(
    learner: am.Learner,
    meta_optimizer: am.MetaOptimizer | None,
    tasks: am.TaskSampler,
    *,
    n_steps: int,
    tasks_per_step: int = 8,
    seed: int = 0,
) -> MetaTraining:
    """A meta-training that has run to its end."""
    training = MetaTraining(
        learner, meta_optimizer, tasks, n_steps=n_steps, tasks_per_step=tasks_per_step, seed=training_seed(seed)
    )
    training.run_to()
    return training


def untrained_and_trained(
    learner: am.Learner,
    meta_optimizer: am.MetaOptimizer,
    tasks: am.TaskSampler,
    *,
    n_steps: int,
    tasks_per_step: int = 8,
    n_seeds: int = 1,
    n_tasks: int = 200,
    values: Literal["scores", "losses"] = "scores",
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values of each test task before and after meta-training; means over the seeds."""
    before, after = [], []
    for seed in range(n_seeds):
        fresh = clone(learner)
        training = MetaTraining(
            fresh,
            clone(meta_optimizer),
            tasks,
            n_steps=n_steps,
            tasks_per_step=tasks_per_step,
            seed=training_seed(seed),
        )
        before.append(judged(fresh, training.module, tasks, n_tasks=n_tasks, values=values))
        training.run_to()
        after.append(judged(fresh, training.module, tasks, n_tasks=n_tasks, values=values))
    return np.mean(before, axis=0), np.mean(after, axis=0)


def assert_better(scores: Values, than: Values, info: am.TaskInfo, *, standard_errors: float = STANDARD_ERRORS) -> None:
    """Assert that scores are better than others of the same tasks, in the direction that ``info`` tells.

    A claim of size is made on the other side: ``than=before + 0.2`` or, of errors, ``than=before / 3``.
    """
    __tracebackhide__ = True
    if info.higher_is_better:
        scores, than = than, scores
    assert_lower(scores, than, standard_errors=standard_errors)


def assert_lower(values: Values, than: Values, *, standard_errors: float = STANDARD_ERRORS) -> None:
    """Assert that values are lower than others of the same tasks."""
    __tracebackhide__ = True
    found = margin(than, values)
    _note("better", found)
    assert found >= standard_errors, (
        f"a margin of {found:.2f} standard errors where {standard_errors:g} are asked for: "
        f"{np.mean(_array(values)):.4g} must be lower than {np.mean(_array(than)):.4g}"
    )


def assert_alike(values: Values, others: Values, *, standard_errors: float = STANDARD_ERRORS) -> None:
    """Assert that values differ from others of the same tasks by no more than chance."""
    __tracebackhide__ = True
    found = abs(margin(values, others))
    _note("alike", found)
    assert found < standard_errors, (
        f"{found:.2f} standard errors apart where less than {standard_errors:g} are asked for: "
        f"{np.mean(_array(values)):.4g} and {np.mean(_array(others)):.4g}"
    )


def margin(larger: Values, smaller: Values) -> float:
    """Mean of the paired differences, in its standard errors."""
    difference = _array(larger) - _array(smaller)
    assert difference.ndim == 1, f"values must be one per task, not {difference.shape}"
    assert len(difference) >= FEWEST_TASKS, f"{len(difference)} tasks are too few for a standard error"
    assert np.isfinite(difference).all(), "some values are not finite"
    mean, error = difference.mean(), difference.std(ddof=1) / len(difference) ** 0.5
    return float(mean / error) if error else float(np.inf * np.sign(mean)) if mean else 0.0


def _array(values: Any) -> NDArray[np.float64]:
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64)


def _note(kind: str, found: float) -> None:
    if path := os.environ.get("AUTOMETA_TEST_MARGINS"):
        with Path(path).open("a") as file:
            file.write(f"{kind}\t{found:.2f}\t{os.environ.get('PYTEST_CURRENT_TEST', '')}\n")

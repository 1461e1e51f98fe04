"""Judging a learner on tasks it has never seen."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autometa.contracts.examples import TaskBatch
from autometa.contracts.forward import predict_outputs, present_classes, task_losses, task_scores
from autometa.contracts.learner import Learner
from autometa.contracts.seeding import derive_seed
from autometa.contracts.tasks import Split, TaskSampler
from autometa.engine.folding import describe_normalization
from autometa.engine.random_state import seeded
from autometa.errors import Incompatible

TASKS_AT_ONCE = 25
"""Tasks per forward pass. Fixed, for it decides which tasks a seed stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Scores of one learner on held-out tasks."""

    scores: NDArray[np.float64]
    """Accuracy, or mean squared error in the target's own units, one per task [n_tasks]."""
    losses: NDArray[np.float64]
    """Loss per task [n_tasks]."""
    tasks: NDArray[np.int64]
    """Which task each score belongs to [n_tasks]: entities that were drawn more than once repeat."""
    seconds_adapt: float
    """Mean seconds to adapt to one task."""
    seconds_predict: float
    """Mean seconds to predict one task's query."""
    normalization: str
    """How the network normalises; see ``describe_normalization``."""

    def per_task(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Distinct tasks and the mean score of each."""
        tasks, inverse = np.unique(self.tasks, return_inverse=True)
        return tasks, np.bincount(inverse, weights=self.scores) / np.bincount(inverse)


def evaluate(
    learner: Learner, module: nn.Module, sampler: TaskSampler, *, split: Split, n_tasks: int, seed: int
) -> Evaluation:
    """Adapt to held-out tasks and score their queries; no autograd graph is built and nothing is changed.

    The tasks depend on the sampler, ``split``, ``n_tasks`` and ``seed`` alone, so every learner gets the same.
    """
    place = next(iter(module.parameters()), None)
    device = place.device if place is not None else torch.device("cpu")
    dtype = place.dtype if place is not None and place.is_floating_point() else torch.get_default_dtype()
    was_training = module.training
    module.eval()
    scores, losses, tasks = [], [], []
    seconds = np.zeros(2)
    scale = sampler.info.target_scale**2
    with torch.no_grad(), seeded(derive_seed(seed, "evaluate"), device):
        for start in range(0, n_tasks, TASKS_AT_ONCE):
            drawn = sampler.sample(
                min(TASKS_AT_ONCE, n_tasks - start), split=split, seed=derive_seed(seed, split, start)
            )
            batch = drawn.to(device, dtype)
            outputs, took = _judge(learner, module, batch)
            seconds += took
            scores.append(task_scores(outputs, batch.query).double() * scale)
            losses.append(task_losses(learner, outputs, batch.query).double())
            ids = drawn.ids if drawn.ids is not None else torch.arange(start, start + len(drawn))
            tasks.append(ids.cpu().numpy())
    module.train(was_training)
    return Evaluation(
        scores=torch.cat(scores).cpu().numpy(),
        losses=torch.cat(losses).cpu().numpy(),
        tasks=np.concatenate(tasks),
        seconds_adapt=seconds[0] / n_tasks,
        seconds_predict=seconds[1] / n_tasks,
        normalization=describe_normalization(module),
    )


def _judge(learner: Learner, module: nn.Module, batch: TaskBatch) -> tuple[Tensor, NDArray[np.float64]]:
    """Outputs for the query of every task, and the seconds that adapting and predicting took.

    Raises
    ------
    Incompatible
        The tasks have another number of real targets than the learner predicts.
    """
    assert isinstance(batch.query.x, Tensor)
    started = time.perf_counter()
    adapted = learner.adapt(module, batch.support)
    _wait(batch.query.x.device)
    adapting = time.perf_counter()
    outputs = predict_outputs(learner, module, adapted, present_classes(batch.support), batch.query.x)
    _wait(batch.query.x.device)
    wanted = 0 if batch.query.is_classification else batch.query.targets().shape[-1]
    if wanted not in (0, outputs.shape[-1]):  # arithmetic would stretch one over the others
        raise Incompatible(
            f"{type(learner).__name__} predicts {outputs.shape[-1]} real targets and the tasks have {wanted}."
        )
    return outputs, np.array([adapting - started, time.perf_counter() - adapting])


def _wait(device: torch.device) -> None:
    """Let queued work finish, so that a clock read next is true."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)

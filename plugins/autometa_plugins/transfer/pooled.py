"""Supervised training on everything the meta-train tasks hold."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

import autometa as am

if TYPE_CHECKING:
    from optuna import Trial

_MIX = 6
"""Where tasks have classes of their own, the examples of a batch come from this many times as many tasks."""


class Pooled(am.MetaOptimizer):
    """Descend the learner's supervised loss on pooled tasks.

    A learner that has a head for each training task sees all tasks of a finite distribution; of others it sees as
    many as it asks for, drawn once.

    Parameters
    ----------
    optimizer : str, default="adam"
        Any class of ``torch.optim`` that needs nothing but a learning rate.
    lr : float, default=1e-3
    weight_decay : float, default=0.0
    schedule : {"constant", "cosine", "step"}, default="cosine"
        Of the learning rate over meta-training.
    clip : float, optional
        Largest norm of the gradient.
    task_seed : int, default=0
        Draws the fixed training tasks.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"pooled"})
    shares_tasks: ClassVar[bool] = True
    details: ClassVar[frozenset[str]] = frozenset({"weight_decay", "schedule"})

    def __init__(
        self,
        *,
        optimizer: str = "adam",
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: Literal["constant", "cosine", "step"] = "cosine",
        clip: float | None = None,
        task_seed: int = 0,
    ) -> None:
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.clip = clip
        self.task_seed = task_seed

    def start(self, learner: am.Learner, module: nn.Module, info: am.TaskInfo) -> None:
        """Take over ``module``.

        Raises
        ------
        Incompatible
            Labels are drawn anew for each task and nothing says which classes they stand for.
        """
        n_fixed = learner.n_pooled_tasks(info)
        own_classes = info.problem_record.has_classes and not info.shared_classes
        if own_classes and n_fixed is None and info.n_base_classes is None:
            raise am.Incompatible(
                "meta-optimizer 'pooled' needs to know which classes a task's labels stand for: a sampler with "
                "n_base_classes and TaskBatch.classes, or with shared_classes=True."
            )
        self.learner_, self.module_ = learner, module
        self.replay_: am.Replay[Tensor | None] = am.Replay(learner.replayable)
        self.mixes_ = own_classes
        self.n_fixed_ = n_fixed if info.n_base_tasks is None else None
        self.fixed_: tuple[am.TaskSampler, am.TaskBatch] | None = None
        self.update_ = am.ParameterUpdate(
            module,
            optimizer=self.optimizer,
            lr=self.lr,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            clip=self.clip,
            average=self.average,
        )

    def draw(self, sampler: am.TaskSampler, n_tasks: int, seed: int) -> am.TaskBatch:
        """Draw new tasks, or some of the fixed ones where the learner tells them apart."""
        if self.n_fixed_ is None:
            return self._mixed(sampler, n_tasks, seed) if self.mixes_ else super().draw(sampler, n_tasks, seed)
        if self.fixed_ is None or self.fixed_[0] is not sampler:
            fixed = sampler.sample(self.n_fixed_, split="train", seed=am.derive_seed(self.task_seed, "fixed tasks"))
            self.fixed_ = sampler, fixed
        generator = np.random.default_rng(am.derive_seed(seed, "which fixed tasks"))
        chosen = torch.from_numpy(generator.integers(self.n_fixed_, size=n_tasks))
        batch = self.fixed_[1]
        chosen = chosen.to(batch.query.y.device)
        return dataclasses.replace(batch[chosen], ids=chosen)

    @staticmethod
    def _mixed(sampler: am.TaskSampler, n_tasks: int, seed: int) -> am.TaskBatch:
        """As many examples as ``n_tasks`` tasks hold, from ``_MIX`` times as many tasks.

        A task's examples are of a few classes only; a batch of few classes, each with many examples, is far from a
        draw of all base classes, and a large softmax learns little from it.
        """
        wide: am.TaskBatch = sampler.sample(n_tasks * _MIX, split="train", seed=seed)
        examples = wide.support.join(wide.query)
        n = examples.y.shape[1]
        order = np.random.default_rng(am.derive_seed(seed, "which examples")).permutation(n)
        rows = torch.from_numpy(order[: max(2, n // _MIX)]).to(examples.y.device)
        half = len(rows) // 2
        return dataclasses.replace(wide, support=examples.select(rows[:half]), query=examples.select(rows[half:]))

    def step(self, batch: am.TaskBatch) -> dict[str, Tensor]:
        """Take one step; record the supervised loss before it."""
        loss, *gradients = self.replay_(self._loss_and_gradients, batch)
        assert loss is not None
        self.update_.step_along(gradients, self.progress)
        return {"loss": loss.clone()}

    def _loss_and_gradients(self, batch: am.TaskBatch) -> list[Tensor | None]:
        loss = self.learner_.pooled_loss(self.module_, batch, self.progress)
        return [loss.detach(), *self.update_.differentiate(loss)]

    def state_dict(self) -> dict[str, Any]:
        """State of the torch optimizer."""
        return self.update_.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        self.update_.load_state_dict(state)

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the learning rate, its schedule and the weight decay."""
        return cls(
            lr=trial.suggest_float("lr", 1e-4, 1e-2, log=True),
            weight_decay=trial.suggest_categorical("weight_decay", [0.0, 1e-5, 1e-4, 1e-3]),
            schedule=trial.suggest_categorical("schedule", ["cosine", "constant"]),  # type: ignore[arg-type]
        )

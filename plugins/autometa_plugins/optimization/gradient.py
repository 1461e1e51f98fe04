"""The plain outer loop: descend the mean query loss."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

import autometa as am

if TYPE_CHECKING:
    from optuna import Trial

_NUMBERS_AT_A_TIME = 2**17
"""Inputs of this many numbers in all are differentiated together on a CPU: two Conv4 tasks of 75 images of 28x28."""


class Gradient(am.MetaOptimizer):
    """Descend the mean query loss of a batch of tasks by a torch optimizer.

    Parameters
    ----------
    optimizer : str, default="adam"
        Any class of ``torch.optim`` that needs nothing but a learning rate: "adam", "sgd", "adamw", ...
    lr : float, default=1e-3
    weight_decay : float, default=0.0
    schedule : {"constant", "cosine", "step"}, default="cosine"
        Of the learning rate over meta-training: none, down to 1% by half a cosine, or to a tenth at one half and a
        hundredth at three quarters.
    clip : float or None, default=10.0
        Largest norm of the whole gradient, to which larger ones are scaled down; None lets all pass.
    chunk : int, "auto" or None, default="auto"
        Differentiate this many tasks at a time: less memory and the same gradient, unless tasks share batch
        statistics. None: all at once. "auto": all at once, except on a CPU for learners that adapt a whole network,
        where a few tasks at a time stay in the caches and are faster.
    threads : int or "auto", default="auto"
        Differentiate this many chunks side by side on a CPU, one a thread; the gradient is the same. "auto": as many
        as torch has threads for learners that adapt a whole network, else 1. Learners that draw random numbers always
        take one chunk after the other.

    References
    ----------
    C. Finn, P. Abbeel, S. Levine: Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks. ICML 2017, eq. 1.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"gradient"})
    shares_tasks: ClassVar[bool] = True
    details: ClassVar[frozenset[str]] = frozenset({"weight_decay", "schedule"})

    def __init__(
        self,
        *,
        optimizer: str = "adam",
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: Literal["constant", "cosine", "step"] = "cosine",
        clip: float | None = 10.0,
        chunk: int | Literal["auto"] | None = "auto",
        threads: int | Literal["auto"] = "auto",
    ) -> None:
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.clip = clip
        self.chunk = chunk
        self.threads = threads

    def start(self, learner: am.Learner, module: nn.Module, info: am.TaskInfo) -> None:
        """Take over ``module``."""
        am.check_int("chunk", self.chunk, also=("auto", None), of="meta-optimizer 'gradient'")
        am.check_int("threads", self.threads, also=("auto",), of="meta-optimizer 'gradient'")
        self.learner_, self.module_ = learner, module
        self.replay_: am.Replay[Tensor | None] = am.Replay(learner.replayable)
        self.update_ = am.ParameterUpdate(
            module,
            optimizer=self.optimizer,
            lr=self.lr,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            clip=self.clip,
            average=self.average,
        )

    def step(self, batch: am.TaskBatch) -> dict[str, Tensor]:
        """Take one step; record the mean query loss before it."""
        if self.replay_.suits(batch) and self.chunk in ("auto", None):
            loss, *gradients = self.replay_(self._loss_and_gradients, batch)
            assert loss is not None
            self.update_.step_along(gradients, self.progress)
            return {"loss": loss.clone()}
        threads = self._threads(batch)
        size = self._chunk(batch, threads)
        chunks = [batch[first : first + size] for first in range(0, len(batch), size)] if size < len(batch) else [batch]
        if threads > 1 and len(chunks) > 1:
            losses = [partial(self._loss, chunk=chunk, n_tasks=len(batch)) for chunk in chunks]
            return {"loss": self.update_.step_on_threads(losses, self.progress, min(threads, len(chunks)))}
        parts = (self._loss(self.module_, chunk, len(batch)) for chunk in chunks)
        return {"loss": self.update_.step(parts, self.progress)}

    def _loss(self, module: nn.Module, chunk: am.TaskBatch, n_tasks: int) -> Tensor:
        losses = self.learner_.meta_loss(module, chunk, self.progress)
        return losses.mean() if len(losses) == n_tasks else losses.sum() / n_tasks

    def _loss_and_gradients(self, batch: am.TaskBatch) -> list[Tensor | None]:
        loss = self._loss(self.module_, batch, len(batch))
        return [loss.detach(), *self.update_.differentiate(loss)]

    def _threads(self, batch: am.TaskBatch) -> int:
        x: Tensor = batch.query.x
        if x.device.type != "cpu":
            return 1
        if self.threads != "auto":
            return int(self.threads)
        return torch.get_num_threads() if "inner_gradient" in self.learner_.provides else 1

    def _chunk(self, batch: am.TaskBatch, threads: int) -> int:
        if self.chunk is not None and self.chunk != "auto":
            return int(self.chunk)
        x: Tensor = batch.query.x
        if self.chunk is None or "inner_gradient" not in self.learner_.provides or x.device.type != "cpu":
            return len(batch)
        return max(1, _NUMBERS_AT_A_TIME // threads // max(1, x[0].numel()))

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

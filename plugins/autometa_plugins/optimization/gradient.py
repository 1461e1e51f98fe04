"""The plain outer loop: descend the mean query loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

import autometa as am

if TYPE_CHECKING:
    from optuna import Trial


class Gradient(am.MetaOptimizer):
    """Descend the mean query loss of a batch of tasks by a torch optimizer.

    Parameters
    ----------
    optimizer : str, default="adam"
        Any class of ``torch.optim`` that needs nothing but a learning rate, in any case: "adam", "sgd", "adamw", ...
    lr : float, default=1e-3
    weight_decay : float, default=0.0
    schedule : {"constant", "cosine", "step"}, default="cosine"
        Of the learning rate over meta-training: none, down to 1% by half a cosine, or to a tenth at one half and a
        hundredth at three quarters.
    clip : float, optional
        Largest norm of the whole gradient; larger ones are scaled down to it.
    chunk : int, optional
        Differentiate this many tasks at a time: less memory, the same gradient wherever tasks do not share batch
        statistics. All at once when left out.

    References
    ----------
    C. Finn, P. Abbeel, S. Levine: Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks. ICML 2017, eq. 1.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"gradient"})

    def __init__(
        self,
        *,
        optimizer: str = "adam",
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: Literal["constant", "cosine", "step"] = "cosine",
        clip: float | None = None,
        chunk: int | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.clip = clip
        self.chunk = chunk

    def start(self, learner: am.Learner, module: nn.Module, info: am.TaskInfo) -> None:
        """Take over ``module``."""
        self._check()
        self.learner_, self.module_ = learner, module
        kind = _optimizers()[self.optimizer.lower()]
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.optimizer_ = kind(parameters, lr=self.lr, weight_decay=self.weight_decay) if parameters else None

    def step(self, batch: am.TaskBatch) -> dict[str, Tensor]:
        """Take one step; record the mean query loss before it."""
        size = self.chunk or len(batch)
        loss = torch.zeros((), device=batch.query.y.device)
        if self.optimizer_ is not None:
            self.optimizer_.zero_grad(set_to_none=True)
        for first in range(0, len(batch), size):
            part = am.query_losses(self.learner_, self.module_, batch[first : first + size]).sum() / len(batch)
            if part.requires_grad:
                part.backward()  # type: ignore[no-untyped-call]
            loss = loss + part.detach()
        if self.optimizer_ is not None:
            if self.clip is not None:
                nn.utils.clip_grad_norm_(self.module_.parameters(), self.clip)
            for group in self.optimizer_.param_groups:
                group["lr"] = self.lr * schedule_factor(self.schedule, self.progress)
            self.optimizer_.step()
        return {"loss": loss}

    def state_dict(self) -> dict[str, Any]:
        """State of the torch optimizer."""
        return {} if self.optimizer_ is None else {"optimizer": self.optimizer_.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        if self.optimizer_ is not None:
            self.optimizer_.load_state_dict(state["optimizer"])

    def _check(self) -> None:
        if not isinstance(self.optimizer, str) or self.optimizer.lower() not in _optimizers():
            raise am.InvalidParameter(f"optimizer={self.optimizer!r} must be one of {sorted(_optimizers())}.")
        for name, value in (("lr", self.lr), ("clip", 1.0 if self.clip is None else self.clip)):
            if not value > 0:
                raise am.InvalidParameter(f"{name}={value!r} must be positive.")
        if self.chunk is not None and (not isinstance(self.chunk, int) or self.chunk < 1):
            raise am.InvalidParameter(
                f"chunk={self.chunk!r} must be a positive integer, or None for all tasks at once."
            )
        schedule_factor(self.schedule, 0.0)

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the learning rate."""
        return cls(lr=trial.suggest_float("lr", 1e-4, 1e-2, log=True))


def schedule_factor(schedule: str, progress: float) -> float:
    """Share of the learning rate left when ``progress`` (0 to 1) of meta-training is done.

    Raises
    ------
    InvalidParameter
        No such schedule.
    """
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return 0.01 + 0.99 * (1 + math.cos(math.pi * min(progress, 1.0))) / 2
    if schedule == "step":
        return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01
    raise am.InvalidParameter(f"schedule={schedule!r} must be 'constant', 'cosine' or 'step'.")


def _optimizers() -> dict[str, type[torch.optim.Optimizer]]:
    unusable = {"Optimizer", "LBFGS", "SparseAdam", "Muon"}
    return {
        name.lower(): kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and name not in unusable
    }

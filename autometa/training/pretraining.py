"""The outer update of pretraining: tables of another shape in every step, and the mean of θ over the steps."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from autometa.contracts.examples import TaskBatch
from autometa.contracts.learner import Learner
from autometa.contracts.meta_optimizer import MetaOptimizer
from autometa.contracts.seeding import derive_seed
from autometa.contracts.tasks import Split, TaskInfo, TaskSampler
from autometa.engine.judging import judge
from autometa.engine.optimizers import OPTIMIZERS
from autometa.errors import Incompatible

_WARM_STEPS = 80
_DECAY_FROM = 0.6
_BETAS = (0.9, 0.98)


class Pretraining(MetaOptimizer):
    """Descend the loss on tables from a prior: Muon for matrices, AdamW for all else.

    The learning rate rises over the first steps and falls to zero over the last 40%. Beside θ its running mean is
    kept, which is what is judged and what remains.

    Parameters
    ----------
    prior : TaskSampler
        What the tables are drawn from; its sizes vary from step to step as its ``varied`` says.
    n_steps : int
    cells : int
        Cells of a step's tables, at most, unless one table has more.
    lr : float, default=3e-3
    weight_decay : float, default=0.02
        Of matrices.
    clip : float, default=1.0
        Largest norm of the whole gradient.
    decay : float, default=0.997
        Of the running mean.
    n_looks : int, default=20
        How many times the held-out tables are answered.
    n_valid : int, default=24
        Batches of held-out tables, each of another size.

    References
    ----------
    K. Jordan et al.: Muon: an optimizer for hidden layers in neural networks. 2024.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"gradient"})

    def __init__(
        self,
        prior: TaskSampler,
        *,
        n_steps: int,
        cells: int,
        lr: float = 3e-3,
        weight_decay: float = 0.02,
        clip: float = 1.0,
        decay: float = 0.997,
        n_looks: int = 20,
        n_valid: int = 24,
    ) -> None:
        self.prior = prior
        self.n_steps = n_steps
        self.cells = cells
        self.lr = lr
        self.weight_decay = weight_decay
        self.clip = clip
        self.decay = decay
        self.n_looks = n_looks
        self.n_valid = n_valid

    def start(self, learner: Learner, module: nn.Module, info: TaskInfo) -> None:
        """Take over ``module``, draw the held-out tables and answer them before any step."""
        self.learner_, self.module_, self.info_, self.done_ = learner, module, info, 0
        self.parameters_ = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if not self.parameters_:
            raise Incompatible(f"{type(learner).__name__} has no parameters to pretrain; use 'tabular/pfn'.")
        matrices = [parameter for parameter in self.parameters_ if parameter.dim() == 2]
        others = [parameter for parameter in self.parameters_ if parameter.dim() != 2]
        self.optimizers_: list[torch.optim.Optimizer] = []
        if matrices:
            muon = OPTIMIZERS["Muon"]
            self.optimizers_.append(
                muon(matrices, lr=self.lr, weight_decay=self.weight_decay, adjust_lr_fn="match_rms_adamw")
            )
        if others:
            adam = OPTIMIZERS["AdamW"]
            self.optimizers_.append(adam(others, lr=self.lr, betas=_BETAS, weight_decay=0.0))
        self.mean_ = [parameter.detach().clone() for parameter in self.parameters_]
        own = self.parameters_[0]
        self.held_out_ = [self._drawn("valid", derive_seed(0, "held out", str(i)), 16) for i in range(self.n_valid)]
        self.held_out_ = [(shape, batch.to(own.device, own.dtype)) for shape, batch in self.held_out_]
        self.untrained_ = self._look(module)

    def draw(self, sampler: TaskSampler, n_tasks: int, seed: int) -> TaskBatch:
        """Draw tables of one shape, at most ``n_tasks``."""
        self.info_, batch = self._drawn("train", seed, n_tasks)
        return batch

    def step(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Take one step; record the loss before it and, every now and then, that on held-out tables."""
        loss = self.learner_.meta_loss(self._view(self.module_, self.info_), batch, self.progress).mean()
        for optimizer in self.optimizers_:
            optimizer.zero_grad(set_to_none=True)
            optimizer.param_groups[0]["lr"] = self.lr * self._rate()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters_, self.clip)
        for optimizer in self.optimizers_:
            optimizer.step()
        self.done_ += 1
        share = 1 - min(self.decay, self.done_ / (self.done_ + 9))
        torch._foreach_lerp_(self.mean_, [parameter.detach() for parameter in self.parameters_], share)
        if self.done_ * self.n_looks // self.n_steps == (self.done_ - 1) * self.n_looks // self.n_steps:
            return {"loss": loss.detach()}
        found = self._look(self.averaged())
        return {"loss": loss.detach()} | found | {f"untrained_{name}": value for name, value in self.untrained_.items()}

    def averaged(self) -> nn.Module:
        """Return a copy of θ that holds its running mean."""
        module = copy.deepcopy(self.module_)
        learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
        with torch.no_grad():
            for parameter, mean in zip(learned, self.mean_, strict=True):
                parameter.copy_(mean)
        return module

    def state_dict(self) -> dict[str, Any]:
        """State of both optimizers, the running mean and the number of steps."""
        states = [optimizer.state_dict() for optimizer in self.optimizers_]
        return {"optimizers": states, "mean": self.mean_, "done": self.done_}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        for optimizer, own in zip(self.optimizers_, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)
        for mean, stored in zip(self.mean_, state["mean"], strict=True):
            mean.copy_(stored)
        self.done_ = state["done"]

    def _rate(self) -> float:
        falling = (1 - self.progress) / (1 - _DECAY_FROM)
        return min(1.0, (self.done_ + 1) / _WARM_STEPS, falling)

    def _view(self, module: nn.Module, info: TaskInfo) -> nn.Module:
        return self.learner_.reshaped(module, info)

    def _drawn(self, split: Split, seed: int, n_tasks: int) -> tuple[TaskInfo, TaskBatch]:
        """Draw tables of one shape, which the seed decides, and as many as fit."""
        sampler = self.prior.varied(seed)
        info, batch = sampler.info, sampler.sample(1, split=split, seed=seed)
        fitting = min(n_tasks, self.cells // cells_of(info, batch))
        return info, batch if fitting <= 1 else sampler.sample(fitting, split=split, seed=seed)

    @torch.no_grad()
    def _look(self, module: nn.Module) -> dict[str, Tensor]:
        """Return the mean loss and score on the held-out tables, each of which counts the same."""
        losses: list[Tensor] = []
        scores: list[Tensor] = []
        for info, batch in self.held_out_:
            view = self._view(module, info)
            losses.append(self.learner_.meta_loss(view, batch, 1.0))
            scores.append(info.in_target_units(judge(self.learner_, view, batch).scores))
        return {"valid_loss": _mean(losses), "valid_score": _mean(scores)}


def cells_of(info: TaskInfo, batch: TaskBatch) -> int:
    """Return how many cells a task has: rows times columns."""
    rows = batch.support.y.shape[1] + batch.query.y.shape[1]
    columns = info.feature_columns or range(torch.Size(info.input_shape).numel())
    return max(1, rows * len(set(columns)))


def _mean(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts)).double().mean()

"""A learner and the tasks that it is checked on."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import torch
from sklearn.base import clone
from torch import Tensor, nn

from autometa.contracts.examples import Examples, TaskBatch
from autometa.contracts.forward import forward
from autometa.contracts.learner import Learner
from autometa.contracts.meta_optimizer import MetaOptimizer
from autometa.contracts.tasks import TaskSampler
from autometa.engine.judging import judge
from autometa.host import make_meta_optimizer
from autometa.testing.expectations import clearly_positive, copied
from autometa.training.outer_loop import MetaTraining

LOOKS = (40, 80, 160, 320, 640, 1280)
"""Steps of the one meta-training after which it is judged; it ends with the first clear success."""
N_JUDGED = 256


@dataclass(frozen=True)
class LearnerCase:
    """A learner and the task distribution it is checked on."""

    learner: Learner
    tasks: TaskSampler

    def module(self) -> nn.Module:
        """Return a copy of θ in double precision after two steps of meta-training, in evaluation mode."""
        return copied(self._started)

    def trained(self) -> tuple[nn.Module, str | None]:
        """Return a copy of the meta-trained θ, and the reason why it does not count as trained, or None."""
        module, objection = self._trained
        return copied(module), objection

    @functools.cached_property
    def _started(self) -> nn.Module:
        training = self.training(2, torch.float64)
        training.run_to()
        return training.module.eval()

    @functools.cached_property
    def _trained(self) -> tuple[nn.Module, str | None]:
        training = self.training(LOOKS[-1], torch.float32)
        for n_steps in LOOKS:
            training.run_to(n_steps / LOOKS[-1])
            module = copied(training.module).eval()
            objection = no_use_of_support(self, module)
            if objection is None or training.progress == 1.0:
                break
        return module, objection

    def meta_optimizer(self) -> MetaOptimizer | None:
        """Return the learner's default meta-optimizer, with a learning rate for short runs if it has one."""
        name = self.learner.default_meta_optimizer
        if name is None:
            return None
        made = make_meta_optimizer(name)
        return made.set_params(lr=0.01) if "lr" in made.get_params() else made

    def training(self, n_steps: int, dtype: torch.dtype) -> MetaTraining:
        """Return a meta-training with a fixed seed that has not started."""
        return MetaTraining(
            clone(self.learner),
            self.meta_optimizer(),
            self.tasks,
            n_steps=n_steps,
            tasks_per_step=8,
            seed=0,
            dtype=dtype,
        )

    def outputs(self, module: nn.Module, support: Examples, x: Tensor) -> Tensor:
        """Predict without an autograd graph."""
        with torch.no_grad():
            return forward(self.learner, module, support, x)


def inputs_of(examples: Examples) -> Tensor:
    """Return inputs that are one tensor."""
    assert isinstance(examples.x, Tensor)
    return examples.x


def no_use_of_support(case: LearnerCase, module: nn.Module) -> str | None:
    """Return what is wrong with a meta-trained θ, or None if a task's own support set helps."""
    batch = case.tasks.sample(N_JUDGED, split="test", seed=1)
    own = judged(case, module, batch)
    other = judged(case, module, replace(batch, support=batch[torch.arange(len(batch)).roll(1)].support))
    gains = [others - mine for mine, others in zip(own, other, strict=True)]
    if any(clearly_positive(gain) for gain in gains):
        return None
    return (
        f"adapted to its own support, a task has the loss {own[0].mean():.3f}; adapted to another task's, "
        f"{other[0].mean():.3f}: the support set does not help."
    )


def judged(case: LearnerCase, module: nn.Module, batch: TaskBatch) -> tuple[Tensor, Tensor]:
    """Return the loss and the error of every task: smaller is better."""
    with torch.no_grad():
        outcome = judge(case.learner, module, batch)
        return outcome.losses.double(), outcome.errors.double()

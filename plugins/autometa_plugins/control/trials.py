"""Meta-training on trials: how many an outer step takes, and what its meta-optimizers share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

import autometa as am

_STEPS_AT_ONCE = 40_000
_MOST_TRIALS = 1000


def trials_at_once(trials: int | Literal["auto"], n_tasks: int, n_steps: int) -> int:
    """Return the trials of an outer step: as asked for, or as many as make 40,000 steps, within bounds.

    Parameters
    ----------
    trials : int or "auto"
        "auto": at most 1,000, and never fewer than ``n_tasks``.
    n_tasks : int
        Tasks of an outer step by the outer loop.
    n_steps : int
        Of a trial.
    """
    if trials == "auto":
        return max(n_tasks, min(_MOST_TRIALS, _STEPS_AT_ONCE // n_steps))
    return trials


def mean_of_steps(values: Tensor, seen: am.Experience) -> Tensor:
    """Return the mean of values [tasks, time] over the steps that exist."""
    return torch.where(seen.mask, values, 0).sum() / seen.mask.sum()


class OnTrials(am.MetaOptimizer):
    """What meta-optimizers share that learn from trials of an actor, and then forget them.

    Subclasses have a ``name`` and store the parameters that are read here: ``trials``, ``epochs``, ``minibatches``,
    ``lr``, ``optimizer``, ``schedule``, ``largest_gradient`` and ``blind``.
    """

    name: ClassVar[str]

    trials: int | Literal["auto"]
    epochs: int
    minibatches: int
    lr: float
    optimizer: str
    schedule: str
    largest_gradient: float
    blind: float

    def start(self, learner: am.Actor, module: nn.Module, info: am.TaskInfo) -> None:
        """Take over θ.

        Raises
        ------
        InvalidParameter
            Names the parameter, its value and what would work.
        """
        whose = f"meta-optimizer {self.name!r}"
        am.check_int("trials", self.trials, also=("auto",), of=whose)
        for name in ("epochs", "minibatches"):
            am.check_int(name, getattr(self, name), of=whose)
        am.check_real("largest_gradient", self.largest_gradient, above=0, of=whose)
        am.check_real("blind", self.blind, least=0, most=1, of=whose)
        self.learner_, self.module_, self.info_ = learner, module, info
        self.n_taken_ = 0
        self.update_ = am.ParameterUpdate(
            module,
            optimizer=self.optimizer,
            lr=self.lr,
            schedule=self.schedule,
            clip=self.largest_gradient,
            average=self.average,
        )

    def draw(self, sampler: am.TaskSampler, n_tasks: int, seed: int) -> am.Environments:
        """Draw the environments of one step: not ``n_tasks``, but as many as ``trials`` says."""
        n_trials = trials_at_once(self.trials, n_tasks, self.info_.n_steps)
        environments: am.Environments = sampler.sample(n_trials, split="train", seed=seed)
        return environments

    def state_dict(self) -> dict[str, Any]:
        """State of the optimizer, and steps taken in environments."""
        return {"update": self.update_.state_dict(), "n_taken": self.n_taken_}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        self.update_.load_state_dict(state["update"])
        self.n_taken_ = state["n_taken"]

    def collect(self, batch: am.Environments) -> am.Experience:
        """Live through a trial of every task, or through as many episodes without adapting if those are all alike."""
        info, is_episodic = self.info_, "episodic" in self.learner_.provides
        seen, _ = am.collect(
            self.learner_,
            self.module_,
            batch,
            n_episodes=info.n_episodes,
            horizon=info.horizon,
            blind=self.blind if info.n_shot and not is_episodic else 0.0,
            n_shot=0 if is_episodic else None,
        )
        return seen

    def parts(self, seen: am.Experience) -> Iterator[Tensor]:
        """Deal the trials anew to ``minibatches`` parts."""
        return iter(torch.randperm(len(seen), device=seen.reward.device).chunk(self.minibatches))

    def taken(self, seen: am.Experience) -> dict[str, Tensor]:
        """Count the steps, and return what the history tells of trials."""
        self.n_taken_ += int(seen.mask.numel()) if seen.is_full else int(seen.mask.sum())
        returns = seen.returns(self.info_.n_episodes).mean(0)
        record = {"environment_steps": torch.tensor(float(self.n_taken_))}
        return record | {f"return_{k + 1}": value for k, value in enumerate(returns)}

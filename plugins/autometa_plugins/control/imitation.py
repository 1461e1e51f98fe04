"""Imitation: an actor learns to do what an adviser says it should have done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.control.trials import trials_at_once

if TYPE_CHECKING:
    from optuna import Trial


class Imitation(am.MetaOptimizer):
    """Let the actor act, ask an adviser about every step, and make what he says more probable.

    The actor is so taught in the situations that it gets into by itself (DAgger, Ross et al. 2011). New trials cost
    little, so those of earlier steps are not kept. Environments must tell what to do (``Environments.advice``).

    Parameters
    ----------
    trials : int or "auto", default="auto"
        Trials of an outer step. "auto": as many as make 40,000 steps, at most 1,000, and never fewer than
        ``tasks_per_step``.
    epochs : int, default=1
        Times that the trials of an outer step are gone through.
    minibatches : int, default=4
        Parts of the trials, each of which makes a step of the optimizer.
    lr : float, default=0.02
    optimizer : str, default="adam"
        Any of ``torch.optim`` that needs nothing but a learning rate.
    schedule : {"cosine", "constant", "step"}, default="cosine"
        Learning rate over meta-training.
    largest_gradient : float, default=0.5
        Largest norm of a gradient.
    blind : float, default=0.5
        Share of the tasks whose rewards are withheld in the episodes that are judged, so that the actor can do without
        them later; nothing is withheld where there is no episode before those.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"decisions"})

    def __init__(
        self,
        *,
        trials: int | Literal["auto"] = "auto",
        epochs: int = 1,
        minibatches: int = 4,
        lr: float = 0.02,
        optimizer: str = "adam",
        schedule: str = "cosine",
        largest_gradient: float = 0.5,
        blind: float = 0.5,
    ) -> None:
        self.trials = trials
        self.epochs = epochs
        self.minibatches = minibatches
        self.lr = lr
        self.optimizer = optimizer
        self.schedule = schedule
        self.largest_gradient = largest_gradient
        self.blind = blind

    def start(self, learner: am.Actor, module: nn.Module, info: am.TaskInfo) -> None:
        """Take over θ.

        Raises
        ------
        InvalidParameter
            Names the parameter, its value and what would work.
        Incompatible
            Nobody can tell what to do in these tasks.
        """
        whose = "meta-optimizer 'imitation'"
        am.check_int("trials", self.trials, also=("auto",), of=whose)
        for name in ("epochs", "minibatches"):
            am.check_int(name, getattr(self, name), of=whose)
        am.check_real("largest_gradient", self.largest_gradient, above=0, of=whose)
        am.check_real("blind", self.blind, least=0, most=1, of=whose)
        if info.adviser is None:
            raise am.Incompatible(
                f"{whose} needs tasks that tell what to do, and these name no adviser in their info; use "
                "learner 'rl2', or override advice() of the environments."
            )
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

    def step(self, batch: am.Environments) -> dict[str, Tensor]:
        """Collect a trial of every task, and learn what should have been done in it."""
        info = self.info_
        with torch.no_grad():
            seen, _ = am.collect(
                self.learner_,
                self.module_,
                batch,
                n_episodes=info.n_episodes,
                horizon=info.horizon,
                blind=self.blind if info.n_shot else 0.0,
            )
            advice = self._ask(batch, seen)
        losses: list[Tensor] = []
        for epoch in range(self.epochs):
            for rows in torch.randperm(len(seen), device=advice.device).chunk(self.minibatches):
                loss = self.update_.step([self._loss(seen[rows], advice[rows])], self.progress)
                if epoch == 0:
                    losses.append(loss)
        self.n_taken_ += int(seen.mask.numel()) if seen.is_full else int(seen.mask.sum())
        returns = seen.returns(info.n_episodes).mean(0)
        record = {"loss": torch.stack(losses).mean(), **_agreement(seen, advice)}
        record["environment_steps"] = torch.tensor(float(self.n_taken_))
        return record | {f"return_{k + 1}": value for k, value in enumerate(returns)}

    def _ask(self, batch: am.Environments, seen: am.Experience) -> Tensor:
        """Return the advice, which must be one action for each of those taken."""
        advice = batch.advice(seen)
        if advice.shape != seen.action.shape:  # arithmetic would stretch one over the other
            raise am.PluginError(
                f"advice() of {type(batch).__name__} returned {tuple(advice.shape)}; it must be "
                f"{tuple(seen.action.shape)}, an action for each step."
            )
        return advice

    def _loss(self, seen: am.Experience, advice: Tensor) -> Tensor:
        """Mean surprise of the actor at the advice, in nats."""
        (policy, _), _ = self.learner_.along(self.module_, seen)
        surprise = -policy.log_prob(_where_taken(seen, advice))
        return torch.where(seen.mask, surprise, 0).sum() / seen.mask.sum()

    def state_dict(self) -> dict[str, Any]:
        """State of the optimizer, and steps taken in environments."""
        return {"update": self.update_.state_dict(), "n_taken": self.n_taken_}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        self.update_.load_state_dict(state["update"])
        self.n_taken_ = state["n_taken"]

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the learning rate."""
        return cls(lr=trial.suggest_float("lr", 1e-3, 0.05, log=True))


def _agreement(seen: am.Experience, advice: Tensor) -> dict[str, Tensor]:
    """Tell how far the actor did what was advised: the share of steps, or the mean distance of real actions."""
    if advice.is_floating_point():
        return {"distance": (seen.action - advice).square().sum(-1).sqrt()[seen.mask].mean()}
    return {"followed": (seen.action == advice)[seen.mask].to(seen.reward).mean()}


def _where_taken(seen: am.Experience, advice: Tensor) -> Tensor:
    """Return the advice, and the action itself where padded: what is advised there may be anything."""
    mask = seen.mask.reshape(*seen.mask.shape, *(1,) * (advice.dim() - 2))
    return torch.where(mask, advice, seen.action)

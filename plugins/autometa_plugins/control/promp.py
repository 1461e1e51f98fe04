"""Proximal meta-policy search: improve what adaptation starts from by what comes of adapting."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.control.linear_baseline import episode_advantages
from autometa_plugins.control.surrogate import clipped, log_ratios
from autometa_plugins.control.trials import OnTrials, trials_at_once

if TYPE_CHECKING:
    from optuna import Trial

_FEWEST_EPISODES = 10


class ProMP(OnTrials):
    """PPO on the episodes after an adaptation, differentiated through it (Rothfuss et al. 2019, ProMP, algorithm 1).

    An outer step collects rounds and the episodes after them. It then descends the clipped surrogate of the latter a
    few times; the adaptation to the rounds is computed anew each time. Advantages are taken within episodes, against a
    linear baseline of every task.

    Parameters
    ----------
    trials : int or "auto", default="auto"
        Tasks of an outer step. "auto": as many as make 40,000 steps, at most 1,000, and never fewer than
        ``tasks_per_step``.
    episodes : int or "auto", default="auto"
        Episodes after the adaptation in each. "auto": as many as a round has, and no fewer than 10 or than are judged:
        they are compared with one another.
    epochs : int, default=4
        Times that the tasks of an outer step are gone through.
    minibatches : int, default=1
        Parts of the tasks, each of which makes a step of the optimizer.
    clip : float, default=0.2
        How far the ratio of the new to the old probability of an action counts.
    kl : float, default=0.0
        Weight of the divergence of the exploring policy of every round from the one that collected it (eq. 15).
    lr : float, default=2e-3
    optimizer : str, default="adam"
        Any of ``torch.optim`` that needs nothing but a learning rate.
    schedule : {"cosine", "constant", "step"}, default="cosine"
        Learning rate over meta-training.
    discount : float, default=0.99
    trace : float, default=0.97
        λ of the advantages: 1 sums up rewards, 0 trusts the baseline after one step.
    largest_gradient : float, default=0.5
        Largest norm of a gradient.
    """

    name: ClassVar[str] = "promp"
    requires: ClassVar[frozenset[str]] = frozenset({"decisions", "rounds"})
    blind = 0.0

    def __init__(
        self,
        *,
        trials: int | Literal["auto"] = "auto",
        episodes: int | Literal["auto"] = "auto",
        epochs: int = 4,
        minibatches: int = 1,
        clip: float = 0.2,
        kl: float = 0.0,
        lr: float = 2e-3,
        optimizer: str = "adam",
        schedule: str = "cosine",
        discount: float = 0.99,
        trace: float = 0.97,
        largest_gradient: float = 0.5,
    ) -> None:
        self.trials = trials
        self.episodes = episodes
        self.epochs = epochs
        self.minibatches = minibatches
        self.clip = clip
        self.kl = kl
        self.lr = lr
        self.optimizer = optimizer
        self.schedule = schedule
        self.discount = discount
        self.trace = trace
        self.largest_gradient = largest_gradient

    def start(self, learner: am.RoundActor, module: nn.Module, info: am.TaskInfo) -> None:
        """Take over θ.

        Raises
        ------
        InvalidParameter
            Names the parameter, its value and what would work.
        """
        whose = f"meta-optimizer {self.name!r}"
        am.check_int("episodes", self.episodes, most=100_000, also=("auto",), of=whose)
        am.check_real("clip", self.clip, above=0, of=whose)
        am.check_real("kl", self.kl, least=0, of=whose)
        for name in ("discount", "trace"):
            am.check_real(name, getattr(self, name), least=0, most=1, of=whose)
        super().start(learner, module, info)
        self.actor_ = learner
        size = learner.round_size(module)
        self.n_after_ = max(size, info.n_query, _FEWEST_EPISODES) if self.episodes == "auto" else self.episodes
        starts = range(0, info.n_shot, size)
        self.rounds_ = [(first, min(first + size, info.n_shot)) for first in starts]

    def draw(self, sampler: am.TaskSampler, n_tasks: int, seed: int) -> am.Environments:
        """Draw the environments of one step: not ``n_tasks``, but as many as ``trials`` says."""
        n_steps = (self.info_.n_shot + self.n_after_) * self.info_.horizon
        environments: am.Environments = sampler.sample(
            trials_at_once(self.trials, n_tasks, n_steps), split="train", seed=seed
        )
        return environments

    def step(self, batch: am.Environments) -> dict[str, Tensor]:
        """Adapt to every task, and improve what that starts from."""
        info, n_episodes = self.info_, self.info_.n_shot + self.n_after_
        with torch.no_grad():
            seen, _ = am.collect(self.learner_, self.module_, batch, n_episodes=n_episodes, horizon=info.horizon)
            rounds = [seen.episodes(first, stop) for first, stop in self.rounds_]
            after = seen.episodes(info.n_shot, n_episodes)
            advantage = episode_advantages(after, self.discount, self.trace)
        metrics: dict[str, Tensor] = {}
        for _ in range(self.epochs):
            for rows in self.parts(seen):
                loss, metrics = self._loss([part[rows] for part in rounds], after[rows], advantage[rows])
                self.update_.step([loss], self.progress)
        self.n_taken_ += int(seen.mask.sum())
        returns = [part.returns(1 + int(part.episode.max())).mean() for part in (*rounds, after)]
        record = {f"return_{k + 1}": value for k, value in enumerate(returns)}
        return {
            "loss": -returns[-1],
            **metrics,
            "environment_steps": torch.tensor(float(self.n_taken_)),
            **record,
        }

    def _loss(
        self, rounds: list[am.Experience], after: am.Experience, advantage: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        memory, divergences = self.actor_.start(self.module_, len(after)), []
        for part in rounds:
            with torch.set_grad_enabled(self.kl > 0):
                explores = self.actor_.decide(self.module_, memory, part.observation, part.episode).policy
                divergences.append(_divergence(log_ratios(explores, part), part))
            memory = self.actor_.adapt(self.module_, memory, part)
        policy = self.actor_.decide(self.module_, memory, after.observation).policy
        gain = clipped(log_ratios(policy, after).exp(), advantage, self.clip)
        divergence = torch.stack(divergences).mean() if divergences else gain.new_zeros(())
        loss = -gain.sum() / after.mask.sum()
        loss = loss + self.kl * divergence if self.kl else loss
        return loss, {"divergence": divergence.detach()}

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the learning rate."""
        return cls(lr=trial.suggest_float("lr", 3e-4, 6e-3, log=True))


def _divergence(ratio: Tensor, seen: am.Experience) -> Tensor:
    """Estimate the divergence of those who acted from a policy, by logarithms of its ratio to theirs [tasks, time]."""
    return (ratio.exp() - 1 - ratio).sum() / seen.mask.sum()

"""Proximal policy optimization over whole trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.control.surrogate import clipped, log_ratios
from autometa_plugins.control.trials import OnTrials, mean_of_steps

if TYPE_CHECKING:
    from optuna import Trial

_SCALE_KEPT = 0.9
"""Share of the old unit of values that stays in an outer step."""


class PolicyGradient(OnTrials):
    """PPO (Schulman et al. 2017) whose episode is a whole trial, so that exploring early may pay late.

    An outer step collects trials, estimates advantages (Schulman et al. 2016), and descends the clipped surrogate a few
    times over them. Only the end of a trial ends the sum of rewards. What an actor that provides ``"episodic"`` does in
    an episode changes nothing in the next one: its sums end with the episode, and it does not adapt meanwhile. A loss
    of the actor's own is added.

    Parameters
    ----------
    trials : int or "auto", default="auto"
        Trials of an outer step. "auto": as many as make 40,000 steps, at most 1,000, and never fewer than
        ``tasks_per_step``.
    epochs : int, default=3
        Times that the trials of an outer step are gone through.
    minibatches : int, default=4
        Parts of the trials, each of which makes a step of the optimizer.
    clip : float, default=0.2
        How far the ratio of the new to the old probability of an action counts.
    lr : float, default=2e-3
    optimizer : str, default="adam"
        Any of ``torch.optim`` that needs nothing but a learning rate.
    schedule : {"cosine", "constant", "step"}, default="cosine"
        Learning rate over meta-training.
    discount : float, default=0.99
    trace : float, default=0.95
        λ of the advantages: 1 sums up rewards, 0 trusts the critic after one step.
    entropy : float, default=0.02
        Weight of the policy's entropy, which falls to 0 over meta-training.
    value_weight : float, default=0.5
        Weight of the critic's squared error, in units of the spread of returns.
    largest_gradient : float, default=0.5
        Largest norm of a gradient.
    blind : float, default=0.5
        Share of the tasks whose rewards are withheld in the episodes that are judged, so that the actor can do without
        them later; nothing is withheld where there is no episode before those.
    """

    name: ClassVar[str] = "policy_gradient"
    requires: ClassVar[frozenset[str]] = frozenset({"policy"})

    def __init__(
        self,
        *,
        trials: int | Literal["auto"] = "auto",
        epochs: int = 3,
        minibatches: int = 4,
        clip: float = 0.2,
        lr: float = 2e-3,
        optimizer: str = "adam",
        schedule: str = "cosine",
        discount: float = 0.99,
        trace: float = 0.95,
        entropy: float = 0.02,
        value_weight: float = 0.5,
        largest_gradient: float = 0.5,
        blind: float = 0.5,
    ) -> None:
        self.trials = trials
        self.epochs = epochs
        self.minibatches = minibatches
        self.clip = clip
        self.lr = lr
        self.optimizer = optimizer
        self.schedule = schedule
        self.discount = discount
        self.trace = trace
        self.entropy = entropy
        self.value_weight = value_weight
        self.largest_gradient = largest_gradient
        self.blind = blind

    def start(self, learner: am.Actor, module: nn.Module, info: am.TaskInfo) -> None:
        """Take over θ.

        Raises
        ------
        InvalidParameter
            Names the parameter, its value and what would work.
        """
        whose = f"meta-optimizer {self.name!r}"
        am.check_real("clip", self.clip, above=0, of=whose)
        for name in ("entropy", "value_weight"):
            am.check_real(name, getattr(self, name), least=0, of=whose)
        for name in ("discount", "trace"):
            am.check_real(name, getattr(self, name), least=0, most=1, of=whose)
        super().start(learner, module, info)

    def step(self, batch: am.Environments) -> dict[str, Tensor]:
        """Collect a trial of every task, and improve the policy that did it."""
        with torch.no_grad():
            seen = self.collect(batch)
            value = self._read(seen)[1]
            ends = seen.ended if "episodic" in self.learner_.provides else None
            advantage = advantages(seen.reward, value, seen.mask, self.discount, self.trace, ends)
            target = advantage + value
            self._rescale(target[seen.mask])
            chosen = advantage[seen.mask]
            advantage = (advantage - chosen.mean()) / (chosen.std() + 1e-8)
        metrics: dict[str, Tensor] = {}
        for _ in range(self.epochs):
            for rows in self.parts(seen):
                loss, metrics = self._loss(seen[rows], advantage[rows], target[rows])
                self.update_.step([loss], self.progress)
        return {"loss": -seen.returns(self.info_.n_episodes).mean(0).sum(), **metrics, **self.taken(seen)}

    def _read(self, seen: am.Experience) -> tuple[am.Choice | am.Normal, Tensor, Tensor | None]:
        (policy, value, auxiliary), _ = self.learner_.along(self.module_, seen)
        if value is None:
            raise am.PluginError(
                f"along() of actor {type(self.learner_).__name__} gives no values, which 'policy' in its provides "
                "promises; add a critic."
            )
        return policy, value, auxiliary

    def _rescale(self, target: Tensor) -> None:
        """Let the unit of values follow returns slowly: the critic's error would else drown the policy's gradient."""
        scale = getattr(self.module_, "value_scale", None)
        if scale is None:
            return
        found = target.square().mean().sqrt().clamp(min=1e-3)
        scale.copy_(found if self.n_taken_ == 0 else _SCALE_KEPT * scale + (1 - _SCALE_KEPT) * found)

    def _loss(self, seen: am.Experience, advantage: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        policy, value, auxiliary = self._read(seen)
        unit = getattr(self.module_, "value_scale", 1.0)
        gain = clipped(log_ratios(policy, seen).exp(), advantage, self.clip)
        entropy, error = policy.entropy, ((value - target) / unit).square()
        each = self.value_weight * error - gain - self.entropy * (1 - self.progress) * entropy
        mask = seen.mask.to(each)
        loss, entropy, error = (torch.where(seen.mask, part, 0).sum() / mask.sum() for part in (each, entropy, error))
        metrics = {"entropy": entropy.detach(), "value_loss": error.detach()}
        if auxiliary is None:
            return loss, metrics
        own = mean_of_steps(auxiliary, seen)
        return loss + own, metrics | {"auxiliary_loss": own.detach()}

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the learning rate."""
        return cls(lr=trial.suggest_float("lr", 3e-4, 6e-3, log=True))


def advantages(
    reward: Tensor, value: Tensor, mask: Tensor, discount: float, trace: float, ends: Tensor | None = None
) -> Tensor:
    """Generalised advantage estimates over whole trials (Schulman et al. 2016, eq. 16): nothing ends but the trial.

    Parameters
    ----------
    reward, value, mask : Tensor of shape [tasks, time]
    discount, trace : float
    ends : Tensor of shape [tasks, time], bool, optional
        Steps that end the sum of rewards too.

    Returns
    -------
    Tensor of shape [tasks, time]
        0 where padded.
    """
    found, value = [], value.masked_fill(~mask, 0)  # which actors may leave anything
    ahead = later = torch.zeros_like(value[:, 0])
    for time in range(reward.shape[1] - 1, -1, -1):
        exists = mask[:, time].to(value)
        if ends is not None:
            ahead, later = (torch.where(ends[:, time], 0, part) for part in (ahead, later))
        surprise = reward[:, time] + discount * later - value[:, time]
        ahead = (surprise + discount * trace * ahead) * exists
        later = value[:, time] * exists
        found.append(ahead)
    return torch.stack(found[::-1], 1)

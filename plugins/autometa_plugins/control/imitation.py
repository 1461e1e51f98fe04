"""Imitation: an actor learns to do what an adviser says it should have done."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.control.trials import OnTrials, mean_of_steps

if TYPE_CHECKING:
    from optuna import Trial


class Imitation(OnTrials):
    """Let the actor act, ask an adviser about every step, and make what he says more probable.

    The actor is so taught in the situations that it gets into by itself (DAgger, Ross et al. 2011). New trials cost
    little, so those of earlier steps are not kept. Environments must tell what to do (``Environments.advice``). Where
    the adviser can act himself, the actor watches him instead, or first.

    Parameters
    ----------
    trials : int or "auto", default="auto"
        Trials of an outer step. "auto": as many as make 40,000 steps, at most 1,000, and never fewer than
        ``tasks_per_step``.
    epochs : int, default=1
        Times that the trials of an outer step are gone through.
    minibatches : int, default=4
        Parts of the trials, each of which makes a step of the optimizer.
    demonstrated : float, default=1.0
        Share of meta-training, its beginning, in which the adviser acts himself in place of the actor. It is as if 0
        where he cannot (``Environments.demonstrations``).
    slips : float, default=0.15
        Share of his steps at which he does something at random instead of what he advises, so that the actor learns how
        to go on from its own mistakes (Laskey et al. 2017, DART).
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

    name: ClassVar[str] = "imitation"
    requires: ClassVar[frozenset[str]] = frozenset({"decisions"})

    def __init__(
        self,
        *,
        trials: int | Literal["auto"] = "auto",
        epochs: int = 1,
        minibatches: int = 4,
        demonstrated: float = 1.0,
        slips: float = 0.15,
        lr: float = 0.02,
        optimizer: str = "adam",
        schedule: str = "cosine",
        largest_gradient: float = 0.5,
        blind: float = 0.5,
    ) -> None:
        self.trials = trials
        self.epochs = epochs
        self.minibatches = minibatches
        self.demonstrated = demonstrated
        self.slips = slips
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
        if info.adviser is None:
            raise am.Incompatible(
                f"meta-optimizer {self.name!r} needs tasks that tell what to do, and these name no adviser in their "
                "info; use learner 'rl2', or override advice() of the environments."
            )
        for name in ("demonstrated", "slips"):
            am.check_real(name, getattr(self, name), least=0, most=1, of=f"meta-optimizer {self.name!r}")
        super().start(learner, module, info)

    def step(self, batch: am.Environments) -> dict[str, Tensor]:
        """Collect a trial of every task, or watch one, and learn what should have been done in it."""
        with torch.no_grad():
            shown = batch.demonstrations(self.slips) if self.progress < self.demonstrated else None
            seen = self.collect(batch) if shown is None else self._blinded(shown.zero_padded())
            advice = self._ask(batch, seen)
        losses: list[Tensor] = []
        for epoch in range(self.epochs):
            for rows in self.parts(seen):
                loss = self.update_.step([self._loss(seen[rows], advice[rows])], self.progress)
                if epoch == 0:
                    losses.append(loss)
        return {"loss": torch.stack(losses).mean(), **_agreement(seen, advice), **self.taken(seen)}

    def _blinded(self, shown: am.Experience) -> am.Experience:
        """Withhold rewards from some trials that the adviser shows, as from the actor's own."""
        n_shot = self.info_.n_shot
        is_blind = torch.rand(len(shown), 1, device=shown.reward.device) < (self.blind if n_shot else 0.0)
        return replace(shown, told=shown.told & ~(is_blind & (shown.episode >= n_shot)))

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
        """Mean surprise of the actor at the advice, in nats, and what loss it has of its own."""
        (policy, _, auxiliary), _ = self.learner_.along(self.module_, seen)
        surprise = mean_of_steps(-policy.log_prob(_where_taken(seen, advice)), seen)
        return surprise if auxiliary is None else surprise + mean_of_steps(auxiliary, seen)

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

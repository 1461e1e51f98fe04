"""VariBAD: act by what is believed of the world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.control.belief import Belief, BeliefPolicy
from autometa_plugins.control.sequence_actor import SequenceActor

if TYPE_CHECKING:
    from optuna import Trial

_LEAST_SHARE = 0.01
"""Of the mean square of what is told: where it hardly varies, little is to be told."""


class VariBAD(SequenceActor):
    """A network reads the trial and believes something of the world; the policy acts by it (Zintgraf et al. 2020).

    The belief is a Gaussian over a few numbers that stand for the world. Decoders tell the rewards of the whole trial
    from them, of steps before and after (section 3.2), which is how the belief gets its meaning: meta-training adds the
    negative evidence lower bound at steps drawn at random, for other steps drawn at random. The policy sees the
    observation and the mean and log variance of the belief; its loss does not change what reads.

    A squared error counts in units of the variance of what is told. The backbone of images is shared by policy,
    reader and decoders, and learns from all.

    Parameters
    ----------
    reader : str or Learner, default="gru"
        A learner that reads sequences ("gru", "lstm", "mann", "snail", "plastic"), whose cell believes.
    hidden_size : int or None, default=64
        Of a reader given by name; None: its own.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        What turns observations into features. "auto": conv4 for images; vectors are read as they are.
    latent : int, default=5
        Numbers that stand for a world.
    tells_observations : bool, default=False
        Whether a decoder tells next observations too: for worlds that move differently.
    rewards_from : {"step", "next"}, default="step"
        What the decoder of rewards sees of a step beside the world: "step": observation, action and next observation;
        "next": the next observation alone. Actions give away what the policy believes, so that less of it has to be in
        the belief: prefer "next" where rewards depend on nothing else.
    bound_weight : float, default=1.0
        Weight of the bound beside the loss of the policy. They share no parameters but those of a backbone, so that it
        decides how much each has of the largest gradient of a step.
    divergence_weight : float, default=0.1
        Weight of the divergence of each belief from the one before, the first from a standard normal.
    from_prior : bool, default=False
        Whether the divergence is from the standard normal at every step instead.
    n_beliefs : int, default=8
        Beliefs of a trial from which is told in a step of the optimizer.
    n_told : int, default=16
        Steps of a trial that are told from each of them.
    greedy : bool, default=True
        Whether it takes the most probable action when it is judged, instead of drawing one.
    """

    name: ClassVar[str] = "varibad"

    def __init__(
        self,
        *,
        reader: str | am.Learner = "gru",
        hidden_size: int | None = 64,
        backbone: am.BackboneLike = "auto",
        latent: int = 5,
        tells_observations: bool = False,
        rewards_from: Literal["step", "next"] = "step",
        bound_weight: float = 1.0,
        divergence_weight: float = 0.1,
        from_prior: bool = False,
        n_beliefs: int = 8,
        n_told: int = 16,
        greedy: bool = True,
    ) -> None:
        self.reader = reader
        self.hidden_size = hidden_size
        self.backbone = backbone
        self.latent = latent
        self.tells_observations = tells_observations
        self.rewards_from = rewards_from
        self.bound_weight = bound_weight
        self.divergence_weight = divergence_weight
        self.from_prior = from_prior
        self.n_beliefs = n_beliefs
        self.n_told = n_told
        self.greedy = greedy

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return backbone, cell, policy, critic and decoders, see :meth:`SequenceActor.build`."""
        whose = "learner 'varibad'"
        am.check_int("latent", self.latent, most=10_000, of=whose)
        am.check_choice("rewards_from", self.rewards_from, ("step", "next"), of=whose)
        for name in ("tells_observations", "from_prior"):
            am.check_bool(name, getattr(self, name), of=whose)
        for name in ("bound_weight", "divergence_weight"):
            am.check_real(name, getattr(self, name), least=0, of=whose)
        for name in ("n_beliefs", "n_told"):
            am.check_int(name, getattr(self, name), most=10_000, of=whose)
        return super().build(info)

    def network(self, backbone: nn.Module, cell: Any, info: am.TaskInfo) -> BeliefPolicy:
        """Return a policy that sees what the cell believes, and decoders."""
        return BeliefPolicy(
            backbone,
            cell,
            info,
            self.critic_sees(info),
            latent=self.latent,
            rewards_from=self.rewards_from,
            tells_observations=self.tells_observations,
        )

    def critic_sees(self, info: am.TaskInfo) -> int:
        """Return 0: the critic sees what the policy sees."""
        return 0

    def along(
        self, module: nn.Module, experience: am.Experience, memory: dict[str, Any] | None = None
    ) -> tuple[am.Decision, dict[str, Any]]:
        """Decide at every step; with gradients, also return the negative evidence lower bound of each."""
        assert isinstance(module, BeliefPolicy)
        features, memory = self.read(module, experience, memory)
        observed, belief = module.split(features)
        seen = torch.cat([observed, belief.mean.detach(), belief.log_variance.detach()], -1)
        loss = self._loss(module, belief, experience) if torch.is_grad_enabled() else None
        return am.Decision(module.policy_of(seen), module.value_of(seen, experience.hidden), loss), memory

    def believe(self, module: nn.Module, experience: am.Experience) -> Belief:
        """Return what is believed before each step of trials from their beginning, [tasks, time, latent] each."""
        assert isinstance(module, BeliefPolicy)
        return module.split(self.read(module, experience, None)[0])[1]

    def _loss(self, module: BeliefPolicy, belief: Belief, experience: am.Experience) -> Tensor:
        """Weighted negative lower bound at every step [tasks, time], divided by the steps of a trial.

        What is told counts only for the beliefs that were drawn, as much more as these are fewer.
        """
        prior = Belief(*(torch.zeros_like(part[:, :1]) for part in belief))
        before = [prior.mean.expand_as(belief.mean)] * 2
        if not self.from_prior:
            before = [torch.cat([first, part[:, :-1]], 1) for first, part in zip(prior, belief, strict=True)]
        length = experience.mask.sum(1, keepdim=True).clamp(min=1)
        times, steps = (self._drawn(length, n) for n in (self.n_beliefs, self.n_told))
        latent = Belief(*(_at(part, times) for part in belief))
        drawn = latent.drawn(torch.randn_like(latent.mean))
        error = self._error(module, drawn, experience, steps) * length / self.n_beliefs
        told = torch.zeros_like(experience.reward).scatter_add(1, times, error)
        return self.bound_weight * (told + self.divergence_weight * belief.divergence(Belief(*before)) / length)

    def _drawn(self, length: Tensor, n: int) -> Tensor:
        """Draw ``n`` steps of each trial, of lengths [tasks, 1]."""
        return (torch.rand(len(length), n, device=length.device) * length).long().minimum(length - 1)

    def _error(self, module: BeliefPolicy, latent: Tensor, experience: am.Experience, steps: Tensor) -> Tensor:
        """Mean squared error of what each belief tells of the steps, in units of its variance, [tasks, beliefs]."""
        at = experience.taken(steps)
        gap = module.rewards(latent, at) - at.reward.unsqueeze(1)
        error = gap.square().mean(-1) / _variance(experience.reward, experience.mask)
        if module.next is not None:
            gap = module.observations(latent, at) - at.next_observation.flatten(2).unsqueeze(1)
            error = error + gap.square().mean((-1, -2)) / _variance(experience.next_observation, experience.mask)
        return error

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the size of the memory, and how much a belief may tell."""
        return cls(
            hidden_size=trial.suggest_categorical("hidden_size", [64, 32, 128]),
            divergence_weight=trial.suggest_float("divergence_weight", 0.01, 1.0, log=True),
        )


def _at(values: Tensor, times: Tensor) -> Tensor:
    """Return values [tasks, time, ...] at times [tasks, n]."""
    return values[torch.arange(len(values), device=values.device).unsqueeze(1), times]


def _variance(values: Tensor, mask: Tensor) -> Tensor:
    """Variance of all numbers of the steps in ``mask``, or a hundredth of their mean square where it is less than that.

    1 where all of them are 0.
    """
    there = values[mask]
    found = torch.maximum(there.var(correction=0), _LEAST_SHARE * there.square().mean())
    return torch.where(found > 0, found, 1)

"""Actors that know they are in a bandit, and count what its arms paid."""

# Annotations are evaluated at once: names in those of a NamedTuple are not found later, as by the API reference.
from abc import abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import autometa as am

KINDS = ("bernoulli", "gaussian")
"""What arms may pay, see ``TaskInfo.arms``."""


class Counts(NamedTuple):
    """What is known of arms; real numbers."""

    pulls: Tensor
    """Pulls of every arm whose reward was told [..., arms]."""
    paid: Tensor
    """Sum of these rewards [..., arms]."""
    time: Tensor
    """Pulls so far, told or not [...]."""


class BanditFacts(nn.Module):
    """What is known of bandits before the first pull.

    Parameters
    ----------
    kind : {"bernoulli", "gaussian"}
    n_arms : int
    n_pulls : int
        Of a trial.
    """

    nothing: Tensor

    def __init__(self, kind: str, n_arms: int, n_pulls: int) -> None:
        super().__init__()
        self.kind, self.n_arms, self.n_pulls = kind, n_arms, n_pulls
        self.register_buffer("nothing", torch.zeros(n_arms))


class BanditActor(am.Actor):
    """Chooses by what is known of each arm; there is nothing to meta-train. Subclasses have a ``name``."""

    name: ClassVar[str]
    default_meta_optimizer: ClassVar[str | None] = None
    provides: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def logits(self, module: BanditFacts, counts: Counts) -> Tensor:
        """Return logarithms of the probabilities of arms [..., arms], up to a constant."""

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return what is known of the bandits; there is nothing to learn.

        Raises
        ------
        Incompatible
            The tasks are no bandits, or their arms pay in a way that it does not know.
        """
        if info.arms not in KINDS:
            raise am.Incompatible(
                f"learner {self.name!r} is for bandits whose arms pay 'bernoulli' or 'gaussian' rewards; arms of the "
                f"tasks' info is {info.arms!r}."
            )
        return BanditFacts(info.arms, info.n_outputs, info.n_steps)

    def start(self, module: nn.Module, n_tasks: int) -> dict[str, Tensor]:
        """Nothing was pulled."""
        assert isinstance(module, BanditFacts)
        nothing = module.nothing.expand(n_tasks, -1)
        return Counts(nothing, nothing, nothing[:, 0])._asdict()

    def act(
        self, module: nn.Module, memory: dict[str, Tensor], observation: Tensor
    ) -> tuple[am.Decision, dict[str, Tensor]]:
        """Decide by the counts."""
        assert isinstance(module, BanditFacts)
        return am.Decision(am.Choice(self.logits(module, Counts(**memory))), None), memory

    def observe(self, module: nn.Module, memory: dict[str, Tensor], transition: am.Transition) -> dict[str, Tensor]:
        """Count what was paid."""
        assert isinstance(module, BanditFacts)
        pulled = F.one_hot(transition.action, module.n_arms) * transition.told.unsqueeze(1)
        known, paid = Counts(**memory), pulled * transition.reward.unsqueeze(1)
        return Counts(known.pulls + pulled, known.paid + paid, known.time + 1)._asdict()


def surely(worth: Tensor) -> Tensor:
    """Return logits of the arm of the largest ``worth`` [..., arms], the first of several, and of no other."""
    return 1000 * F.one_hot(worth.argmax(-1), worth.shape[-1]).to(worth)


def counts_before(experience: am.Experience, n_arms: int) -> Counts:
    """Return what was known before every step of what happened, [tasks, time, ...]."""
    pulled = F.one_hot(experience.action, n_arms) * experience.told.unsqueeze(-1)
    paid = pulled * experience.reward.unsqueeze(-1)
    time = torch.arange(experience.n_steps, device=paid.device).to(paid).expand(len(experience), -1)
    return Counts(pulled.to(paid).cumsum(1) - pulled, paid.cumsum(1) - paid, time)

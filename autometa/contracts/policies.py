"""What an actor decides: a distribution over actions."""

# Annotations are evaluated at once: names in those of a NamedTuple are not found later, as by the API reference.
import math
from typing import NamedTuple, TypeAlias

from jaxtyping import Float, Int
from torch import Tensor

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Choice(NamedTuple):
    """A distribution over choices."""

    logits: Float[Tensor, "*batch choice"]

    @property
    def n_noise(self) -> int:
        """Uniform numbers that a draw uses up."""
        return 1

    def draw(self, noise: Float[Tensor, "*batch 1"]) -> Int[Tensor, "*batch"]:
        """Draw by inversion from uniform numbers."""
        return (self.logits.softmax(-1).cumsum(-1)[..., :-1] < noise).sum(-1)

    @property
    def mode(self) -> Int[Tensor, "*batch"]:
        """The most probable choice."""
        return self.logits.argmax(-1)

    def log_prob(self, action: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Logarithm of the probability of choices."""
        return self.logits.log_softmax(-1).gather(-1, action.unsqueeze(-1)).squeeze(-1)

    @property
    def entropy(self) -> Float[Tensor, "*batch"]:
        """Entropy in nats."""
        log_p = self.logits.log_softmax(-1)
        return -(log_p.exp() * log_p).sum(-1)


class Normal(NamedTuple):
    """Independent normal numbers."""

    mean: Float[Tensor, "*batch action"]
    log_std: Float[Tensor, "*batch action"]

    @property
    def n_noise(self) -> int:
        """Uniform numbers that a draw uses up."""
        return self.mean.shape[-1]

    def draw(self, noise: Float[Tensor, "*batch action"]) -> Float[Tensor, "*batch action"]:
        """Draw by inversion from uniform numbers."""
        return self.mean + self.log_std.exp() * math.sqrt(2) * (2 * noise - 1).erfinv()

    @property
    def mode(self) -> Float[Tensor, "*batch action"]:
        """The most probable numbers."""
        return self.mean

    def log_prob(self, action: Float[Tensor, "*batch action"]) -> Float[Tensor, "*batch"]:
        """Logarithm of the density of actions."""
        z = (action - self.mean) / self.log_std.exp()
        return (-0.5 * z * z - self.log_std - _HALF_LOG_2PI).sum(-1)

    @property
    def entropy(self) -> Float[Tensor, "*batch"]:
        """Differential entropy in nats."""
        return (self.log_std.expand_as(self.mean) + 0.5 + _HALF_LOG_2PI).sum(-1)


Policy: TypeAlias = Choice | Normal


class Decision(NamedTuple):
    """What an actor decides for every task, and what it expects."""

    policy: Policy
    value: Tensor | None
    """Expected return of the rest of the trial, in whatever unit the actor learns it; None: the actor has no critic."""
    auxiliary: Tensor | None = None
    """Loss of the actor's own at every step, [tasks, time], whose mean meta-training adds; None: there is none."""

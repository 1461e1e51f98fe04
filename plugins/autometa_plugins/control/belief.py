"""What is believed of a world: a Gaussian over a few numbers, from which rewards can be told."""

# Annotations are evaluated at once: names in those of a NamedTuple are not found later, as by the API reference.

from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.control.sequence_actor import RecurrentPolicy

_WIDTH = 64
"""Units of each hidden layer."""


class BeliefCell(nn.Module):
    """A cell that shows the observation, and what it believes after reading it: mean and log variance.

    Parameters
    ----------
    cell : nn.Module that reads sequences
    n_observed : int
        Numbers of the observation, the first ones of a token.
    latent : int
        Numbers that the belief is about.
    """

    def __init__(self, cell: Any, n_observed: int, latent: int) -> None:
        super().__init__()
        self.cell: Any = cell
        self.n_observed = n_observed
        self.n_features = n_observed + 2 * latent
        self.belief = nn.Linear(cell.n_features, 2 * latent)

    def start(self, tokens: Tensor) -> dict[str, Tensor]:
        """State of the cell before anything is read."""
        state: dict[str, Tensor] = self.cell.start(tokens)
        return state

    def read(self, tokens: Tensor, mask: Tensor | None, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Go on reading tokens [sequences, n, width]; features are [sequences, n, n_observed + 2 * latent]."""
        features, state = self.cell.read(tokens, mask, state)
        return torch.cat([tokens[..., : self.n_observed], self.belief(features)], -1), state


class Belief(NamedTuple):
    """Independent normal numbers that stand for a world."""

    mean: Tensor
    log_variance: Tensor

    @property
    def entropy(self) -> Tensor:
        """Differential entropy in nats, [...] of means [..., latent]."""
        return am.Normal(self.mean, self.log_variance / 2).entropy

    def drawn(self, noise: Tensor) -> Tensor:
        """Return the numbers that belong to standard normal noise of their shape."""
        return self.mean + (self.log_variance / 2).exp() * noise

    def divergence(self, other: Self) -> Tensor:
        """Kullback-Leibler divergence from another belief, in nats."""
        gap, spread = self.mean - other.mean, self.log_variance - other.log_variance
        return 0.5 * (gap.square() / other.log_variance.exp() + spread.exp() - 1 - spread).sum(-1)


class BeliefPolicy(RecurrentPolicy):
    """A policy that sees observation and belief, and the decoders that give the belief its meaning.

    Parameters
    ----------
    backbone : nn.Module with ``n_features``
    cell : nn.Module that reads sequences
    info : TaskInfo
    n_hidden : int or None
        See :class:`RecurrentPolicy`.
    latent : int
        Numbers that the belief is about.
    rewards_from : {"step", "next"}
        Whether rewards are told from observation, action and next observation, or from the last alone.
    tells_observations : bool
        Whether there is a decoder of next observations beside that of rewards.
    """

    def __init__(
        self,
        backbone: nn.Module,
        cell: Any,
        info: am.TaskInfo,
        n_hidden: int | None,
        *,
        latent: int,
        rewards_from: Literal["step", "next"],
        tells_observations: bool,
    ) -> None:
        n_observed = int(backbone.n_features)  # type: ignore[arg-type]
        super().__init__(backbone, BeliefCell(cell, n_observed, latent), info, n_hidden, n_layer=_WIDTH)
        self.from_next = rewards_from == "next"
        self.reward = Decoder(latent, n_observed if self.from_next else 2 * n_observed + info.n_outputs, 1)
        n_told = int(torch.Size(info.input_shape).numel())
        self.next = Decoder(latent, n_observed + info.n_outputs, n_told) if tells_observations else None

    def split(self, features: Tensor) -> tuple[Tensor, Belief]:
        """Part features of the cell [tasks, n, n_features] in what was observed, and the belief."""
        observed, belief = features.tensor_split([self.cell.n_observed], -1)
        return observed, Belief(*belief.chunk(2, -1))

    def rewards(self, latent: Tensor, steps: am.Experience) -> Tensor:
        """Tell the rewards [tasks, beliefs, n] of steps [tasks, n] in worlds ``latent`` [tasks, beliefs, latent]."""
        step = am.apply_per_task(self.backbone, steps.next_observation)
        if not self.from_next:
            step = torch.cat([am.apply_per_task(self.backbone, steps.observation), self.acted(steps), step], -1)
        told: Tensor = self.reward(latent, step).squeeze(-1)
        return told

    def observations(self, latent: Tensor, steps: am.Experience) -> Tensor:
        """Tell the next observations [tasks, beliefs, n, numbers], flat, as :meth:`rewards` tells rewards."""
        assert self.next is not None, "there is no decoder of observations"
        before = am.apply_per_task(self.backbone, steps.observation)
        told: Tensor = self.next(latent, torch.cat([before, self.acted(steps)], -1))
        return told

    def acted(self, steps: am.Experience) -> Tensor:
        """Actions as the cell reads them, [tasks, n, n_outputs]."""
        return self.told(steps)[..., : self.n_outputs]


class Decoder(nn.Module):
    """Tell something of steps from what stands for the world.

    Parameters
    ----------
    latent : int
        Numbers that stand for a world.
    n_inputs : int
        Numbers of a step.
    n_outputs : int
        What is told of it.
    """

    def __init__(self, latent: int, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.world = nn.Linear(latent, _WIDTH)
        self.step = nn.Linear(n_inputs, _WIDTH)
        self.layers = nn.Sequential(nn.ReLU(), nn.Linear(_WIDTH, _WIDTH // 2), nn.ReLU())
        self.out = nn.Linear(_WIDTH // 2, n_outputs)

    def forward(self, latent: Tensor, steps: Tensor) -> Tensor:
        """Outputs [tasks, worlds, n, n_outputs] of every step [tasks, n, n_inputs] in every world."""
        first = self.world(latent).unsqueeze(2) + self.step(steps).unsqueeze(1)
        told: Tensor = self.out(self.layers(first))
        return told

"""Newcomers as they will be: training entities of which a few rows are known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import autometa as am

Places = NDArray[np.int64]

SHOTS = (0, 1, 2, 5, 10)
"""Numbers of known rows that newcomers are simulated with."""
_N_EPISODES = 120
_N_QUERY = 30


@dataclass(frozen=True, slots=True)
class Episodes:
    """Places of the support and query rows of simulated newcomers that have equally many support rows.

    Parameters
    ----------
    support : array of shape [episodes, n_shot]
    query : array of shape [episodes, m]
        -1 is padding.
    """

    support: Places
    query: Places

    @property
    def n_shot(self) -> int:
        """Support rows of each."""
        return int(self.support.shape[1])

    def take(self, chosen: NDArray[np.bool_]) -> Episodes:
        """Return some of the newcomers."""
        return Episodes(self.support[chosen], self.query[chosen])

    @property
    def mask(self) -> Tensor:
        """True where a query is, [episodes, m]."""
        return torch.from_numpy(self.query >= 0)


def simulate(entity: Places, seed: int) -> Iterator[Episodes]:
    """Draw newcomers, as many of each number of support rows where entities have them and rows to ask about.

    Parameters
    ----------
    entity : array of shape [rows]
    """
    rows = [np.flatnonzero(entity == number) for number in np.unique(entity)]
    for n_shot in SHOTS:
        large = [own for own in rows if len(own) > n_shot]
        if not large:
            continue
        generator = np.random.default_rng(am.derive_seed(seed, "newcomers", n_shot))
        turns = -(-_N_EPISODES // len(large))
        order = np.concatenate([generator.permutation(len(large)) for _ in range(turns)])[:_N_EPISODES]
        drawn = [generator.permutation(large[i])[: n_shot + _N_QUERY] for i in order]
        yield Episodes(np.stack([own[:n_shot] for own in drawn]), padded([own[n_shot:] for own in drawn]))


def padded(pieces: list[Places]) -> Places:
    """Stack places, [pieces, longest]; -1 is padding."""
    places = np.full((len(pieces), max(map(len, pieces))), -1, dtype=np.int64)
    for row, piece in zip(places, pieces, strict=True):
        row[: len(piece)] = piece
    return places


def gather(values: Tensor, places: Places) -> Tensor:
    """Values at places, [..., features]; zero where padded."""
    index = torch.from_numpy(places)
    return values[index.clamp_min(0)] * (index >= 0).unsqueeze(-1)

"""What actors did in a few held-out worlds, the same ones for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autometa.comparison.results.judged import Judged


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownEpisode:
    """An episode of a trial; without a picture there are numbers over time."""

    number: int
    """From 1."""
    total: float
    """Its return."""
    picture: str | None = None
    """In characters."""
    steps: tuple[int, ...] = ()
    """Numbers of the steps kept, from 1."""
    reward: tuple[float, ...] = ()
    """At each of them."""
    observation: tuple[tuple[float, ...], ...] = field(default=())
    """The first numbers of an observation, [series][step]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTrials:
    """What one learner did after its first meta-training."""

    seed: int
    """Of the final run."""
    key: str
    """How to read the pictures; empty where nothing is to be said."""
    worlds: tuple[tuple[ShownEpisode, ...], ...]
    """The first and the last episode of each world; the one episode where there is no other."""


def shown_of(judged: Judged) -> ShownTrials | None:
    """Return what the first final run kept; None if it kept nothing."""
    for seed in sorted(judged.results):
        kept = judged.results[seed].get("shown", {})
        if "worlds" in kept:
            worlds = tuple(tuple(map(shown_episode, world)) for world in kept["worlds"])
            return ShownTrials(seed=seed, key=kept["key"], worlds=worlds)
    return None


def shown_episode(kept: Mapping[str, Any]) -> ShownEpisode:
    """Read an episode as a final run stored it."""
    return ShownEpisode(
        number=kept["number"],
        total=kept["return"],
        picture=kept.get("picture"),
        steps=tuple(kept.get("steps", ())),
        reward=tuple(kept.get("reward", ())),
        observation=tuple(map(tuple, kept.get("observation", ()))),
    )

"""The meta-test tasks that a learner does worst on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autometa.comparison.plan.domains import Domain
from autometa.comparison.results.judged import Judged
from autometa.comparison.results.shown import ShownEpisode, shown_episode
from autometa.contracts.examples import TaskBatch
from autometa.training.evaluation import drawn_again


@dataclass(frozen=True, slots=True, kw_only=True)
class HardTask:
    """A task, and what was answered to its queries."""

    place: int
    """Among all that were drawn, from 0."""
    number: int
    """As in tables of scores."""
    score: float
    """Of this draw, in this run."""
    answers: tuple[float, ...] = ()
    """Numbers of classes, or the first real target."""
    episodes: tuple[ShownEpisode, ...] = ()
    """What an actor did: the first and the last episode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HardestTasks:
    """Those with the worst scores after one meta-training of a learner, the worst first."""

    domain: Domain
    """What was judged on."""
    tasks: tuple[HardTask, ...]

    def drawn(self, task: HardTask) -> TaskBatch:
        """Draw a task again, as a batch of one."""
        return drawn_again(self.domain.sampler, task.place, split="test", seed=self.domain.seed("test"))


def hardest_of(judged: Judged) -> HardestTasks | None:
    """Return what the first final run kept; None if it kept nothing."""
    for seed in sorted(judged.results):
        kept = judged.results[seed].get("hardest", ())
        if kept:
            return HardestTasks(domain=judged.domain, tasks=tuple(map(_hard_task, kept)))
    return None


def _hard_task(kept: Mapping[str, Any]) -> HardTask:
    episodes = tuple(map(shown_episode, kept.get("episodes", ())))
    return HardTask(
        place=kept["place"],
        number=kept["task"],
        score=kept["score"],
        answers=tuple(kept.get("answers", ())),
        episodes=episodes,
    )

"""What one Optuna study searches, and what its parameters are called: one learner's, or those of all learners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from autometa.comparison.plan.domains import Domain
from autometa.comparison.plan.pair import Pair
from autometa.comparison.plan.slot_sampler import SlotSampler, make_parzen_sampler, make_sampler
from autometa.comparison.plan.suggests import Prefixed, Suggests

JOINT = "joint"
"""What the study that chooses among all learners is called in place of a learner."""
_CHOICE = "learner"
"""The parameter of a joint study that chooses the learner."""


class StudySpace(Protocol):
    """What one study searches."""

    @property
    def prunes(self) -> bool:
        """True if a pruner may stop a trial."""

    @property
    def n_points(self) -> int | None:
        """Number of different trials that there can be; None: no end of them."""

    @property
    def domain(self) -> Domain:
        """The task distribution."""

    @property
    def label(self) -> str:
        """The last part of the study's name."""

    @property
    def n_slots(self) -> int:
        """Number of trials."""

    @property
    def fixed(self) -> Mapping[int, dict[str, Any]]:
        """Values of the first trials, by slot."""

    def sampler(self) -> SlotSampler:
        """Make the sampler for the other trials."""

    def choose(self, trial: Suggests) -> tuple[Pair, Suggests]:
        """Return the pair that a new trial is about, and the trial as this pair's ``draw`` wants it."""

    def pair(self, learner: str) -> Pair:
        """Return the pair of a learner."""

    def split(self, params: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Split the parameters of a trial into the learner and its parameters under their own names."""


@dataclass(frozen=True, slots=True)
class PairSpace:
    """The space of one pair, under its own names."""

    only: Pair

    @property
    def prunes(self) -> bool:
        """A race has a way of its own to stop trials."""
        return self.only.settings.search == "separate"

    @property
    def n_points(self) -> int | None:
        """One where there is nothing to choose, all combinations of a small grid."""
        if self.only.space.is_empty:
            return 1
        grid = self._grid()
        return None if grid is None else len(grid)

    @property
    def domain(self) -> Domain:
        """The task distribution."""
        return self.only.domain

    @property
    def label(self) -> str:
        """The learner."""
        return self.only.learner

    @property
    def n_slots(self) -> int:
        """Number of trials: one for each point of a small grid, one where there is nothing to choose."""
        grid = self._grid()
        if grid is not None:
            return len(grid)
        return self._n_trials

    @property
    def fixed(self) -> Mapping[int, dict[str, Any]]:
        """The defaults, and these with every other backbone; or all points of a small grid, each once."""
        grid = self._grid()
        return dict(enumerate(self.only.first_points if grid is None else grid))

    def sampler(self) -> SlotSampler:
        """Make the sampler that suits the space."""
        seed, space, held = self.only.seed(self.label, "search"), self.only.space, self.only.candidate.details
        if self.only.settings.search == "race":  # whose paused trials tell a Gaussian process nothing
            return make_parzen_sampler(self.n_slots, seed, conditional=space.conditional, held=held)
        return make_sampler(space, self.n_slots, seed, held=held)

    def choose(self, trial: Suggests) -> tuple[Pair, Suggests]:
        """Return the pair and the trial as it is."""
        return self.only, trial

    def pair(self, learner: str) -> Pair:
        """Return the pair."""
        return self.only

    def split(self, params: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the learner and its parameters as they are."""
        return self.label, dict(params)

    @property
    def _n_trials(self) -> int:
        return 1 if self.only.space.is_empty else self.only.settings.n_trials

    def _grid(self) -> list[dict[str, Any]] | None:
        return self.only.space.grid(self._n_trials)


@dataclass(frozen=True, slots=True)
class JointSpace:
    """The space of all learners of one task distribution: which learner, and the parameters of that one.

    A parameter bears its learner's label: ``ridge.learner__ridge``.
    """

    pairs: Sequence[Pair]

    @property
    def prunes(self) -> bool:
        """Scores of different learners after the same share of a run say too little."""
        return False

    @property
    def n_points(self) -> int | None:
        """Many."""
        return None

    @property
    def domain(self) -> Domain:
        """The task distribution."""
        return self.pairs[0].domain

    @property
    def label(self) -> str:
        """What stands in the place of a learner."""
        return JOINT

    @property
    def n_slots(self) -> int:
        """Number of trials, at least one for each learner."""
        return max(self.domain.settings.n_trials, len(self.pairs))

    @property
    def fixed(self) -> Mapping[int, dict[str, Any]]:
        """Every learner with its defaults, then what did best elsewhere for each."""
        first = [self.join(pair.learner, pair.space.defaults) for pair in self.pairs]
        first += [self.join(pair.learner, point) for pair in self.pairs for point in pair.tried]
        return dict(enumerate(first[: self.n_slots]))

    def sampler(self) -> SlotSampler:
        """Make the sampler: what is asked for depends on the learner chosen."""
        seed = self.domain.seed(JOINT, "search")
        held = {
            _prefix(pair.learner) + name: value for pair in self.pairs for name, value in pair.candidate.details.items()
        }
        return make_parzen_sampler(
            self.domain.settings.n_trials, seed, conditional=True, held=held, n_held=2 * len(self.pairs)
        )

    def choose(self, trial: Suggests) -> tuple[Pair, Suggests]:
        """Let the trial choose the learner; return its pair, and the trial under the names of its parameters."""
        learner = trial.suggest_categorical(_CHOICE, [pair.learner for pair in self.pairs])
        return self.pair(learner), Prefixed(trial, _prefix(learner))

    def pair(self, learner: str) -> Pair:
        """Return the pair of a learner."""
        return next(pair for pair in self.pairs if pair.learner == learner)

    @staticmethod
    def join(learner: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of a joint trial from a learner and its own; :meth:`split` undoes this."""
        return {_CHOICE: learner} | {_prefix(learner) + name: value for name, value in params.items()}

    def split(self, params: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the learner chosen and its parameters under their own names; ``""`` where none was chosen."""
        learner = params.get(_CHOICE, "")
        prefix = _prefix(learner)
        return learner, {name.removeprefix(prefix): v for name, v in params.items() if name.startswith(prefix)}


def _prefix(learner: str) -> str:
    return f"{learner}."

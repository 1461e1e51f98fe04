"""The time of a call that has been given one: until when trials may begin, and by when all is over."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import mean
from typing import Any, NamedTuple

from optuna.storages import BaseStorage

from autometa.checks import check_real
from autometa.comparison.execution.adaptation_curve import CURVE_TASKS, TIMED_TASKS
from autometa.comparison.execution.finals import CURVE_POINTS
from autometa.comparison.execution.runner import Runner
from autometa.comparison.plan.settings import FIRST_ROUND
from autometa.errors import InvalidParameter, StorageError
from autometa.schema import finite, misfit, whole

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""Seconds by the first letter of a unit."""
_NUMBER = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*")
_PARTS = re.compile(
    r"(\d+(?:\.\d*)?|\.\d+)\s*(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)(?![a-z])\s*", re.IGNORECASE
)
_KEY = "clock"
_RECORD = {"until": finite, "seconds": finite, "workers": whole(1), "has_ended?": bool}
_UNKNOWN = 0.3
"""Share of the time that is kept for finals before anything was measured."""
_ROOM = 1.15
"""Times the seconds that finals are expected to take."""
_OF_ENSEMBLE = 0.08
"""Share of the time for an ensemble: all members answer the meta-valid and the meta-test tasks once more."""
_CLOSING = 1.3
"""Seconds that reading all results, the tables, the winner and the report take on a processor of their own."""
_SLACK = 0.01
"""Share of the time that is kept for what nobody foresees."""
_NOTICING = 0.5
"""Seconds until it is noticed that the last of several workers is through."""
_RECENT = 10
"""Runs that tell how busy the machine is."""
_BUSIEST = 10.0
"""Times as long as on an idle machine, at most: a run may also wait for something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """When a call is to end.

    A clock decides here how many rounds a race has and how many learners have finals, as the user asked for.
    """

    until: float
    """Seconds since the epoch."""
    seconds: float
    """Given to the whole call."""
    n_workers: int
    ensemble: bool = False
    """True if an ensemble is built of the finals."""
    load: float = 1.0
    """Times as long as on an idle machine that work takes now."""
    has_ended: bool = False
    """True if the call has said that it is through."""

    @classmethod
    def of(cls, storage: BaseStorage, comparison: str, *, ensemble: bool = False) -> Clock | None:
        """Return the clock that a call has set; None if it has none."""
        study = storage.get_study_id_from_name(comparison)
        record = storage.get_study_user_attrs(study).get(_KEY)
        if record is None:
            return None
        if wrong := misfit(record, _RECORD):
            raise StorageError(f"the storage is damaged: the clock of comparison {comparison!r}: {wrong}.")
        return cls(
            until=record["until"],
            seconds=record["seconds"],
            n_workers=record["workers"],
            ensemble=ensemble,
            has_ended=record.get("has_ended", False),
        )

    def set(self, storage: BaseStorage, comparison: str) -> None:
        """Tell all processes at work on a comparison."""
        study = storage.get_study_id_from_name(comparison)
        record = {
            "until": self.until,
            "seconds": self.seconds,
            "workers": self.n_workers,
            "has_ended": self.has_ended,
        }
        storage.set_study_user_attr(study, _KEY, record)

    @property
    def finals_until(self) -> float:
        """When the last final run ends."""
        noticing = _NOTICING * (self.n_workers > 1)
        shares = _SLACK + (_OF_ENSEMBLE if self.ensemble else 0.0)
        return self.until - _CLOSING * self.load - noticing - shares * self.seconds

    def trials_until(self, finalists: Sequence[Runner], n_seeds: int) -> float:
        """Return when the last trial ends, so that the finals of some learners have the time they need."""
        known = [seconds for runner in finalists if (seconds := seconds_of_final(runner)) is not None]
        needed = _ROOM * self._together(known, n_seeds) if known else _UNKNOWN * self.seconds
        first_round = self.until - (1.0 - FIRST_ROUND) * self.seconds  # which all are to have
        return max(first_round, self.finals_until - needed)

    def _together(self, finals: Sequence[float], n_seeds: int) -> float:
        """Return how long final runs take; each is of one process."""
        return max(max(finals, default=0.0), sum(finals) * n_seeds / self.n_workers)

    def has_time_for(self, runners: Sequence[Runner], n_seeds: int) -> bool:
        """Tell whether the finals of some learners fit into what is left."""
        needed = self._together([seconds_of_final(runner) or 0.0 for runner in runners], n_seeds)
        return time.time() + _ROOM * needed <= self.finals_until


def seconds_of(given: Any) -> float | None:
    """Return the seconds of ``time_budget``.

    Raises
    ------
    InvalidParameter
        It is neither a number above 0 nor a text with a unit.
    """
    if given is None:
        return None
    if isinstance(given, str):
        text = f"{given}s" if _NUMBER.fullmatch(given) else given
        parts = _PARTS.findall(text)
        if not parts or _PARTS.sub("", text).strip():
            raise InvalidParameter(
                f"time_budget={given!r} must be seconds or a text with units, such as '30min', '2h' or '1h30min'."
            )
        given = sum(float(number) * _UNITS[unit[0].lower()] for number, unit in parts)
    if isinstance(given, timedelta):
        given = given.total_seconds()
    check_real("time_budget", given, above=0, such_as=1800)
    return float(given)


def load_of(runners: Iterable[Runner]) -> float:
    """Return how many times as long as on an idle machine the last runs took: by their processor's time; 1 at least."""
    ended = [
        (trial.datetime_complete, trial.duration.total_seconds(), trial.user_attrs["processor_seconds"])
        for runner in runners
        for study in runner.arm.studies
        for trial in study.trials()
        if trial.datetime_complete is not None and trial.duration and "processor_seconds" in trial.user_attrs
    ]
    recent = sorted(ended)[-_RECENT:]
    took, processor = (sum(times) for times in ([run[1] for run in recent], [run[2] for run in recent]))
    return min(max(1.0, took / processor), _BUSIEST) if processor > 0 else 1.0


def seconds_of_leg(runner: Runner) -> float:
    """Return how long the next leg of a learner takes; 0 where nobody knows yet."""
    first = _seconds_of_first(runner)
    if first is None:
        return 0.0
    goes_on = len(runner.arm.legs) - 1 in runner.arm.tuning.goes_on
    return first.rest + (first.training + first.look) * (round(1 / runner.first_share) - 1 if goes_on else 1)


def seconds_of_final(runner: Runner) -> float | None:
    """Return how long a final run takes: that of the same learner and seed number as before, or by its trials."""
    over = [run.duration.total_seconds() for run in runner.arm.finals() if run.duration is not None]
    if over:
        return mean(over)
    first = _seconds_of_first(runner)
    if first is None:
        return None
    settings = runner.arm.space.domain.settings
    looks = 1.0 if runner.is_whole else CURVE_POINTS + 1
    looks += (settings.n_test_tasks + min(CURVE_TASKS, settings.n_test_tasks) + TIMED_TASKS) / settings.n_valid_tasks
    return first.rest + first.training / runner.first_share + looks * first.look


class _Seconds(NamedTuple):
    """Means of what a trial takes up to its first rung."""

    training: float
    look: float
    """At the meta-valid tasks."""
    rest: float
    """All else, such as what a process imports for its first trial."""


def _seconds_of_first(runner: Runner) -> _Seconds | None:
    found = [
        (trial.user_attrs["meta_train_seconds"], trial.user_attrs["look_seconds"], trial.duration.total_seconds())
        for trial in runner.arm.tuning.trials()
        if "look_seconds" in trial.user_attrs and "begun_in" not in trial.user_attrs and trial.duration
    ]
    if not found:
        return None
    training, look, whole = map(mean, zip(*found, strict=True))
    return _Seconds(training, look, max(0.0, whole - training - look))

"""How long slots take, from those that are over: which work is shortest, and how long the rest of it takes.

A clock decides here in which order work is done and what is told of it, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from statistics import mean

from optuna.trial import TrialState

from autometa.comparison.execution.arm import Arm
from autometa.comparison.execution.slot_records import slot_state
from autometa.comparison.execution.slot_study import SlotStudy


def in_turn(arms: Sequence[Arm], all_arms: Sequence[Arm]) -> list[Arm]:
    """Return some of all arms in the order in which processes fill their slots: the shortest first.

    By the seconds of a trial, so that slow ones hold up nothing. What was not measured yet comes first of all, so that
    it is; but a learner that was measured on other tasks counts as taking as long here, and a trial at work at least as
    long as it has been.

    Once one of them has as much left as each process has to do, those with the most left come first. So processes
    end together, and none has to fill the slots of a slow arm alone while the others have nothing to do.
    """
    lengths = _seconds_of_each(arms, all_arms)
    known = _seconds_of_slots(all_arms)
    if known and all(lengths.values()):  # all were measured, and not only by trials at work
        left = {arm.label: _seconds_to_begin(arm, seconds) for arm, seconds in known}
        n_workers = 1 + sum(len(study.trials(TrialState.RUNNING)) for arm in all_arms for study in arm.studies)
        if n_workers > 1 and sum(left.values()) <= n_workers * max(left[arm.label] for arm in arms):
            return sorted(arms, key=lambda arm: left[arm.label], reverse=True)
    return sorted(arms, key=lambda arm: lengths[arm.label])


def seconds_left(arms: Sequence[Arm], n_workers: int) -> float | None:
    """Return about how many seconds the open slots take; None if nothing was measured yet."""
    measured = _seconds_of_slots(arms)
    if not measured:
        return None
    left, n_left = 0.0, 0
    for arm, seconds in measured:
        if arm.n_done < arm.n_slots:
            n_open = [study.n_slots - study.n_done for study in arm.studies]
            left += sum(n * each for n, each in zip(n_open, seconds, strict=True))
            n_left += sum(n_open)
    return left / max(1, min(n_workers, n_left))


def at_work(arms: Sequence[Arm]) -> Arm | None:
    """Return the first arm that any process works on; if none, the first one with open slots."""
    running = (arm for arm in arms if any(study.trials(TrialState.RUNNING) for study in arm.studies))
    return next(running, None) or next((arm for arm in arms if arm.n_done < arm.n_slots), None)


def _seconds_of_each(arms: Sequence[Arm], all_arms: Sequence[Arm]) -> dict[str, float]:
    """Return how long a trial of each of some arms takes; 0 where nothing says so."""
    known = _seconds_of_trials(all_arms)

    def seconds(arm: Arm) -> float:
        if arm.label in known:
            return known[arm.label]
        elsewhere = [known[other.label] for other in all_arms if other.label in known and _same_learner(other, arm)]
        return max([mean(elsewhere or [0.0]), *_running(arm.tuning)])

    return {arm.label: seconds(arm) for arm in arms}


def _seconds_of_slots(arms: Sequence[Arm]) -> list[tuple[Arm, tuple[float, float]]]:
    """Return about how many seconds a trial and a final run of each arm take; nothing if none was measured yet.

    A slot takes as long as those of its study that are over; where there is none, as those of the same learner on other
    tasks, or as the mean of all.
    """
    trials = _seconds_of_trials(arms)
    finals = {arm.label: mean(found) for arm in arms if (found := _seconds(arm.final))}
    if not trials and not finals:
        return []
    both = [finals[label] / trials[label] for label in finals if trials.get(label)]
    ratio = mean(both) if both else 1.0
    known = []
    for arm in arms:
        alike = [trials[other.label] for other in arms if other.label in trials and _same_learner(other, arm)]
        trial = trials.get(arm.label, mean(alike or [*trials.values()] or [*finals.values()]))
        known.append((arm, (trial, finals.get(arm.label, ratio * trial))))
    return known


def _seconds_to_begin(arm: Arm, seconds: tuple[float, float]) -> float:
    """Return how long the slots of an arm take that nobody has begun."""
    if arm.n_done == arm.n_slots:
        return 0.0
    n_open = [study.n_slots - study.n_done - len(study.trials(TrialState.RUNNING)) for study in arm.studies]
    return sum(max(0, n) * each for n, each in zip(n_open, seconds, strict=True))


def _seconds_of_trials(arms: Sequence[Arm]) -> dict[str, float]:
    """Return the mean seconds of the trials of each arm that has any."""
    return {arm.label: mean(found) for arm in arms if (found := _seconds(arm.tuning))}


def _same_learner(one: Arm, other: Arm) -> bool:
    return one.space.label == other.space.label


def _seconds(study: SlotStudy) -> list[float]:
    over = [trial.duration for trial in study.trials() if slot_state(trial) == "done"]
    return [max(0.0, duration.total_seconds()) for duration in over if duration is not None]


def _running(study: SlotStudy) -> list[float]:
    """Return for how long the trials at work have been so."""
    now = datetime.now()  # as Optuna writes them
    begun = [trial.datetime_start for trial in study.trials(TrialState.RUNNING)]
    return [max(0.0, (now - moment).total_seconds()) for moment in begun if moment is not None]

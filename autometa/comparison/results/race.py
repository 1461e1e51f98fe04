"""What every learner had of a race, and why it left."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from optuna.trial import TrialState

from autometa.comparison.execution.race import Race
from autometa.comparison.execution.runner import FIRST
from autometa.comparison.execution.slot_records import slot_state

RACE = ["tasks", "learner", "rounds", "trials", "complete", "runs", "score", "behind", "behind_error", "state"]


def race_rows(race: Race, learners: Collection[str]) -> Iterator[tuple[Any, ...]]:
    """Yield a row for each of some learners, the best on the meta-valid tasks first."""
    rounds, finalists = race.rounds, race.finalists or []
    ordered = [label for label in race.in_order() if label in learners]
    best = race.runners[ordered[0]].scores if ordered else None
    for label in [*ordered, *(label for label in race.runners if label in learners and label not in ordered)]:
        runner, scores = race.runners[label], race.runners[label].scores
        took_part = [number for number, learners in enumerate(rounds, start=1) if label in learners]
        score = behind = error = math.nan
        if scores is not None and best is not None:
            score = float(scores.mean())
            gaps = (best - scores) if race.higher_is_better else (scores - best)
            behind = float(gaps.mean())
            error = float(gaps.std(ddof=1) / np.sqrt(len(gaps))) if len(gaps) > 1 else math.nan
        tried = [trial for trial in runner.arm.tuning.trials() if slot_state(trial) == "done"]
        n_trials = sum("begun_in" not in trial.user_attrs for trial in tried)
        runs = n_trials * runner.first_share + (len(tried) - n_trials) * (1 - FIRST)
        n_complete = sum(trial.state is TrialState.COMPLETE for trial in tried)
        last = took_part[-1] if took_part else 0
        if label in finalists:
            state = "finalist"
        elif last == len(rounds) and not race.is_decided:
            state = "in the race"
        elif not tried:
            state = "no time"
        elif scores is None:
            state = "no trial succeeded"
        else:
            state = f"left after round {last}" if last < len(rounds) else "no finalist"
        yield race.tasks, label, len(took_part), n_trials, n_complete, runs, score, behind, error, state


def left_of(race: Race, learners: Collection[str]) -> str:
    """Say what is left of a race, of some learners; empty once it is over."""
    if not race.is_decided:
        return f"The race on {race.tasks} is in round {len(race.rounds)}, and its final runs come after that."
    finals = {label: race.runners[label].arm for label in race.finalists or [] if label in learners}
    if race.is_over and all(arm.final.is_complete for arm in finals.values()):
        return ""
    told = ", ".join(f"{label} has had {len(arm.finals())}" for label, arm in finals.items())
    return f"The race on {race.tasks} is at its final runs{told and ': '}{told}."

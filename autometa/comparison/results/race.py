"""What every learner had of a race, and why it left."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from autometa.comparison.execution.race import Race
from autometa.comparison.execution.runner import FIRST
from autometa.comparison.execution.slot_records import slot_state

RACE = ["tasks", "learner", "rounds", "trials", "runs", "score", "behind", "behind_error", "state"]


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
        state = _state(label, finalists, took_part, len(rounds), has_score=scores is not None)
        tried = [trial for trial in runner.arm.tuning.trials() if slot_state(trial) == "done"]
        n_trials = sum("begun_in" not in trial.user_attrs for trial in tried)
        runs = n_trials * runner.first_share + (len(tried) - n_trials) * (1 - FIRST)
        state = state if tried else "no time"
        yield race.tasks, label, len(took_part), n_trials, runs, score, behind, error, state


def _state(label: str, finalists: Sequence[str], rounds: Sequence[int], n_rounds: int, *, has_score: bool) -> str:
    if label in finalists:
        return "finalist"
    if not has_score:
        return "no trial succeeded"
    last = rounds[-1] if rounds else 0
    return f"left after round {last}" if last < n_rounds else "no finalist"

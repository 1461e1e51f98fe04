"""What a comparison found, as one record: all that a report reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from optuna import Study

from autometa.comparison.results.hardest import HardestTasks
from autometa.comparison.results.judged import TrainedLearner
from autometa.comparison.results.shown import ShownTrials

INCOMPLETE = "Not complete: this is what was done so far."


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """The tables; :class:`autometa.Comparison` lists their columns."""

    leaderboard: pd.DataFrame
    scores: pd.DataFrame
    significance: pd.DataFrame
    ranks: pd.DataFrame
    history: pd.DataFrame
    curves: pd.DataFrame
    trials: pd.DataFrame
    failures: pd.DataFrame
    skipped: pd.DataFrame
    race: pd.DataFrame = field(default_factory=pd.DataFrame)
    pareto: pd.DataFrame = field(default_factory=pd.DataFrame)
    guards: pd.DataFrame = field(default_factory=pd.DataFrame)
    # Of tables; empty elsewhere.
    labelled_rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    best_by_rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    calibration: pd.DataFrame = field(default_factory=pd.DataFrame)
    entities: pd.DataFrame = field(default_factory=pd.DataFrame)
    members: pd.DataFrame = field(default_factory=pd.DataFrame)
    best: pd.DataFrame = field(default_factory=pd.DataFrame)
    """As ``best_by_rows``, of the scores on the leaderboard: ``rows`` is its number of shots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The results of a comparison."""

    name: str
    """The first part of the names of its studies."""
    plan: Mapping[str, Any]
    """What was asked for, as JSON."""
    frames: Frames
    studies: Mapping[str, Study]
    """The Optuna studies of the trials, by name."""
    environment: Mapping[str, Any]
    """Versions, machine, device, seeds and times."""
    complete: bool
    """True if every trial and final run is over."""
    left: str = ""
    """What is left to do, in words; empty if it is complete."""
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What the samplers of tables tell of themselves, by task distribution."""
    curve_returns: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Mean returns of an episode in the worlds behind the returns by episode, ``"best"`` of who knows the world and
    ``"random"`` where they are known, by distribution of worlds."""
    known_returns: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Likewise of the worlds judged on."""
    shown: Mapping[str, Mapping[str, ShownTrials]] = field(default_factory=dict)
    """What actors did in a few worlds, by task distribution and learner."""
    task_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the tasks by number, by task distribution; without those whose tasks have none."""
    tracebacks: Mapping[tuple[str, str, str, int], str] = field(default_factory=dict)
    """Of failures, by tasks, learner, stage and slot; of those alone whose process saw the error."""
    hardest: Mapping[str, Mapping[TrainedLearner, HardestTasks]] = field(default_factory=dict)
    """Meta-test tasks that learners do worst on, by what was judged on."""

"""Read the tables of a comparison from its studies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from autometa.comparison.execution.arm import Arm
from autometa.comparison.execution.slot_records import slot_state
from autometa.comparison.execution.stored_trials import result_of
from autometa.comparison.plan.domains import Domain
from autometa.comparison.plan.pair import Pair
from autometa.comparison.plan.plan import Plan
from autometa.comparison.results.crossed_effects import Scores, mean_of
from autometa.comparison.results.from_scores import significance
from autometa.comparison.results.record import Frames, Record
from autometa.comparison.results.statistics import mean_ranks
from autometa.errors import StorageError

LEADERBOARD = [
    "tasks", "rank", "learner", "family", "metric", "score", "ci_low", "ci_high", "n_test_tasks", "n_seeds", "n_shot",
    "n_query", "normalization", "meta_train_seconds", "adapt_ms", "predict_ms", "n_trials", "params", "trained_on",
]  # fmt: skip
SCORES = ["tasks", "learner", "seed", "task", "metric", "score", "trained_on"]
HISTORY = ["tasks", "learner", "seed", "step", "seconds", "loss"]
CURVES = ["tasks", "learner", "seed", "axis", "value", "score"]
TRIALS = ["tasks", "learner", "slot", "state", "value", "seconds", "params"]
FAILURES = ["tasks", "learner", "stage", "slot", "reason"]
SKIPPED = ["tasks", "learner", "reason", "trained_on"]


class TrainedLearner(NamedTuple):
    """What is compared on a task distribution: a learner, and what it was trained on."""

    learner: str
    trained_on: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The final runs of one pair on one task distribution: its own, or another."""

    pair: Pair
    domain: Domain
    """What it is judged on."""
    results: Mapping[int, dict[str, Any]]
    """By seed."""
    params: dict[str, Any]
    n_trials: int

    @property
    def tasks(self) -> str:
        """Label of what it is judged on."""
        return self.domain.label

    @property
    def trained(self) -> TrainedLearner:
        """What is compared on these tasks."""
        return TrainedLearner(self.pair.learner, self.pair.tasks)

    def matrix(self) -> Scores:
        """Scores [n_tasks, n_seeds]."""
        return np.array([self.results[seed]["scores"] for seed in sorted(self.results)], dtype=np.float64).T

    def mean_of(self, key: str) -> float:
        """Mean of a number over seeds."""
        return float(np.mean([result[key] for result in self.results.values()]))


def collect_record(plan: Plan, arms: Sequence[Arm], environment: Mapping[str, Any]) -> Record:
    """Read the results of a comparison, as far as it has come."""
    return Record(
        name=plan.name,
        plan=dict(plan.described),
        frames=collect_frames(plan, arms),
        studies={arm.tuning.name: arm.tuning.study for arm in arms},
        environment=dict(environment),
        complete=all(arm.n_done == arm.n_slots for arm in arms),
    )


def collect_frames(plan: Plan, arms: Sequence[Arm]) -> Frames:
    """Read all tables of a comparison, as far as it has come."""
    own = [one for arm in arms if (one := _judged(arm)) is not None]
    judged = own + [other for one in own for other in _judged_elsewhere(one)]
    by_tasks = {tasks: {j.trained: j for j in judged if j.tasks == tasks} for tasks in plan.judged_on}
    scores = pd.DataFrame([row for j in judged for row in _score_rows(j)], columns=SCORES)
    tests = significance(scores)
    return Frames(
        leaderboard=_leaderboard(plan, by_tasks),
        scores=scores,
        significance=tests,
        ranks=_ranks(by_tasks, tests),
        history=pd.DataFrame([row for j in own for row in _history_rows(j)], columns=HISTORY),
        curves=pd.DataFrame([row for j in own for row in _curve_rows(j)], columns=CURVES),
        trials=pd.DataFrame([row for arm in arms for row in _trial_rows(arm)], columns=TRIALS),
        failures=pd.DataFrame([row for arm in arms for row in _failure_rows(arm)], columns=FAILURES),
        skipped=pd.DataFrame([(s.tasks, s.learner, s.reason, s.trained_on) for s in plan.skipped], columns=SKIPPED),
    )


def _judged(arm: Arm) -> Judged | None:
    finals = {trial.user_attrs["slot"]: trial for trial in arm.final.trials(TrialState.COMPLETE)}
    pair = arm.best_pair()
    if not finals or pair is None:
        return None
    results = {slot: result_of(trial, arm.final.name) for slot, trial in sorted(finals.items())}
    _check_same_tasks(results, arm.final.name)
    params = next(iter(finals.values())).user_attrs["params"]
    return Judged(
        pair=pair,
        domain=pair.domain,
        results=results,
        params=arm.space.split(params)[1],
        n_trials=sum(arm.split(trial)[0] == pair.learner for trial in _finished(arm)),
    )


def _judged_elsewhere(own: Judged) -> Iterator[Judged]:
    for domain in own.pair.elsewhere:
        found = {
            seed: {"meta_train_seconds": result["meta_train_seconds"], **result["elsewhere"][domain.label]}
            for seed, result in own.results.items()
            if "error" not in _elsewhere(result, domain.label, own.pair.learner)
        }
        if found:
            yield replace(own, domain=domain, results=found)


def _elsewhere(result: Mapping[str, Any], label: str, learner: str) -> dict[str, Any]:
    record: dict[str, Any] | None = result.get("elsewhere", {}).get(label)
    if record is None:
        raise StorageError(f"the storage is damaged: a final run of learner {learner!r} has no scores on {label!r}.")
    return record


def _check_same_tasks(results: Mapping[int, Mapping[str, Any]], study: str) -> None:
    """Refuse final runs that were not judged on the same tasks."""
    if len({tuple(result["tasks"]) for result in results.values()}) > 1:
        raise StorageError(f"the storage is damaged: the final runs of study {study!r} are of different tasks.")


def _ranks(by_tasks: Mapping[str, Mapping[TrainedLearner, Judged]], tests: pd.DataFrame) -> pd.DataFrame:
    """Mean ranks over all pairs of tasks trained on and judged on: within a pair all were trained on the same tasks."""
    settings: dict[str, tuple[list[str], pd.DataFrame]] = {}
    for tasks, of_trained in by_tasks.items():
        for trained_on in dict.fromkeys(trained_on for _, trained_on in of_trained):
            learners = [learner for learner, on in of_trained if on == trained_on]
            here = tests["tasks"] == tasks
            of_pair = (tests["trained_on_a"] == trained_on) & (tests["trained_on_b"] == trained_on)
            settings[f"{trained_on}/{tasks}"] = learners, tests[here & of_pair]
    return mean_ranks(settings)


def _finished(arm: Arm) -> list[FrozenTrial]:
    return [trial for trial in arm.tuning.trials() if slot_state(trial) == "done"]


def _leaderboard(plan: Plan, by_tasks: Mapping[str, Mapping[TrainedLearner, Judged]]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for tasks, of_trained in by_tasks.items():
        sign = -1 if plan.judged_on[tasks].info.higher_is_better else 1
        table = sorted((_row(judged) for judged in of_trained.values()), key=lambda row: sign * row["score"])
        rows.extend({**row, "rank": rank} for rank, row in enumerate(table, start=1))
    return pd.DataFrame(rows, columns=LEADERBOARD)


def _row(judged: Judged) -> dict[str, Any]:
    pair, matrix = judged.pair, judged.matrix()
    first = next(iter(judged.results.values()))
    low, high = mean_of(matrix).interval
    return {
        "tasks": judged.tasks,
        "learner": pair.learner,
        "family": pair.family,
        "metric": pair.candidate.info.metric,
        "score": float(matrix.mean()),
        "ci_low": low,
        "ci_high": high,
        "n_test_tasks": matrix.shape[0],
        "n_seeds": matrix.shape[1],
        "n_shot": first["n_shot"],
        "n_query": first["n_query"],
        "normalization": first["normalization"],
        "meta_train_seconds": judged.mean_of("meta_train_seconds"),
        "adapt_ms": judged.mean_of("adapt_ms"),
        "predict_ms": judged.mean_of("predict_ms"),
        "n_trials": judged.n_trials,
        "params": judged.params,
        "trained_on": pair.tasks,
    }


def _score_rows(judged: Judged) -> Iterator[tuple[Any, ...]]:
    pair = judged.pair
    for seed, result in judged.results.items():
        for task, score in zip(result["tasks"], result["scores"], strict=True):
            yield judged.tasks, pair.learner, seed, task, pair.candidate.info.metric, score, pair.tasks


def _history_rows(judged: Judged) -> Iterator[tuple[Any, ...]]:
    for seed, result in judged.results.items():
        for step, seconds, loss in result["history"]:
            yield judged.pair.tasks, judged.pair.learner, seed, int(step), seconds, loss


def _curve_rows(judged: Judged) -> Iterator[tuple[Any, ...]]:
    pair = judged.pair
    for seed, result in judged.results.items():
        for step, seconds, score in result["curve"]:
            yield pair.tasks, pair.learner, seed, "outer steps", step, score
            yield pair.tasks, pair.learner, seed, "seconds", seconds, score
        for value, score in result["adaptation"]:
            yield pair.tasks, pair.learner, seed, result["axis"], float(value), score


def _trial_rows(arm: Arm) -> Iterator[tuple[Any, ...]]:
    for trial in _finished(arm):
        learner, params = arm.split(trial)
        yield (
            arm.tasks,
            learner,
            trial.user_attrs["slot"],
            trial.state.name.lower(),
            trial.value if trial.value is not None else np.nan,
            trial.user_attrs.get("meta_train_seconds", np.nan),
            params,
        )


def _failure_rows(arm: Arm) -> Iterator[tuple[Any, ...]]:
    pair = arm.best_pair()
    for stage, study in (("trial", arm.tuning), ("final", arm.final)):
        for trial in study.trials(TrialState.FAIL):
            if "error" in trial.user_attrs:
                learner = arm.split(trial)[0] if stage == "trial" or pair is None else pair.learner
                yield arm.tasks, learner, stage, trial.user_attrs["slot"], trial.user_attrs["error"]
    for trial in arm.final.trials(TrialState.COMPLETE):
        for tasks, record in result_of(trial, arm.final.name).get("elsewhere", {}).items():
            if "error" in record:
                learner = "" if pair is None else pair.learner
                yield arm.tasks, learner, f"judging on {tasks}", trial.user_attrs["slot"], record["error"]

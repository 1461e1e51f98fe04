"""Read the tables of a comparison from its studies."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from autometa.comparison.execution.adaptation_curve import curve_returns, known_returns
from autometa.comparison.execution.arm import Arm
from autometa.comparison.execution.ensemble_arm import EnsembleArm
from autometa.comparison.execution.race import Race
from autometa.comparison.execution.slot_records import slot_state
from autometa.comparison.execution.stored_trials import result_of
from autometa.comparison.plan.domains import Domain
from autometa.comparison.plan.plan import Plan
from autometa.comparison.results import labelled_rows
from autometa.comparison.results.crossed_effects import interval_of, run_spread
from autometa.comparison.results.entities import ENTITIES, entities_of
from autometa.comparison.results.from_scores import verdicts
from autometa.comparison.results.gaps import Gap, gaps_to
from autometa.comparison.results.guards import GUARDS, guard_rows
from autometa.comparison.results.hardest import HardestTasks, hardest_of
from autometa.comparison.results.judged import Judged, TrainedLearner
from autometa.comparison.results.labelled_rows import BEST_BY_ROWS, CALIBRATION, LABELLED_ROWS, best_by_rows
from autometa.comparison.results.pareto import pareto_of
from autometa.comparison.results.race import RACE, left_of, race_rows
from autometa.comparison.results.record import Frames, Record
from autometa.comparison.results.references import References, references_in
from autometa.comparison.results.shown import ShownTrials, shown_of
from autometa.comparison.results.statistics import mean_ranks
from autometa.errors import StorageError

LEADERBOARD = [
    "tasks", "rank", "learner", "family", "metric", "score", "ci_low", "ci_high", "run_spread", "n_test_tasks",
    "n_seeds", "n_shot", "n_query", "normalization", "meta_train_seconds", "adapt_ms", "predict_ms", "n_trials",
    "params", "trained_on", "gap_to_pooled", "gap_error", "gap_p_value", "gap_p_holm", "gap_verdict", "mebibytes",
    "over_limit",
]  # fmt: skip
GAP = ["gap_to_pooled", "gap_error", "gap_p_value", "gap_p_holm"]
SCORES = ["tasks", "learner", "seed", "task", "metric", "score", "trained_on"]
HISTORY = ["tasks", "learner", "seed", "step", "seconds", "loss"]
CURVES = ["tasks", "learner", "seed", "axis", "value", "score"]
TRIALS = ["tasks", "learner", "slot", "state", "value", "seconds", "params"]
FAILURES = ["tasks", "learner", "stage", "slot", "reason"]
SKIPPED = ["tasks", "learner", "reason", "trained_on"]
SAME = 1e-12
"""Relative difference of scores that rounding alone makes."""
MEMBERS = ["tasks", "seed", "learner", "share", "reason"]


def collect_record(
    plan: Plan, arms: Sequence[Arm], environment: Mapping[str, Any], races: Sequence[Race] = ()
) -> Record:
    """Read the results of a comparison, as far as it has come."""
    left = _left(arms, races)
    return Record(
        name=plan.name,
        plan=dict(plan.described),
        frames=collect_frames(plan, arms, races),
        studies={arm.tuning.name: arm.tuning.study for arm in arms if not isinstance(arm, EnsembleArm)},
        environment=dict(environment),
        complete=not left,
        left=left,
        facts={label: domain.sampler.describe() for label, domain in plan.judged_on.items() if domain.info.is_table},
        curve_returns={
            label: curve_returns(domain) for label, domain in plan.judged_on.items() if domain.info.problem_record.acts
        },
        known_returns={
            label: known_returns(domain) for label, domain in plan.judged_on.items() if domain.info.problem_record.acts
        },
        shown=_shown(arms),
        task_names=_task_names(plan),
        hardest=_hardest(arms),
        tracebacks={key: trace for arm in arms for key, trace in _tracebacks(arm)},
    )


def _left(arms: Sequence[Arm], races: Sequence[Race]) -> str:
    """Say what is left to do; empty if nothing is."""
    learners = {arm.space.label for arm in arms}
    if of_races := [words for race in races if (words := left_of(race, learners))]:
        return " ".join(of_races)
    n_slots, n_done = sum(arm.n_slots for arm in arms), sum(arm.n_done for arm in arms)
    return f"{n_slots - n_done} of {n_slots} trials and final runs are left." if n_done < n_slots else ""


def _task_names(plan: Plan) -> dict[str, tuple[str, ...]]:
    named = {label: domain.sampler.task_names() for label, domain in plan.judged_on.items()}
    return {label: tuple(map(str, names)) for label, names in named.items() if names is not None}


def _hardest(arms: Sequence[Arm]) -> dict[str, dict[TrainedLearner, HardestTasks]]:
    """Meta-test tasks that learners do worst on, by what was judged on."""
    found: dict[str, dict[TrainedLearner, HardestTasks]] = {}
    for own in filter(None, map(_judged, arms)):
        for judged in (own, *_judged_elsewhere(own)):
            if (hardest := hardest_of(judged)) is not None:
                found.setdefault(judged.tasks, {})[judged.trained] = hardest
    return found


def _tracebacks(arm: Arm) -> Iterator[tuple[tuple[str, str, str, int], str]]:
    """Go through the tracebacks of trials and final runs that failed for good; see ``Record.tracebacks``."""
    for stage, study in (("trial", arm.tuning), ("final", arm.final)):
        for trial in study.trials(TrialState.FAIL):
            if {"error", "traceback"} <= trial.user_attrs.keys():
                pair = arm.pair_of(trial) if stage == "final" else None
                learner = arm.split(trial)[0] if pair is None else pair.learner
                yield (arm.tasks, learner, stage, trial.user_attrs["slot"]), trial.user_attrs["traceback"]


def _shown(arms: Sequence[Arm]) -> dict[str, dict[str, ShownTrials]]:
    """What actors did in a few worlds, by task distribution and learner."""
    found: dict[str, dict[str, ShownTrials]] = {}
    for judged in filter(None, map(_judged, arms)):
        if trials := shown_of(judged):
            found.setdefault(judged.tasks, {})[judged.pair.learner] = trials
    return found


def collect_frames(plan: Plan, arms: Sequence[Arm], races: Sequence[Race] = ()) -> Frames:
    """Read all tables of a comparison, as far as it has come."""
    own = [one for arm in arms if (one := _judged(arm)) is not None]
    judged = own + [other for one in own for other in _judged_elsewhere(one)]
    by_tasks = {tasks: {j.trained: j for j in judged if j.tasks == tasks} for tasks in plan.judged_on}
    columns = [*SCORES, *_beside_the_objective(plan)]
    scores = pd.DataFrame([row[: len(columns)] for j in judged for row in _score_rows(j)], columns=columns)
    cannot_win = {
        tasks: {who for who, j in of_trained.items() if j.over_limit} for tasks, of_trained in by_tasks.items()
    }
    tests = verdicts(scores, cannot_win=cannot_win)
    references = references_in(plan.described, (one.pair.learner for one in own))
    labelled = pd.DataFrame([row for j in own for row in labelled_rows.score_rows(j)], columns=LABELLED_ROWS)
    board = _leaderboard(plan, by_tasks, references)
    return Frames(
        leaderboard=board,
        pareto=pareto_of(board, {label: domain.problem.higher_is_better for label, domain in plan.judged_on.items()}),
        scores=scores,
        significance=tests,
        ranks=_ranks(by_tasks, tests),
        history=pd.DataFrame([row for j in own for row in _history_rows(j)], columns=HISTORY),
        curves=pd.DataFrame([row for j in own for row in _curve_rows(j)], columns=CURVES),
        trials=pd.DataFrame([row for arm in arms for row in _trial_rows(arm)], columns=TRIALS),
        failures=pd.DataFrame([row for arm in arms for row in _failure_rows(arm)], columns=FAILURES),
        race=pd.DataFrame([row for race in races for row in race_rows(race, plan.entrants)], columns=RACE),
        skipped=pd.DataFrame([*_skipped_rows(plan, arms)], columns=SKIPPED),
        guards=pd.DataFrame([row for j in judged for row in guard_rows(j)], columns=GUARDS),
        labelled_rows=labelled,
        best_by_rows=_of_tables(
            BEST_BY_ROWS,
            (
                best_by_rows(
                    of,
                    references,
                    higher_is_better=plan.domains[str(tasks)].problem.higher_is_better,
                    cannot_win=_labels(cannot_win, str(tasks)),
                )
                for tasks, of in labelled.groupby("tasks", sort=False)
            ),
        ),
        calibration=pd.DataFrame([row for j in own for row in labelled_rows.calibration_rows(j)], columns=CALIBRATION),
        members=pd.DataFrame([row for arm in arms for row in _member_rows(arm)], columns=MEMBERS),
        entities=_of_tables(ENTITIES, _entities(plan, scores, references, cannot_win)),
        best=_of_tables(BEST_BY_ROWS, _best(plan, scores, references, cannot_win)),
    )


def _of_tables(columns: Sequence[str], parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Join frames of the same columns; empty ones would make the types of the others vague."""
    kept = [part for part in parts if len(part)]
    return pd.concat(kept, ignore_index=True) if kept else pd.DataFrame(columns=list(columns))


CannotWin = Mapping[str, Collection[TrainedLearner]]
"""Who is over a limit of the comparison, by what it is judged on."""


def _labels(cannot_win: CannotWin, tasks: str) -> set[str]:
    """Those that were trained where they are judged."""
    return {who.learner for who in cannot_win.get(tasks, ()) if who.trained_on == tasks}


def _entities(
    plan: Plan, scores: pd.DataFrame, references: References, cannot_win: CannotWin
) -> Iterator[pd.DataFrame]:
    """Gains of the entities of every table."""
    for domain, of in _on_tables(plan, scores):
        yield entities_of(
            domain.label,
            of,
            references,
            domain.sampler.task_names(),
            higher_is_better=domain.problem.higher_is_better,
            cannot_win=_labels(cannot_win, domain.label),
        )


def _best(plan: Plan, scores: pd.DataFrame, references: References, cannot_win: CannotWin) -> Iterator[pd.DataFrame]:
    """The best of every table's leaderboard beside both references."""
    for domain, of in _on_tables(plan, scores):
        with_rows = of.assign(rows=domain.info.n_shot)
        better, barred = domain.problem.higher_is_better, _labels(cannot_win, domain.label)
        yield best_by_rows(with_rows, references, higher_is_better=better, cannot_win=barred)


def _on_tables(plan: Plan, scores: pd.DataFrame) -> Iterator[tuple[Domain, pd.DataFrame]]:
    """Go through the tables whose labels mean the same in all entities, with the scores of what was trained there."""
    for tasks, domain in plan.domains.items():
        of = scores[(scores["tasks"] == tasks) & (scores["trained_on"] == tasks)]
        if domain.info.is_table and domain.info.labels_are_shared and len(of):
            yield domain, of


def _judged(arm: Arm) -> Judged | None:
    finals = {trial.user_attrs["slot"]: trial for trial in arm.finals()}
    pair = arm.pair_of(next(iter(finals.values()))) if finals else None
    if pair is None:
        return None
    results = {slot: result_of(trial, arm.final.name) for slot, trial in sorted(finals.items())}
    _check_same_tasks(results, arm.final.name)
    return Judged(
        pair=pair,
        domain=pair.domain,
        results=results,
        params=arm.params_of(list(finals.values())),
        n_trials=sum(
            arm.split(trial)[0] == pair.learner for trial in _finished(arm) if "begun_in" not in trial.user_attrs
        ),
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


def _leaderboard(
    plan: Plan, by_tasks: Mapping[str, Mapping[TrainedLearner, Judged]], references: References
) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for tasks, of_trained in by_tasks.items():
        better = plan.judged_on[tasks].problem.higher_is_better
        sign = -1 if better else 1
        gaps = _gaps_to_pooled(of_trained, references)
        table = sorted(
            ({**_row(judged), **_gap_cells(gaps.get(who), better)} for who, judged in of_trained.items()),
            key=lambda row: (row["over_limit"] != "", sign * row["score"]),
        )
        rows.extend({**row, "rank": rank} for rank, row in zip(_shared_ranks(table), table, strict=True))
    return pd.DataFrame(rows, columns=[*LEADERBOARD, *_beside_the_objective(plan)])


def _shared_ranks(table: Sequence[Mapping[str, Any]]) -> list[int]:
    """Number the rows of a leaderboard; scores that are equal up to rounding share the first of their ranks."""
    ranks: list[int] = []
    for place, row in enumerate(table, start=1):
        first = table[ranks[-1] - 1] if ranks else None
        is_tie = (
            first is not None
            and (first["over_limit"] == "") == (row["over_limit"] == "")
            and math.isclose(first["score"], row["score"], rel_tol=SAME)
        )
        ranks.append(ranks[-1] if is_tie else place)
    return ranks


def _beside_the_objective(plan: Plan) -> list[str]:
    """Name the problem's metric where the comparison is about another objective: it has a column of its own."""
    return list(dict.fromkeys(domain.info.metric for domain in plan.domains.values() if domain.objective is not None))


def _gaps_to_pooled(of_trained: Mapping[TrainedLearner, Judged], references: References) -> dict[TrainedLearner, Gap]:
    """Hold learners against the pooled baseline that was trained on the same tasks."""
    found: dict[TrainedLearner, Gap] = {}
    for trained_on in dict.fromkeys(who.trained_on for who in of_trained) if references.pooled is not None else ():
        alike = {who: judged.matrix() for who, judged in of_trained.items() if who.trained_on == trained_on}
        found |= gaps_to(TrainedLearner(str(references.pooled), trained_on), alike)
    return found


def _gap_cells(gap: Gap | None, higher_is_better: bool) -> dict[str, Any]:
    """Cells of the leaderboard; without a gap, nothing is known."""
    if gap is None:
        return dict.fromkeys(GAP, np.nan) | {"gap_verdict": ""}
    numbers = (gap.value, gap.error, gap.p_value, gap.p_holm)
    verdict = gap.verdict(higher_is_better=higher_is_better)
    return dict(zip(GAP, numbers, strict=True)) | {"gap_verdict": verdict}


def _row(judged: Judged) -> dict[str, Any]:
    pair, matrix = judged.pair, judged.matrix()
    first = next(iter(judged.results.values()))
    problem = judged.domain.problem
    low, high = interval_of(matrix, positive=not problem.higher_is_better, bounds=problem.bounds)
    return {
        "tasks": judged.tasks,
        "learner": pair.learner,
        "family": pair.family,
        "metric": judged.domain.problem.metric,
        "score": float(matrix.mean()),
        "ci_low": low,
        "ci_high": high,
        "run_spread": run_spread(matrix),
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
        "mebibytes": judged.most_of("mebibytes"),
        "over_limit": judged.over_limit,
        judged.domain.info.metric: float(judged.metric_matrix().mean()),
    }


def _score_rows(judged: Judged) -> Iterator[tuple[Any, ...]]:
    pair, metric = judged.pair, judged.domain.problem.metric
    for seed, result in judged.results.items():
        by_metric = result.get("metric_scores", result["scores"])
        for task, score, metric_score in zip(result["tasks"], result["scores"], by_metric, strict=True):
            yield judged.tasks, pair.learner, seed, task, metric, score, pair.tasks, metric_score


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
        for value, score in result.get("over_shots", ()):
            yield pair.tasks, pair.learner, seed, "shots", float(value), score
    yield from labelled_rows.curve_rows(judged)


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


def _member_rows(arm: Arm) -> Iterator[tuple[Any, ...]]:
    if not isinstance(arm, EnsembleArm):
        return
    for final in arm.finals():
        for learner, share in arm.members(final).items():
            yield arm.tasks, final.user_attrs["slot"], learner, share, ""
        for learner, reason in result_of(final, arm.final.name)["left_out"].items():
            yield arm.tasks, final.user_attrs["slot"], learner, np.nan, reason


def _skipped_rows(plan: Plan, arms: Sequence[Arm]) -> Iterator[tuple[str, str, str, str]]:
    """Pairs that do not fit, and those of which every trial was over a limit before its meta-training."""
    for skip in plan.skipped:
        yield skip.tasks, skip.learner, skip.reason, skip.trained_on
    for arm in arms:
        over = [trial.user_attrs["over_limit"] for trial in arm.tuning.trials() if "over_limit" in trial.user_attrs]
        if over and arm.tuning.is_complete and arm.tuning.best() is None:
            yield arm.tasks, arm.space.label, f"no trial keeps to the limits; the first: {over[0]}.", arm.tasks


def _failure_rows(arm: Arm) -> Iterator[tuple[Any, ...]]:
    for stage, study in (("trial", arm.tuning), ("final", arm.final)):
        for trial in study.trials(TrialState.FAIL):
            if "error" in trial.user_attrs:
                pair = arm.pair_of(trial) if stage == "final" else None
                learner = arm.split(trial)[0] if pair is None else pair.learner
                yield arm.tasks, learner, stage, trial.user_attrs["slot"], trial.user_attrs["error"]
    for trial in arm.finals():
        pair = arm.pair_of(trial)
        learner, result = "" if pair is None else pair.learner, result_of(trial, arm.final.name)
        for tasks, record in result.get("elsewhere", {}).items():
            if "error" in record:
                yield arm.tasks, learner, f"judging on {tasks}", trial.user_attrs["slot"], record["error"]
        for member, reason in result.get("left_out", {}).items():
            yield arm.tasks, member, "taking part in the ensemble", trial.user_attrs["slot"], reason
        if "error" in result.get("shown", {}):
            yield arm.tasks, learner, "drawing what it did", trial.user_attrs["slot"], result["shown"]["error"]
        if "over_shots_error" in result:
            yield arm.tasks, learner, "judging with fewer shots", trial.user_attrs["slot"], result["over_shots_error"]
        for point in result.get("labelled", {}).get("points", ()):
            if "error" in point:
                stage = f"judging with {point['rows']} labelled rows"
                yield arm.tasks, learner, stage, trial.user_attrs["slot"], point["error"]
        undrawn = [hard["error"] for hard in result.get("hardest", ()) if "error" in hard]
        if undrawn and "error" not in result.get("shown", {}):
            yield arm.tasks, learner, "drawing what it did", trial.user_attrs["slot"], undrawn[0]
        if "error" in result.get("calibration", {}):
            yield arm.tasks, learner, "measuring its doubt", trial.user_attrs["slot"], result["calibration"]["error"]

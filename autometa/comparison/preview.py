"""am.preview: what a comparison would do, and about how long that takes, before any of it is done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import mean
from typing import Any

import pandas as pd
import torch
from optuna.trial import FixedTrial

from autometa.checks import check_bool, check_int
from autometa.comparison.execution.adaptation_curve import CURVE_TASKS, TIMED_TASKS
from autometa.comparison.execution.clock import seconds_of
from autometa.comparison.execution.finals import CURVE_POINTS
from autometa.comparison.execution.thread_counts import ThreadCounts, with_threads
from autometa.comparison.execution.trial import RUNGS, start_training
from autometa.comparison.plan.entrants import Learners, Tasks
from autometa.comparison.plan.guarded import guarded
from autometa.comparison.plan.pair import Pair
from autometa.comparison.plan.plan import Plan, make_plan
from autometa.comparison.plan.portfolio import WarmStart, read_portfolio
from autometa.comparison.plan.portfolio_fit import misfit_text
from autometa.comparison.plan.search_space import range_text
from autometa.comparison.plan.settings import MOST_WORKERS, Search, Settings
from autometa.contracts.plugin_code import one_line
from autometa.engine.device import pick_device
from autometa.errors import warn_user
from autometa.training import MetaTraining, evaluate

PAIRS = [
    "tasks", "learner", "family", "trials", "finals", "steps", "step_seconds", "judge_ms", "train_seconds",
    "judge_seconds", "seconds", "problem",
]  # fmt: skip
SEARCHED = ["tasks", "learner", "parameter", "range", "default"]
LEFT_OUT = ["tasks", "learner", "reason", "trained_on"]
QUICK = 10.0
"""Seconds up to which something is timed a second time: the first time pays for the set-up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a comparison would do; made by :func:`autometa.preview`."""

    pairs: pd.DataFrame
    """One row per task distribution and learner: ``tasks``, ``learner``, ``family``, ``trials``, ``finals``, ``steps``
    (outer steps of one run, at most), ``step_seconds`` (of one outer step; NaN with a budget), ``judge_ms`` (of one
    task), ``train_seconds``, ``judge_seconds`` and ``seconds`` (of all trials and finals), ``problem`` (why nothing
    could be measured). With ``search="race"`` as many as equal shares would be: it does no more than that, unless it
    has a ``time_budget``. With ``search="joint"`` a row ``"joint"`` has what the search chooses, at the mean cost. A
    row ``"ensemble"`` has what an ensemble of all learners takes, at most."""
    searched: pd.DataFrame
    """One row per hyperparameter: ``tasks``, ``learner``, ``parameter``, ``range``, ``default`` (None: it has none in
    the range)."""
    skipped: pd.DataFrame
    """Pairs that cannot work: ``tasks``, ``learner``, ``reason``, ``trained_on``."""
    budget: float | None
    """Seconds of meta-training for each learner; with it ``train_seconds`` follow from arithmetic alone."""
    n_workers: int
    time_budget: float | None = None
    """Seconds of the whole call, if it has so many."""

    @property
    def n_slots(self) -> int:
        """Trials and final runs."""
        return int(self.pairs["trials"].sum() + self.pairs["finals"].sum())

    @property
    def seconds(self) -> float:
        """About how long all of it takes, where every process always has work; failed and pruned runs take less."""
        if self.time_budget is not None:
            return self.time_budget
        return float(self.pairs["seconds"].sum()) / self.n_workers


def preview(
    tasks: Tasks | Sequence[Tasks] | Mapping[str, Tasks],
    learners: Learners | Sequence[Learners] | Mapping[str, Learners] = "all",
    *,
    test_tasks: Tasks | Sequence[Tasks] | Mapping[str, Tasks] | None = None,
    n_trials: int = 20,
    budget: float | None = None,
    n_test_tasks: int = 600,
    n_valid_tasks: int = 100,
    n_seeds: int = 5,
    max_steps: int = 500,
    tasks_per_step: int = 16,
    device: str | torch.device = "auto",
    n_workers: int = 1,
    random_state: int = 0,
    search: Search = "separate",
    time_budget: float | str | timedelta | None = None,
    ensemble: bool = False,
    warm_start: WarmStart | None = None,
    objective: str = "auto",
    max_latency: float | None = None,
    max_memory: float | None = None,
    baselines: bool = True,
) -> Preview:
    """Say what :func:`autometa.compare` would do with these arguments, and about how long that takes.

    One outer step of every learner on every task distribution is taken and one batch of meta-valid tasks is judged, to
    time both. Nothing else is done, and nothing is written.

    Parameters
    ----------
    tasks, learners, test_tasks, n_trials, budget, n_test_tasks, n_valid_tasks, n_seeds, max_steps, tasks_per_step, \
device, n_workers, random_state, search, time_budget, ensemble, warm_start, objective, max_latency, \
max_memory, baselines
        As :func:`autometa.compare`. With ``budget`` no step is taken: meta-training takes its share of the budget.

    Returns
    -------
    Preview

    Raises
    ------
    InvalidParameter, UnknownName, InvalidData, MissingData, Incompatible
        What was asked for cannot work.

    Examples
    --------
    >>> import autometa as am
    >>> seen = am.preview("sinusoid", ["ridge"], n_trials=3, n_seeds=2, budget=10, baselines=False)
    >>> seen.pairs[["learner", "trials", "finals", "train_seconds"]].values.tolist()
    [['ridge', 3, 2, 10.0]]
    """
    given = seconds_of(time_budget)
    settings = Settings(
        n_trials=n_trials,
        budget=budget,
        n_test_tasks=n_test_tasks,
        n_valid_tasks=n_valid_tasks,
        n_seeds=n_seeds,
        max_steps=max_steps,
        tasks_per_step=tasks_per_step,
        random_state=random_state,
        search=search,
        time_budget=given,
        ensemble=ensemble,
        objective=objective,
        max_latency=max_latency,
        max_memory=max_memory,
    )
    check_int("n_workers", n_workers, most=MOST_WORKERS)
    check_bool("baselines", baselines)
    where = pick_device(device)
    portfolio = read_portfolio(warm_start)
    plan = make_plan(
        tasks,
        learners,
        settings,
        name="comparison",
        baselines=baselines,
        test_tasks=test_tasks,
        accelerator=where.type != "cpu",
        portfolio=portfolio,
    )
    if misfits := misfit_text(warm_start, portfolio, plan):
        warn_user(misfits)
    threads = ThreadCounts.here() if n_workers == 1 else ThreadCounts.shared(n_workers)
    with with_threads(threads):
        costs = {(pair.tasks, pair.learner): _measure(pair, where) for pair in plan.pairs}
    return Preview(
        pairs=pd.DataFrame(list(_pair_rows(plan, costs)), columns=PAIRS),
        searched=pd.DataFrame([row for pair in plan.pairs for row in _searched_rows(pair)], columns=SEARCHED),
        skipped=pd.DataFrame([(s.tasks, s.learner, s.reason, s.trained_on) for s in plan.skipped], columns=LEFT_OUT),
        budget=plan.settings.budget,
        time_budget=given,
        n_workers=n_workers,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cost:
    """What one run of a pair takes, in seconds; NaN where it was not measured."""

    steps: int
    """Outer steps, at most."""
    step: float = math.nan
    task: float = math.nan
    """To judge one task."""
    train: float = math.nan
    judge_trial: float = math.nan
    judge_final: float = math.nan
    problem: str = ""


def _measure(pair: Pair, device: torch.device) -> _Cost:
    """Take a step and judge a batch; whatever the learner raises is its own problem."""
    settings = pair.settings
    try:
        with guarded(f"learner {pair.learner!r}"):
            components = pair.candidate.draw(FixedTrial(dict(pair.space.defaults)))
            training = start_training(pair, components, device, seed=pair.seed("train"))
            step, steps, train = math.nan, training.n_steps, 0.0
            if steps and settings.seconds_per_run is not None:
                train = settings.seconds_per_run
            elif steps:
                step = _timed(training, lambda: _take_a_step(training), again=lambda: training.progress < 1.0)
                steps = training.step_count if training.progress == 1.0 else steps
                train = steps * step
            at_once = min(settings.n_valid_tasks, pair.domain.info.problem_record.tasks_at_once)
            judged = _timed(training, lambda: _judge_a_batch(pair, training, at_once))
    except Exception as error:  # of a plugin, which may raise anything; its trials will say the same
        return _Cost(steps=settings.max_steps, problem=one_line(error))
    task = judged / at_once
    looks, points = (len(RUNGS), CURVE_POINTS + 1) if steps else (1, 1)
    return _Cost(
        steps=steps,
        step=step,
        task=task,
        train=train,
        judge_trial=looks * settings.n_valid_tasks * task,
        judge_final=_judged_by_a_final(pair, points) * task,
    )


def _judged_by_a_final(pair: Pair, n_looks: int) -> int:
    """Return how many tasks a final run is judged on that looks so often at the meta-valid tasks."""
    settings = pair.settings
    n_tested = (1 + len(pair.elsewhere)) * (settings.n_test_tasks + TIMED_TASKS)
    return n_tested + n_looks * settings.n_valid_tasks + min(CURVE_TASKS, settings.n_test_tasks)


def _timed(training: MetaTraining, action: Callable[[], None], *, again: Callable[[], bool] = lambda: True) -> float:
    """Return the seconds of an action; of a quick one those of a second time, which has nothing to set up."""
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        action()
        if training.device.type == "cuda":
            torch.cuda.synchronize(training.device)
        seconds = time.perf_counter() - started
        if seconds > QUICK or not again():
            break
    return seconds


def _take_a_step(training: MetaTraining) -> None:
    training.run_to((training.step_count + 1) / training.n_steps)


def _judge_a_batch(pair: Pair, training: MetaTraining, n_tasks: int) -> None:
    seed = pair.seed("valid")
    evaluate(training.learner, training.module, training.sampler, split="valid", n_tasks=n_tasks, seed=seed)


def _pair_rows(plan: Plan, costs: Mapping[tuple[str, str], _Cost]) -> Iterator[tuple[Any, ...]]:
    """Return a row for each pair; of a joint search each learner's first trial, and then what the search chooses."""
    n_seeds = plan.settings.n_seeds
    for space in plan.spaces:
        tasks = space.domain.label
        if plan.settings.search != "joint":
            pair = space.pair(space.label)
            yield _row(tasks, pair.learner, pair.family, space.n_slots, n_seeds, costs[tasks, pair.learner])
            continue
        pairs = plan.pairs_of(tasks)
        for pair in pairs:
            yield _row(tasks, pair.learner, pair.family, 1, 0, costs[tasks, pair.learner])
        chosen = _mean([costs[tasks, pair.learner] for pair in pairs])
        yield _row(tasks, space.label, "", space.n_slots - len(pairs), n_seeds, chosen)
    for ensemble in plan.ensembles:
        of_all = [costs[pair.tasks, pair.learner] for pair in plan.pairs_of(ensemble.tasks)]
        yield _row(ensemble.tasks, ensemble.learner, ensemble.family, 0, n_seeds, _of_ensemble(ensemble, of_all))


def _of_ensemble(ensemble: Pair, costs: Sequence[_Cost]) -> _Cost:
    """Return what an ensemble takes if all are members: each is asked for its votes, and then they answer together."""
    known = [cost.task for cost in costs if not cost.problem]
    if not known:
        return _Cost(steps=0)
    task = sum(known)
    return _Cost(steps=0, task=task, train=0.0, judge_trial=0.0, judge_final=_judged_by_a_final(ensemble, 2) * task)


def _mean(costs: Sequence[_Cost]) -> _Cost:
    known = [cost for cost in costs if not cost.problem]
    steps = max(cost.steps for cost in costs)
    if not known:
        return _Cost(steps=steps)
    return _Cost(
        steps=steps,
        train=mean(cost.train for cost in known),
        judge_trial=mean(cost.judge_trial for cost in known),
        judge_final=mean(cost.judge_final for cost in known),
    )


def _row(tasks: str, learner: str, family: str, trials: int, finals: int, cost: _Cost) -> tuple[Any, ...]:
    train = (trials + finals) * cost.train
    judge = trials * cost.judge_trial + finals * cost.judge_final
    known = (cost.steps, cost.step, 1000 * cost.task, train, judge, train + judge, cost.problem)
    return (tasks, learner, family, trials, finals, *known)


def _searched_rows(pair: Pair) -> list[tuple[Any, ...]]:
    starting = pair.candidate.starting_values()
    return [
        (pair.tasks, pair.learner, name, range_text(distribution), starting.get(name))
        for name, distribution in {**pair.space.distributions, **pair.space.opened}.items()
    ]

"""Doing the work of a plan, in this process, in several, or as one more worker from anywhere."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from optuna.pruners import MedianPruner
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial
from threadpoolctl import threadpool_limits

from autometa.comparison.execution.environment import usable_cores
from autometa.comparison.execution.finals import run_final
from autometa.comparison.execution.progress import Progress
from autometa.comparison.execution.slot_study import SlotStudy, quiet_optuna
from autometa.comparison.execution.storage import open_storage
from autometa.comparison.execution.trial import run_trial
from autometa.comparison.plan.pair import Pair
from autometa.comparison.plan.plan import Plan
from autometa.comparison.plan.search_space import make_sampler
from autometa.engine.device import pick_device
from autometa.errors import AutometaError

POLL = 0.5
"""Seconds between two looks at a storage whose open work others do."""
JOINT = "joint"


@dataclass(frozen=True, slots=True)
class Arm:
    """A tuning study and the finals of its best trial: one pair, or all pairs of one task distribution (joint)."""

    plan: Plan
    pairs: Sequence[Pair]
    tuning: SlotStudy
    final: SlotStudy

    @property
    def label(self) -> str:
        """What to call it in progress reports."""
        return self.tuning.name.partition("/")[2]

    @property
    def n_slots(self) -> int:
        """Trials and finals."""
        return self.tuning.n_slots + self.final.n_slots

    @property
    def n_done(self) -> int:
        """Slots that need no more work; finals of an arm without any good trial never will."""
        tuned = self.tuning.n_done
        if tuned == self.tuning.n_slots and self.tuning.best() is None:
            return self.n_slots
        return tuned + self.final.n_done

    def pair_of(self, trial: FrozenTrial | Trial) -> Pair:
        """Return the pair that a trial is about."""
        return self.pairs[0] if len(self.pairs) == 1 else self._pair(trial.params["learner"])

    def _pair(self, label: str) -> Pair:
        return next(pair for pair in self.pairs if pair.learner == label)

    def prefix(self, pair: Pair) -> str:
        """What stands before the names of a pair's parameters."""
        return f"{pair.learner}." if self.is_joint else ""

    @property
    def is_joint(self) -> bool:
        """Whether one study chooses among the learners."""
        return self.plan.settings.search == "joint"

    def step(self, device: torch.device, models: Path | None) -> bool:
        """Fill one slot; False where none is open to this process now."""
        trial = self.tuning.claim()
        if trial is not None:
            self.tuning.fill(trial, lambda trial: self._tune(trial, device))
            return True
        if not self.tuning.is_complete:
            return False
        best = self.tuning.best()
        trial = self.final.claim() if best is not None else None
        if trial is None or best is None:
            return False
        pair = self.pair_of(best)
        self.final.fill(
            trial,
            lambda trial: run_final(pair, trial, best.params, device, models, prefix=self.prefix(pair)),
        )
        return True

    def _tune(self, trial: Trial, device: torch.device) -> float:
        if not self.is_joint:
            return run_trial(self.pairs[0], trial, device)
        label = trial.suggest_categorical("learner", [pair.learner for pair in self.pairs])
        pair = self._pair(label)
        return run_trial(pair, trial, device, prefix=self.prefix(pair))


def open_arms(plan: Plan, storage: BaseStorage) -> list[Arm]:
    """Open, or create, the studies of a plan."""
    if plan.settings.search == "joint":
        return [_joint_arm(plan, tasks, storage) for tasks in plan.domains]
    return [_arm(plan, pair, storage) for pair in plan.pairs]


def _arm(plan: Plan, pair: Pair, storage: BaseStorage) -> Arm:
    settings = plan.settings
    name = f"{plan.name}/{pair.tasks}/{pair.learner}"
    better = pair.candidate.info.higher_is_better
    n_trials = 1 if pair.space.is_empty else settings.n_trials  # equal trials of nothing would be equal
    fixed = {0: dict(pair.space.defaults)}
    if (grid := pair.space.grid(n_trials)) is not None:  # a sampler would try some of few choices twice
        n_trials, fixed = len(grid), dict(enumerate(grid))
    tuning = SlotStudy(
        storage,
        name,
        n_slots=n_trials,
        higher_is_better=better,
        sampler=make_sampler(pair.space, n_trials, pair.seed(pair.learner, "search")),
        pruner=MedianPruner(n_startup_trials=4, n_warmup_steps=0),
        fixed=fixed,
    )
    final = SlotStudy(storage, f"{name}/final", n_slots=settings.n_seeds, higher_is_better=better)
    return Arm(plan, [pair], tuning, final)


def _joint_arm(plan: Plan, tasks: str, storage: BaseStorage) -> Arm:
    pairs = plan.pairs_of(tasks)
    settings = plan.settings
    better = plan.domains[tasks].info.higher_is_better
    fixed: dict[int, dict[str, Any]] = {
        slot: {"learner": pair.learner}
        | {f"{pair.learner}.{name}": value for name, value in pair.space.defaults.items()}
        for slot, pair in enumerate(pairs)
    }
    name = f"{plan.name}/{tasks}/{JOINT}"
    tuning = SlotStudy(
        storage,
        name,
        n_slots=max(settings.n_trials, len(pairs)),
        higher_is_better=better,
        sampler=make_sampler(None, settings.n_trials, plan.domains[tasks].seed(JOINT, "search")),
        fixed=fixed,
    )
    final = SlotStudy(storage, f"{name}/final", n_slots=settings.n_seeds, higher_is_better=better)
    return Arm(plan, pairs, tuning, final)


def work_through(
    arms: Sequence[Arm],
    device: torch.device,
    models: Path | None,
    progress: Progress | None = None,
    go_on: Callable[[], bool] = lambda: True,
) -> None:
    """Fill slots until none is left anywhere; wait for those that other processes fill."""
    while go_on():
        if progress is not None:
            report(arms, progress)
        if any(arm.step(device, models) for arm in arms if arm.n_done < arm.n_slots):
            continue
        if all(arm.n_done == arm.n_slots for arm in arms):
            return
        if not any(study.reap() for arm in arms for study in (arm.tuning, arm.final)):
            time.sleep(POLL)


def report(arms: Sequence[Arm], progress: Progress) -> None:
    """Tell how many slots are done, and which arm is next."""
    done = [arm.n_done for arm in arms]
    current = next((arm.label for arm, n in zip(arms, done, strict=True) if n < arm.n_slots), "")
    progress.advance(sum(done), current)


def run_processes(
    plan: Plan, where: str, n_workers: int, device: str, models: Path | None, arms: Sequence[Arm], progress: Progress
) -> None:
    """Let ``n_workers`` processes do the work.

    Raises
    ------
    AutometaError
        A process ended before the work was done.
    """
    context = multiprocessing.get_context("spawn")
    threads = max(1, usable_cores() // n_workers)
    arguments = (plan, where, device, models, threads, os.getpid())
    processes = [context.Process(target=_worker, args=arguments, name=f"autometa-{i}") for i in range(n_workers)]
    try:
        for process in processes:
            process.start()
        while any(process.is_alive() for process in processes):
            report(arms, progress)
            time.sleep(POLL)
        report(arms, progress)
    except BaseException:
        _stop(processes)
        raise
    failed = [process.exitcode for process in processes if process.exitcode]
    if failed and any(arm.n_done < arm.n_slots for arm in arms):
        raise AutometaError(
            f"{len(failed)} of {n_workers} workers ended with exit codes {failed} and work is left; their own messages "
            "are above. The same call again goes on where this one was; fewer workers need less memory."
        )


def _stop(processes: Sequence[BaseProcess]) -> None:
    """Ask processes to stop as Ctrl-C does, and end those that do not."""
    for process in processes:
        if process.is_alive() and process.pid is not None:
            if os.name == "posix":
                os.kill(process.pid, signal.SIGINT)
            else:
                process.terminate()
    for process in processes:
        if process.pid is not None:
            process.join(10)
            if process.is_alive():
                process.kill()


def _worker(plan: Plan, where: str, device: str, models: Path | None, threads: int, parent: int) -> None:
    """Work in a process of its own, until all is done or the process that started it is gone."""
    torch.set_num_threads(threads)
    try:
        # scikit-learn's linear algebra has threads of its own, which would take the other workers' cores.
        with threadpool_limits(threads), quiet_optuna():
            arms = open_arms(plan, open_storage(where))
            work_through(arms, pick_device(device), models, go_on=lambda: os.getppid() == parent)
    except KeyboardInterrupt:
        return  # the slot in hand was given back; the process that started this one says so

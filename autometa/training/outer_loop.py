"""The outer loop: draw tasks, let the meta-optimizer improve θ, keep a record."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor

from autometa.contracts.base_learner import BaseLearner, check_promises
from autometa.contracts.environments import Environments
from autometa.contracts.examples import TaskBatch
from autometa.contracts.meta_optimizer import MetaOptimizer
from autometa.contracts.seeding import derive_seed
from autometa.contracts.step_sizes import advice_on_steps
from autometa.contracts.tasks import TaskSampler
from autometa.engine.few_threads import enough_threads
from autometa.engine.processes import Processes
from autometa.engine.pulse import step_finished
from autometa.engine.random_state import fresh_module, seeded
from autometa.errors import Incompatible, InvalidParameter, TrainingDiverged
from autometa.training.finite import all_finite, check_drawn

if TYPE_CHECKING:
    from lightning_fabric import Fabric

LOOK_EVERY = 50
"""Steps between two looks at the loss: looking waits for the device."""


def check_compatible(learner: BaseLearner, meta_optimizer: MetaOptimizer | None) -> None:
    """Refuse a learner and a meta-optimizer that cannot work together.

    Raises
    ------
    PluginError
        A property of the learner is of the wrong kind.
    Incompatible
        Names both, what is missing and what would work.
    """
    check_promises(learner)
    missing = (meta_optimizer.requires if meta_optimizer is not None else frozenset()) - learner.provides
    if missing:
        default = learner.default_meta_optimizer
        works = (
            f"use meta_optimizer={default!r}" if default else "it has nothing to meta-train; use meta_optimizer='auto'"
        )
        raise Incompatible(
            f"meta_optimizer {type(meta_optimizer).__name__} needs a learner that provides {sorted(missing)}, and "
            f"{type(learner).__name__} provides {sorted(learner.provides) or 'nothing'}; {works}."
        )


def check_shares(meta_optimizer: MetaOptimizer | None, tasks_per_step: int, n_processes: int) -> None:
    """Refuse to share the tasks of a step among processes where that cannot work.

    Raises
    ------
    Incompatible
        The meta-optimizer needs all tasks in one process.
    InvalidParameter
        The shares would not be equal.
    """
    if meta_optimizer is None or n_processes == 1:
        return
    if not meta_optimizer.shares_tasks:
        raise Incompatible(
            f"meta_optimizer {type(meta_optimizer).__name__} needs all tasks of a step in one process and cannot "
            f"share them among {n_processes}; use one device."
        )
    if tasks_per_step % n_processes:
        raise InvalidParameter(
            f"tasks_per_step={tasks_per_step} tasks cannot be shared equally among {n_processes} processes; use a "
            f"multiple of {n_processes}, such as {-(-tasks_per_step // n_processes) * n_processes}."
        )


class MetaTraining:
    """One meta-training run, which can be stopped after any step, stored and continued.

    Parameters
    ----------
    learner : Learner or Actor
    meta_optimizer : MetaOptimizer or None
        None: the learner has nothing to meta-train, and every step is over at once.
    sampler : TaskSampler
    n_steps : int
        Outer steps that make the whole run; schedules are stretched over them.
    max_seconds : float, optional
        End the run after this much meta-training even if steps are left; None: never. Such a run depends on the
        speed of the machine.
    tasks_per_step : int
    seed : int
        Decides the initial θ and every batch drawn.
    device, dtype : torch.device, torch.dtype
    fabric : lightning_fabric.Fabric, optional
        Launched: its processes run this together, each on its device with an equal share of the tasks of every step.
        What they end in is, to rounding, what one process ends in, with two exceptions. Batch norm sees the
        examples of one process's share at a time, and running averages are means over the processes; and what a
        learner draws at random, each process draws for its own tasks.

    Attributes
    ----------
    module : nn.Module
        θ.
    step_count : int
        Steps done.
    history : pandas.DataFrame
        One row per step: ``step``, ``seconds`` since the start, ``loss`` and whatever else was reported.
    """

    def __init__(
        self,
        learner: BaseLearner,
        meta_optimizer: MetaOptimizer | None,
        sampler: TaskSampler,
        *,
        n_steps: int,
        tasks_per_step: int,
        seed: int,
        max_seconds: float | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        fabric: Fabric | None = None,
    ) -> None:
        info = sampler.info
        check_compatible(learner, meta_optimizer)
        self._processes = None if fabric is None or fabric.world_size == 1 else Processes(fabric)
        if self._processes is not None:
            check_shares(meta_optimizer, tasks_per_step, self._processes.count)
        self.device = torch.device(device) if fabric is None else fabric.device
        self.dtype = dtype
        self.learner = learner
        self.meta_optimizer = meta_optimizer
        self.sampler = sampler if self.device.type == "cpu" else sampler.to(self.device)
        self.n_steps = n_steps if meta_optimizer is not None else 0
        self.tasks_per_step = tasks_per_step
        self.seed = seed
        self.max_seconds = max_seconds
        self.module = fresh_module(learner, info, seed).to(device=self.device, dtype=dtype)
        self.step_count = 0
        self.seconds = 0.0
        self._rows: list[dict[str, float]] = []
        self._pending: list[dict[str, float | Tensor]] = []
        if meta_optimizer is not None:
            meta_optimizer.average = None if self._processes is None else self._processes.average
            meta_optimizer.start(learner, self.module, info)
        step_finished()

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        if self.meta_optimizer is None or self.meta_optimizer.finished or self.n_steps == 0:
            return 1.0
        by_time = self.seconds / self.max_seconds if self.max_seconds else 0.0
        return min(1.0, max(self.step_count / self.n_steps, by_time))

    def run_to(self, progress: float = 1.0, *, after_step: Callable[[], None] | None = None) -> None:
        """Go on until this share of the run is done.

        Parameters
        ----------
        progress : float in [0, 1], default=1.0
        after_step : callable, optional
            Called after every step.

        Raises
        ------
        TrainingDiverged
            The loss or a weight is no longer finite.
        InvalidData
            The loss is not, since the tasks hold values that are not.
        """
        self.module.train()
        while self.meta_optimizer is not None and self.progress < progress:
            self._step(self.meta_optimizer)
            if len(self._pending) >= LOOK_EVERY:
                self._settle()
            if after_step is not None:
                after_step()
        if self._pending:
            self._settle()

    def _step(self, meta_optimizer: MetaOptimizer) -> None:
        started = time.perf_counter()
        seed = derive_seed(self.seed, "step", self.step_count)
        meta_optimizer.progress = self.progress
        batch = meta_optimizer.draw(self.sampler, self.tasks_per_step, seed)
        if self._processes is None:
            with seeded(seed, self.device), enough_threads(self.module, *batch.inputs):
                metrics = meta_optimizer.step(batch.to(self.device, self.dtype))
        else:
            metrics = self._shared_step(meta_optimizer, batch, seed, self._processes)
        self.step_count += 1
        self._count_time(started)
        self._pending.append({"step": self.step_count, "seconds": self.seconds, **metrics})
        step_finished()

    def _shared_step(
        self, meta_optimizer: MetaOptimizer, batch: TaskBatch | Environments, seed: int, processes: Processes
    ) -> dict[str, Tensor]:
        """Take a step on this process's share of the tasks."""
        check_shares(meta_optimizer, len(batch), processes.count)
        share = batch[processes.rank :: processes.count].to(self.device, self.dtype)
        own_seed = derive_seed(seed, "process", processes.rank)
        with (
            self._buffers_averaged(processes),
            seeded(own_seed, self.device),
            enough_threads(self.module, *share.inputs),
        ):
            metrics = meta_optimizer.step(share)
        means = processes.average(list(metrics.values()))
        return dict(zip(metrics, means, strict=True))

    @contextmanager
    def _buffers_averaged(self, processes: Processes) -> Iterator[None]:
        """Give every process the mean of what each did to the buffers; what nobody changes keeps its bits."""
        buffers = [buffer for buffer in self.module.buffers() if buffer.is_floating_point()]
        before = [buffer.clone() for buffer in buffers]
        yield
        if buffers:
            changes = processes.average([now - then for now, then in zip(buffers, before, strict=True)])
            for buffer, then, change in zip(buffers, before, changes, strict=True):
                buffer.copy_(then + change)

    def _count_time(self, started: float) -> None:
        self.seconds += time.perf_counter() - started
        if self._processes is not None and self.max_seconds:
            self.seconds = self._processes.of_first(self.seconds, self.device)

    def _settle(self) -> None:
        """Wait for the device, turn recorded tensors into numbers and stop a run that has diverged."""
        started = time.perf_counter()
        rows = [{key: float(value) for key, value in row.items()} for row in self._pending]
        self._count_time(started)
        self._pending.clear()
        self._rows.extend(rows)
        for row in rows:
            if not math.isfinite(row["loss"]):
                self._check_drawn(int(row["step"]))
                raise TrainingDiverged(
                    f"the loss of {type(self.learner).__name__} is {row['loss']} at outer step {int(row['step'])}; "
                    f"{advice_on_steps(self.learner, self.meta_optimizer)}."
                )
        if not all_finite(self.module.parameters()):
            raise TrainingDiverged(
                f"{type(self.learner).__name__} has weights that are not finite after outer step {self.step_count}; "
                f"{advice_on_steps(self.learner, self.meta_optimizer)}."
            )

    def _check_drawn(self, step: int) -> None:
        """Draw the tasks of a step again, and refuse those that no learner could learn."""
        assert self.meta_optimizer is not None
        seed = derive_seed(self.seed, "step", step - 1)
        check_drawn(self.meta_optimizer.draw(self.sampler, self.tasks_per_step, seed), self.sampler, "train")

    @property
    def history(self) -> pd.DataFrame:
        """Return one row per step done."""
        return pd.DataFrame(self._rows, columns=None if self._rows else ["step", "seconds", "loss"])

    def state_dict(self) -> dict[str, Any]:
        """Return all that a continued run needs beside the constructor's arguments."""
        if self._pending:
            self._settle()
        return {
            "module": self.module.state_dict(),
            "meta_optimizer": self.meta_optimizer.state_dict() if self.meta_optimizer is not None else {},
            "step_count": self.step_count,
            "seconds": self.seconds,
            "rows": self._rows,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        self.module.load_state_dict(state["module"])
        if self.meta_optimizer is not None:
            self.meta_optimizer.load_state_dict(state["meta_optimizer"])
        self.step_count = state["step_count"]
        self.seconds = state["seconds"]
        self._rows = list(state["rows"])

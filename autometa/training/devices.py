"""One meta-training on several devices, one process for each."""

from __future__ import annotations

import io
import logging
import multiprocessing
import os
import pickle
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
import torch.multiprocessing
from torch.multiprocessing.spawn import ProcessException

from autometa.contracts.learner import Learner
from autometa.contracts.meta_optimizer import MetaOptimizer
from autometa.contracts.tasks import TaskSampler
from autometa.engine.program import BEGINS_AGAIN, OURS, importable_program, refuse_to_begin_again, unguarded
from autometa.errors import InvalidParameter, MissingData, ProcessFailed
from autometa.training.checkpoint import Checkpoint, pack, unpack
from autometa.training.outer_loop import MetaTraining, check_shares
from autometa.training.progress import run_with_progress

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_TALKATIVE = ("lightning_fabric", "lightning.fabric", "torch.multiprocessing.spawn")
"""Loggers of what goes on between processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The arguments of every process."""

    learner: Learner
    meta_optimizer: MetaOptimizer | None
    sampler: TaskSampler
    n_steps: int
    tasks_per_step: int
    seed: int
    dtype: torch.dtype
    checkpoint: str | None
    verbose: int
    threads: int


def check_devices(n_devices: int, device: torch.device, asked: str | torch.device) -> None:
    """Refuse more devices than there are, or devices of a kind that cannot share a step.

    Parameters
    ----------
    n_devices : int
    device : torch.device
        What ``asked``, the estimator's parameter, came to.

    Raises
    ------
    InvalidParameter, MissingData
    """
    if n_devices == 1:
        return
    if device.type not in ("cpu", "cuda"):
        raise InvalidParameter(f"n_devices={n_devices} works with 'cpu' and 'cuda', not with device={device.type!r}.")
    if asked != "auto" and device.index is not None:
        raise InvalidParameter(f"device={str(asked)!r} names one device; with n_devices={n_devices} use 'cuda'.")
    found = torch.cuda.device_count()
    if device.type == "cuda" and found < n_devices:
        raise InvalidParameter(f"n_devices={n_devices} needs as many GPUs, and this machine has {found}.")
    try:
        import lightning_fabric  # noqa: F401
    except ImportError as error:
        raise MissingData(
            f"n_devices={n_devices} needs Lightning Fabric: install autometa with the extra 'parallel', or "
            "lightning-fabric>=2.5."
        ) from error


def run_on_devices(
    training: MetaTraining, n_devices: int, device: torch.device, *, checkpoint: Checkpoint | None, verbose: int
) -> None:
    """Run a training to its end, one process for each device, and load the result into ``training``.

    Raises
    ------
    ProcessFailed
        A process ended without a result. What it raised on purpose is raised here.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    refuse_to_begin_again()
    check_shares(training.meta_optimizer, training.tasks_per_step, n_devices)
    job = Job(
        learner=training.learner,
        meta_optimizer=training.meta_optimizer,
        sampler=training.sampler,
        n_steps=training.n_steps,
        tasks_per_step=training.tasks_per_step,
        seed=training.seed,
        dtype=training.dtype,
        checkpoint=None if checkpoint is None else str(checkpoint.path),
        verbose=verbose,
        threads=max(1, torch.get_num_threads() // n_devices),
    )
    _check_travels(job, n_devices)
    errors = torch.multiprocessing.get_context("spawn").SimpleQueue()
    with _quiet(), _own_processes(), _environment_kept(), importable_program():
        os.environ[OURS] = "1"
        fabric = Fabric(
            accelerator=device.type,
            devices=n_devices,
            strategy="ddp_spawn",
            plugins=[LightningEnvironment()],
        )
        try:
            with TemporaryDirectory() as folder:
                # Fabric takes arguments apart, and waits for ever for a result too large for a pipe.
                # _run never reads its _Silence: that unpickles with it, before Fabric logs in the process.
                fabric.launch(partial(_run, job, errors, Path(folder) / "state", _Silence()))
                unpack(training, (Path(folder) / "state").read_bytes())
        except ProcessException as failure:
            raise _told(errors, failure, n_devices) from None


def _run(job: Job, errors: Any, result: Path, silence: _Silence, fabric: Fabric) -> None:
    """Run the job in one process; the first process writes the final state."""
    torch.set_num_threads(job.threads)
    try:
        training = MetaTraining(
            job.learner,
            job.meta_optimizer,
            job.sampler,
            n_steps=job.n_steps,
            tasks_per_step=job.tasks_per_step,
            seed=job.seed,
            dtype=job.dtype,
            fabric=fabric,
        )
        checkpoint = None if job.checkpoint is None else Checkpoint(job.checkpoint)
        if checkpoint is not None:
            checkpoint.resume(training)
            fabric.barrier()  # nobody writes before all have read
        run_with_progress(training, verbose=job.verbose, checkpoint=checkpoint, first=fabric.is_global_zero)
        if fabric.is_global_zero:
            result.write_bytes(pack(training))
    except Exception as error:
        if not _is_of_others(error):
            errors.put(_portable(error, fabric.global_rank))
        raise


def _is_of_others(error: Exception) -> bool:
    """Tell whether it arose where processes talk to each other: what ended another process is the cause, not this."""
    innermost = deque(traceback.walk_tb(error.__traceback__), maxlen=1)[0][0]
    return str(innermost.f_globals.get("__name__")).startswith("torch.distributed")


def _portable(error: Exception, rank: int) -> tuple[int, bytes | None, str]:
    """Return rank, error (None if it cannot be pickled) and traceback, small enough for a pipe nobody reads yet."""
    text = "".join(traceback.format_exception(error))[-20_000:]
    try:
        packed = pickle.dumps(error)
        pickle.loads(packed)
    except Exception:  # whatever an error's own class makes of it, its text is told
        return rank, None, text
    return rank, packed if len(packed) <= 20_000 else None, text


def _told(errors: Any, failure: ProcessException, n_devices: int) -> Exception:
    """Choose the error to raise for processes that failed."""
    if errors.empty() and getattr(failure, "exit_code", None) == BEGINS_AGAIN:
        return unguarded()
    if errors.empty():
        return ProcessFailed(f"one of the {n_devices} processes of the meta-training ended without a result: {failure}")
    rank, packed, text = errors.get()
    if packed is None:
        return ProcessFailed(f"process {rank} of the {n_devices} processes of the meta-training failed:\n{text}")
    error: Exception = pickle.loads(packed)
    error.add_note(f"raised in process {rank} of {n_devices}:\n{text}")
    return error


def _check_travels(job: Job, n_devices: int) -> None:
    try:
        ForkingPickler(io.BytesIO()).dump(job)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InvalidParameter(
            f"n_devices={n_devices}: learner, meta-optimizer and tasks must travel to other processes, and one of them "
            f"cannot ({error}); define its class in a module, or use n_devices=1."
        ) from error


@contextmanager
def _own_processes() -> Iterator[None]:
    """End the processes that a block has started and that still run when it is left."""
    before = set(multiprocessing.active_children())
    try:
        yield
    finally:
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
            process.join()


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Restore the environment variables after a block."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


def _hush() -> _Silence:
    """Silence what Fabric logs about its work, and what torch logs about the processes it ends."""
    import lightning_fabric  # noqa: F401  (which sets its own level)

    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    return _Silence()


class _Silence:
    """Silences a process when it is unpickled there: Fabric logs before it calls anything."""

    def __reduce__(self) -> tuple[Callable[[], _Silence], tuple[()]]:
        return _hush, ()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence this process during a block."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    _hush()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

"""Running a meta-training, from its start or its checkpoint, to its end."""

from __future__ import annotations

import os

import torch

from autometa.engine.device import pick_device
from autometa.training.checkpoint import Checkpoint
from autometa.training.outer_loop import MetaTraining
from autometa.training.progress import run_with_progress


def run(
    training: MetaTraining,
    *,
    device: str | torch.device,
    n_devices: int = 1,
    checkpoint: str | os.PathLike[str] | None = None,
    verbose: int = 0,
) -> None:
    """Run a meta-training to its end, on one device or on several.

    Parameters
    ----------
    training : MetaTraining
        With one device it is on it already; it takes up the result of several.
    device : str or torch.device
        What the user asked for.
    n_devices : int, default=1
        Each has a process of its own.
    checkpoint : path, optional
        A file to go on from, and to write every now and then.
    verbose : int, default=0
        Above 0: show a progress bar.

    Raises
    ------
    InvalidParameter
        The checkpoint holds another meta-training, or the devices cannot work together.
    InvalidFile, StorageError
        The checkpoint is no checkpoint of a meta-training, or cannot be written.
    TrainingDiverged
        The loss or a weight is no longer finite.
    InvalidData
        The loss is not, since tasks were drawn that hold values that are not.
    MissingData
        Several devices need an extra that is not installed.
    ProcessFailed
        The process of a device ended without a result.
    """
    file = None if checkpoint is None else Checkpoint(checkpoint)
    if file is not None:
        file.resume(training)
        file.check_writable()
    if n_devices == 1:
        run_with_progress(training, verbose=verbose, checkpoint=file)
        return
    from autometa.training.devices import check_devices, run_on_devices

    picked = pick_device(device)
    check_devices(n_devices, picked, device)
    run_on_devices(training, n_devices, picked, checkpoint=file, verbose=verbose)


def seed_of(checkpoint: str | os.PathLike[str]) -> int | None:
    """Return the seed that the meta-training in a checkpoint was begun with; None where there is no file."""
    plan = Checkpoint(checkpoint).plan()
    return None if plan is None else int(plan["random_state"])

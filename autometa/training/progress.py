"""The progress bar of ``meta_fit``, and the checkpoint it writes."""

from __future__ import annotations

from functools import partial

from autometa.training.checkpoint import Checkpoint
from autometa.training.outer_loop import MetaTraining

UPDATES = 100


def run_with_progress(
    training: MetaTraining, *, verbose: int, checkpoint: Checkpoint | None = None, first: bool = True
) -> None:
    """Run a training to its end in this process.

    Parameters
    ----------
    training : MetaTraining
    verbose : int
        Above 0: show a bar with the remaining time and the loss.
    checkpoint : Checkpoint, optional
        Written after a step every now and then, and at the end.
    first : bool, default=True
        False for all but one of several processes that run the training together: they show and write nothing.
    """
    if not verbose and checkpoint is None:
        training.run_to(1.0)
        return
    write = partial(checkpoint.write_if_due, training) if checkpoint is not None and first else None
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("meta-training {task.fields[name]}"),
        BarColumn(),
        TextColumn("step {task.fields[step]}/{task.fields[total_steps]}  loss {task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=not (verbose and first)) as bar:
        name = type(training.learner).__name__
        row = bar.add_task("", total=1.0, name=name, step=0, total_steps=training.n_steps, loss="-")
        for update in range(1, UPDATES + 1):
            training.run_to(update / UPDATES, after_step=write)
            losses = training.history["loss"]
            loss = f"{losses.iloc[-1]:.4g}" if len(losses) else "-"
            bar.update(row, completed=training.progress, step=training.step_count, loss=loss)
    if checkpoint is not None and first:
        checkpoint.write(training)

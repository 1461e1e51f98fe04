"""The bar ``meta_fit`` shows."""

from __future__ import annotations

from autometa.training import MetaTraining

UPDATES = 100


def run_with_progress(training: MetaTraining, *, verbose: int) -> None:
    """Run a training to its end; ``verbose`` > 0 shows a bar with the remaining time and the loss."""
    if not verbose:
        training.run_to(1.0)
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("meta-training {task.fields[name]}"),
        BarColumn(),
        TextColumn("step {task.fields[step]}/{task.fields[total_steps]}  loss {task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bar:
        name = type(training.learner).__name__
        row = bar.add_task("", total=1.0, name=name, step=0, total_steps=training.n_steps, loss="-")
        for update in range(1, UPDATES + 1):
            training.run_to(update / UPDATES)
            losses = training.history["loss"]
            loss = f"{losses.iloc[-1]:.4g}" if len(losses) else "-"
            bar.update(row, completed=training.progress, step=training.step_count, loss=loss)

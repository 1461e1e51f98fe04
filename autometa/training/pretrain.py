"""``am.pretrain``: a network that reads any table, from tables of a prior."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.base import clone

from autometa.checks import LARGEST_SEED, check_int, check_path, check_real
from autometa.contracts.learner import Learner
from autometa.contracts.tasks import TaskSampler
from autometa.engine.device import pick_device, pick_dtype
from autometa.errors import Incompatible
from autometa.files.atomic import check_writable
from autometa.files.components import parts_of
from autometa.files.weights import write_weights
from autometa.host import make_learner, make_tasks
from autometa.host.catalog import find
from autometa.training.outer_loop import MetaTraining
from autometa.training.pretraining import Pretraining
from autometa.training.run import run

CURVE = ("step", "seconds", "loss", "valid_loss", "untrained_valid_loss", "valid_score", "untrained_valid_score")


def pretrain(
    prior: str | TaskSampler,
    learner: str | Learner = "tabular/pfn",
    *,
    output: str | os.PathLike[str],
    n_steps: int = 5000,
    tasks_per_step: int = 64,
    cells_per_step: int = 10_000,
    lr: float = 3e-3,
    n_looks: int = 20,
    n_valid: int = 24,
    device: Any = "auto",
    precision: Any = "auto",
    random_state: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    verbose: int = 0,
) -> pd.DataFrame:
    """Pretrain a network that reads any table, on tables drawn from a prior.

    Every step draws tables of one shape, another in each step, from the split "train" and descends the loss on their
    query rows. Matrices are updated by Muon, all else by AdamW; the running mean of θ over the steps is judged on
    fixed tables of the split "valid", and written in the end. The same arguments give the same weights.

    Parameters
    ----------
    prior : str or TaskSampler
        What tables are drawn from, such as one of your own. Its ``varied`` tells the sizes.
    learner : str or Learner, default="tabular/pfn"
        A learner that can be reshaped. It starts from fresh weights, unless its ``weights`` name a file.
    output : path
        File for the weights (safetensors), an existing one is replaced; ``make_learner("pfn", weights=output)`` uses
        them.
    n_steps : int, default=5000
    tasks_per_step : int, default=64
        Tables of a step, at most.
    cells_per_step : int, default=10_000
        Cells of a step's tables, at most, unless one table has more.
    lr : float, default=3e-3
    n_looks : int, default=20
        How many times the held-out tables are answered.
    n_valid : int, default=24
        Batches of held-out tables, each of another size.
    device, precision : default="auto"
        As for :class:`FewShotClassifier`; "auto" is the accelerator, if there is one, and single precision.
    random_state : int, default=0
        Seed of the fresh weights and of every table.
    checkpoint : path, optional
        A file to go on from, and to write every now and then: a call that was cut short ends in the same weights.
    verbose : int, default=0
        Above 0: show a progress bar.

    Returns
    -------
    pandas.DataFrame
        The curve, one row per look: ``step``, ``seconds``, ``loss`` of that step, ``valid_loss`` and ``valid_score``
        (accuracy, or squared error) on held-out tables, and beside them those of the untrained network.

    Raises
    ------
    InvalidParameter, UnknownName
        An argument is out of range, or names nothing.
    Incompatible
        The learner cannot be reshaped, or is not for the problem of the prior.
    StorageError
        ``output`` or ``checkpoint`` cannot be written.
    TrainingDiverged
        The loss or a weight is no longer finite.
    """
    counts = {
        "n_steps": n_steps,
        "tasks_per_step": tasks_per_step,
        "cells_per_step": cells_per_step,
        "n_looks": n_looks,
        "n_valid": n_valid,
    }
    for name, value in counts.items():
        check_int(name, value)
    check_int("random_state", random_state, least=0, most=LARGEST_SEED)
    check_real("lr", lr, above=0, such_as=0.003)
    check_path("output", output)
    place = Path(os.path.expanduser(output))
    sampler, made = clone(make_tasks(prior)), _fresh(learner)
    _check_problem(made, sampler.info.problem)
    picked = pick_device(device)
    check_writable(place, name="output")
    update = Pretraining(sampler, n_steps=n_steps, cells=cells_per_step, lr=lr, n_looks=n_looks, n_valid=n_valid)
    training = MetaTraining(
        made,
        update,
        sampler,
        n_steps=n_steps,
        tasks_per_step=tasks_per_step,
        seed=random_state,
        device=picked,
        dtype=pick_dtype(precision),
    )
    run(training, device=picked, checkpoint=checkpoint, verbose=verbose)
    curve = training.history.dropna(subset=["valid_loss"])[list(CURVE)].reset_index(drop=True)
    record = {"prior": sampler, "lr": lr, **counts, "random_state": random_state, "curve": curve.to_dict("records")}
    write_weights(place, made, sampler.info.problem, update.averaged().cpu(), record)
    return curve


def _fresh(learner: str | Learner) -> Learner:
    """Return the learner without the weights that it has by default."""
    made: Learner = clone(make_learner(learner))
    parameter = inspect.signature(type(made)).parameters.get("weights")
    if parameter is not None and made.get_params(deep=False)["weights"] == parameter.default:
        made.set_params(weights=None)
    return made


def _check_problem(learner: Learner, problem: str) -> None:
    """Refuse an installed learner for a problem that its plugin does not claim."""
    name = parts_of(learner).name
    if name is not None and problem not in (spec := find("learner", name).spec).problems:
        raise Incompatible(f"learner {name!r} is for {' and '.join(sorted(spec.problems))}, not for {problem}.")

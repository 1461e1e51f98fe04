"""Runs of two processes, which need a main module of their own: ``python tests/two_processes.py FOLDER WHAT ...``.

Everything that two processes can do in one launch is one launch, for starting them is what takes the time.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import autometa as am
from autometa.testing.toys import Blobs, Lines
from autometa.training import MetaTraining
from autometa.training.checkpoint import Checkpoint

N_STEPS, TASKS = 6, 4


class Drawing(am.Learner):
    """Adapts to nothing; its loss is a number drawn for each task."""

    provides = frozenset({"gradient"})

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.Linear(1, 1)

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        return support.x.new_zeros(len(support))

    def predict(self, module: nn.Module, adapted: Tensor, x: Tensor) -> Tensor:
        return module(x[..., :1])  # type: ignore[no-any-return]

    def meta_loss(self, module: nn.Module, batch: am.TaskBatch, progress: float) -> Tensor:
        return torch.rand(len(batch)) + 0 * module.weight.sum()  # type: ignore[union-attr, operator]


class Ending(am.MetaOptimizer):
    """Is through once the mean id of the tasks it has seen is known to be above a bound, which shares reach apart."""

    shares_tasks = True

    def start(self, learner: am.Learner, module: nn.Module, info: am.TaskInfo) -> None:
        self.seen_, self.finished = torch.zeros(()), False

    def step(self, batch: am.TaskBatch) -> dict[str, Tensor]:
        mean = batch.support.y.float().mean()
        (mean,) = self.average([mean]) if self.average else [mean]
        self.seen_ = self.seen_ + mean.abs()
        self.finished = bool(self.seen_ > 2)
        return {"loss": mean}


class Trouble(Blobs):
    """Tasks whose first process, or second, meets with trouble when it draws."""

    def __init__(self, kind: str = "killed", main: int = 0) -> None:
        super().__init__()
        self.kind = kind
        self.main = main

    def sample(self, n_tasks: int, *, split: Any = "train", seed: int) -> am.TaskBatch:
        rank = os.environ.get("LOCAL_RANK")
        if self.kind == "killed" and rank == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "interrupted" and rank == "0":
            os.kill(self.main, signal.SIGINT)
            time.sleep(60)
        if self.kind == "broken" and rank == "1":
            raise RuntimeError("the second process is broken")
        return super().sample(n_tasks, split=split, seed=seed)


def runs() -> dict[str, dict[str, Any]]:
    """Arguments of the runs by name."""
    gradient = am.make_meta_optimizer("gradient", lr=1e-2)
    bn = am.make_backbone("conv4", n_filters=4)
    glyphs = am.make_tasks("glyphs", n_way=3, n_shot=1, n_query=2, size=14)
    return {
        "maml": {"learner": am.make_learner("maml", steps=2), "meta_optimizer": gradient, "sampler": Lines()},
        "prototypical": {
            "learner": am.make_learner("prototypical"),
            "meta_optimizer": am.make_meta_optimizer("gradient", clip=0.01, weight_decay=0.1),
            "sampler": Blobs(),
        },
        "pooled": {
            "learner": am.make_learner("fine_tune"),
            "meta_optimizer": am.make_meta_optimizer("pooled"),
            "sampler": Blobs(),
        },
        "reptile": {
            "learner": am.make_learner("maml", steps=2),
            "meta_optimizer": am.make_meta_optimizer("reptile"),
            "sampler": Blobs(),
        },
        "implicit": {
            "learner": am.make_learner("imaml", steps=3),
            "meta_optimizer": am.make_meta_optimizer("implicit"),
            "sampler": Blobs(),
        },
        "evolution": {
            "learner": am.make_learner("prototypical"),
            "meta_optimizer": am.make_meta_optimizer("evolution_strategy", population=4),
            "sampler": Blobs(),
        },
        "batch norm": {
            "learner": am.make_learner("prototypical", backbone=bn),
            "meta_optimizer": gradient,
            "sampler": glyphs,
        },
        "drawing": {"learner": Drawing(), "meta_optimizer": gradient, "sampler": Lines()},
        "ending": {"learner": Drawing(), "meta_optimizer": Ending(), "sampler": Lines()},
    }


def training(name: str, fabric: Any = None, **changes: Any) -> MetaTraining:
    """One of the runs, not begun."""
    options = {"n_steps": N_STEPS, "tasks_per_step": TASKS, "seed": 3, "dtype": torch.float64} | changes
    return MetaTraining(**runs()[name], **options, fabric=fabric)


def ended(run: MetaTraining) -> dict[str, Any]:
    """What a run ended in."""
    state = {name: value.clone() for name, value in run.module.state_dict().items()}
    return {"state": state, "loss": run.history["loss"].tolist(), "steps": run.step_count}


def together(fabric: Any, folder: Path) -> None:
    """All that both processes do in one launch."""
    torch.set_num_threads(1)
    results = {}
    for name in runs():
        run = training(name, fabric)
        run.run_to()
        results[name] = ended(run)
    timed = training("drawing", fabric, n_steps=10**6, max_seconds=0.5)
    timed.run_to()
    results["timed"] = {"steps": timed.step_count}

    half = training("maml", fabric)
    half.run_to(0.5)
    if fabric.is_global_zero:
        torch.save(half.state_dict(), folder / "half.pt")
        Checkpoint(folder / "half.autometa").write(half)
    fabric.barrier()
    on = training("maml", fabric)
    on.load_state_dict(torch.load(folder / "half.pt", weights_only=False))
    on.run_to()
    results["continued"] = ended(on)

    refused = {}
    for name, changes in {"unequal": {"tasks_per_step": 5}, "collect": {}}.items():
        learner = am.make_learner("multitask") if name == "collect" else am.make_learner("prototypical")
        optimizer = NeedsAll() if name == "collect" else am.make_meta_optimizer("gradient")
        options = {"n_steps": 1, "tasks_per_step": 4, "seed": 0} | changes
        try:
            MetaTraining(learner, optimizer, Blobs(), **options, fabric=fabric)
        except am.AutometaError as error:
            refused[name] = f"{type(error).__name__}: {error}"
    results["refused"] = refused
    torch.save(results, folder / f"rank{fabric.global_rank}.pt")


class NeedsAll(am.MetaOptimizer):
    """Says nothing of sharing tasks."""

    def start(self, learner: am.Learner, module: nn.Module, info: am.TaskInfo) -> None:
        pass

    def step(self, batch: am.TaskBatch) -> dict[str, Tensor]:
        return {"loss": torch.zeros(())}


def trouble(kind: str) -> str:
    """What the estimator raises for a kind of trouble, and how many processes it leaves behind."""
    estimator = am.FewShotClassifier(
        "prototypical", max_steps=3, tasks_per_step=2, n_devices=2, device="cpu", random_state=0
    )
    try:
        estimator.meta_fit(Trouble(kind, os.getpid()))
    except (Exception, KeyboardInterrupt) as error:
        notes = "".join(getattr(error, "__notes__", []))
        left = len(multiprocessing.active_children())
        return f"{type(error).__name__}: {error} {notes} [{left} left, {hasattr(estimator, 'module_')}]"
    return "nothing"


def main(folder: Path, *what: str) -> None:
    """Run what is named and leave the results in a folder."""
    from lightning_fabric import Fabric

    for name in what:
        if name == "together":
            # Forked, so that nothing is imported three times; the estimator's own launch is in `trouble`.
            Fabric(accelerator="cpu", devices=2, strategy="ddp_fork").launch(together, folder)
        else:
            (folder / f"{name}.txt").write_text(trouble(name))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])

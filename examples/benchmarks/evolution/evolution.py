"""What evolution finds: a learning rule that beats tuned gradient descent, and what doing without a gradient costs.

Three experiments on one thread, each judged on 500 meta-test tasks that nothing was chosen by:

- "rule": the rule of learner "learned_rule", evolved by "cmaes", against gradient descent with the best of a grid of
  step sizes (chosen on 500 meta-valid tasks) from the same weights and with as many steps;
- "budget": meta-optimizer "evolution_strategy" against "gradient" at equal numbers of task evaluations, of maml;
- "accuracy": "evolution_strategy" that is told accuracies alone, of prototypical networks.

    python examples/benchmarks/evolution/evolution.py --seeds 0 1 --output examples/benchmarks/evolution/evolution.md
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from autometa_plugins.evolution.learned_rule import describe_rule
from numpy.typing import NDArray

import autometa as am
from autometa.training import MetaTraining, evaluate

N_JUDGED = 500
TASKS_PER_STEP = 16
RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.3, 0.5, 0.7, 1.0)

HIDDEN = {"sinusoid": (40, 40), "linear": (32, 32)}
"""Widths of the networks whose rule evolves."""


def train(learner: am.Learner, optimizer: am.MetaOptimizer | None, tasks: am.TaskSampler, n: int, seed: int) -> Any:
    """A run that has not begun."""
    return MetaTraining(learner, optimizer, tasks, n_steps=n, tasks_per_step=TASKS_PER_STEP, seed=seed)


def score(run: Any, split: Any = "test") -> NDArray[np.float64]:
    """Scores of held-out tasks."""
    return evaluate(run.learner, run.module, run.sampler, split=split, n_tasks=N_JUDGED, seed=0).scores


def judge(run: Any, split: Any = "test") -> float:
    """Mean score on held-out tasks."""
    return float(score(run, split).mean())


def evolve(name: str, seed: int, n_steps: int = 120) -> dict[str, Any]:
    """Test errors, per task, of gradient descent with the best step size and of an evolved rule, and more."""
    tasks = am.make_tasks(name)

    def learner(rate: float) -> am.Learner:
        return am.make_learner("learned_rule", steps=10, hidden=HIDDEN[name], inner_lr=rate)

    valid = {rate: judge(train(learner(rate), None, tasks, 1, seed), "valid") for rate in RATES}
    best = min(rate for rate in RATES if valid[rate] == min(value for value in valid.values() if value == value))
    descent = score(train(learner(best), None, tasks, 1, seed))
    started = time.perf_counter()
    run = train(learner(best / 2), am.make_meta_optimizer("cmaes", population=16), tasks, n_steps, seed)
    run.run_to()
    seconds = time.perf_counter() - started
    found = {"rate": best, "descent": descent, "evolved": score(run), "seconds": seconds}
    return found | {"rule": describe_rule(run.module)}


def rule(seed: int) -> Iterator[str]:
    """An evolved rule against tuned gradient descent."""
    for name in HIDDEN:
        tasks, found = am.make_tasks(name), evolve(name, seed)
        bayes = f"{tasks.bayes_mse(tasks.sample(5000, split='test', seed=0)).mean():.3f}" if name == "linear" else ""
        descent, evolved = (found[rule].mean() for rule in ("descent", "evolved"))
        yield (
            f"| {name} | {seed} | {found['rate']:g} | {descent:.3f} | {evolved:.3f} | {bayes} "
            f"| {found['seconds']:.0f} | {found['rule']} |"
        )


def budget(seed: int, n_steps: int = 200) -> Iterator[str]:
    """Mean squared errors at shares of one budget of task evaluations."""
    pairs = 16
    tasks = am.make_tasks("sinusoid")
    evaluations = n_steps * TASKS_PER_STEP * 2 * pairs
    for name, steps, optimizer in (
        ("gradient", n_steps * 2 * pairs, am.make_meta_optimizer("gradient")),
        ("evolution_strategy", n_steps, am.make_meta_optimizer("evolution_strategy", population=pairs)),
        ("evolution_strategy, 4 budgets", 4 * n_steps, am.make_meta_optimizer("evolution_strategy")),
    ):
        run = train(am.make_learner("maml", steps=1, inner_lr=0.01), optimizer, tasks, steps, seed)
        curve, started = [judge(run)], time.perf_counter()
        for share in (0.05, 0.25, 0.5, 1.0):
            run.run_to(share)
            curve.append(judge(run))
        seconds = time.perf_counter() - started
        used = evaluations if name == "gradient" else evaluations * steps // n_steps
        cells = " | ".join(f"{value:.2f}" for value in curve)
        yield f"| {name} | {seed} | {steps} | {used} | {cells} | {seconds:.0f} |"


def accuracy(seed: int, n_steps: int = 300) -> Iterator[str]:
    """Meta-training by accuracies, which have no gradient."""
    tasks = am.make_tasks("glyphs", n_way=5, n_shot=1, n_query=5, size=14)
    backbone = am.make_backbone("mlp", hidden=(32, 32))
    for name in ("evolution_strategy", "gradient"):
        given = {"fitness": "score"} if name == "evolution_strategy" else {}
        optimizer = am.make_meta_optimizer(name, **given)
        run = train(am.make_learner("prototypical", backbone=backbone), optimizer, tasks, n_steps, seed)
        curve, started = [judge(run)], time.perf_counter()
        for share in (0.25, 0.5, 1.0):
            run.run_to(share)
            curve.append(judge(run))
        told = "accuracy" if given else "cross-entropy and its gradient"
        cells = " | ".join(f"{100 * value:.1f}" for value in curve)
        yield f"| {name} | {told} | {seed} | {cells} | {time.perf_counter() - started:.0f} |"


PARTS = {
    "rule": (
        rule,
        "An evolved rule against tuned gradient descent",
        """
Mean squared error on 500 meta-test tasks of 10 support points after 10 steps from the same weights. Gradient descent
takes the best step size of 15, from 0.001 to 1, on 500 meta-valid tasks. The rule starts as gradient descent with half
of it and is evolved by `cmaes` with 16 candidates for 120 steps of 16 tasks; its 16 coefficients are all that differs.
"Bayes" is the error of the best possible learner.
""",
        "| tasks | seed | step size | gradient descent | evolved rule | Bayes | seconds | rule |",
    ),
    "budget": (
        budget,
        "Without a gradient at equal task evaluations",
        """
Mean squared error on 500 meta-test sinusoids of 10 points, learner `maml` of one step, at shares of the budget. One
step of `gradient` on 16 tasks counts 16 evaluations, its backward pass not counted; one of `evolution_strategy` counts
16 for each of its 32 candidates (that of θ itself, for the record, not counted).
""",
        "| meta-optimizer | seed | steps | evaluations | start | 5% | 25% | 50% | end | seconds |",
    ),
    "accuracy": (
        accuracy,
        "Told accuracies alone",
        """
Accuracy in percent on 500 meta-test tasks, glyphs of 14 x 14 pixels, 5-way 1-shot with 5 queries a class, of
prototypical networks on an MLP of 32-32 units. The derivative of an accuracy is zero nearly everywhere, so `gradient`
can only be told the cross-entropy; it is here for comparison, with as many steps of 16 tasks.
""",
        "| meta-optimizer | told | seed | start | 25% | 50% | end | seconds |",
    ),
}


def main() -> None:
    """Run the experiments that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    page = ["# Evolution", ""]
    for part in options.parts:
        run, title, text, head = PARTS[part]
        page += [f"## {title}", text, head, "|---" * (head.count("|") - 1) + "|"]
        for seed in options.seeds:
            for row in run(seed):
                print(row, flush=True)
                page.append(row)
        page.append("")
        if options.output:
            options.output.write_text("\n".join([*page, *_environment()]))


def _environment() -> list[str]:
    return [
        f"{datetime.date.today()}, `python {' '.join(sys.argv)}`, one thread  ",
        f"{_processor()}, {os.cpu_count()} cores, torch {torch.__version__}, Python {platform.python_version()}",
        "",
    ]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()

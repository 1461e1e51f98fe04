"""How often is a learner called different from itself, and how often is a true difference found?

    python examples/benchmarks/false_alarms/false_alarms.py

Five learners are meta-trained twelve times on each of three task distributions, each run from another seed, and judged
on the same test tasks. Then the runs of one learner are split at random into two sides, which are compared as if they
were two learners: every difference is a false alarm. For a true difference, one side's scores are moved by four times
the spread of the run means. Scores go to ``runs/false_alarms.csv``, and are not taken again if they are there.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import autometa as am

HERE = Path(__file__).parent
TASKS = {
    "digits": am.make_tasks("digits", n_way=3, n_shot=1, n_query=5),
    "glyphs": am.make_tasks("glyphs", size=8, n_way=3, n_shot=1, n_query=5),
    # Squared errors of few examples: a few tasks have most of the error.
    "sinusoid": am.make_tasks("sinusoid", n_shot=5, n_query=10),
}
SMALL_MAML = am.make_learner("maml", backbone=am.make_backbone("conv4", n_filters=8, norm="group"), first_order=True)
LEARNERS = {
    "digits": ("prototypical", "ridge", "maml", "in_context", "fine_tune"),
    "glyphs": ("prototypical", "ridge", "maml", "in_context", "fine_tune"),
    "sinusoid": ("ridge", "maml", "in_context", "fine_tune", "multitask"),
}
RUNS, STEPS, TASKS_PER_STEP, TEST_TASKS, SPLITS = 12, 30, 8, 300, 200
ALARMS_AT_MOST, POWER_AT_LEAST = 15, 0.8


def runs_of(learner: str, tasks: str) -> NDArray[np.float64]:
    """Scores of all runs of a learner, [test tasks, runs]."""
    comparison = am.compare(
        {tasks: TASKS[tasks]},
        {learner: SMALL_MAML if learner == "maml" and tasks != "sinusoid" else learner},
        baselines=False,
        n_trials=1,
        n_seeds=RUNS,
        max_steps=STEPS,
        tasks_per_step=TASKS_PER_STEP,
        n_test_tasks=TEST_TASKS,
        n_valid_tasks=10,
        verbose=0,
    )
    return matrix(comparison.scores)


def matrix(scores: pd.DataFrame) -> NDArray[np.float64]:
    """Scores of one learner, [test tasks, runs]."""
    return scores.pivot_table(index="task", columns="seed", values="score").to_numpy()


def taken(path: Path) -> pd.DataFrame:
    """Scores of all learners; those that the file has already are not taken again."""
    table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["tasks", "learner", "seed", "task", "score"])
    there = set(zip(table["tasks"], table["learner"], strict=True))
    for tasks, learners in LEARNERS.items():
        for learner in learners:
            if (tasks, learner) in there:
                continue
            scores = runs_of(learner, tasks)
            rows = [(tasks, learner, run, task, round(score, 6)) for (task, run), score in np.ndenumerate(scores)]
            more = pd.DataFrame(rows, columns=table.columns)
            table = more if table.empty else pd.concat([table, more], ignore_index=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            table.to_csv(path, index=False)
            print(
                f"{learner} on {tasks}: {scores.mean():.4f}, runs spread by {scores.mean(0).std(ddof=1):.4f}",
                flush=True,
            )
    return table


def verdict(a: NDArray[np.float64], b: NDArray[np.float64]) -> pd.Series:
    """The row of `am.significance` for two sides."""
    rows = [
        ("tasks", side, run, task, score)
        for side, scores in (("a", a), ("b", b))
        for (task, run), score in np.ndenumerate(scores)
    ]
    table = pd.DataFrame(rows, columns=["tasks", "learner", "seed", "task", "score"])
    return am.significance(table, higher_is_better=True).iloc[0]


def counts(scores: NDArray[np.float64], runs: int, gap: float, seed: int) -> tuple[int, int]:
    """Splits in which the two sides are called different: the learners, and the trained models over tasks."""
    rng = np.random.default_rng(seed)
    learners = models = 0
    for _ in range(SPLITS):
        order = rng.permutation(scores.shape[1])
        row = verdict(scores[:, order[:runs]], scores[:, order[runs : 2 * runs]] + gap)
        learners += row["verdict"] == "different"
        models += row["p_models"] < 0.05
    return learners, models


def main() -> None:
    """Take the runs, split them and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scores", type=Path, default=Path("runs/false_alarms.csv"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)
    table = taken(arguments.scores)
    rows, worst, weakest = [], 0, 1.0
    for (tasks, learner), of in table.groupby(["tasks", "learner"], sort=False):
        scores = matrix(of)
        spread = scores.mean(0).std(ddof=1)
        by_tasks = scores.mean(1).std(ddof=1) / np.sqrt(len(scores))
        three, five = (counts(scores, runs, 0.0, seed=runs) for runs in (3, 5))
        power = counts(scores, 3, 4 * spread, seed=3)[0] / SPLITS
        worst, weakest = max(worst, three[0], five[0]), min(weakest, power)
        rows.append(
            f"| {learner}, {tasks} | {scores.mean():.4g} | {spread:.2g} | {by_tasks:.2g} | {three[0]} | {five[0]} | "
            f"{five[1]} | {power:.0%} |"
        )
        print(rows[-1], flush=True)
    text = [
        "# False alarms",
        "",
        f"Written by `python examples/benchmarks/false_alarms/false_alarms.py`, {datetime.date.today()}, "
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread.",
        "",
        f"{RUNS} runs of {STEPS} steps of each learner, judged on the same {TEST_TASKS} test tasks. {SPLITS} times the "
        "runs of one learner are split into two sides and compared as if they were two learners; 5% of alarms are "
        f"{SPLITS // 20}. Power: how often a difference of four spreads of the run means is found with three runs.",
        "",
        "| learner, tasks | mean score | spread of runs | standard error over tasks | alarms of 200, 3 runs | 5 runs | "
        "Wilcoxon over tasks alone, 5 runs | power |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        f"Most alarms of the test of learners: {worst} of {SPLITS} (asked: at most {ALARMS_AT_MOST}). Smallest power: "
        f"{weakest:.0%} (asked: at least {POWER_AT_LEAST:.0%}). The splits are of the same {RUNS} runs and so not "
        "independent: counts spread more about 5% than those of as many pairs of new runs would.",
    ]
    (HERE / "false_alarms.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()

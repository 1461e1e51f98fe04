"""What a race finds, and for how much work, beside equal shares: the learner that each would hand back.

    python examples/benchmarks/search/search.py run --seeds 0 1      # adds rows to search.csv
    python examples/benchmarks/search/search.py report               # writes search.md from them

Both searches have the same learners, numbers of trials and steps. The winner is chosen by the meta-valid score of its
best trial alone, as the estimator that is handed back must be, and scored on meta-test tasks that no choice has seen.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd
import torch

import autometa as am
from autometa.contracts.problems import problem_of_metric

HERE = Path(__file__).parent
ROWS = HERE / "search.csv"
SUBJECTS: dict[str, tuple[Any, list[str]]] = {
    "digits": ("digits", ["prototypical", "ridge", "maml", "fine_tune", "in_context", "sklearn"]),
    "glyphs": (
        am.make_tasks("glyphs", size=8, n_way=5),
        ["prototypical", "ridge", "maml", "fine_tune", "in_context", "sklearn"],
    ),
    "sinusoid": (
        "sinusoid",
        ["ridge", "maml", "cnp", "fine_tune", "mixed_effects", "in_context", "sklearn", "sklearn_pooled"],
    ),
}
SEARCHES = {"separate": {"search": "separate"}, "race": {"search": "race"}}


def run(seeds: list[int], subjects: list[str], n_trials: int, max_steps: int) -> None:
    """Add a row for every subject, seed and search."""
    torch.set_num_threads(1)
    for subject in subjects:
        tasks, learners = SUBJECTS[subject]
        for seed in seeds:
            for name, search in SEARCHES.items():
                began = time.process_time()
                found = am.compare(
                    {subject: tasks},
                    learners,
                    n_trials=n_trials,
                    n_seeds=3,
                    max_steps=max_steps,
                    n_test_tasks=300,
                    random_state=seed,
                    baselines=False,
                    device="cpu",
                    verbose=0,
                    **search,
                )
                row = {"subject": subject, "seed": seed, "search": name, **_what_was_found(found)}
                row |= {
                    "n_trials": n_trials,
                    "max_steps": max_steps,
                    "processor_seconds": round(time.process_time() - began, 1),
                    "date": datetime.date.today().isoformat(),
                    "machine": platform.processor() or platform.machine(),
                }
                _add(row)


def _what_was_found(found: am.Comparison) -> dict[str, Any]:
    trials = found.trials.dropna(subset=["value"])
    board = found.leaderboard.set_index("learner")
    trials = trials[trials["learner"].isin(board.index) & (trials["state"] == "complete")]
    higher_is_better = problem_of_metric(board["metric"].iloc[0]).higher_is_better
    best = trials["value"].idxmax() if higher_is_better else trials["value"].idxmin()
    winner = str(trials.loc[best, "learner"])
    states = found.trials["state"]
    runs = found.race["runs"].sum() if len(found.race) else float((states != "fail").sum())
    return {
        "winner": winner,
        "score": float(board.loc[winner, "score"]),
        "ci_low": float(board.loc[winner, "ci_low"]),
        "ci_high": float(board.loc[winner, "ci_high"]),
        "metric": board.loc[winner, "metric"],
        "trials": len(found.trials),
        "runs": float(runs),
        "finals": int(board["n_seeds"].sum()),
    }


def _add(row: dict[str, Any]) -> None:
    rows = pd.DataFrame([row])
    if ROWS.exists():
        rows = pd.concat([pd.read_csv(ROWS), rows], ignore_index=True)
    rows.to_csv(ROWS, index=False)
    print(rows.tail(1).to_string(index=False), flush=True)


def report() -> None:
    """Write the table."""
    rows = pd.read_csv(ROWS)
    lines = [f"# {(__doc__ or '').splitlines()[0]}", "", *(__doc__ or "").splitlines()[2:], ""]
    shown = rows.drop(columns=["date", "machine"]).round(4)
    lines += ["| " + " | ".join(shown.columns) + " |", "|" + "---|" * shown.shape[1]]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in shown.to_numpy()]
    machines = ", ".join(sorted(set(rows["machine"])))
    lines += ["", f"{rows['date'].max()}, one thread, {machines}, torch {torch.__version__}.", ""]
    (HERE / "search.md").write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    """Read the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "report"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS))
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--steps", type=int, default=60)
    asked = parser.parse_args()
    if asked.command == "run":
        run(asked.seeds, asked.subjects, asked.trials, asked.steps)
    else:
        report()


if __name__ == "__main__":
    main()

"""Write the results of a comparison as Markdown: ``python summarize.py runs/omniglot > omniglot.md``."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd


def main() -> None:
    """Print the leaderboard of an output folder with all that stands behind its scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="output folder of 'autometa compare'")
    folder = parser.parse_args().folder
    run = json.loads((folder / "run.json").read_text())
    board = pd.read_csv(folder / "leaderboard.csv")
    pairs = pd.read_csv(folder / "significance.csv")
    lines = [*provenance(folder, run), ""]
    for tasks, rows in board.groupby("tasks", sort=False):
        lines += [f"## {tasks}", "", *table(rows), "", alike(rows, pairs[pairs["tasks"] == tasks]), ""]
    print("\n".join(lines).rstrip())


def provenance(folder: Path, run: dict) -> list[str]:
    """When, how and on what machine."""
    environment, settings = run["environment"], run["plan"]["settings"]
    command = " ".join(["autometa", *environment["command"][1:]])
    day = datetime.fromtimestamp((folder / "leaderboard.csv").stat().st_mtime, tz=UTC).date()
    versions = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    return [
        f"- Date: {day}; took {environment['seconds_of_all_calls'] / 60:.0f} minutes with "
        f"{environment['n_workers']} processes",
        f"- Command: `{command}`",
        f"- Machine: {environment['processor']}, {environment['cores']} cores, device {environment['device']}; "
        f"Python {environment['python']}, {versions}",
        "- Plan: " + ", ".join(f"{name} {value}" for name, value in settings.items()),
    ]


def table(rows: pd.DataFrame) -> list[str]:
    """One line per learner."""
    percent = rows["metric"].iloc[0] == "accuracy"
    head = [
        "rank",
        "learner",
        "family",
        rows["metric"].iloc[0],
        "95% interval",
        "test tasks",
        "seeds",
        "shots",
        "queries",
    ]
    head += ["normalisation", "meta-training", "adapt", "predict", "trials"]
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for row in rows.itertuples():
        score, low, high = (f"{v:.1%}" if percent else f"{v:.3g}" for v in (row.score, row.ci_low, row.ci_high))
        cells = [
            row.rank,
            row.learner,
            row.family,
            score,
            f"{low} to {high}",
            row.n_test_tasks,
            row.n_seeds,
            row.n_shot,
        ]
        cells += [row.n_query, row.normalization, f"{row.meta_train_seconds:.0f} s"]
        cells += [f"{row.adapt_ms:.1f} ms", f"{row.predict_ms:.1f} ms", row.n_trials]
        lines.append(" | ".join(map(str, cells)))
    return [f"| {line} |" for line in lines]


def alike(rows: pd.DataFrame, pairs: pd.DataFrame) -> str:
    """Which learners cannot be told from the best."""
    best = rows.sort_values("rank")["learner"].iloc[0]
    ties = pairs[((pairs["learner_a"] == best) | (pairs["learner_b"] == best)) & (pairs["p_holm"] >= 0.05)]
    names = sorted({*ties["learner_a"], *ties["learner_b"]} - {best})
    text = ", ".join(names) if names else "none"
    return f"Not significantly different from {best} (Wilcoxon signed-rank over tasks, Holm, 5%): {text}."


if __name__ == "__main__":
    main()

"""What does a comparison lose when its processes, disks and databases fail?

    python examples/benchmarks/faults/faults.py [--turns 5] [--tests tests/faults]

Runs the tests of faults as often as asked, and tells for every fault how often it was struck, and how many scores were
lost (or were others than those of an undisturbed run), how many were there twice, and how long the longest message was.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import torch

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
COLUMNS = ["fault", "test", "lost", "doubled", "lines"]


def main() -> int:
    """Strike, count and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--tests", nargs="+", default=["tests/faults"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "faults.csv"
        table.write_text(",".join(COLUMNS) + "\n")
        command = [sys.executable, "-m", "pytest", "-m", "slow", "-q", "-n", "2", *arguments.tests]
        own = {"FAULT_TURNS": str(arguments.turns), "FAULT_TABLE": str(table)}
        done = subprocess.run(command, cwd=REPOSITORY, env={**os.environ, **own}, stdout=subprocess.PIPE, text=True)
        counted = pd.read_csv(table)
    print(done.stdout)
    (HERE / "faults.md").write_text(page(counted, done.stdout.strip().splitlines()[-1], arguments.turns))
    return done.returncode


def page(counted: pd.DataFrame, result: str, turns: int) -> str:
    """The table as a page."""
    faults = counted.groupby("fault", sort=False).agg(
        struck=("fault", "size"), lost=("lost", "sum"), doubled=("doubled", "sum"), lines=("lines", "max")
    )
    rows = [
        f"| {name.replace('_', ' ')} | {row.struck} | {row.lost} | {row.doubled} | {row.lines} |"
        for name, row in faults.iterrows()
    ]
    return "\n".join(
        [
            "# Faults",
            "",
            f"Written by `make faults`, {datetime.date.today()}, {platform.processor() or platform.machine()}, Python "
            f"{platform.python_version()}, torch {torch.__version__}.",
            "",
            "Small comparisons in processes of their own are struck at work, continued by the same command, and "
            "compared with an undisturbed run of the same seed. Every fault was struck in every one of its forms "
            f"(storage, signal, place) {turns} times. Lost: scores that are missing or others. Lines: the longest "
            "message on standard error.",
            "",
            "| fault | struck | scores lost | scores doubled | lines |",
            "|---|---|---|---|---|",
            *rows,
            "",
            f"pytest: {result.strip('= ')}",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())

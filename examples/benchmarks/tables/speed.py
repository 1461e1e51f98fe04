"""Time and memory of the kernel experts' fit and predict, beside scikit-learn's ensembles in the same run.

    python examples/benchmarks/tables/speed.py --output examples/benchmarks/tables

Every case runs in a process of its own, on one thread. Seconds are the least of the repetitions; the peak is of
resident memory, above that before the first fit.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

CASES = ((50, 20, 200, 10), (500, 50, 500, 3), (1000, 50, 500, 1), (3000, 50, 500, 1))
"""Support rows, columns, queries and repetitions."""
METHODS = ("kernel_experts", "random_forest", "hist_gradient_boosting")
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def measure(method: str, n: int, columns: int, queries: int, repetitions: int) -> dict[str, float]:
    """Fit and predict a table of two classes; return seconds of the clock and of the processor, and the peak in MiB."""
    import numpy as np
    import torch
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

    import autometa as am

    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(n + queries, columns))
    y = (x[:, 0] + x[:, 1] * x[:, 2] + generator.normal(size=n + queries) > 0).astype(int)
    made = {
        "kernel_experts": lambda: am.FewShotClassifier("kernel_experts"),
        "random_forest": lambda: RandomForestClassifier(100, random_state=0),
        "hist_gradient_boosting": lambda: HistGradientBoostingClassifier(random_state=0),
    }[method]
    made().fit(x[:20], y[:20]).predict(x[20:40])  # what is imported and set up once
    before, times = _peak(), []
    for _ in range(repetitions):
        clock, processor = time.perf_counter(), time.process_time()
        share = (made().fit(x[:n], y[:n]).predict(x[n:]) == y[n:]).mean()
        times.append((time.perf_counter() - clock, time.process_time() - processor))
    clock, processor = min(times)
    return {"seconds": clock, "processor": processor, "mib": _peak() - before, "accuracy": float(share)}


def _peak() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def run(method: str, case: tuple[int, ...]) -> dict[str, float]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, "--case", json.dumps([method, *case])]
    done = subprocess.run(command, env=os.environ | THREADS, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", help="folder for speed.md; by default it is printed only")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(*json.loads(arguments.case))))
        return
    lines = [
        "# Time and memory on tables",
        "",
        "Fit and predict, two classes, one thread; the kernel experts deal more than 1,000 rows to blocks. Where other",
        "programs share the machine, compare the seconds of the processor.",
        "",
        "| rows x columns, queries | method | seconds | of the processor | MiB | accuracy |",
        "|---|---|---|---|---|---|",
    ]
    for case in CASES:
        n, columns, queries, _ = case
        for method in METHODS:
            found = run(method, case)
            lines.append(
                f"| {n} x {columns}, {queries} | {method} | {found['seconds']:.3f} | {found['processor']:.3f} | "
                f"{found['mib']:.0f} | {found['accuracy']:.3f} |"
            )
            print(lines[-1], flush=True)
    lines += [
        "",
        f"{datetime.date.today()}, `python examples/benchmarks/tables/speed.py`  ",
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    ]
    print("\n".join(lines))
    if arguments.output:
        Path(arguments.output).joinpath("speed.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

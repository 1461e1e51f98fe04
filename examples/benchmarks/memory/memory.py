"""Peak memory of second-order MAML steps on images, with and without taking inner steps twice.

One outer step of the meta-optimizer "gradient" on Conv4 (64 filters, group norm), 84 x 84 x 3 images, 5-way 5-shot and
15 queries per class. Every case runs in a process of its own, whose peak resident memory the system tells.

    python examples/benchmarks/memory/memory.py --output examples/benchmarks/memory/memory.md
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

LIMIT = 8.0
"""GiB that a case must stay within."""


def measure(case: dict[str, int]) -> dict[str, float]:
    """Take one outer step and tell its seconds and this process's peak resident memory in GiB."""
    import torch

    import autometa as am

    torch.set_num_threads(case["threads"])
    info = am.TaskInfo(problem="classification", input_shape=(3, 84, 84), n_outputs=5, n_shot=5, n_query=15)
    generator = torch.Generator().manual_seed(0)

    def examples(per_class: int) -> am.Examples:
        n = 5 * per_class
        x = torch.rand(case["tasks"], n, *info.input_shape, generator=generator)
        return am.Examples(x, torch.arange(n).remainder(5).repeat(case["tasks"], 1), n_classes=5)

    batch = am.TaskBatch(support=examples(info.n_shot), query=examples(info.n_query))
    torch.manual_seed(0)
    learner = am.make_learner("maml", steps=case["steps"], checkpoint=bool(case["checkpoint"]), strategy="loop")
    module = learner.build(info)
    optimizer = am.make_meta_optimizer("gradient", chunk=case["chunk"], threads=case["threads"])
    optimizer.start(learner, module, info)
    before = _peak()
    started = time.perf_counter()
    # Twice: the first losses of a run are taken one after the other, to see whether they may run side by side.
    for _ in range(1 if case["threads"] == 1 else 2):
        loss = optimizer.step(batch)["loss"]
    return {"gib": _peak(), "before": before, "seconds": time.perf_counter() - started, "loss": float(loss)}


def _peak() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def run(case: dict[str, int], limit_s: float) -> str:
    """A row of the table, measured in another process."""
    command = [sys.executable, __file__, "--case", json.dumps(case)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=limit_s, env=os.environ | {"MALLOC_ARENA_MAX": "2"}
    )
    head = " | ".join(
        ["yes" if case["checkpoint"] else "no", *(str(case[k]) for k in ("steps", "tasks", "chunk", "threads"))]
    )
    if done.returncode:
        return f"| {head} | ended with exit code {done.returncode} | | |"
    found = json.loads(done.stdout.splitlines()[-1])
    verdict = "yes" if found["gib"] <= LIMIT else "no"
    return f"| {head} | {found['gib']:.2f} | {verdict} | {found['seconds']:.0f} |"


def main() -> None:
    """Measure all cases, or the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--cases", nargs="*", default=None, help="checkpoint,steps,tasks,chunk,threads of each case")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(json.loads(options.case))))
        return
    texts = options.cases or ["0,2,4,1,1", "0,10,4,1,1", "1,2,4,1,1", "1,10,4,1,1", "1,10,32,1,1", "1,10,4,1,2"]
    names = ("checkpoint", "steps", "tasks", "chunk", "threads")
    rows = []
    for text in texts:
        rows.append(run(dict(zip(names, map(int, text.split(",")), strict=True)), limit_s=14400))
        print(rows[-1], flush=True)
    if options.output:
        options.output.write_text(report(rows))


def report(rows: list[str]) -> str:
    """The page that holds the rows."""
    import torch

    return "\n".join(
        [
            "# Peak memory of second-order MAML",
            "",
            "One outer step (two where tasks run on threads) on Conv4 with 64 filters and group norm, 84 x 84 x 3",
            "images, 5-way 5-shot and 15 queries per class; tasks are differentiated in chunks. The peak is the",
            "process's resident memory with Python and torch in it; the images of 32 tasks take 0.25 GiB.",
            "",
            "| steps taken twice | inner steps | tasks | chunk | threads | peak GiB | within 8 GiB | seconds |",
            "|---|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"{datetime.date.today()}, `python {' '.join(sys.argv)}`  ",
            f"{_processor()}, {os.cpu_count()} cores, torch {torch.__version__}, Python {platform.python_version()}",
            "",
        ]
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()

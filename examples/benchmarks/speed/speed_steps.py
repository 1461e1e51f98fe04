"""One outer step of every learner: tasks a second, and how far that is from the machine's arithmetic."""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial
from typing import Any

import torch
from speed_problems import learners_for, problems, seconds_of
from torch.utils.flop_counter import FlopCounterMode

import autometa as am

N_TASKS = 16
MOST_STEPS = 200


def measure_steps(records: Any, arguments: argparse.Namespace) -> None:
    """Time an outer step of every learner by its own meta-optimizer, on the problems that it is for."""
    for kind, tasks in problems().items():
        for name in learners_for(tasks.info.problem):
            cell = f"{kind}/{name}"
            learner = am.make_learner(name)
            meta_optimizer_name = learner.default_meta_optimizer
            if meta_optimizer_name in (None, "collect") or records.has("steps", cell):
                continue
            torch.manual_seed(0)
            try:
                module = learner.build(tasks.info).to(arguments.device)
            except (am.Incompatible, am.InvalidParameter) as reason:
                print(f"steps     {cell}: left out: {reason}")
                continue
            meta_optimizer = am.make_meta_optimizer(meta_optimizer_name)
            meta_optimizer.start(learner, module, tasks.info)
            batch = meta_optimizer.draw(tasks, N_TASKS, 0).to(arguments.device)
            step = partial(meta_optimizer.step, batch)
            for _ in range(2):  # the first one chooses how tasks run side by side
                step()
            with FlopCounterMode(display=False) as counter:
                step()
            taken: list[float] = []
            begin = time.perf_counter()
            while len(taken) < 3 or (len(taken) < MOST_STEPS and time.perf_counter() - begin < arguments.seconds):
                taken.append(seconds_of(step, arguments.device))
            records.add("steps", cell, "outer step", 1e3 * statistics.median(taken), "ms", len(taken))
            records.add("steps", cell, "work", counter.get_total_flops(), "FLOP")


def steps_table(records: Any) -> list[str]:
    """Tasks a second of every learner; the floor is that of the machine the row was measured on."""
    peaks, found = records.peaks(), records.newest("steps")
    if not found:
        return []
    lines = [
        f"## One outer step of {N_TASKS} tasks, every learner",
        "",
        "Default learners and meta-optimizers on the tasks of the latency table, their pooled batches where they train",
        "on such. The floor is the time that products and convolutions alone would take at the measured peak of the",
        "machine; recurrent kernels of torch are not counted among them, so no floor is given where they do the work.",
        "",
        "| task | learner | ms | tasks/s | × floor | machine |",
        "|---" * 6 + "|",
    ]
    for cell, rows in found.items():
        took = rows["outer step"]
        milliseconds, machine = float(took["value"]), took["machine"]
        floor = 1e3 * float(rows["work"]["value"]) / (peaks[machine] * 1e9) if machine in peaks else 0.0
        times = f"{milliseconds / floor:.1f}" if floor > 1e-3 * milliseconds else "–"
        who = f"{machine.split(',')[0]}, {took['commit']}"
        rate = f"{1e3 * N_TASKS / milliseconds:.0f}"
        lines.append("| " + " | ".join([*cell.split("/"), f"{milliseconds:.2f}", rate, times, who]) + " |")
    return [*lines, ""]

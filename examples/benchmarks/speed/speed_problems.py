"""What speed is measured on: tasks, the learners that suit them, and a clock."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

import autometa as am


def seconds_of(run: Callable[[], object], device: str) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    if device != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - start


def table_sampler() -> am.TaskSampler:
    """Two hundred tasks of fifty rows in one table."""
    rng = np.random.default_rng(0)
    columns = {f"x{i}": rng.standard_normal(10_000) for i in range(8)}
    data = pd.DataFrame({**columns, "task": np.repeat(np.arange(200), 50), "y": rng.standard_normal(10_000)})
    return am.make_tasks("table", data=data, task="task", target="y", n_shot=10)


def problems() -> dict[str, am.TaskSampler]:
    """The tasks on which latency is measured and steps are profiled."""
    return {
        "images": am.make_tasks("glyphs", size=28, n_way=5, n_shot=1, n_query=1),
        "sinusoid": am.make_tasks("sinusoid", n_shot=10, n_query=10),
    }


def learners_for(problem: str) -> list[str]:
    """Names of all learners that suit a problem."""
    table = am.plugins()
    suits = table["problems"].map(lambda found: problem in found)
    return list(table[(table["kind"] == "learner") & (table["status"] == "active") & suits]["name"])

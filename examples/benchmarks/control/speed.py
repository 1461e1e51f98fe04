"""Steps a second in worlds, all stepped at once, beside Gymnasium's vector environments.

    python examples/benchmarks/control/speed.py

One thread; CPU seconds count, so that other work on the machine does not. Writes speed.md.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

import autometa as am

HERE = Path(__file__).parent
COPIES = (16, 64, 256, 1024)
PEERS = {"cartpole": "CartPole-v1", "pendulum": "Pendulum-v1", "acrobot": "Acrobot-v1"}
REPEATS = 5
LEAST_SECONDS = 0.2
"""Of CPU time in a repeat."""


def rate(step: Callable[[int], None], n: int) -> float:
    """Return the median steps a CPU second, of ``n`` copies that take a step together."""
    found = []
    for _ in range(REPEATS):
        taken, begin = 0, time.process_time()
        while (seconds := time.process_time() - begin) < LEAST_SECONDS or taken < 10:
            step(taken)
            taken += 1
        found.append(n * taken / seconds)
    return statistics.median(found)


def ours(name: str, n: int, **params: Any) -> float:
    """Steps a second of a task sampler's worlds; episodes that end begin again, as when trials are collected."""
    tasks = am.make_tasks(name, **params)
    environments = tasks.sample(n, seed=0)
    worlds, horizon, fixed = environments.begin(), tasks.info.horizon, environments.has_fixed_length
    worlds.reset()
    rng = np.random.default_rng(0)
    if tasks.info.action_bounds is None:
        actions = torch.from_numpy(rng.integers(tasks.info.n_outputs, size=(50, n)))
    else:
        low, high = np.array(tasks.info.action_bounds)
        actions = torch.from_numpy(rng.uniform(low, high, size=(50, n, len(low)))).float()

    def step(i: int) -> None:
        result = worlds.step(actions[i % 50])
        if fixed:
            if (i + 1) % horizon == 0:
                worlds.reset()
            return
        ended = result.terminated | result.truncated
        if bool(ended.any()):
            worlds.reset(ended)

    return rate(step, n)


def theirs(name: str, n: int, mode: str) -> float:
    """Steps a second of a vector environment of Gymnasium, which begins episodes anew by itself."""
    worlds = gymnasium.make_vec(name, num_envs=n, vectorization_mode=mode)
    worlds.reset(seed=0)
    worlds.action_space.seed(0)
    actions = [worlds.action_space.sample() for _ in range(50)]

    def step(i: int) -> None:
        worlds.step(actions[i % 50])

    found = rate(step, n)
    worlds.close()
    return found


def table(rows: list[list[str]]) -> list[str]:
    """Lines of a table; the first row is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return [lines[0], "|---" * len(rows[0]) + "|", *lines[1:], ""]


def million(steps: float) -> str:
    """Steps a second in millions, to three digits."""
    return f"{steps / 1e6:.3g}"


def beside_gymnasium() -> list[str]:
    """The table of worlds that Gymnasium has too."""
    rows = [["world", "copies", "autometa", "Gymnasium, sync", "×", "Gymnasium, its own vector", "×"]]
    for name, peer in PEERS.items():
        for n in COPIES:
            mine, sync = ours(name, n), theirs(peer, n, "sync")
            row = [name, str(n), million(mine), million(sync), f"{mine / sync:.1f}", "–", "–"]
            if gymnasium.spec(peer).vector_entry_point is not None:
                own = theirs(peer, n, "vector_entry_point")
                row[5:] = [million(own), f"{mine / own:.1f}"]
            rows.append(row)
            print(row, flush=True)
    return table(rows)


def all_worlds() -> list[str]:
    """The table of all worlds, by the number of copies."""
    names = ["bandit", "mdp", "gridnavi", "dark_room", "maze", "navigation_2d", "cartpole_flip"]
    rows = [["world", *map(str, COPIES)]]
    for name in names:
        rows.append([name, *(million(ours(name, n)) for n in COPIES)])
        print(rows[-1], flush=True)
    return table(rows)


def processor() -> str:
    """Name of the processor, where the system tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE / "speed.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# Steps a second",
        "",
        f"Written by `python examples/benchmarks/control/speed.py` on {date.today()}.",
        f"{processor()}, one thread, Python {platform.python_version()}, torch {torch.__version__}, Gymnasium",
        f"{gymnasium.__version__}. Millions of environment steps a CPU second, median of {REPEATS}; episodes that end",
        "begin again. Copies step together, each with constants of its own; those of Gymnasium all have the same ones.",
        "A step of few copies costs what it costs to start some tens of tensor operations, however many copies there",
        "are up to a thousand or so: it is collecting with hundreds of tasks at once that is fast.",
        "",
        "## Beside Gymnasium's vector environments",
        "",
        *beside_gymnasium(),
        "## Other worlds",
        "",
        *all_worlds(),
    ]
    arguments.output.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

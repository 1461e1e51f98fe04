"""What agents reach in held-out worlds, beside the best return of whoever knows the world and that of chance.

    python examples/benchmarks/control/gates.py --output examples/benchmarks/control

Every pair is meta-trained with its defaults, for the steps that the table tells, and judged on worlds of the split
"test", in all of which it starts anew. An interval is 95% of one trained agent, over worlds.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

import autometa as am

RECIPES: dict[str, tuple[str, dict[str, int], str, int]] = {
    "bandit": ("bandit", {}, "rl2", 420),
    "long bandit": ("bandit", {"pulls": 100}, "imitated", 200),
    "gridnavi": ("gridnavi", {}, "rl2", 200),
    "gridnavi, imitated": ("gridnavi", {}, "imitated", 100),
    "cartpole_flip": ("cartpole_flip", {}, "rl2", 120),
}
"""World, its parameters, actor and outer steps."""


def judge(name: str, seed: int, n_worlds: int) -> str:
    """Train an agent, and return a row of the table."""
    worlds, params, learner, n_steps = RECIPES[name]
    tasks, start = am.make_tasks(worlds, **params), time.process_time()
    agent = am.MetaAgent(learner, max_steps=n_steps, device="cpu", random_state=seed).meta_fit(tasks)
    seconds = time.process_time() - start
    drawn = tasks.sample(n_worlds, split="test", seed=1)
    with torch.no_grad():
        returns = am.judge(agent.learner_, agent.module_, drawn).returns
    mean, error = returns.mean(dim=0), 1.96 * returns.std(dim=0) / n_worlds**0.5
    episodes = ", ".join(f"{a:.2f} ± {b:.2f}" for a, b in zip(mean.tolist(), error.tolist(), strict=True))
    known = drawn.reference
    best, chance = (f"{float(known[who].mean()):.2f}" if who in known else "" for who in ("best", "random"))
    return f"| {name} | {learner} | {seed} | {n_steps} | {episodes} | {best} | {chance} | {seconds:.0f} |"


def main() -> None:
    """Judge and write gates.md."""
    parser = argparse.ArgumentParser(description="Returns of agents in held-out worlds.")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--worlds", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = ["# Returns in held-out worlds", "", __doc__.strip().rpartition("\n\n")[2], ""]
    lines += [
        f"{options.worlds} worlds. *Known*: the best of whoever knows the world; nobody who must find out reaches it.",
        "",
        "| worlds | actor | seed | steps | return of each episode | known | random | processor seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in options.recipes:
        for seed in options.seeds:
            lines.append(judge(name, seed, options.worlds))
            print(lines[-1], flush=True)
    lines += ["", f"{datetime.date.today()}, `python examples/benchmarks/control/gates.py`, one thread  "]
    lines += [f"{platform.machine()}, torch {torch.__version__}, Python {platform.python_version()}", ""]
    if options.output is not None:
        (options.output / "gates.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()

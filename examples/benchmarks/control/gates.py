"""What agents reach in held-out worlds, beside whoever knows the world, chance and published numbers.

    python examples/benchmarks/control/gates.py run --seeds 0 1 2     # adds rows to gates.csv
    python examples/benchmarks/control/gates.py report                # writes gates.md from them

Every agent is meta-trained with the steps that the table tells and the defaults of its actor, unless it says otherwise,
and judged on worlds of the split "test", in all of which it starts anew. An interval is 95% of one trained agent, over
worlds. Of actors that adapt in rounds, the first return is before any adaptation, the next ones after each.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd
import torch

import autometa as am

HERE = Path(__file__).parent
ROWS = HERE / "gates.csv"
COLUMNS = ["worlds", "actor", "seed", "place", "return", "error", "n_worlds", "steps", "environment_steps",
           "processor_seconds", "known", "random", "date", "machine"]  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """What is meta-trained in which worlds, and what it should reach."""

    worlds: str
    actor: str
    steps: int
    aim: str
    params: dict[str, Any] = field(default_factory=dict)
    judged: dict[str, Any] = field(default_factory=dict)
    """Parameters of the worlds in which it is judged, where these are others."""
    learner: dict[str, Any] = field(default_factory=dict)
    every: int = 1
    """Of actors in rounds: rounds that make one adaptation."""


RECIPES = {
    "bandit": Recipe("bandit", "rl2", 420, "6.55; best possible 6.660; Duan et al. 2016: 6.7"),
    "bandit, 100 pulls": Recipe("bandit", "imitated", 200, "78.2; Gittins 78.60; Duan et al. 78.7", {"pulls": 100}),
    "gridnavi": Recipe("gridnavi", "rl2", 200, "3.5 at first, 10.8 at last"),
    "gridnavi, imitated": Recipe("gridnavi", "imitated", 100, "3.5 at first, 10.8 at last"),
    "gridnavi, varibad": Recipe("gridnavi", "varibad", 200, "3.5 at first, 10.8 at last"),
    "bandit, neuromodulated": Recipe("bandit", "neuromodulated", 240, "6.55; best possible 6.660"),
    "dark_room": Recipe("dark_room", "imitated", 280, "15.5 at last; 15.47 is a bound"),
    "cartpole_flip": Recipe("cartpole_flip", "rl2", 120, "-0.5; without memory about -10"),
    "mdp": Recipe("mdp", "imitated", 200, "15.0 an episode; Duan et al. 15.62; PSRL 13.4, beb 15.2"),
    "cartpole_flip, two episodes": Recipe(
        "cartpole_flip", "rl2", 120, "better than those below", judged={"n_shot": 2}
    ),
    "cartpole_flip, for all": Recipe("cartpole_flip", "multitask_policy", 60, "", {"n_shot": 2}),
    "cartpole_flip, ten times the steps": Recipe("cartpole_flip", "scratch", 0, "", {"n_shot": 20}),
    "pendulum, two episodes": Recipe("pendulum", "rl2", 150, "better than those below", {"n_shot": 2, "spread": 2.5}),
    "pendulum, for all": Recipe("pendulum", "multitask_policy", 60, "", {"n_shot": 2, "spread": 2.5}),
    "pendulum, ten times the steps": Recipe("pendulum", "scratch", 0, "", {"n_shot": 20, "spread": 2.5}),
    "navigation_2d, es_policy": Recipe(
        "navigation_2d", "es_policy", 60, "-12 after one adaptation, -5 after three", judged={"n_shot": 60}, every=4
    ),
    "navigation_2d, maml_policy": Recipe(
        "navigation_2d", "maml_policy", 120, "-12.5 after one adaptation; Finn et al. 2017: -40.4, -11.7, -3.3, -3.2",
        judged={"n_shot": 60},
    ),
}  # fmt: skip


def run(name: str, seed: int, n_worlds: int) -> list[dict[str, Any]]:
    """Train an agent, and return a row for every episode or round."""
    recipe = RECIPES[name]
    tasks, start = am.make_tasks(recipe.worlds, **recipe.params), time.process_time()
    learner = am.make_learner(recipe.actor, **recipe.learner)
    agent = am.MetaAgent(learner, max_steps=recipe.steps, device="cpu", random_state=seed).meta_fit(tasks)
    seconds = time.process_time() - start
    judged = am.make_tasks(recipe.worlds, **recipe.params, **recipe.judged)
    curve = agent.adaptation_curve(judged, n_tasks=n_worlds, seed=1)
    returns = curve.pivot_table(index="task", columns="episode", values="return").iloc[:, :: recipe.every]
    known = references(judged, n_worlds)
    taken = agent.history_.get("environment_steps")
    common = {
        "worlds": name, "actor": recipe.actor, "seed": seed, "n_worlds": n_worlds, "steps": recipe.steps,
        "environment_steps": None if taken is None else int(taken.iloc[-1]), "processor_seconds": round(seconds),
        "known": known.get("best"),
        "random": known.get("random"),
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, torch {torch.__version__}, Python {platform.python_version()}, one thread",
    }  # fmt: skip
    return [
        {**common, "place": place, "return": values.mean(), "error": 1.96 * values.std() / n_worlds**0.5}
        for place, values in enumerate(returns.to_numpy().T)
    ]


def references(tasks: am.TaskSampler, n_worlds: int, at_once: int = 250) -> dict[str, float]:
    """Return the means of what is known of the worlds that ``adaptation_curve`` draws."""
    found: dict[str, list[float]] = {}
    for start in range(0, n_worlds, at_once):
        seed = am.derive_seed(1, "test", start)
        for name, values in tasks.sample(min(at_once, n_worlds - start), split="test", seed=seed).reference.items():
            found.setdefault(name, []).extend(values.tolist())
    return {name: sum(values) / len(values) for name, values in found.items()}


def report() -> str:
    """Write the table: a row for every agent, and what recipes should reach."""
    found = pd.read_csv(ROWS)
    lines = ["# Returns in held-out worlds", "", __doc__.strip().rpartition("\n\n")[2], ""]
    lines += [
        "*Known*: the best of whoever knows the world; nobody who must find out reaches it in the first episode. "
        "*Aim*: what the recipe should reach, and what is published.",
        "",
        "| worlds | actor | seed | return of each episode, or after each adaptation | aim | known | random "
        "| outer steps | steps in worlds | processor seconds | worlds judged |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, recipe in RECIPES.items():
        for seed, rows in found[found["worlds"] == name].groupby("seed"):
            rows = rows.sort_values("place")
            told = ", ".join(f"{a:.2f} ± {b:.2f}" for a, b in zip(rows["return"], rows["error"], strict=True))
            one = rows.iloc[0]
            known, chance = ("" if pd.isna(one[who]) else f"{one[who]:.2f}" for who in ("known", "random"))
            taken = "" if pd.isna(one["environment_steps"]) else f"{one['environment_steps'] / 1e6:.1f} M"
            lines.append(
                f"| {name} | {one['actor']} | {seed} | {told} | {recipe.aim} | {known} | {chance} | {one['steps']} | "
                f"{taken} | {one['processor_seconds']} | {one['n_worlds']} |"
            )
    lines += [
        "",
        *(f"{date}, {machine}  " for date, machine in sorted(set(zip(found["date"], found["machine"], strict=True)))),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run recipes, or write gates.md."""
    parser = argparse.ArgumentParser(description="Returns of agents in held-out worlds.")
    parser.add_argument("what", choices=["run", "report"])
    parser.add_argument("--worlds", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "run":
        for name in options.recipes:
            for seed in options.seeds:
                rows = run(name, seed, options.worlds)
                old = pd.read_csv(ROWS) if ROWS.exists() else pd.DataFrame(columns=COLUMNS)
                kept = old[(old["worlds"] != name) | (old["seed"] != seed)]
                new = pd.DataFrame(rows)[COLUMNS]
                (pd.concat([kept, new]) if len(kept) else new).to_csv(ROWS, index=False)
                print(name, seed, [round(row["return"], 3) for row in rows], rows[0]["processor_seconds"], flush=True)
    (HERE / "gates.md").write_text(report())


if __name__ == "__main__":
    main()

"""Does a search find more from the hyperparameters that did well elsewhere?

    python examples/benchmarks/search/portfolio.py search FOLDER    # searches every subject
    python examples/benchmarks/search/portfolio.py write FOLDER     # writes what did best there into the plugins
    python examples/benchmarks/search/portfolio.py check FOLDER     # adds rows to portfolio.csv
    python examples/benchmarks/search/portfolio.py report           # writes portfolio.md from them

The check leaves out one subject at a time: its searches of four trials begin with the defaults and either with what the
others found, or with nothing. Both are judged on the same meta-test tasks, which no choice has seen. On so few subjects
it found less about twice as often as more, since a point of another subject takes the place of one more network; so no
search begins with a portfolio unless it is asked to.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd
import torch

import autometa as am

HERE = Path(__file__).parent
PLUGINS = HERE.parents[2] / "plugins" / "autometa_plugins"
ROWS = HERE / "portfolio.csv"
IMAGES = ["prototypical", "ridge", "maml", "anil", "fine_tune", "in_context", "matching"]
VECTORS = [
    *("ridge", "maml", "anil", "cnp", "in_context"),
    *("fine_tune", "multitask", "meta_sgd", "mean_parameters"),
]
SUBJECTS = {
    "sinusoid": ("sinusoid", {}, VECTORS),
    "digits": ("digits", {}, IMAGES),
    "harmonics": ("harmonics", {}, VECTORS),
    "linear": ("linear", {}, VECTORS),
    "glyphs": ("glyphs", {"size": 8, "n_way": 5, "n_query": 5}, IMAGES),
}
SIZE: dict[str, Any] = {
    "max_steps": 60,
    "tasks_per_step": 8,
    "n_test_tasks": 200,
    "n_valid_tasks": 100,
    "baselines": False,
    "device": "cpu",
    "verbose": 0,
}


def tasks_of(subject: str) -> Any:
    """Make the tasks of a subject."""
    name, params, _ = SUBJECTS[subject]
    return am.make_tasks(name, **params)


def search(folder: Path) -> None:
    """Search every subject."""
    for subject in SUBJECTS:
        found = am.compare(
            {subject: tasks_of(subject)},
            SUBJECTS[subject][2],
            n_trials=10,
            n_seeds=1,
            output=folder / subject,
            **SIZE,
        )
        print(found.leaderboard[["learner", "score", "ci_low", "ci_high"]].to_string(), flush=True)


def write(folder: Path) -> None:
    """Write what did best into the plugins whose learners it is about."""
    by_plugin = defaultdict(list)
    for subject in SUBJECTS:
        for entry in json.loads((folder / subject / "portfolio.json").read_text(encoding="utf-8")):
            rounded = {name: float(f"{value:.2g}") if isinstance(value, float) else value
                       for name, value in entry["params"].items()}  # fmt: skip
            by_plugin[entry["learner"].partition("/")[0]].append(entry | {"params": rounded})
    for plugin, entries in by_plugin.items():
        lines = ",\n".join(json.dumps(entry) for entry in entries)
        (PLUGINS / plugin / "portfolio.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def check(folder: Path, seed: int) -> None:
    """Search each subject with what the others found, and with nothing."""
    for subject in SUBJECTS:
        others = [folder / other for other in SUBJECTS if other != subject]
        boards = {}
        for start, warm_start in {"nothing": None, "portfolio": others}.items():
            found = am.compare(
                {subject: tasks_of(subject)},
                SUBJECTS[subject][2],
                n_trials=4,
                n_seeds=2,
                random_state=seed,
                warm_start=warm_start,
                **SIZE,
            )
            boards[start] = found.leaderboard.set_index("learner")["score"].rename(start)
        rows = pd.concat(boards.values(), axis=1).reset_index()
        rows.insert(0, "subject", subject)
        rows.insert(1, "seed", seed)
        rows["date"] = datetime.date.today().isoformat()
        print(rows.to_string(), flush=True)
        rows = pd.concat([pd.read_csv(ROWS), rows], ignore_index=True) if ROWS.exists() else rows
        rows.to_csv(ROWS, index=False)


def report() -> None:
    """Write the page."""
    rows = pd.read_csv(ROWS)
    is_error = rows["subject"].map(lambda subject: SUBJECTS[subject][2] is VECTORS)
    gain = (rows["portfolio"] - rows["nothing"]).where(~is_error, 1 - rows["portfolio"] / rows["nothing"])
    rows["gain"] = gain.round(4)
    means = gain.groupby([rows["subject"], rows["seed"]]).mean()
    lines = [f"# {(__doc__ or '').splitlines()[0]}", "", *(__doc__ or "").splitlines()[2:], ""]
    lines += [
        "Scores are accuracies, and mean squared errors of sinusoid, harmonics and linear. Gain: the difference of two "
        "accuracies, or the share by which an error is less.",
        "",
        f"{(gain > 0).sum()} of {len(gain)} learners gain, {(gain < 0).sum()} lose. Mean gain of a subject's learners: "
        + ", ".join(f"{subject} {value:+.3f}" for (subject, _), value in means.items())
        + ".",
        "",
    ]
    shown = rows.drop(columns="date").round({"nothing": 4, "portfolio": 4})
    lines += ["| " + " | ".join(shown.columns) + " |", "|" + "---|" * shown.shape[1]]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in shown.to_numpy()]
    lines += ["", f"{rows['date'].max()}, one thread, torch {torch.__version__}.", ""]
    (HERE / "portfolio.md").write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    """Read the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["search", "write", "check", "report"])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/portfolio"))
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    match asked.command:
        case "search":
            search(asked.folder)
        case "write":
            write(asked.folder)
        case "check":
            check(asked.folder, asked.seed)
        case _:
            report()


if __name__ == "__main__":
    main()

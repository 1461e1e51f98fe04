"""A new entity of a table with a few labelled rows: mixed effects beside the scikit-learn baselines of the tables.

    python examples/benchmarks/tables/entities.py FOLDER --output examples/benchmarks/tables

FOLDER holds ``grouped/*.csv``, ``baselines.csv`` and ``score_baselines.py``, which draws the episodes that the
baselines were scored on; without it, ``tables`` in the folder that ``AUTOMETA_DATA`` names. Estimators are used as a
user would: ``meta_fit`` on the rows of the training entities, then ``fit`` on a new entity's rows and ``predict`` for
others of it.
Nothing was chosen by these scores.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from protocol import find_folder, load_protocol

import autometa as am

SHOTS = (2, 5, 10)
NORMAL_90 = 1.6449
DEFAULT = "mixed_effects"
KINDS = ("grouped",)


def score_table(protocol: ModuleType, frame: pd.DataFrame, learner: str) -> Iterator[dict[str, Any]]:
    """Score one table, a row for each number of labelled rows."""
    episodes = {shots: protocol.episodes(frame, "grouped", shots, 0) for shots in SHOTS}
    episodes = {shots: drawn for shots, drawn in episodes.items() if drawn}
    is_regression = protocol.is_regression(frame)
    x, y = frame.drop(columns=["task", "target"]), frame["target"]
    train = next(iter(episodes.values()))[0]["train"]
    started = time.perf_counter()
    estimator: Any = (am.FewShotRegressor if is_regression else am.FewShotClassifier)(learner, random_state=0)
    estimator.meta_fit(x.iloc[train], y.iloc[train], task=frame["task"].iloc[train], n_shot=5)
    seconds = time.perf_counter() - started
    # before any fit, the answer is that for the population
    pooled = {shots: [answer(estimator, x.iloc[e["query"]]) for e in drawn] for shots, drawn in episodes.items()}
    for shots, drawn in episodes.items():
        started, told = time.perf_counter(), []
        for episode in drawn:
            estimator.fit(x.iloc[episode["support"]], y.iloc[episode["support"]])
            told.append(answer(estimator, x.iloc[episode["query"]]))
        spent = (time.perf_counter() - started) / len(drawn)
        truth = [y.iloc[episode["query"]].to_numpy() for episode in drawn]
        row: dict[str, Any] = {"shots": shots}
        for name, answers in (("own", told), ("pooled", pooled[shots])):
            if is_regression:
                row |= prefixed(name, score_regression(answers, truth, float(y.iloc[train].mean())))
            else:
                row |= prefixed(name, score_classification(answers, truth, estimator.classes_))
        yield row | {"seconds": round(seconds, 1), "ms": round(1e3 * spent, 1)}


def answer(estimator: Any, rows: pd.DataFrame) -> tuple[np.ndarray, ...]:
    """Return means and standard deviations, or probabilities."""
    if isinstance(estimator, am.FewShotRegressor):
        mean, std = estimator.predict(rows, return_std=True)
        return mean, std
    return (estimator.predict_proba(rows),)


def prefixed(name: str, scores: dict[str, float]) -> dict[str, float]:
    """Put a name before those of scores."""
    return {f"{name}_{what}": round(value, 5) for what, value in scores.items()}


def score_regression(answers: list[Any], truth: list[np.ndarray], centre: float) -> dict[str, float]:
    """Return R² of all queries together, about the mean of training, and the share within the 90% intervals."""
    errors = [values - mean for (mean, _), values in zip(answers, truth, strict=True)]
    within = [np.abs(error) < NORMAL_90 * std for error, (_, std) in zip(errors, answers, strict=True)]
    squares = [sum(float(np.square(values).sum()) for values in each) for each in (errors, [v - centre for v in truth])]
    return {"score": 1 - squares[0] / squares[1], "coverage": float(np.concatenate(within).mean())}


def score_classification(answers: list[Any], truth: list[np.ndarray], classes: np.ndarray) -> dict[str, float]:
    """Return mean accuracy and log loss of the episodes."""
    place = {label: number for number, label in enumerate(classes)}
    accuracy, loss = [], []
    for (shares,), labels in zip(answers, truth, strict=True):
        right = np.array([place[label] for label in labels])
        accuracy.append((shares.argmax(1) == right).mean())
        loss.append(-np.log(np.maximum(shares[np.arange(len(right)), right], 1e-12)).mean())
    return {"score": float(np.mean(accuracy)), "log_loss": float(np.mean(loss))}


def best_baselines(folder: Path) -> pd.DataFrame:
    """Return the best baseline of every table and number of rows, and the best that ignores the entity's rows."""
    read = pd.read_csv(folder / "baselines.csv")
    read = read[(read["kind"] == "grouped") & (read["table"] != "__mean__")]
    found = []
    for name, part in (
        ("best", read),
        ("pooled_best", read[read["model"].str.fullmatch("pooled_(ridge|logreg|hgb)")]),
    ):
        top = part.loc[part.groupby(["table", "shots"])["mean_clipped"].idxmax()].set_index(["table", "shots"])
        found += [top["mean_clipped"].rename(name), top["model"].rename(f"{name}_model")]
    return pd.concat(found, axis=1)


def report(scores: pd.DataFrame, learner: str) -> list[str]:
    """Return the tables of the result."""
    gain = scores["own_score"] - scores["best"]
    lines = [
        "# A new entity with a few labelled rows",
        "",
        f"`{learner}` after `meta_fit` on the other entities, 50 episodes a cell. R² of all queries together "
        "(regression) or accuracy. *Best baseline*: of all scikit-learn baselines (on the entity's rows, pooled, "
        "pooled with a shrunken offset) the best of this cell, chosen by the score itself. *Pooled*: the best "
        f"baseline that ignores the entity's rows, likewise chosen. *No row*: `{learner}` before any row is known.",
        "",
        f"Ahead of the best baseline in {int((gain > 0).sum())} of {len(gain)} cells, mean gain {gain.mean():+.4f}, "
        f"furthest behind {gain.min():+.3f}.",
        "",
        f"| table | rows | {learner} | best baseline | gain | pooled | no row | within 90% | no row: 90% | log loss |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (table, shots), row in scores.iterrows():
        cells = [f"{row['own_score']:.3f}", f"{row['best']:.3f} ({row['best_model']})"]
        cells += [f"{row['own_score'] - row['best']:+.3f}", f"{row['pooled_best']:.3f}", f"{row['pooled_score']:.3f}"]
        told = ("own_coverage", "pooled_coverage", "own_log_loss")
        cells += ["" if np.isnan(row[name]) else f"{row[name]:.3f}" for name in told]
        lines.append(f"| {table} | {shots} | " + " | ".join(cells) + " |")
    lines += ["", "Not ahead:", ""]
    lines += [
        f"- {table}, {shots} rows: {value:+.3f} ({scores.loc[(table, shots), 'best_model']})"
        for (table, shots), value in gain[gain <= 0].sort_values().items()
    ]
    seconds = scores.groupby("table")["seconds"].first()
    told = ", ".join(f"{table} {value:.1f}" for table, value in seconds.items())
    return [
        *lines,
        "",
        f"Seconds of `meta_fit`: {told}. `fit` and `predict`: {scores['ms'].median():.0f} ms (median).",
        "",
    ]


def main() -> None:
    """Score, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="folder of tables; by default tables/ in $AUTOMETA_DATA")
    parser.add_argument("--tables", nargs="*", help="some of the tables; by default all")
    parser.add_argument("--learner", default=DEFAULT)
    parser.add_argument("--output", help="folder for entities.md and entities.csv; by default they are printed only")
    arguments = parser.parse_args()
    folder = find_folder(arguments.folder, KINDS)
    protocol = load_protocol(folder)
    rows = [
        {"table": name, **row}
        for _, name, frame in protocol.load_pack(folder, ("grouped",), arguments.tables)
        for row in score_table(protocol, frame, arguments.learner)
    ]
    scores = pd.DataFrame(rows).set_index(["table", "shots"]).join(best_baselines(folder))
    lines = [
        *report(scores, arguments.learner),
        f"{datetime.date.today()}, `python examples/benchmarks/tables/entities.py FOLDER "
        f"--learner {arguments.learner}`  ",
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, "
        f"Python {platform.python_version()}",
    ]
    print("\n".join(lines))
    if arguments.output:
        target, name = Path(arguments.output), "entities"
        if arguments.learner != DEFAULT:
            name += f"_{arguments.learner}"
        target.joinpath(f"{name}.md").write_text("\n".join(lines) + "\n")
        scores.to_csv(target / f"{name}.csv")


if __name__ == "__main__":
    main()

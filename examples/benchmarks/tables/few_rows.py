"""Kernel experts and the pretrained network on real tables with a few labelled rows, beside scikit-learn's baselines.

    python examples/benchmarks/tables/few_rows.py FOLDER --output examples/benchmarks/tables

FOLDER holds ``classification/*.csv``, ``regression/*.csv``, the baselines' scores ``baselines.csv`` and
``score_baselines.py``, which draws the episodes that they were scored on; without it, ``tables`` in the folder that
``AUTOMETA_DATA`` names. Nothing was chosen by these scores.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
from protocol import find_folder, load_protocol

import autometa as am

SHOTS = {"classification": (1, 2, 5, 10), "regression": (5, 10, 20, 50)}
METRICS = {"classification": ("accuracy", "log_loss"), "regression": ("r2_clipped", "coverage_90")}
METHODS = {
    "kernel_experts": {},
    "kernel_experts, support+query": {"scaling": "support+query"},
    "plain mean of the experts": {},
    "pfn": {},
    "pfn, support+query": {"scaling": "support+query"},
}
ENDS = torch.tensor([0.05, 0.95], dtype=torch.float64)
"""Of the 90% interval."""
KINDS = ("classification", "regression")


class Table:
    """A table encoded once, without its target: the learner scales columns anew by the support rows of each episode."""

    def __init__(self, kind: str, frame: pd.DataFrame) -> None:
        self.kind, features = kind, frame.drop(columns="target")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="column .* is taken as categories")
            self.encoder = am.TableEncoder().fit(features)
        self.x = torch.tensor(self.encoder.transform(features))
        self.target = frame["target"].to_numpy()

    def score(self, method: str, episodes: list[dict[str, Any]]) -> np.ndarray:
        """Return the two metrics of every episode; those of equal sizes are learned in one batch."""
        sizes = [(len(e["support"]), len(e["query"]), len(e.get("classes", ()))) for e in episodes]
        scores = np.zeros((len(episodes), 2))
        for size in set(sizes):
            places = [place for place, other in enumerate(sizes) if other == size]
            scores[places] = self._score(method, [episodes[place] for place in places], size[2])
        return scores

    def _score(self, method: str, episodes: list[dict[str, Any]], ways: int) -> np.ndarray:
        support, query = (np.stack([e[part] for e in episodes]) for part in ("support", "query"))
        if self.kind == "classification":
            y, truth = (torch.stack([self._codes(e, part) for e in episodes]) for part in ("support", "query"))
        else:
            y, truth = (torch.tensor(self.target[rows].astype(np.float32)) for rows in (support, query))
            centre, scale = y.mean(dim=1, keepdim=True), y.std(dim=1, keepdim=True) + 1e-9
            y, truth = (y - centre) / scale, (truth - centre) / scale
        outputs = answer(method, self._info(ways), am.Examples(self.x[support], y), self.x[query])
        if self.kind == "classification":
            log_shares = outputs[0].log_softmax(dim=-1)
            hit = (outputs[0].argmax(dim=-1) == truth).float().mean(dim=1)
            return np.stack([hit, -log_shares.gather(2, truth.unsqueeze(2)).mean(dim=(1, 2))], axis=1)
        mean, low, high = (output[..., 0] for output in outputs)
        spread = (truth - truth.mean(dim=1, keepdim=True)).square().sum(dim=1)
        r2 = (1 - (truth - mean).square().sum(dim=1) / spread).clamp(-1, 1).masked_fill(spread == 0, torch.nan)
        return np.stack([r2, ((low < truth) & (truth < high)).float().mean(dim=1)], axis=1)

    def _codes(self, episode: dict[str, Any], part: str) -> torch.Tensor:
        return torch.tensor([episode["classes"].index(label) for label in self.target[episode[part]]])

    def _info(self, ways: int) -> am.TaskInfo:
        return am.TaskInfo(
            problem=self.kind,
            input_shape=(self.x.shape[1],),
            n_outputs=max(1, ways),
            n_shot=1,
            n_query=1,
            feature_kinds=self.encoder.kinds_,
            feature_columns=self.encoder.sources_,
        )


def answer(method: str, info: am.TaskInfo, support: am.Examples, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return logits of the classes, or means and both ends of the 90% interval."""
    learner = am.make_learner("pfn" if method.startswith("pfn") else "kernel_experts", **METHODS[method])
    module: Any = learner.build(info)
    with torch.no_grad():
        if method.startswith("plain"):
            module.mixture.log_prior.zero_()
            module.mixture.log_power.fill_(-100.0)
        adapted = learner.adapt(module, support)
        if support.is_classification:
            return (learner.predict(module, adapted, x),)
        mean, deviation = learner.predict_distribution(module, adapted, x)
        if "quantiles" in learner.provides:
            return mean, *learner.predict_quantiles(module, adapted, x, ENDS)
        return mean, *(mean + deviation * end for end in torch.special.ndtri(ENDS).to(mean))


def score_tables(folder: Path, protocol: ModuleType, seed: int, methods: list[str]) -> Iterator[dict[str, Any]]:
    """Score methods on all tables and shots; a row for each."""
    for kind, name, frame in protocol.load_pack(folder, tuple(SHOTS)):
        table = Table(kind, frame)
        for shots in SHOTS[kind]:
            episodes = protocol.episodes(frame, kind, shots, seed)
            for method in methods if episodes else ():
                started = time.perf_counter()
                scores = table.score(method, episodes)
                row = {"kind": kind, "table": name, "shots": shots, "method": method, "seed": seed}
                row |= dict(zip(METRICS[kind], np.nanmean(scores, axis=0).round(5), strict=True))
                yield row | {"ms": round(1e3 * (time.perf_counter() - started) / len(episodes), 1)}


def read_baselines(folder: Path) -> pd.DataFrame:
    """Return the baselines' scores in the form of :func:`score_tables`."""
    read = pd.read_csv(folder / "baselines.csv")
    read = read[read["kind"].isin(SHOTS) & (read["table"] != "__mean__")]
    read = read.rename(columns={"model": "method", "mean": "accuracy", "mean_clipped": "r2_clipped"})
    return read[["kind", "table", "shots", "method", "accuracy", "r2_clipped"]]


def means(scores: pd.DataFrame, kind: str, metric: str) -> list[str]:
    """Return a Markdown table of means over the tables, the best method first."""
    part = scores[(scores["kind"] == kind) & scores[metric].notna() & (scores["method"] != "chance")]
    by_shot = part.pivot_table(index=["method", "seed"], columns="shots", values=metric, aggfunc="mean")
    by_shot = by_shot.dropna().sort_values(by_shot.columns[1], ascending=metric == "log_loss")
    lines = [f"| {kind}: {metric} | " + " | ".join(f"{shots} shot" for shots in by_shot.columns) + " |"]
    lines.append("|---|" + "---|" * by_shot.shape[1])
    for (method, seed), row in by_shot.iterrows():
        label = method if seed == 0 else f"{method}: other episodes (A/A)"
        lines.append(f"| {label} | " + " | ".join(f"{value:.3f}" for value in row) + " |")
    return [*lines, ""]


def losses(scores: pd.DataFrame, kind: str) -> list[str]:
    """Say where a baseline, chosen for each table and shot by its score, is ahead."""
    metric = METRICS[kind][0]
    part = scores[(scores["kind"] == kind) & (scores["seed"] == 0)]
    table = part.pivot_table(index=["table", "shots"], columns="method", values=metric)
    own = table["kernel_experts"]
    others = table.drop(columns=[*METHODS, "chance"], errors="ignore")
    gap = own - others.max(axis=1)
    behind = gap[gap < 0].sort_values()
    ranks = pd.concat([own, others], axis=1).rank(axis=1, ascending=False).mean().sort_values()
    best = ", ".join(f"{name} {rank:.2f}" for name, rank in ranks.head(4).items())
    lines = [
        f"{kind}: ahead of the best baseline of each table and shot in {int((gap >= 0).sum())} of {len(gap)} cells, "
        f"mean gap {gap.mean():+.3f}. Mean ranks: {best}. Furthest behind:",
        "",
    ]
    lines += [
        f"- {name}, {shots} shot: {value:.3f} ({others.idxmax(axis=1)[name, shots]})"
        for (name, shots), value in behind.head(10).items()
    ]
    return [*lines, ""]


def main() -> None:
    """Score, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="folder of tables; by default tables/ in $AUTOMETA_DATA")
    parser.add_argument("--output", help="folder for few_rows.md and few_rows.csv; by default they are printed only")
    arguments = parser.parse_args()
    folder = find_folder(arguments.folder, KINDS)
    torch.set_num_threads(1)
    protocol = load_protocol(folder)
    rows = [
        row
        for seed, methods in ((0, list(METHODS)), (1, ["kernel_experts"]))
        for row in score_tables(folder, protocol, seed, methods)
    ]
    own = pd.DataFrame(rows)
    scores = pd.concat([own, read_baselines(folder).assign(seed=0)], ignore_index=True)
    lines = [
        "# Tables with a few labelled rows",
        "",
        "Means over the tables, 50 episodes each, those of the baselines. Shots are labelled rows of each class, or of",
        "the table (regression).",
        "",
    ]
    for kind, metrics in METRICS.items():
        for metric in metrics:
            lines += means(scores if metric in ("accuracy", "r2_clipped") else own, kind, metric)
        lines += losses(scores, kind)
    lines += [
        f"{datetime.date.today()}, `python examples/benchmarks/tables/few_rows.py FOLDER`  ",
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, one thread, torch {torch.__version__}, "
        f"Python {platform.python_version()}; {own['ms'].median():.1f} ms an episode (median), in batches",
    ]
    print("\n".join(lines))
    if arguments.output:
        target = Path(arguments.output)
        target.joinpath("few_rows.md").write_text("\n".join(lines) + "\n")
        own.to_csv(target / "few_rows.csv", index=False)


if __name__ == "__main__":
    main()

"""How hard the tables of the priors are, and for whom, beside real tables.

    python examples/benchmarks/tables/priors.py --output examples/benchmarks/tables

Accuracy above chance, (accuracy - 1/classes) / (1 - 1/classes), at 1, 2, 5 and 10 rows of each class: the median over
tables for kernel ridge regression with a product of Laplace kernels. Beside it, in points of accuracy, what linear
kernels and naive Bayes have more or less on average. The numbers describe tables; nothing is chosen by the score of a
learner on real ones.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from autometa_plugins.tabular.comparison import compare
from autometa_plugins.tabular.encoding import encode, fit_encoding
from autometa_plugins.tabular.gaussian import gaussian_classes
from autometa_plugins.tabular.kernel_ridge import Kernel, fit_kernel_ridge
from autometa_plugins.tabular.laplace import ProductLaplace
from autometa_plugins.tabular.linear import BentLinear, Linear
from autometa_plugins.tabular.network import Network

import autometa as am

SHOTS = (1, 2, 5, 10)
PRIORS = (
    "prior_tables",
    "prior_mlp",
    "prior_scm",
    "prior_tree",
    "prior_additive",
    "prior_smooth",
    "prior_mixture",
    "prior_rules",
)
KERNELS: dict[str, Kernel] = {
    "laplace": ProductLaplace(ridge=0.1, decay=1.0),
    "linear": Linear(ridge=0.1),
    "bent linear": BentLinear(ridge=0.3),
}
REAL = (0.27, 0.38, 0.49, 0.58)
"""Medians on real tables."""


def score_experts(batch: am.TaskBatch, info: am.TaskInfo) -> dict[str, torch.Tensor]:
    """Return the accuracy of every expert on every task."""
    network = Network(info)
    support, query = (network.columns.read(part.x) for part in (batch.support, batch.query))
    mask, members = batch.support.mask, batch.support.one_hot()
    encoding = fit_encoding(support, mask, network.columns.n_categorical)
    rows, asked = encode(support, encoding), encode(query, encoding)
    equal = torch.full((len(batch), 2, network.columns.n_columns), 1 / network.columns.n_columns)
    among, between = (compare(part, rows, equal, torch.tensor(2.0)) for part in (rows, asked))
    mean = members.mean(dim=1, keepdim=True)
    outputs = {
        name: kernel(between) @ fit_kernel_ridge(kernel(among), members - mean, mask, kernel.ridge).coefficients + mean
        for name, kernel in KERNELS.items()
    }
    outputs["naive Bayes"] = gaussian_classes(asked.bent, rows.bent, members, encoding.speaks)
    return {name: (output.argmax(dim=-1) == batch.query.y).float().mean(dim=1) for name, output in outputs.items()}


@torch.no_grad()
def score_prior(name: str, n_shot: int, n_shapes: int, n_tables: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return the scores of every expert on tables of many sizes, but one number of rows for each class."""
    prior = am.make_tasks(name)
    found: dict[str, list[torch.Tensor]] = {}
    for shape in range(n_shapes):
        varied = prior.varied(am.derive_seed(seed, "shape", shape))
        varied.set_params(stratified=True, n_shot=n_shot, n_query=10, n_levels=min(varied.n_levels, 12))
        varied.set_params(n_classes=min(varied.n_classes, 6))
        batch = varied.sample(n_tables, split="test", seed=am.derive_seed(seed, "tables", shape))
        for expert, scores in score_experts(batch, varied.info).items():
            found.setdefault(expert, []).append(scores)
        chance = 1 / varied.n_classes
        found.setdefault("above chance", []).append((found["laplace"][-1] - chance) / (1 - chance))
    return {expert: torch.cat(scores) for expert, scores in found.items()}


def main() -> None:
    """Score the priors and write priors.md."""
    parser = argparse.ArgumentParser(description="How hard the tables of the priors are.")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--shapes", type=int, default=120)
    parser.add_argument("--tables", type=int, default=8)
    parser.add_argument("--priors", nargs="+", default=PRIORS)
    options = parser.parse_args()
    lines = [
        "# How hard the tables of the priors are",
        "",
        __doc__.strip().partition("\n\n")[2].partition("\n\n")[2],
        "",
        f"{options.shapes} sizes of {options.tables} tables each, for every prior and number of rows.",
        "",
        "| tables | rows of a class | Laplace | linear | bent linear | naive Bayes |",
        "|---|---|---|---|---|---|",
        *(
            f"| real, for comparison | {n_shot} | {value:.2f} | | | |"
            for n_shot, value in zip(SHOTS, REAL, strict=True)
        ),
    ]
    print("\n".join(lines[-6:]), flush=True)
    for name in options.priors:
        for n_shot in SHOTS:
            scores = score_prior(name, n_shot, options.shapes, options.tables)
            own, above = scores.pop("laplace"), scores.pop("above chance")
            gaps = " | ".join(f"{100 * float((other - own).mean()):+.1f}" for other in scores.values())
            lines.append(f"| {name} | {n_shot} | {float(above.median()):.2f} | {gaps} |")
            print(lines[-1], flush=True)
    lines += ["", "| prior | processor ms for a table of 50 rows and 12 columns, of 64 drawn together |", "|---|---|"]
    for name in options.priors:
        tasks = am.make_tasks(name, n_columns=12, n_categorical=3, n_classes=2, n_shot=10, n_query=15)
        tasks.sample(4, seed=0)
        start = time.process_time()
        tasks.sample(64, seed=1)
        lines.append(f"| {name} | {(time.process_time() - start) / 64 * 1000:.1f} |")
        print(lines[-1], flush=True)
    if options.output is not None:
        (options.output / "priors.md").write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()

"""A pretrained network beside the mixture that it starts at, on held-out synthetic tables.

    python examples/benchmarks/tables/held_out.py --output examples/benchmarks/tables

Tables of many sizes are drawn from the prior's split "test", which neither pretraining nor its curve has seen. Both
answer for the same tables; a difference is the mean over sizes, with its standard error. Surprise is that of a Gaussian
with the mean and deviation that a learner tells, R² that of tables' targets, between -1 and 1.
"""

from __future__ import annotations

import argparse
import datetime
import platform
from pathlib import Path

import torch

import autometa as am

N_SHAPES, N_TABLES, PAIRS = 250, 24, 1_000_000


@torch.no_grad()
def judge(learner: am.Learner, module: torch.nn.Module, batch: am.TaskBatch) -> tuple[float, float]:
    """Return mean log loss and accuracy, or the mean surprise and R² against the support's own mean and spread."""
    adapted = learner.adapt(module, batch.support)
    if batch.query.is_classification:
        logits = learner.predict(module, adapted, batch.query.x)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.query.y.flatten())
        return float(loss), float((logits.argmax(dim=-1) == batch.query.y).float().mean())
    mean, deviation = learner.predict_distribution(module, adapted, batch.query.x)
    target = batch.query.targets()
    center = target.mean(dim=1, keepdim=True)
    spread = (target - center).square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-6)
    surprise = -torch.distributions.Normal(mean, deviation).log_prob(target) - spread.log()
    explained = 1 - ((target - mean) / spread).square().mean(dim=1)
    return float(surprise.clamp(max=20).mean()), float(explained.clamp(-1, 1).mean())


def differences(problem: str, weights: str, n_shapes: int, seed: int) -> torch.Tensor:
    """Return what the network has more than the mixture, [sizes, 2]."""
    prior = am.make_tasks("prior_tables", problem=problem)
    learners = am.make_learner("pfn", weights=weights), am.make_learner("kernel_experts")
    found = []
    for shape in range(n_shapes):
        varied = prior.varied(am.derive_seed(seed, "shape", shape))
        rows = varied.n_shot * (varied.n_classes if varied.stratified and problem == "classification" else 1)
        n_tables = min(N_TABLES, max(2, PAIRS // rows**2))
        batch = varied.sample(n_tables, split="test", seed=am.derive_seed(seed, "tables", shape))
        scores = [judge(one, one.build(varied.info).eval(), batch) for one in learners]
        found.append([own - other for own, other in zip(*scores, strict=True)])
    return torch.tensor(found, dtype=torch.float64)


def main() -> None:
    """Judge both files of weights and write held_out.md."""
    parser = argparse.ArgumentParser(description="The pretrained network beside its mixture.")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--shapes", type=int, default=N_SHAPES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--classification", default="bundled", help="File of weights.")
    parser.add_argument("--regression", default="bundled", help="File of weights.")
    options = parser.parse_args()
    lines = ["# The pretrained network beside its mixture", "", __doc__.strip().partition("\n\n")[2], ""]
    lines += [f"{options.shapes} sizes, seed {options.seed}. Standard errors stand behind ±.", ""]
    lines += ["| `pfn` less `kernel_experts` | sizes won | difference |", "|---|---|---|"]
    kinds = {"classification": ("log loss", "accuracy"), "regression": ("surprise, nats", "R²")}
    for problem, names in kinds.items():
        found = differences(problem, getattr(options, problem), options.shapes, options.seed)
        error = found.std(dim=0) / len(found) ** 0.5
        won = ((found * torch.tensor([-1, 1])) > 0).double().mean(dim=0)
        for name, mean, noise, share in zip(names, found.mean(dim=0), error, won, strict=True):
            lines.append(f"| {name} | {share:.0%} | {mean:+.4f} ± {noise:.4f} |")
            print(lines[-1], flush=True)
    lines += ["", f"{datetime.date.today()}, `python examples/benchmarks/tables/held_out.py`  "]
    lines += [f"{platform.machine()}, torch {torch.__version__}, Python {platform.python_version()}", ""]
    if options.output is not None:
        (options.output / "held_out.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()

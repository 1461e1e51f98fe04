"""Measure every learner against the number its paper prints.

Recipes and published numbers lie in ``parity.toml``. Each entry is meta-trained once and judged in every setting of its
group; the scores are appended to ``parity.csv``, from which ``PARITY.md`` is written.

    python examples/benchmarks/parity/parity.py list
    python examples/benchmarks/parity/parity.py run sinusoid/maml omniglot/ridge
    python examples/benchmarks/parity/parity.py run --missing
    python examples/benchmarks/parity/parity.py report

A run that is cut goes on from its last checkpoint in ``runs/parity``. Data of other people are looked for in the folder
that the variable ``AUTOMETA_DATA`` names.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import platform
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from judges import JUDGES, Judged

import autometa as am
from autometa.engine.folding import describe_normalization
from autometa.training import MetaTraining

HERE = Path(__file__).parent
RECIPES, RESULTS, REPORT = HERE / "parity.toml", HERE / "parity.csv", HERE / "PARITY.md"
CHECKPOINT_EVERY = 60.0
"""Seconds between two checkpoints of a run."""
COLUMNS = (
    *("entry", "setting", "metric", "published", "score", "ci95", "n_tasks", "n_query", "normalization", "split"),
    *("outer_steps", "tasks_per_step", "cpu_seconds", "seconds", "device", "threads", "seed", "commit", "date"),
    *("machine", "source", "remark"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One learner, how it is meta-trained and where it is judged."""

    name: str
    learner: dict[str, Any]
    """``name`` and hyperparameters; a backbone likewise."""
    sampler: str
    common: dict[str, Any]
    """Parameters of the sampler in training and in judging."""
    train: dict[str, Any]
    """Parameters of the sampler in training alone."""
    settings: dict[str, dict[str, Any]]
    """What to judge, by name: parameters of the sampler; those called ``learner`` change the learner's adaptation."""
    steps: int
    tasks_per_step: int
    test_tasks: int
    split: str
    published: dict[str, Any]
    meta_optimizer: dict[str, Any]
    milestones: list[float]
    """Shares of meta-training after which it is judged as well: its course where the paper's budget is out of reach."""
    judge: str
    """Which of ``judges.JUDGES`` measures it."""
    embedded: bool
    """True if the backbone is the same for every task, so that test images need to be embedded only once."""
    source: str
    remark: str

    def tasks(self, **parameters: Any) -> am.TaskSampler:
        """The task distribution with these parameters."""
        return am.make_tasks(self.sampler, **(self.common | parameters))


def read_entries(full: bool = False) -> dict[str, Entry]:
    """All entries of ``parity.toml`` by name; what an entry does not say its group does.

    ``full``: as their tables of that name say, for an accelerator.
    """
    groups = tomllib.loads(RECIPES.read_text())
    entries = {}
    for group, table in groups.items():
        own = table.pop("entries")
        for name, entry in own.items():
            said = {"common": {}, "meta_optimizer": {}, "published": {}, "judge": "score", "embedded": False}
            said |= {"remark": "", "source": "", "milestones": []}
            said |= table | entry
            changes = said.pop("full", {})
            said |= changes if full else {}
            entries[f"{group}/{name}"] = Entry(name=f"{group}/{name}", **said)
    return entries


def make(kind: str, table: dict[str, Any]) -> Any:
    """A component from its ``name`` and parameters; ``backbone`` may be such a table itself."""
    parameters = dict(table)
    name = parameters.pop("name")
    if isinstance(parameters.get("backbone"), dict):
        parameters["backbone"] = make("backbone", parameters["backbone"])
    return getattr(am, f"make_{kind}")(name, **parameters)


def meta_train(
    entry: Entry, seed: int, device: torch.device, max_seconds: float | None = None
) -> Iterator[tuple[MetaTraining, float]]:
    """Meta-train an entry, from its last checkpoint where there is one.

    Gives the training and the processor seconds taken, at every milestone and at the end.
    """
    learner = make("learner", entry.learner)
    default = learner.default_meta_optimizer
    meta_optimizer = make("meta_optimizer", {"name": default} | entry.meta_optimizer) if default else None
    training = MetaTraining(
        learner,
        meta_optimizer,
        entry.tasks(**entry.train),
        n_steps=entry.steps,
        max_seconds=max_seconds,
        tasks_per_step=entry.tasks_per_step,
        seed=seed,
        device=device,
    )
    checkpoint = Path("runs/parity", f"{entry.name.replace('/', '-')}-{seed}.pt")
    cpu_before = 0.0
    if checkpoint.exists():
        stored = torch.load(checkpoint, weights_only=True)
        if stored["recipe"] == repr(entry):
            training.load_state_dict(stored["training"])
            cpu_before = stored["cpu_seconds"]
        else:
            say(f"  {entry.name}: the recipe changed since {checkpoint} was written; begun anew")
    began, saved = time.process_time(), time.monotonic()
    ahead = [milestone for milestone in entry.milestones if milestone > training.progress]
    while training.progress < 1:
        training.run_to(min(1.0, *ahead[:1], training.progress + max(1e-3, 5 / max(1, entry.steps))))
        cpu_seconds = cpu_before + time.process_time() - began
        if ahead and training.progress >= ahead[0]:
            del ahead[0]
            yield training, cpu_seconds
            began = time.process_time() - (cpu_seconds - cpu_before)  # judging is not counted
        if time.monotonic() - saved > CHECKPOINT_EVERY:
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            state = {"recipe": repr(entry), "training": training.state_dict(), "cpu_seconds": cpu_seconds}
            torch.save(state, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)
            saved = time.monotonic()
            loss = training.history["loss"].tail(100).mean()
            done = f"step {training.step_count} of {entry.steps}, {cpu_seconds:.0f} s"
            say(f"  {entry.name}: {done}, loss {loss:.4f}")
    checkpoint.unlink(missing_ok=True)
    yield training, cpu_before + time.process_time() - began


def run(entry: Entry, seed: int, device: torch.device, max_seconds: float | None = None) -> None:
    """Meta-train, judge and append the scores."""
    say(f"{entry.name}: {entry.steps} outer steps")
    for training, cpu_seconds in meta_train(entry, seed, device, max_seconds):
        after = "" if training.progress == 1 else f" after {training.step_count} steps"
        was_training = training.module.training
        for judged in JUDGES[entry.judge](entry, make("learner", entry.learner), training.module, seed):
            if not (after and judged.is_reference):
                append(row_of(entry, training, judged, after, cpu_seconds, seed))
        training.module.train(was_training)


def row_of(
    entry: Entry, training: MetaTraining, judged: Judged, after: str, cpu_seconds: float, seed: int
) -> dict[str, Any]:
    """A score with all that belongs to it."""
    scores = judged.scores
    mean, error = scores.mean(), 1.96 * scores.std(ddof=1) / len(scores) ** 0.5
    return {
        "entry": entry.name,
        "setting": judged.setting + after,
        "metric": judged.metric,
        "published": "" if after else entry.published.get(judged.setting, ""),
        "score": f"{mean:.5g}",
        "ci95": f"{error:.3g}",
        "n_tasks": len(scores),
        "n_query": judged.n_query,
        "normalization": describe_normalization(training.module),
        "split": entry.split,
        "outer_steps": training.step_count,
        "tasks_per_step": entry.tasks_per_step,
        "cpu_seconds": f"{cpu_seconds:.0f}",
        "seconds": f"{training.seconds:.0f}",
        "device": training.device.type,
        "threads": torch.get_num_threads(),
        "seed": seed,
        "commit": output_of("git", "rev-parse", "--short", "HEAD"),
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "source": entry.source,
        "remark": entry.remark,
    }


def append(row: dict[str, Any]) -> None:
    """Add a row to the results."""
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)
    told = f"{row['score']} ± {row['ci95']} (published {row['published'] or '-'})"
    say(f"  {row['entry']}, {row['setting']}: {told}")


def rows() -> list[dict[str, str]]:
    """All scores measured, oldest first."""
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="") as file:
        return list(csv.DictReader(file))


def report() -> None:
    """Write ``PARITY.md`` from the newest score of every entry and setting; text that it has by hand stays."""
    newest = {(row["entry"], row["setting"], row["seed"], row["device"]): row for row in rows()}
    order = list(read_entries())
    lines = ["# Every learner against its paper", "", *_INTRODUCTION]
    for group in dict.fromkeys(name.split("/")[0] for name in order):
        found = [row for row in newest.values() if row["entry"].startswith(f"{group}/")]
        if not found:
            continue
        found.sort(key=lambda row: order.index(row["entry"]) if row["entry"] in order else len(order))
        lines += [f"## {group}", "", *table(found), ""]
        measured = {row["entry"] for row in found}
        missing = [name.split("/")[1] for name in order if name.startswith(f"{group}/") and name not in measured]
        if missing:
            lines += [f"Recipes without a score yet: {', '.join(missing)}.", ""]
    heading = "## Remarks"
    remarks = REPORT.read_text().partition(heading)[2] if REPORT.exists() else "\n"
    REPORT.write_text("\n".join(lines) + f"\n{heading}{remarks}")


_INTRODUCTION = (
    "Written by `python examples/benchmarks/parity/parity.py report` from [parity.csv](parity.csv); the recipes are in",
    "[parity.toml](parity.toml). *Ours* is the mean over meta-test tasks ± 1.96 standard errors, of a single model and",
    "one seed. Steps are outer steps; *CPU s* is the processor time of meta-training. Batch normalisation is inductive",
    "unless it says otherwise; the published numbers of MAML, Reptile and Meta-SGD are transductive. Rows of device",
    "cuda, and of 100,000 steps, are the recipes of `--full`; a setting that stands twice on one device is of two",
    "seeds.",
    "",
)


def table(found: list[dict[str, str]]) -> list[str]:
    """The rows of one group as Markdown."""
    head = ("learner", "setting", "published", "ours", "queries", "tasks", "normalisation", "split", "steps × tasks")
    head += ("CPU s", "device", "source")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in found:
        percent = row["metric"] == "accuracy"
        scale, digits = (100, 2) if percent else (1, 3)
        ours = f"{scale * float(row['score']):.{digits}f} ± {scale * float(row['ci95']):.{digits}f}"
        cells = (
            row["entry"].split("/")[1],
            row["setting"],
            row["published"] or "–",
            ours,
            row["n_query"],
            row["n_tasks"],
            row["normalization"],
            row["split"],
            f"{row['outer_steps']} × {row['tasks_per_step']}",
            row["cpu_seconds"],
            f"{row['device']}, {row['threads']} thread" + ("s" if row["threads"] != "1" else ""),
            row["source"],
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def machine() -> str:
    """Processor, cores and versions."""
    cpu, gpu = Path("/proc/cpuinfo"), f"{torch.cuda.get_device_name()}; " if torch.cuda.is_available() else ""
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{gpu}{model}; {os.cpu_count()} cores; torch {torch.__version__}; Python {platform.python_version()}"


def output_of(*command: str) -> str:
    """Return what a command prints; "unknown" if it fails, as git does outside of a checkout."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def say(text: str) -> None:
    """Tell the reader of the log."""
    print(text, flush=True)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("list", "run", "report"))
    parser.add_argument("entries", nargs="*", help="names, or beginnings of names")
    parser.add_argument("--missing", action="store_true", help="run all that have no score yet on this kind of device")
    parser.add_argument("--full", action="store_true", help="the recipes for an accelerator")
    parser.add_argument("--max-seconds", type=float, help="end a meta-training after as long even if steps are left")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_intermixed_args()
    torch.set_num_threads(arguments.threads)
    entries = read_entries(arguments.full)
    device = torch.accelerator.current_accelerator() if arguments.device == "auto" else torch.device(arguments.device)
    device = device or torch.device("cpu")
    done = {(row["entry"], row["seed"]) for row in rows() if row["device"] == device.type}
    if arguments.action == "report":
        return report()
    chosen = [name for name in entries if any(name.startswith(start) for start in arguments.entries or [""])]
    if arguments.action == "list":
        return say("\n".join(f"{'*' if (name, str(arguments.seed)) in done else ' '} {name}" for name in chosen))
    if not chosen or not (arguments.entries or arguments.missing):
        sys.exit("name entries to run, or give --missing; 'list' shows all.")
    for name in chosen:
        if not arguments.missing or (name, str(arguments.seed)) not in done:
            run(entries[name], arguments.seed, device, arguments.max_seconds)
    report()


if __name__ == "__main__":
    main()

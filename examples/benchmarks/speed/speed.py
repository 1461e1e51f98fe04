"""Measure the speed of autometa: its meta-step against other libraries', its samplers, and its latency.

    python examples/benchmarks/speed/speed.py --learn2learn PATH_TO_CLONE
    python examples/benchmarks/speed/speed.py --learn2learn PATH_TO_CLONE --part peak --part race
    python examples/benchmarks/speed/speed.py --learn2learn PATH_TO_CLONE --device cuda --output speed_cuda.csv

The second command races MAML alone, on networks of linear layers and of convolutions; ``--network``, ``--order``,
``--tasks`` and ``--steps`` name cells. ``learn2learn`` does not build on recent Pythons, but the part raced here is
plain Python: give a clone of its repository, or its unpacked source distribution. The other peers are ``higher``,
``torchopt`` and ``parallel-metalearn``, which is imported as ``metalearn``. A contender that cannot be imported is left
out.

Every measurement is appended to ``speed.csv`` with commit, date and machine, and one that is there already for the same
commit and machine is not taken again: a run that was stopped goes on where it was. ``speed.md`` is written from the
newest row of every measurement.

Before a network is timed the meta-gradients of all contenders are asserted to be equal, first order and second. They
take turns of a step, or of as many as 20 ms hold, since steps of meta-training follow one another; the median of all
steps counts. Each takes as many turns as 4 seconds hold, and has 16 tasks at least; all cells together take about 20
minutes.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import itertools
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import speed_race
import speed_steps
import torch
from speed_problems import learners_for, problems, seconds_of, table_sampler
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import autometa as am
from autometa.engine.replay import PLAIN_CALLS

HERE = Path(__file__).parent
TASKS = (1, 4, 16, 32)
STEPS = (1, 5)
PEERS = ("higher", "torchopt", "parallel-metalearn")
PARTS = ("peak", "race", "memory", "samplers", "latency", "steps", "profile")
FIELDS = ("part", "cell", "who", "value", "unit", "n", "commit", "date", "machine")
FEWEST_TASKS = 16
"""Tasks that every contender is timed on, in as many turns as that takes."""
TURN = 0.02
"""Seconds of a turn at least."""
MAX_MEMORY_SECONDS = 5.0
"""Memory is not measured of cells whose meta-step takes longer; it grows no more by then."""
N_PROFILED_TASKS = 4
N_SHARES = 4
Row = dict[str, str]


class Records:
    """The rows of ``speed.csv``."""

    def __init__(self, path: Path, device: str) -> None:
        self._path, self._machine = path, machine(device)
        self._commit = commit()
        with path.open(newline="") if path.exists() else open(os.devnull) as file:
            self.rows: list[Row] = list(csv.DictReader(file))

    def has(self, part: str, cell: str) -> bool:
        """Tell whether this was measured on this machine at this commit."""
        now = (part, cell, self._commit, self._machine)
        return any((row["part"], row["cell"], row["commit"], row["machine"]) == now for row in self.rows)

    def add(self, part: str, cell: str, who: str, value: float, unit: str, n: int = 1) -> None:
        """Append a row."""
        values = (
            part,
            cell,
            who,
            f"{value:.6g}",
            unit,
            str(n),
            self._commit,
            str(datetime.date.today()),
            self._machine,
        )
        row = dict(zip(FIELDS, values, strict=True))
        is_new = not self._path.exists()
        with self._path.open("a", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            if is_new:
                writer.writeheader()
            writer.writerow(row)
        self.rows.append(row)
        print(f"{part:9} {cell:34} {who:22} {value:12.4g} {unit}", flush=True)

    def peaks(self) -> dict[str, float]:
        """The most arithmetic that each machine did, GFLOP/s."""
        found: dict[str, float] = {}
        for row in self.rows:
            if row["part"] == "peak":
                found[row["machine"]] = max(found.get(row["machine"], 0.0), float(row["value"]))
        return found

    def newest(self, part: str) -> dict[str, dict[str, Row]]:
        """The last row of every cell and ``who``."""
        found: dict[str, dict[str, Row]] = {}
        for row in self.rows:
            if row["part"] == part:
                found.setdefault(row["cell"], {})[row["who"]] = row
        return found


def commit() -> str:
    """Short id of the commit; with a plus where files differ from it."""
    git = ("git", "-C", str(HERE))
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "../../autometa", "../../plugins"], check=False)
    return head.stdout.strip() + ("+" if changed.returncode else "")


def machine(device: str) -> str:
    """Processor or accelerator, threads and versions."""
    if device != "cpu":
        model = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    else:
        model = platform.processor()
        if Path("/proc/cpuinfo").exists():
            lines = Path("/proc/cpuinfo").read_text().splitlines()
            model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    found = {of.metadata["Name"] for of in metadata.distributions()}
    peers = [f"{name} {metadata.version(name)}" for name in PEERS if name in found]
    parts = (f"{os.cpu_count()} cores", f"{torch.get_num_threads()} threads", f"torch {torch.__version__}", *peers)
    return ", ".join((model, *parts, f"Python {platform.python_version()}"))


def cells(arguments: argparse.Namespace) -> Iterator[tuple[str, str, int, int]]:
    """Network, order, inner steps and tasks of every race, the many tasks of large networks last."""
    grid = itertools.product(arguments.tasks, arguments.networks, arguments.orders, arguments.steps)
    for n_tasks, network, order, steps in grid:
        yield network, order, steps, n_tasks


def name_of(network: str, order: str, steps: int, n_tasks: int) -> str:
    """The name of a cell."""
    return f"{network}/{order}/{steps} steps/{n_tasks} tasks"


def measure_peak(records: Records, arguments: argparse.Namespace) -> None:
    """Measure the most arithmetic the machine does: the larger of a matrix product and a convolution."""
    device = arguments.device
    left, right = torch.randn(2, 2048, 2048, device=device)
    conv = nn.Conv2d(64, 64, 3, padding=1, bias=False).to(device, memory_format=torch.channels_last)
    images = torch.randn(64, 64, 28, 28, device=device).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for who, run, flops in (
            ("matrix product", lambda: left @ right, 2 * 2048**3),
            ("convolution", lambda: conv(images), 2 * 64 * 64 * 64 * 9 * 28 * 28),
        ):
            fastest = min(seconds_of(run, device) for _ in range(20))
            records.add("peak", "peak", who, flops / fastest / 1e9, "GFLOP/s", 20)


def measure_races(records: Records, arguments: argparse.Namespace) -> None:
    """Time all contenders on every cell."""
    asserted: set[tuple[str, str, int]] = set()
    for network, order, steps, n_tasks in cells(arguments):
        cell = name_of(network, order, steps, n_tasks)
        if records.has("race", cell):
            continue
        if (network, order, steps) not in asserted:
            speed_race.assert_equal_gradients(network, steps, order)
            asserted.add((network, order, steps))
            records.add(
                "flops", f"{network}/{order}/{steps} steps", "one task", flops_of(network, order, steps), "FLOP"
            )
        race = speed_race.make_race(network, n_tasks, steps, order, device=arguments.device)
        runs = {name: speed_race.CONTENDERS[name](race) for name in speed_race.contenders()}
        on_cpu = arguments.device == "cpu"
        for run in runs.values():
            run(race.batch[:1])
        # The first step of several tasks is watched on one thread; a GPU's operations are recorded by the last.
        for _ in range(2 if on_cpu else PLAIN_CALLS + 1):
            runs["autometa"](race.batch[:4] if on_cpu else race.batch)
        taken: dict[str, list[float]] = {name: [] for name in runs}
        begin = time.perf_counter()
        while len(taken["autometa"]) * n_tasks < FEWEST_TASKS or time.perf_counter() - begin < arguments.seconds:
            for name, run in runs.items():
                turn = time.perf_counter()
                taken[name].append(seconds_of(partial(run, race.batch), arguments.device))
                while time.perf_counter() - turn < TURN:
                    taken[name].append(seconds_of(partial(run, race.batch), arguments.device))
        for name, times in taken.items():
            records.add("race", cell, name, 1e3 * statistics.median(times), "ms", len(times))


def flops_of(network: str, order: str, steps: int) -> float:
    """Multiplications and additions of one task's meta-step, in products and convolutions."""
    race = speed_race.make_race(network, 1, steps, order)
    run = speed_race.plain(race)
    with FlopCounterMode(display=False) as counter:
        run(race.batch)
    return counter.get_total_flops()


def measure_memory(records: Records, arguments: argparse.Namespace) -> None:
    """Measure how much memory two meta-steps need at most, beyond what was there before."""
    times = records.newest("race")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__"])
    for network, order, steps, n_tasks in cells(arguments):
        cell = name_of(network, order, steps, n_tasks)
        if records.has("memory", cell):
            continue
        found: dict[str, float] = {}
        for name in speed_race.contenders():
            taken = times.get(cell, {}).get(name)
            if taken is None or float(taken["value"]) > 1e3 * MAX_MEMORY_SECONDS:
                continue
            mine, other = context.Pipe()
            process = context.Process(
                target=report_memory, args=(other, name, network, n_tasks, steps, order, arguments)
            )
            process.start()
            other.close()
            found[name] = mine.recv() / 2**20
            process.join()
        for name, amount in found.items():
            records.add("memory", cell, name, amount, "MiB")


def report_memory(
    connection: Connection, name: str, network: str, n_tasks: int, steps: int, order: str, arguments: argparse.Namespace
) -> None:
    """Send the growth of the peak, in bytes; run in a process of its own."""
    torch.set_num_threads(arguments.threads)
    if arguments.learn2learn:
        speed_race.offer_learn2learn(arguments.learn2learn)
    race = speed_race.make_race(network, n_tasks, steps, order, device=arguments.device)
    run = speed_race.CONTENDERS[name](race)
    on_cpu = arguments.device == "cpu"
    before = peak_bytes(on_cpu)
    for _ in range(2):
        run(race.batch)
    connection.send(peak_bytes(on_cpu) - before)


def peak_bytes(on_cpu: bool) -> int:
    """The most memory that this process has had so far."""
    if not on_cpu:
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def bundled_samplers() -> dict[str, Callable[[], am.TaskSampler]]:
    """Those that need no file; Omniglot where ``AUTOMETA_DATA`` says where it is."""
    found: dict[str, Callable[[], am.TaskSampler]] = {
        name: (lambda name=name: am.make_tasks(name))
        for name in ("sinusoid", "harmonics", "linear", "gaussian_process", "glyphs", "digits", "augmented_shot")
    }
    found["table"] = table_sampler
    if root := os.environ.get("AUTOMETA_DATA"):
        found["omniglot"] = lambda: am.make_tasks("omniglot", root=Path(root) / "omniglot")
    return found


def measure_samplers(records: Records, arguments: argparse.Namespace) -> None:
    """Count how many episodes a second are drawn, 32 at a time."""
    for name, make in bundled_samplers().items():
        if records.has("samplers", name):
            continue
        sampler = make()
        sampler.sample(32, seed=0)
        begin, n = time.perf_counter(), 0
        while time.perf_counter() - begin < arguments.seconds / 4:
            n += 1
            sampler.sample(32, seed=n)
        records.add("samplers", name, "episodes", 32 * n / (time.perf_counter() - begin), "1/s", n)


def measure_latency(records: Records, arguments: argparse.Namespace) -> None:
    """Time adapting to one new task and predicting its query, by the estimator and by the learner alone."""
    for kind, tasks in problems().items():
        for name in learners_for(tasks.info.problem):
            cell = f"{kind}/{name}"
            if records.has("latency", cell):
                continue
            is_classification = tasks.info.problem_record.has_classes
            estimator_class = am.FewShotClassifier if is_classification else am.FewShotRegressor
            estimator = estimator_class(learner=name, max_steps=1, random_state=0, device=arguments.device)
            try:
                estimator.meta_fit(tasks)
            except (am.Incompatible, am.InvalidParameter) as reason:
                print(f"latency   {cell}: left out: {reason}")
                continue
            one = tasks.sample(1, split="test", seed=1)
            X, y, queries = (part[0].numpy() for part in (one.support.x, one.support.y, one.query.x))
            here = one.to(arguments.device)
            found: dict[str, list[float]] = {}
            for who, run in (
                ("adapt/predict", partial(adapt_and_predict, estimator.learner_, estimator.module_, here)),
                ("fit/predict", partial(fit_and_predict, estimator, X, y, queries)),
            ):
                run()
                taken = []
                begin = time.perf_counter()
                while len(taken) < 200 and (len(taken) < 3 or time.perf_counter() - begin < arguments.seconds):
                    taken.append(seconds_of(run, arguments.device))
                found[who] = taken
            for who, taken in found.items():
                p50, p95 = np.percentile(taken, [50, 95])
                records.add("latency", cell, f"{who} p50", 1e3 * p50, "ms", len(taken))
                records.add("latency", cell, f"{who} p95", 1e3 * p95, "ms", len(taken))


def adapt_and_predict(learner: am.Learner, module: nn.Module, batch: am.TaskBatch) -> None:
    """What the engine does for new tasks."""
    with torch.no_grad():
        learner.predict(module, learner.adapt(module, batch.support), batch.query.x)


def fit_and_predict(estimator: Any, X: np.ndarray, y: np.ndarray, queries: np.ndarray) -> None:
    """What a user does for a new task."""
    estimator.fit(X, y.squeeze()).predict(queries)


PROFILED = {
    "prototypical": ("prototypical", "images"),
    "maml, MLP": ("maml", "sinusoid"),
    "maml, Conv4": ("maml", "images"),
    "ridge": ("ridge", "images"),
    "fine_tune, pooled": ("fine_tune", "images"),
    "multitask": ("multitask", "table"),
    "in_context": ("in_context", "sinusoid"),
}


def measure_profile(records: Records, arguments: argparse.Namespace) -> None:
    """Say what one outer step spends its time on: torch's operations, and what is not in any."""
    for family, (name, kind) in PROFILED.items():
        if records.has("profile", family):
            continue
        tasks = table_sampler() if kind == "table" else problems()[kind]
        learner = am.make_learner(name)
        torch.manual_seed(0)
        module = learner.build(tasks.info).to(arguments.device)
        optimizer = am.make_meta_optimizer(learner.default_meta_optimizer)
        optimizer.start(learner, module, tasks.info)
        batch = tasks.sample(N_PROFILED_TASKS, seed=0).to(arguments.device)
        for _ in range(2):
            optimizer.step(batch)
        n = 1 if seconds_of(partial(optimizer.step, batch), arguments.device) > 0.1 else 5
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            wall = sum(seconds_of(partial(optimizer.step, batch), arguments.device) for _ in range(n))
        events = sorted(profile.key_averages(), key=lambda event: -event.self_cpu_time_total)
        inside = sum(event.self_cpu_time_total for event in events) / 1e6
        records.add("profile", family, "outer step", 1e3 * wall / n, "ms", n)
        for event in events[:N_SHARES]:
            records.add("profile", family, event.key, 100 * event.self_cpu_time_total / 1e6 / max(wall, inside), "%")
        records.add("profile", family, "outside torch", 100 * max(0.0, wall - inside) / max(wall, inside), "%")


MEASURES = {
    "peak": measure_peak,
    "race": measure_races,
    "memory": measure_memory,
    "samplers": measure_samplers,
    "latency": measure_latency,
    "steps": speed_steps.measure_steps,
    "profile": measure_profile,
}


def main() -> None:
    """Measure what is missing and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--learn2learn", type=Path, help="clone of github.com/learnables/learn2learn")
    parser.add_argument("--part", dest="parts", choices=PARTS, action="append", help="only this part")
    parser.add_argument("--profile", dest="parts", action="append_const", const="profile", help="--part profile")
    parser.add_argument("--network", dest="networks", choices=speed_race.NETWORKS, action="append", help="only this")
    parser.add_argument("--order", dest="orders", choices=speed_race.ORDERS, action="append", help="only this order")
    parser.add_argument("--tasks", type=int, action="append", help="only this number of tasks")
    parser.add_argument("--steps", type=int, action="append", help="only this number of inner steps")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each cell, or longer for 16 tasks each")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--output", type=Path, default=HERE / "speed.csv", help="the tables go beside it, as .md")
    arguments = parser.parse_args()
    arguments.networks = arguments.networks or list(speed_race.NETWORKS)
    arguments.orders = arguments.orders or list(speed_race.ORDERS)
    arguments.tasks, arguments.steps = arguments.tasks or list(TASKS), arguments.steps or list(STEPS)
    torch.set_num_threads(arguments.threads)
    if arguments.learn2learn:
        speed_race.offer_learn2learn(arguments.learn2learn)
    records = Records(arguments.output, arguments.device)
    for part in arguments.parts or PARTS:
        if part != "peak" or not records.has("peak", "peak"):
            MEASURES[part](records, arguments)
        write(arguments.output.with_suffix(".md"), records)


def write(path: Path, records: Records) -> None:
    """Write the tables; remarks that the file already has at its end stay."""
    heading = "## Remarks"
    remarks = path.read_text().partition(heading) if path.exists() else ("", "", "")
    runs = dict.fromkeys((row["commit"], row["date"], row["machine"]) for row in records.rows)
    text = [
        "# Speed",
        "",
        "Written by `python examples/benchmarks/speed/speed.py --learn2learn PATH` from "
        f"`{path.with_suffix('.csv').name}`.",
        "",
        *race_table(records),
        *sampler_table(records),
        *latency_table(records),
        *speed_steps.steps_table(records),
        *profile_table(records),
        "## Machines",
        "",
        *(f"- commit {commit}, {date}: {where}" for commit, date, where in runs),
    ]
    path.write_text("\n".join(text) + "\n" + (f"\n{heading}{remarks[2]}" if remarks[1] else ""))


def race_table(records: Records) -> list[str]:
    """Times against peers, against the arithmetic and in memory."""
    peers = list(speed_race.CONTENDERS)[1:]
    memory, flops = records.newest("memory"), records.newest("flops")
    peaks = records.peaks()
    lines = [
        "## A meta-step of MAML",
        "",
        "Inner steps, query loss, backward pass and outer SGD step of a batch of tasks; meta-gradients are asserted",
        "equal first. Contenders take turns of 20 ms, or of a step that takes longer; medians count. Above 1: autometa",
        "is faster. The floor is the time that products and convolutions alone would take at the measured peak of the",
        "machine ("
        + "; ".join(f"{machine.split(',')[0]}: {peak:.0f} GFLOP/s" for machine, peak in peaks.items())
        + "). Memory",
        "is how much the process's peak grows over two steps, choosing a strategy included.",
        "",
        "| network | order | inner steps | tasks | autometa (ms) | "
        + " | ".join(f"{peer} ÷ autometa" for peer in peers)
        + " | × floor | MiB: autometa, "
        + ", ".join(peers)
        + " |",
        "|---" * (7 + len(peers)) + "|",
    ]
    found = records.newest("race")
    if not found:
        return []
    grid = itertools.product(speed_race.NETWORKS, speed_race.ORDERS, STEPS, TASKS)
    for network, order, steps, n_tasks in grid:
        cell = name_of(network, order, steps, n_tasks)
        times = {who: float(row["value"]) for who, row in found.get(cell, {}).items()}
        if not times:
            continue
        ratios = [f"{times[peer] / times['autometa']:.2f}" if peer in times else "n/a" for peer in peers]
        of_task = float(flops[f"{network}/{order}/{steps} steps"]["one task"]["value"])
        peak = peaks.get(found[cell]["autometa"]["machine"], float("nan"))
        floor = 1e3 * of_task * n_tasks / (peak * 1e9)
        needs = memory.get(cell, {})
        amounts = ", ".join(
            f"{float(needs[who]['value']):.0f}" if who in needs else "–" for who in ("autometa", *peers)
        )
        row = [speed_race.NETWORKS[network].title, order, steps, n_tasks, f"{times['autometa']:.2f}", *ratios]
        over = f"{times['autometa'] / floor:.1f}" if floor == floor else "–"
        lines.append("| " + " | ".join(map(str, [*row, over, amounts])) + " |")
    return [*lines, ""]


def sampler_table(records: Records) -> list[str]:
    """Episodes a second."""
    found = records.newest("samplers")
    if not found:
        return []
    lines = ["## Samplers", "", "Default episodes, drawn 32 at a time.", "", "| sampler | episodes/s |", "|---|---|"]
    return [*lines, *(f"| {name} | {float(row['episodes']['value']):.0f} |" for name, row in found.items()), ""]


def latency_table(records: Records) -> list[str]:
    """Milliseconds of one new task."""
    found = records.newest("latency")
    if not found:
        return []
    columns = [f"{who} {p}" for who in ("adapt/predict", "fit/predict") for p in ("p50", "p95")]
    lines = [
        "## Latency",
        "",
        "Adapting to one new task and predicting its query, in ms: a learner's `adapt` and `predict`, and `fit` and",
        "`predict` of an estimator. Learners have their defaults. Images: 5-way 1-shot, 28x28, 5 queries; sinusoid: 10",
        "examples, 10 queries. Calls: 200, or as many as the time for one cell allows.",
        "",
        "| task | learner | " + " | ".join(columns) + " | calls |",
        "|---" * 7 + "|",
    ]
    for cell, rows in found.items():
        values = [f"{float(rows[column]['value']):.2f}" if column in rows else "–" for column in columns]
        lines.append("| " + " | ".join([*cell.split("/"), *values, rows[columns[0]]["n"]]) + " |")
    return [*lines, ""]


def profile_table(records: Records) -> list[str]:
    """What an outer step spends its time on."""
    found = records.newest("profile")
    if not found:
        return []
    lines = [
        f"## One outer step of {N_PROFILED_TASKS} tasks",
        "",
        "Default learners and meta-optimizers under torch's profiler, which slows small operations down: the largest",
        "shares, and what is spent outside torch's operations.",
        "",
        "| learner | ms | shares |",
        "|---|---|---|",
    ]
    for family, rows in found.items():
        last = rows["outer step"]
        same = [(who, row) for who, row in rows.items() if row["unit"] == "%" and row["commit"] == last["commit"]]
        shares = ", ".join(f"{who} {float(row['value']):.0f}%" for who, row in same)
        lines.append(f"| {family} | {float(last['value']):.1f} | {shares} |")
    return [*lines, ""]


if __name__ == "__main__":
    main()

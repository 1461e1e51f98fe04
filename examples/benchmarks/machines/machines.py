"""What does a comparison cost beside training, and how far do more workers carry it?

    python examples/benchmarks/machines/machines.py overhead    # what 'make demo' does beside training and scoring
    python examples/benchmarks/machines/machines.py speedup      # 40 slots, one worker and two
    python examples/benchmarks/machines/machines.py idle         # workers that wait, at each kind of storage
    python examples/benchmarks/machines/machines.py report       # writes machines.md from the rows of all three

Needs a machine that does nothing else, the extras postgres and grpc, and PostgreSQL's pg_ctl.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import optuna
import pandas as pd
import torch

import autometa as am
from autometa.cli import main as autometa
from autometa.comparison.execution.patient_storage import PatientStorage
from autometa.comparison.execution.storage import open_storage
from autometa.engine.process_start import process_context

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
COMMAND = [sys.executable, "-m", "autometa"]
FAST = ["prototypical", "ridge", "in_context", "sklearn"]
WORKERS = {"journal": (1, 4, 16, 64), "postgresql": (1, 4, 16), "grpc": (1, 4, 16, 64)}
"""64 workers have more connections than a new PostgreSQL server takes."""
WATCHED = 20.0
"""Seconds for which waiting workers are watched."""


# ---- everything but training and scoring


def overhead() -> list[dict[str, Any]]:
    """Measure the demo with two workers from outside, and a part of it in this process from inside."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "demo"
        began = time.time()
        subprocess.run([*COMMAND, "compare", "examples/demo.toml", "--output", str(output)], cwd=REPOSITORY, check=True)
        ended = time.time()
        slots = slots_of(open_storage(str(output / "journal.log"), make=False))
    first, last = min(begin for begin, _ in slots), max(end for _, end in slots)
    in_slots = sum(end - begin for begin, end in slots)
    outside = {
        "outside of slots": 2 * (ended - began) - in_slots,
        "before the first slot": 2 * (first - began),
        "between slots, and beside the last": 2 * (last - first) - in_slots,
        "after the last slot": 2 * (ended - last),
    }
    demo = [
        {"what": f"demo, two workers: seconds {where}", "seconds": seconds, "of": 2 * (ended - began)}
        for where, seconds in outside.items()
    ]
    with tempfile.TemporaryDirectory() as folder, counted() as seconds:
        began = time.perf_counter()
        am.compare(
            {"digits": "digits", "sinusoid": "sinusoid"},
            [*FAST, "maml"],
            n_trials=3,
            n_seeds=3,
            budget=6,
            n_test_tasks=300,
            output=folder,
            verbose=0,
            device="cpu",
        )
        whole = time.perf_counter() - began
    inside = {"what": "digits and sinusoid, this process: seconds in the storage", "seconds": seconds(), "of": whole}
    return [*demo, inside]


def slots_of(storage: optuna.storages.BaseStorage) -> list[tuple[float, float]]:
    """Return when every trial and final began and ended."""
    trials = [
        trial
        for study in storage.get_all_studies()
        for trial in storage.get_all_trials(study._study_id, deepcopy=False)
    ]
    return [
        (trial.datetime_start.timestamp(), trial.datetime_complete.timestamp())
        for trial in trials
        if trial.datetime_start and trial.datetime_complete and "slot" in trial.user_attrs
    ]


@contextmanager
def counted() -> Iterator[Callable[[], float]]:
    """Count the seconds that this process spends in storages."""
    ask, spent = PatientStorage._insist, [0.0]

    def timed(self: PatientStorage, *arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return ask(self, *arguments)
        finally:
            spent[0] += time.perf_counter() - began

    PatientStorage._insist = timed  # type: ignore[method-assign]
    try:
        yield lambda: spent[0]
    finally:
        PatientStorage._insist = ask  # type: ignore[method-assign]


# ---- one worker and two


def speedup(turns: int) -> list[dict[str, Any]]:
    """Time the same comparison of 40 slots with one worker and with two, in turn."""
    rows = []
    for turn in range(turns):
        for n_workers in (1, 2):
            with tempfile.TemporaryDirectory() as folder:
                learners = ",".join(["prototypical", "ridge", "maml", "fine_tune", "in_context"])
                size = ["--trials", "5", "--seeds", "3", "--steps", "1000000", "--budget", "40", "--test-tasks", "300"]
                asked = ["--tasks", "digits", "--learners", learners, *size, "--quiet", "--no-baselines"]
                asked += ["--output", folder, "--workers", str(n_workers), "--device", "cpu", "--search", "separate"]
                began = time.perf_counter()
                subprocess.run([*COMMAND, "compare", *asked], check=True, stdout=subprocess.DEVNULL)
                seconds = time.perf_counter() - began
                slots = slots_of(open_storage(str(Path(folder) / "journal.log"), make=False))
            in_slots = sum(end - begin for begin, end in slots)
            rows.append(
                {"turn": turn, "workers": n_workers, "slots": len(slots), "seconds": seconds, "in_slots": in_slots}
            )
            print(rows[-1], flush=True)
    return rows


# ---- idle workers


def idle(storages: Sequence[str], numbers: Sequence[int] | None) -> Iterator[dict[str, Any]]:
    """Let workers wait for one slow slot, and measure what their waiting costs."""
    places = {"journal": journal, "postgresql": postgresql, "grpc": proxy}
    for name in storages:
        for n_workers in numbers or WORKERS[name]:
            with places[name]() as (where, servers):
                row = {"storage": name, "workers": n_workers, **waiting(where, n_workers, servers)}
            print(row, flush=True)
            yield row


def waiting(where: str, n_workers: int, servers: Callable[[], list[int]]) -> dict[str, Any]:
    """Let one process work on the last slot of a comparison while others have nothing to do but wait for its end."""
    active = started(begin, where)
    time.sleep(1)
    while not is_planned(where):
        time.sleep(0.5)
    others = [started(help_on, where) for _ in range(n_workers)]
    began = time.perf_counter()
    while not is_last_at_work(where):
        time.sleep(0.5)
    until_idle = time.perf_counter() - began
    time.sleep(5 + n_workers / 4)
    pids = [process.pid or 0 for process in (active, *others)]
    watched = [*pids, *servers()]
    before, began = {pid: processor_seconds(pid) for pid in watched}, time.perf_counter()
    time.sleep(WATCHED)
    cores = {pid: (processor_seconds(pid) - before[pid]) / (time.perf_counter() - began) for pid in watched}
    answers = [answer_time(where) for _ in range(20)]
    still = active.is_alive()
    active.kill()
    for process in others:
        process.terminate()
    for process in (active, *others):
        process.join()
    return {
        "waited_throughout": still,
        "failed": sum(process.exitcode not in (0, 130, 143, -signal.SIGTERM) for process in others),
        "until_idle_s": until_idle,
        "cores_idle": sum(cores[pid] for pid in pids[1:]),
        "cores_server": sum(cores[pid] for pid in watched[len(pids) :]),
        "cores_active": cores[pids[0]],
        "answer_ms": 1000 * sorted(answers)[len(answers) // 2],
        "answer_worst_ms": 1000 * max(answers),
    }


def started(work: Callable[[str], None], where: str) -> BaseProcess:
    """Start a process that has imported all there is to import, as an idle worker has, and no open connection."""
    process = process_context().Process(target=work, args=(where,), daemon=True)  # ends with this one
    process.start()
    return process


def begin(where: str) -> None:
    """Begin the comparison."""
    am.compare(**comparison(), storage=where, name="idle")


def help_on(where: str) -> None:
    """Be one more worker."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        sys.exit(autometa(["worker", "--storage", where, "--name", "idle"]))


def comparison() -> dict[str, Any]:
    """Return a comparison of 26 pairs, 25 of which are done in a moment."""
    return {
        "tasks": {
            "digits": "digits",
            **{f"glyphs{n_way}": am.make_tasks("glyphs", size=8, n_way=n_way) for n_way in (3, 4, 5)},
            "sinusoid": "sinusoid",
        },
        "learners": {**{f"sklearn{place}": am.make_learner("sklearn") for place in range(5)}, "cnp": "cnp"},
        "n_trials": 1,
        "n_seeds": 1,
        "max_steps": 10**6,
        "n_test_tasks": 20,
        "n_valid_tasks": 10,
        "baselines": False,
        "device": "cpu",
        "verbose": 0,
    }


def is_planned(where: str) -> bool:
    """Tell whether a first slot is at work."""
    storage = open_storage(where)
    return any(storage.get_n_trials(study._study_id) for study in storage.get_all_studies() if "/" in study.study_name)


def is_last_at_work(where: str) -> bool:
    """Tell whether a slot is at work and nothing else is left."""
    storage = open_storage(where)
    trials = [storage.get_all_trials(study._study_id, deepcopy=False) for study in storage.get_all_studies()]
    states = [trial.state for each in trials for trial in each]
    return len(states) > 50 and states.count(optuna.trial.TrialState.RUNNING) == 1


def answer_time(where: str) -> float:
    """Return how long one more process waits for a small answer."""
    storage = open_storage(where)
    began = time.perf_counter()
    storage.get_all_studies()
    return time.perf_counter() - began


def processor_seconds(pid: int) -> float:
    """Return the seconds of processor time that a process and its ended children have used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def journal() -> Iterator[tuple[str, Callable[[], list[int]]]]:
    """A journal file."""
    with tempfile.TemporaryDirectory() as folder:
        yield str(Path(folder) / "journal.log"), lambda: []


@contextmanager
def postgresql() -> Iterator[tuple[str, Callable[[], list[int]]]]:
    """A PostgreSQL server, with its 100 connections."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from postgres import postgres_server

    with tempfile.TemporaryDirectory() as folder, postgres_server(Path(folder)) as server:
        main = int((server.folder / "data" / "postmaster.pid").read_text().split()[0])
        yield server.url, lambda: [main, *children(main)]


@contextmanager
def proxy() -> Iterator[tuple[str, Callable[[], list[int]]]]:
    """A journal file that Optuna's gRPC proxy serves."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*COMMAND, "serve", "--storage", str(Path(folder) / "journal.log"), "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
            try:
                assert server.stdout is not None
                yield re.findall(r"grpc://[^;\s]+", server.stdout.readline())[0], lambda: [server.pid]
            finally:
                server.terminate()


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# ---- the page


def add(name: str, rows: list[dict[str, Any]]) -> None:
    """Write the rows of one measurement; those of what waited elsewhere, or in other numbers, stay."""
    machine = {"date": datetime.date.today().isoformat(), "machine": processor()}
    new = pd.DataFrame([row | machine for row in rows])
    if name == "idle":
        both = pd.concat([pd.read_csv(HERE / "idle.csv"), new])
        new = both.drop_duplicates(["storage", "workers"], keep="last")
    new.to_csv(HERE / f"{name}.csv", index=False)


def processor() -> str:
    """Return the name of the processor."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{len(names)} cores of {names[0].partition(':')[2].strip()}" if names else platform.machine()


REMARKS = """
In slots: the seconds of trials and final runs, all workers together. A command needs 3.7 seconds of processor time to
import torch, scikit-learn and Optuna. On Linux a server that forks workers imports them at the same time on another
core, and a worker has used 0.3 seconds when it takes its first slot; elsewhere each worker imports all of it once more.
Slots are filled shortest first, and at the end longest first, so that workers end together. After the last slot come
the tables, the winners and the report of the demo, whose 63 figures as many processes draw as worked before.

Idle: one process works on the last slot of 26 pairs, and the others look for work every half second to ten seconds, so
that they wait for the storage in a twentieth of their time at most. `until_idle_s` is how long they took to fill the
50 short slots before, which gets longer with more workers than cores. `answer_ms` is the median of one more process's
question. Other work ran on the machine meanwhile.

Beyond: a worker holds up to two connections of a database. A new PostgreSQL server takes 100: 16 of 64 workers were
refused ("too many clients"). Raise its `max_connections`, or let workers share those of `autometa serve --storage
postgresql://...`. A journal needs a folder that all machines reach, and writes one record at a time: 64 workers filled
the 50 short slots four times slower than one; with slots of minutes nobody waits for it. At the gRPC proxy of a journal
one process answers for all, ten calls at a time: 16 idle workers used 0.16 cores together and the server 0.12, 64 used
0.42 and 0.26 and had their answers in 8 ms, while other tests ran. Memory is the first to run out on one machine: a
worker that has trained holds 0.4 GB, and with 24 GB the kernel killed 7 of the 64; the others went on.
""".strip()


def report() -> None:
    """Write the page."""
    lines = [f"# {(__doc__ or '').splitlines()[0]}", "", *(__doc__ or "").splitlines()[2:], "", REMARKS, ""]
    for name in ("overhead", "speedup", "idle"):
        rows = pd.read_csv(HERE / f"{name}.csv")
        lines += [
            f"## {name.capitalize()}",
            "",
            table(rows.drop(columns=["date", "machine"]).round(3).astype(object)),
            "",
        ]
        lines += [f"{rows['date'].max()}, {rows['machine'].iloc[0]}, torch {torch.__version__}.", ""]
    (HERE / "machines.md").write_text("\n".join(lines), encoding="utf-8")


def table(rows: pd.DataFrame) -> str:
    """Return rows as a table of Markdown."""
    parts = ["| " + " | ".join(rows.columns) + " |", "|" + "---|" * rows.shape[1]]
    return "\n".join(parts + ["| " + " | ".join(map(str, row)) + " |" for row in rows.to_numpy()])


def main() -> None:
    """Read the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["overhead", "speedup", "idle", "report"])
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--storages", nargs="+", choices=[*WORKERS], default=[*WORKERS])
    parser.add_argument("--workers", nargs="+", type=int, help="how many wait (1, 4, 16 and, without PostgreSQL, 64)")
    asked = parser.parse_args()
    match asked.command:
        case "overhead":
            add("overhead", overhead())
        case "speedup":
            add("speedup", speedup(asked.turns))
        case "idle":
            for row in idle(asked.storages, asked.workers):
                add("idle", [row])
        case _:
            report()


if __name__ == "__main__":
    main()

"""What does a comparison cost beside training, and how far do more workers carry it?

    python examples/benchmarks/machines/machines.py overhead    # what 'make demo' does beside training and scoring
    python examples/benchmarks/machines/machines.py speedup      # 40 slots, one worker and two
    python examples/benchmarks/machines/machines.py idle         # workers that wait, at a journal and at PostgreSQL
    python examples/benchmarks/machines/machines.py report       # writes machines.md from the rows of all three

Needs a machine that does nothing else, the extra postgres, and PostgreSQL's pg_ctl.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
COMMAND = [sys.executable, "-m", "autometa"]
FAST = ["prototypical", "ridge", "in_context", "sklearn"]
WORKERS = {"journal": (1, 4, 16, 64), "postgresql": (1, 4, 16)}
"""64 workers have more connections than a new PostgreSQL server takes."""
WATCHED = 20.0
"""Seconds for which waiting workers are watched."""


# ---- everything but training and scoring


def overhead() -> list[dict[str, Any]]:
    """Measure the demo with two workers from outside, and a part of it in this process from inside."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "demo"
        began = time.perf_counter()
        subprocess.run([*COMMAND, "compare", "examples/demo.toml", "--output", str(output)], cwd=REPOSITORY, check=True)
        whole = time.perf_counter() - began
        slots = seconds_of_slots(open_storage(str(output / "journal.log"), make=False))
    outside = {
        "what": "demo, two workers: seconds outside of slots",
        "seconds": 2 * whole - sum(slots),
        "of": 2 * whole,
    }
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
    return [outside, inside]


def seconds_of_slots(storage: optuna.storages.BaseStorage) -> list[float]:
    """Return how long every trial and final took."""
    trials = [
        trial
        for study in storage.get_all_studies()
        for trial in storage.get_all_trials(study._study_id, deepcopy=False)
    ]
    return [trial.duration.total_seconds() for trial in trials if trial.duration and "slot" in trial.user_attrs]


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
                slots = seconds_of_slots(open_storage(str(Path(folder) / "journal.log"), make=False))
            rows.append(
                {"turn": turn, "workers": n_workers, "slots": len(slots), "seconds": seconds, "in_slots": sum(slots)}
            )
            print(rows[-1], flush=True)
    return rows


# ---- idle workers


def idle() -> list[dict[str, Any]]:
    """Let workers wait for one slow slot, and measure what their waiting costs."""
    rows = []
    for name, place in (("journal", journal), ("postgresql", postgresql)):
        for n_workers in WORKERS[name]:
            with place() as (where, servers):
                rows.append({"storage": name, "workers": n_workers, **waiting(where, n_workers, servers)})
                print(rows[-1], flush=True)
    return rows


def waiting(where: str, n_workers: int, servers: Callable[[], list[int]]) -> dict[str, Any]:
    """Let one process work on the last slot of a comparison while others have nothing to do but wait for its end."""
    active = fork(lambda: am.compare(**comparison(), storage=where, name="idle"))
    time.sleep(1)
    while not is_planned(where):
        time.sleep(0.5)
    others = [fork(lambda: autometa(["worker", "--storage", where, "--name", "idle"])) for _ in range(n_workers)]
    began = time.perf_counter()
    while not is_last_at_work(where):
        time.sleep(0.5)
    until_idle = time.perf_counter() - began
    time.sleep(5 + n_workers / 4)
    pids = [active, *others, *servers()]
    before, began = {pid: processor_seconds(pid) for pid in pids}, time.perf_counter()
    time.sleep(WATCHED)
    cores = {pid: (processor_seconds(pid) - before[pid]) / (time.perf_counter() - began) for pid in pids}
    answers = [answer_time(where) for _ in range(20)]
    still = os.waitpid(active, os.WNOHANG)[0] == 0
    os.kill(active, signal.SIGKILL)
    os.waitpid(active, 0)
    for pid in others:
        os.kill(pid, signal.SIGTERM)
    codes = [os.waitpid(pid, 0)[1] for pid in others]
    return {
        "waited_throughout": still,
        "failed": sum(os.WIFEXITED(code) and os.WEXITSTATUS(code) not in (0, 130, 143) for code in codes),
        "until_idle_s": until_idle,
        "cores_idle": sum(cores[pid] for pid in others),
        "cores_server": sum(cores[pid] for pid in cores if pid not in (active, *others)),
        "cores_active": cores[active],
        "answer_ms": 1000 * sorted(answers)[len(answers) // 2],
        "answer_worst_ms": 1000 * max(answers),
    }


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


def fork(work: Callable[[], Any]) -> int:
    """Do work in a process that has imported all there is to import, as an idle worker has."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        work()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0) if not isinstance(end.code, str) else 1
    finally:
        os._exit(code)


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


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# ---- the page


def add(name: str, rows: list[dict[str, Any]]) -> None:
    """Write the rows of one measurement."""
    machine = {"date": datetime.date.today().isoformat(), "machine": processor()}
    pd.DataFrame([row | machine for row in rows]).to_csv(HERE / f"{name}.csv", index=False)


def processor() -> str:
    """Return the name of the processor."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{len(names)} cores of {names[0].partition(':')[2].strip()}" if names else platform.machine()


REMARKS = """
In slots: the seconds of trials and final runs, all workers together. A command takes four seconds until its first slot
and three from its last one to its end (imports, tables, the winner, the report); with two workers nine and six, since
each imports what it needs, and the last slots are not equally long. So longer slots share the work better.

Idle: one process works on the last slot of 26 pairs, and the others look for work every half second to ten seconds, so
that they wait for the storage in a twentieth of their time at most. `until_idle_s` is how long they took to fill the
50 short slots before, which gets longer with more workers than cores. `answer_ms` is the median of one more process's
question. Other work ran on the machine meanwhile.

Beyond: a worker holds up to two connections of a database. A new PostgreSQL server takes 100: 16 of 64 workers were
refused ("too many clients"). Raise its `max_connections`, or let workers share those of `autometa serve --storage
postgresql://...`. A journal needs a folder that all machines reach, and writes one record at a time: 64 workers filled
the 50 short slots four times slower than one; with slots of minutes nobody waits for it.
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
    asked = parser.parse_args()
    match asked.command:
        case "overhead":
            add("overhead", overhead())
        case "speedup":
            add("speedup", speedup(asked.turns))
        case "idle":
            add("idle", idle())
        case _:
            report()


if __name__ == "__main__":
    main()

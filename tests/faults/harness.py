"""Comparisons in processes of their own: start one, wait for a state, strike, and compare with an undisturbed one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import optuna
import pandas as pd
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

PLUGIN = Path(__file__).with_name("faulty_plugin.py")
SMALL = ("--trials", "2", "--steps", "3", "--tasks-per-step", "2", "--seeds", "2", "--n-test-tasks", "20")
"""Work of a second or two, beside what a process takes to start."""
FINAL = "/final"
"""How the name of a study of finals ends."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> int:
        """Lines of message."""
        return len(self.err.strip().splitlines())


@dataclass(slots=True)
class Command:
    """A running command; its process leads a group of its own."""

    process: subprocess.Popen[str]

    def end(self, timeout: float = 400.0) -> Ended:
        """Wait until it has ended."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            out, err = self.process.communicate()
            raise AssertionError(f"it did not end in {timeout} seconds:\n{out}\n{err}") from None
        return Ended(self.process.returncode, out, err)

    def wait_for(self, state: Callable[[], object], timeout: float = 200.0) -> None:
        """Wait until a state holds, while the command runs."""
        until = time.monotonic() + timeout
        while not state():
            if self.process.poll() is not None:
                raise AssertionError(f"it ended too early: {self.end()}")
            assert time.monotonic() < until, "the state to strike in never came"
            time.sleep(0.02)

    def strike(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the process itself."""
        self.process.send_signal(number)

    def end_of_itself(self) -> None:
        """Wait for the end of the process, while what it started may live on."""
        self.process.wait(400)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def kill(self) -> None:
        """Kill the process and all that it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


@dataclass(slots=True)
class Run:
    """A comparison of two small learners in an output folder, which may be started again and again.

    Parameters
    ----------
    folder : Path
        For its output, the plugin and the gate.
    tasks, learners : str
        As on the command line.
    storage : str, optional
        As on the command line; None: the journal in the output folder.
    options : sequence of str
        More of the command line.
    """

    folder: Path
    tasks: str = "digits:n_way=3"
    learners: str = "means,other"
    storage: str | None = None
    options: Sequence[str] = ()
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        metadata = self.folder / "site" / "faulty-1.0.dist-info"
        metadata.mkdir(parents=True, exist_ok=True)
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text("[autometa]\nfaulty = faulty_plugin\n")
        (self.folder / "site" / PLUGIN.name).write_text(PLUGIN.read_text())
        self.gate.mkdir(exist_ok=True)

    @property
    def output(self) -> Path:
        """The output folder."""
        return self.folder / "run"

    @property
    def gate(self) -> Path:
        """The folder of the gate at which the learners of the plugin wait."""
        return self.folder / "gate"

    def start(self, *more: str, **variables: str) -> Command:
        """Start the command ``autometa compare``."""
        command = ["compare", "--tasks", self.tasks, "--learners", self.learners, "--output", str(self.output)]
        storage = [] if self.storage is None else ["--storage", self.storage]
        return self.call(*command, *SMALL, *storage, "--quiet", *self.options, *more, **variables)

    def call(self, *arguments: str, **variables: str) -> Command:
        """Start any command of autometa."""
        return self.python("-m", "autometa", *arguments, **variables)

    def python(self, *arguments: str, **variables: str) -> Command:
        """Start Python with the plugin installed."""
        path = os.pathsep.join([str(self.folder / "site"), os.environ.get("PYTHONPATH", "")])
        own: Mapping[str, str] = {"PYTHONPATH": path, "FAULT_GATE": str(self.gate), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **own, **self.variables, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return Command(process)

    def finish(self, *more: str, **variables: str) -> Ended:
        """Give the command and wait for its end."""
        return self.start(*more, **variables).end()

    def close_gate(self) -> None:
        """Let learners wait from now on."""
        (self.gate / "waiting").unlink(missing_ok=True)
        (self.gate / "close").touch()

    def open_gate(self) -> None:
        """Let learners go on."""
        (self.gate / "close").unlink(missing_ok=True)

    def waiting(self) -> int | None:
        """Return the id of a process that waits at the gate."""
        try:
            return int((self.gate / "waiting").read_text() or 0) or None
        except FileNotFoundError:
            return None

    def trials(self, *, final: bool = False) -> list[FrozenTrial]:
        """Return all trials, or all final runs, as the storage has them now."""
        storage = self._storage()
        if storage is None:
            return []
        studies = [name for name in optuna.get_all_study_names(storage) if "/" in name]  # not the plan's
        names = [name for name in studies if name.endswith(FINAL) == final]
        return [trial for name in names for trial in optuna.load_study(storage=storage, study_name=name).trials]

    def _storage(self) -> BaseStorage | None:
        if self.storage is None:
            journal = self.output / "journal.log"
            return JournalStorage(JournalFileBackend(str(journal))) if journal.exists() else None
        file = self.storage.removeprefix("sqlite:///")
        if file != self.storage and not Path(file).exists():
            return None
        return optuna.storages.get_storage(self.storage)

    def scores(self) -> pd.DataFrame:
        """Return the table of scores, in an order of its own."""
        return read_scores(self.output)


def read_scores(output: Path) -> pd.DataFrame:
    """Read the table of scores that a command wrote, in an order of its own."""
    table = pd.read_csv(output / "scores.csv")
    return table.sort_values(list(table.columns)).reset_index(drop=True)


def count_differences(found: pd.DataFrame, undisturbed: pd.DataFrame) -> tuple[int, int]:
    """Return how many rows were lost (or have another score), and how many are there twice (or should not be)."""
    keys = list(undisturbed.columns)
    merged = undisturbed.merge(found.drop_duplicates(), how="left", on=keys, indicator="where")
    lost = int((merged["where"] == "left_only").sum())
    return lost, len(found) - (len(undisturbed) - lost)

"""A second process, whose sets have another order, that draws from the same samplers."""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import subprocess
import sys
from typing import Any

from autometa.contracts.tasks import TaskSampler

PROGRAM = """
import hashlib, os, pickle, sys, traceback

def fingerprint(tasks):
    text = hashlib.sha256()
    for split in ("train", "valid", "test"):
        batch = tasks.sample(2, split=split, seed=4)
        if tasks.info.problem_record.acts:
            drawn = (batch.key, batch.hidden, batch.begin().reset())
        else:
            drawn = (batch.support.x, batch.support.y, batch.query.x, batch.query.y)
        for tensor in drawn:
            text.update(tensor.cpu().numpy().tobytes())
    return text.hexdigest()

def answer(request):
    try:
        return fingerprint(pickle.loads(request)), ""
    except Exception:
        return "", traceback.format_exc()

if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a sampler prints is no answer
    while sys.stdin.buffer.peek():
        pickle.dump(answer(pickle.load(sys.stdin.buffer)), answers)
        answers.flush()
"""
"""Program of the other process, which imports nothing but the samplers."""


def drawn_here(tasks: TaskSampler) -> str:
    """Return a fingerprint of what this process draws."""
    names: dict[str, Any] = {"__name__": "here"}
    exec(PROGRAM, names)
    return str(names["fingerprint"](tasks))


def drawn_elsewhere(tasks: TaskSampler) -> str:
    """Return the fingerprint of what another process draws.

    Raises
    ------
    AssertionError
        The other process cannot make the sampler or draw from it; the text says why.
    """
    try:
        text, error = OtherProcess.running().ask(tasks)
    except (EOFError, BrokenPipeError):
        raise AssertionError(f"drawing in another process ended it, exit code {OtherProcess.end()}.") from None
    if error:
        raise AssertionError(f"drawing in another process failed:\n{error}")
    return text


class OtherProcess:
    """One process for all samplers, because starting it takes longer than most answers."""

    _running: OtherProcess | None = None

    def __init__(self, path: tuple[str, ...]) -> None:
        self.path = path
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONHASHSEED": "12345", "PYTHONPATH": os.pathsep.join(path)},
        )

    @classmethod
    def running(cls) -> OtherProcess:
        """Return a process with this process's import path; start one if there is none."""
        path = tuple(part for part in sys.path if part)
        if cls._running is None or cls._running.path != path:
            cls.end()
            cls._running = cls(path)
        return cls._running

    @classmethod
    def end(cls) -> int | None:
        """End the process, if there is one, and return its exit code."""
        running, cls._running = cls._running, None
        if running is None:
            return None
        with contextlib.suppress(BrokenPipeError), running.process:
            pass  # at the end of its input it ends; here its pipes are closed and it is waited for
        return running.process.returncode

    def ask(self, tasks: TaskSampler) -> tuple[str, str]:
        """Return a sampler's fingerprint, or the traceback of its failure."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        pickle.dump(pickle.dumps(tasks), self.process.stdin)
        self.process.stdin.flush()
        text, error = pickle.load(self.process.stdout)
        return text, error


atexit.register(OtherProcess.end)

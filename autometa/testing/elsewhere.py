"""A second process, with another order of sets, that draws from samplers as this one does."""

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
        for part in (batch.support, batch.query):
            text.update(part.x.cpu().numpy().tobytes() + part.y.cpu().numpy().tobytes())
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
"""A program of its own, so that the other process imports nothing but the samplers."""


def drawn_here(tasks: TaskSampler) -> str:
    """A text that tells what this process draws."""
    names: dict[str, Any] = {"__name__": "here"}
    exec(PROGRAM, names)
    return str(names["fingerprint"](tasks))


def drawn_elsewhere(tasks: TaskSampler) -> str:
    """The same text from another process.

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
    """One process that answers for one sampler after the other: starting it takes longer than most answers."""

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
        """Return the one that imports from where this process does now, started if need be."""
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
        """What it draws, or the traceback of what went wrong."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        pickle.dump(pickle.dumps(tasks), self.process.stdin)
        self.process.stdin.flush()
        text, error = pickle.load(self.process.stdout)
        return text, error


atexit.register(OtherProcess.end)

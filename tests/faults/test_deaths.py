"""Processes that die: the same command goes on, and its scores are those of an undisturbed run."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from faults.conftest import Judge
from faults.harness import Run


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_a_process_that_is_struck_in_a_trial(
    tmp_path: Path, judge: Judge, storage: str, number: signal.Signals
) -> None:
    run = Run(tmp_path, storage=None if storage == "journal" else f"sqlite:///{tmp_path}/studies.db")
    run.close_gate()
    command = run.start()
    command.wait_for(run.waiting)
    command.strike(number)
    if number != signal.SIGKILL:
        run.open_gate()
    struck = command.end()
    run.open_gate()
    assert struck.code == (130 if number == signal.SIGINT else -number)
    assert run.finish().code == 0
    judge(run, struck)

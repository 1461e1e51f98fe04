"""Databases that are killed or out of reach: the comparison waits, or goes on later."""

from __future__ import annotations

import signal
from pathlib import Path

from faults.conftest import Judge
from faults.harness import Run
from postgres import Server


def test_a_database_is_killed_in_a_trial_and_comes_back(tmp_path: Path, judge: Judge, postgres: Server) -> None:
    run = Run(tmp_path, storage=postgres.url)
    run.close_gate()
    command = run.start()
    command.wait_for(run.waiting)
    postgres.stop()
    run.open_gate()
    postgres.start()
    struck = command.end()
    assert struck.code == 0
    judge(run, struck)


def test_a_worker_and_then_the_database_are_killed(tmp_path: Path, judge: Judge, postgres: Server) -> None:
    run = Run(tmp_path, storage=postgres.url)
    run.close_gate()
    command = run.start()
    command.wait_for(run.waiting)
    command.strike(signal.SIGKILL)
    struck = command.end()
    postgres.stop()
    run.open_gate()
    postgres.start()
    assert run.finish().code == 0
    judge(run, struck)


def test_two_people_with_one_command(tmp_path: Path, judge: Judge, postgres: Server) -> None:
    run = Run(tmp_path, storage=postgres.url)
    first, second = run.start(), run.start()
    ended = first.end(), second.end()
    assert [one.code for one in ended] == [0, 0]
    judge(run, *ended)

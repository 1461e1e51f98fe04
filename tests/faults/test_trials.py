"""Trials that end, change or hang their processes: the fault is the learner's own, and all else is as without it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest

from faults.conftest import Judge
from faults.harness import Run


def reasons(run: Run) -> pd.Series:
    """Return why trials and final runs failed."""
    return pd.read_csv(run.output / "failures.csv")["reason"]


@pytest.mark.parametrize("fault", ["exit", "segfault"])
def test_a_process_that_ends_once_costs_nothing(tmp_path: Path, judge: Judge, fault: str) -> None:
    once = tmp_path / "once"
    once.touch()
    run = Run(tmp_path, variables={"FAULT": fault, "FAULT_ONCE": str(once)})
    first = run.finish()
    assert first.code not in (0, 1)
    second = run.finish()
    assert second.code == 0, second
    judge(run, first, second)


@pytest.mark.parametrize(("fault", "workers"), [("segfault", 1), ("no memory", 2)])
def test_a_learner_that_ends_every_process_fails_and_all_else_goes_on(
    tmp_path: Path, judge: Judge, fault: str, workers: int
) -> None:
    run = Run(tmp_path, variables={"FAULT": fault})
    ended = [run.finish("--workers", str(workers)) for _ in range(2 if workers == 1 else 1)]
    assert ended[-1].code == 1, ended
    how = "signal SIGSEGV" if fault == "segfault" else "signal SIGKILL; it may need more memory than there is"
    assert f"ProcessDied: the process filling this slot died 3 times, last with {how}." in list(reasons(run))
    assert all(reason.startswith("ProcessDied") for reason in reasons(run))
    assert how[:14] in ended[-1].err
    judge(run, *ended, without="means")


def test_what_failed_by_deaths_is_tried_again_with_the_same_command(tmp_path: Path, judge: Judge) -> None:
    run = Run(tmp_path)
    ended = [run.finish(FAULT="exit") for _ in range(2)]
    assert ended[-1].code == 1
    healed = run.finish()
    assert healed.code == 0, healed
    assert "2 trials or final runs had failed because a process died" in healed.err
    judge(run, *ended, healed)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_a_machine_is_taken_away_four_times_in_the_same_slot(
    tmp_path: Path, judge: Judge, number: signal.Signals
) -> None:
    run = Run(tmp_path, learners="means")
    for turn in range(4):
        run.close_gate()
        command = run.start()
        command.wait_for(run.waiting)
        if turn % 2:
            command.strike(number)  # what it started lives a little longer
        else:
            os.killpg(command.process.pid, number)
        command.end_of_itself()
    run.open_gate()
    last = run.finish()
    assert last.code == 0, last
    judge(run, last)


def test_a_process_of_its_own_is_killed_twice_in_the_same_slot(tmp_path: Path, judge: Judge) -> None:
    run = Run(tmp_path, learners="means")
    run.close_gate()
    command = run.start()
    command.wait_for(run.waiting)
    command.strike()
    command.end()
    run.close_gate()
    again = run.start()
    killed: set[int | None] = {None}
    for _ in range(2):
        again.wait_for(lambda: run.waiting() not in killed)
        pid = run.waiting()
        assert pid not in (None, again.process.pid)
        os.kill(pid, signal.SIGKILL)
        killed.add(pid)
    again.wait_for(lambda: run.waiting() not in killed)
    run.open_gate()
    ended = again.end()
    assert ended.code == 0, ended
    judge(run, ended)


ONE = ("--trials", "1")
LIMIT = ("--trial-timeout", "15")
"""Longer than any step takes on a machine that does much else."""
HANGS = ["TrialTimeout: no outer step was finished for 15 seconds"]


@pytest.mark.parametrize("fault", ["sleep", "loop"])
def test_a_trial_that_hangs_fails_and_all_else_goes_on(tmp_path: Path, judge: Judge, fault: str) -> None:
    run = Run(tmp_path, options=ONE, variables={"FAULT": fault})
    ended = run.finish(*LIMIT)
    assert ended.code == 1, ended
    assert list(reasons(run)) == HANGS
    assert f"digits/means: {HANGS[0]}" in ended.err
    judge(run, ended, without="means")


def test_a_trial_that_hangs_in_c_ends_its_process_and_fails_in_a_process_of_its_own(
    tmp_path: Path, judge: Judge
) -> None:
    run = Run(tmp_path, options=ONE, variables={"FAULT": "loop in C"})
    first = run.finish(*LIMIT)
    assert first.code == -signal.SIGKILL
    assert first.err.startswith("error: TrialTimeout: no outer step was finished")
    second = run.finish(*LIMIT)
    assert second.code == 1, second
    assert list(reasons(run)) == HANGS
    judge(run, first, second, without="means")


def test_a_worker_that_hangs_is_replaced(tmp_path: Path, judge: Judge) -> None:
    run = Run(tmp_path, options=ONE, variables={"FAULT": "loop in C"})
    ended = run.finish(*LIMIT, "--workers", "2")
    assert ended.code == 1, ended
    assert list(reasons(run)) == HANGS
    assert HANGS[0] in ended.err
    judge(run, ended, without="means")


@pytest.mark.parametrize("fault", ["SystemExit", "KeyboardInterrupt"])
def test_what_is_to_end_a_process_is_the_failure_of_the_learner_that_raised_it(
    tmp_path: Path, judge: Judge, fault: str
) -> None:
    run = Run(tmp_path, variables={"FAULT": fault})
    ended = run.finish()
    assert ended.code == 1, ended
    assert all(reason.startswith(f"PluginError: it raised {fault}") for reason in reasons(run))
    judge(run, ended, without="means")


def test_what_a_learner_changes_in_its_process_changes_no_other_score(tmp_path: Path, judge: Judge) -> None:
    names = ["signal handlers", "working directory", "environment variables", "gradient mode", "default dtype"]
    run = Run(tmp_path, variables={"FAULT": "+".join(names)})
    ended = run.finish()
    assert f"digits/means changed {', '.join(names)} of the whole process, which was put back." in ended.err, ended
    judge(run, ended, without="means")


def test_answers_that_are_no_numbers_are_never_a_score(tmp_path: Path, judge: Judge) -> None:
    run = Run(tmp_path, variables={"FAULT": "NaN"})
    ended = run.finish()
    assert ended.code == 1, ended
    assert len(reasons(run)) > 0
    assert all(reason.startswith("TrainingDiverged: ") for reason in reasons(run))
    judge(run, ended, without="means")


def test_a_clock_that_jumps_back_changes_no_score_and_no_duration(tmp_path: Path, judge: Judge) -> None:
    run = Run(tmp_path, variables={"FAULT": "clock"})
    ended = run.finish()
    assert (ended.code, ended.err) == (0, "")
    assert 0 < json.loads((run.output / "run.json").read_text())["environment"]["seconds"] < 3600
    judge(run, ended)

"""Records that changed, files that are damaged, and two people with one command."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from faults.conftest import Judge
from faults.harness import Run


def change_digit(journal: Path, field: str) -> None:
    """Change a digit in the middle of the first number of a field that has one."""
    text = journal.read_text()
    found = re.search(rf'"{field}":\[?\d\.\d*?([1-8])\d', text)
    assert found is not None
    place = found.start(1)
    journal.write_text(text[:place] + str(int(text[place]) + 1) + text[place + 1 :])


@pytest.mark.parametrize("field", ["scores", "param_value_internal", "intermediate_value", "values"])
def test_one_digit_in_the_journal(tmp_path: Path, judge: Judge, field: str) -> None:
    run = Run(tmp_path)
    assert run.finish().code == 0
    change_digit(run.output / "journal.log", field)
    before = (run.output / "journal.log").read_bytes()
    read = run.call("report", str(run.output)).end()
    assert "is not as it was written" in read.err
    assert "Not complete" in read.err
    assert (run.output / "journal.log").read_bytes() == before
    again = run.finish()
    assert again.code == 0
    if field != "param_value_internal":  # another value of a parameter that was drawn is another trial
        judge(run, again, read, most_lines=2)


@pytest.mark.parametrize("content", ["", "{", '{"name": "run", "sto'])
def test_a_damaged_run_file(tmp_path: Path, judge: Judge, content: str) -> None:
    run = Run(tmp_path)
    assert run.finish().code == 0
    (run.output / "run.json").write_text(content)
    read = run.call("report", str(run.output)).end()
    assert (read.code, read.lines) == (0, 1), read
    again = run.finish()
    assert (again.code, again.lines) == (0, 1), again
    judge(run, again, read, most_lines=1)
    assert run.finish().err == ""


@pytest.mark.parametrize("keep", [0, 1, 400])
def test_a_damaged_model_of_the_winner(tmp_path: Path, judge: Judge, keep: int) -> None:
    run = Run(tmp_path, learners="means", options=("--name", "one"))
    assert run.finish().code == 0
    for model in (run.output / "models").rglob("*.autometa"):
        model.write_bytes(model.read_bytes()[:keep])
    again = run.finish()
    assert (again.code, again.lines) == (0, 1), again
    judge(run, again, most_lines=1)
    assert run.finish().err == ""


def test_another_number_of_threads_on_resuming(tmp_path: Path, judge: Judge) -> None:
    run = Run(tmp_path)
    run.close_gate()
    command = run.start()
    command.wait_for(run.waiting)
    command.strike(signal.SIGKILL)
    command.end()
    run.open_gate()
    again = run.finish(OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="2")
    assert again.code == 0, again
    judge(run, again, most_lines=1)  # that a process ended in the midst of a trial
    threads = {tuple(trial.user_attrs["threads"]) for final in (False, True) for trial in run.trials(final=final)}
    assert threads == {(1, 1)}


@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_two_people_with_other_plans_at_the_same_moment(tmp_path: Path, storage: str) -> None:
    run = Run(tmp_path, storage=None if storage == "journal" else f"sqlite:///{tmp_path}/studies.db")
    commands = [run.start("--steps", n) for n in ("2", "3")]
    ended = [command.end() for command in commands]
    assert sorted(one.code for one in ended) == [0, 2], ended
    refused = next(one for one in ended if one.code == 2)
    assert refused.lines == 1, refused
    assert "holds another comparison: --steps=" in refused.err


@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_two_people_with_one_command(tmp_path: Path, judge: Judge, storage: str) -> None:
    run = Run(tmp_path, storage=None if storage == "journal" else f"sqlite:///{tmp_path}/studies.db")
    commands = [run.start() for _ in range(2)]
    ended = [command.end() for command in commands]
    assert [one.code for one in ended] == [0, 0], ended
    judge(run, *ended, most_lines=0)

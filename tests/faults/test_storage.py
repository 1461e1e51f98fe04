"""Storages that fail: disks that are full, read-only or gone, files that are locked, damaged or somebody else's."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.conftest import Judge
from faults.harness import Command, Run

STORAGES = ["journal", "sqlite"]


def storage_of(kind: str, folder: Path) -> str | None:
    return None if kind == "journal" else f"sqlite:///{folder}/studies.db"


def start_in_a_trial(run: Run, *, final: bool = False) -> Command:
    """Start a comparison, and return when a trial that is not the first, or a final run, waits at the gate."""
    run.close_gate()
    command = run.start()

    def is_there() -> bool:
        if run.waiting() is None:
            return False
        trials = run.trials(final=final)
        if any(trial.state.is_finished() for trial in trials) or (final and trials):
            return True
        (run.gate / "waiting").unlink()
        (run.gate / "ticket").touch()
        return False

    command.wait_for(is_there)
    return command


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = sys.platform == "linux" and os.getuid() == 0
    mounted = mounted and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]).returncode == 0
    if not mounted:
        pytest.skip("only root can mount a small file system here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill_up(disk: Path) -> Path:
    """Leave no room on a disk; return the file that takes it."""
    file = disk / "filler"
    with file.open("wb", buffering=0) as filler:
        try:
            while filler.write(b"x" * 512):
                pass
        except OSError:
            return file
    raise AssertionError("the disk is larger than all that was written")


def limit_file_size(process: int, size: int) -> None:
    """Let writes of a process fail that make a file larger."""
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.parametrize("room", [0, 30, 200])
def test_a_journal_write_that_fails_half_way_while_another_process_lives_on(
    tmp_path: Path, judge: Judge, room: int
) -> None:
    run = Run(tmp_path)
    struck = start_in_a_trial(run)
    other = run.start()
    other.wait_for(lambda: run.waiting() == other.process.pid)
    limit_file_size(struck.process.pid, (run.output / "journal.log").stat().st_size + room)
    run.open_gate()
    said = struck.end()
    assert said.code == 1, said
    assert other.end().code == 0
    assert run.finish().code == 0
    judge(run, said, most_lines=2)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_disk_that_is_full_and_then_has_room_again(
    small_disk: Path, tmp_path: Path, judge: Judge, storage: str
) -> None:
    run = Run(tmp_path, storage=storage_of(storage, small_disk))
    (tmp_path / "run").symlink_to(small_disk / "run")
    (small_disk / "run").mkdir()
    command = start_in_a_trial(run)
    filler = fill_up(small_disk)
    run.open_gate()
    struck = command.end()
    assert struck.code == 1, struck
    again = run.finish()
    assert again.code == 1, again
    filler.unlink()
    assert run.finish().code == 0
    judge(run, struck, again, most_lines=2)


def test_a_disk_that_is_full_when_the_model_of_a_final_is_saved(small_disk: Path, tmp_path: Path, judge: Judge) -> None:
    run = Run(tmp_path, storage=f"sqlite:///{tmp_path}/studies.db")
    (tmp_path / "run").symlink_to(small_disk / "run")
    (small_disk / "run").mkdir()
    command = start_in_a_trial(run, final=True)
    filler = fill_up(small_disk)
    run.open_gate()
    struck = command.end()
    assert struck.code == 1, struck
    assert "cannot be written (No space left on device)" in struck.err
    assert [run.finish().code for _ in range(3)] == [1, 1, 1]
    filler.unlink()
    assert run.finish().code == 0
    judge(run, struck, most_lines=2)
    assert not any("error" in trial.user_attrs for trial in run.trials(final=True))


def test_an_output_that_is_made_read_only_in_mid_run(small_disk: Path, tmp_path: Path, judge: Judge) -> None:
    run = Run(tmp_path)
    (tmp_path / "run").symlink_to(small_disk / "run")
    (small_disk / "run").mkdir()
    command = start_in_a_trial(run)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    run.open_gate()
    struck = command.end()
    assert struck.code == 1, struck
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert run.finish().code == 0
    judge(run, struck, most_lines=2)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    read = run.call("report", str(run.output)).end()
    assert "means" in read.out
    assert (read.code, read.lines) == (1, 1), read


@pytest.mark.parametrize("what", ["journal.log", "."])
def test_a_journal_or_an_output_that_is_moved_away_in_mid_run_and_back(tmp_path: Path, judge: Judge, what: str) -> None:
    run = Run(tmp_path)
    command = start_in_a_trial(run)
    moved = shutil.move(run.output / what, tmp_path / "moved")
    run.open_gate()
    struck = command.end()
    assert struck.code == 1, struck
    shutil.rmtree(run.output, ignore_errors=what == ".") if what == "." else None
    shutil.move(moved, run.output / what)
    assert run.finish().code == 0
    judge(run, struck, most_lines=2)


def test_a_journal_that_is_deleted_in_mid_run_is_not_begun_anew_behind_the_users_back(tmp_path: Path) -> None:
    run = Run(tmp_path)
    command = start_in_a_trial(run)
    (run.output / "journal.log").unlink()
    run.open_gate()
    struck = command.end()
    assert (struck.code, struck.lines) == (1, 1), struck
    assert "is gone: it was removed or moved while it was in use" in struck.err
    assert not (run.output / "journal.log").exists()


def locked(file: Path, seconds: float, ready: threading.Event) -> None:
    """Lock a database as another program does that writes to it."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    ready.set()
    time.sleep(seconds)
    connection.rollback()
    connection.close()


@pytest.mark.parametrize("moment", ["in a trial", "when it is opened"])
@pytest.mark.parametrize("seconds", [7, 15])
def test_a_database_that_another_program_locks(tmp_path: Path, judge: Judge, seconds: int, moment: str) -> None:
    run = Run(tmp_path, storage=storage_of("sqlite", tmp_path))
    command = start_in_a_trial(run)
    if moment != "in a trial":
        command.strike(signal.SIGKILL)
        command.end()
    ready = threading.Event()
    thread = threading.Thread(target=locked, args=(tmp_path / "studies.db", seconds, ready))
    thread.start()
    ready.wait()
    run.open_gate()
    ended = command.end() if moment == "in a trial" else run.finish()
    thread.join()
    assert ended.code == 0, ended
    judge(run, ended, most_lines=3)
    assert not any("error" in trial.user_attrs for trial in run.trials())


def lines_without(number: int) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        lines = content.splitlines(keepends=True)
        return b"".join(lines[:number] + lines[number + 1 :])

    return change


def test_a_journal_with_a_missing_line_is_one_message_and_what_it_advises_helps(tmp_path: Path, judge: Judge) -> None:
    run = Run(tmp_path)
    assert run.finish().code == 0
    journal = run.output / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    middle = len(lines) // 2
    journal.write_bytes(lines_without(middle)(journal.read_bytes()))
    before = journal.read_bytes()
    for ended in (
        run.finish(),
        run.call("report", str(run.output)).end(),
        run.call("worker", "--storage", str(journal), "--name", "run").end(),
    ):
        assert (ended.code, ended.lines) == (1, 1), ended
        assert f"a copy of its first {middle} lines in its place keeps" in ended.err
    assert journal.read_bytes() == before
    journal.write_bytes(b"".join(lines[:middle]))
    assert run.finish().code == 0
    judge(run)


@pytest.mark.parametrize("content", [b"{", b"my notes\nof today", b'{"mine": 1}\n'])
def test_a_file_that_is_no_journal_is_not_touched(tmp_path: Path, content: bytes) -> None:
    notes = tmp_path / "notes.log"
    notes.write_bytes(content)
    run = Run(tmp_path, storage=str(notes))
    for ended in (run.finish(), run.call("worker", "--storage", str(notes), "--name", "run").end()):
        assert (ended.code, ended.lines) == (1, 1), ended
        assert notes.read_bytes() == content


def test_a_worker_makes_no_storage(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for where in (str(tmp_path / "none.log"), f"sqlite:///{tmp_path}/none.db"):
        ended = run.call("worker", "--storage", where, "--name", "run").end()
        assert (ended.code, ended.lines) == (1, 1), ended
    assert not list(tmp_path.glob("none*"))

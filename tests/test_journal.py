"""A journal holds whole records, whoever fails or dies while writing; nobody else's file is touched."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

import autometa as am
from autometa.comparison.execution import journal_lock, patient_storage
from autometa.comparison.execution.journal import JournalFile
from autometa.comparison.execution.journal_lock import JournalLock
from autometa.comparison.execution.owner import Owner
from autometa.comparison.execution.patient_storage import StorageLost, StorageWarning
from autometa.comparison.execution.storage import open_storage

TORN = b'{"op_code":8,"worker_id":"x","tri'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.log"


def studies(storage: BaseStorage) -> list[str]:
    return [study.study_name for study in storage.get_all_studies()]


def add(storage: BaseStorage, name: str) -> None:
    optuna.create_study(storage=storage, study_name=name)


@contextmanager
def files_no_larger(size: int) -> Iterator[None]:
    """Let writes fail that make a file larger, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_failed_write_is_taken_back_and_the_others_go_on(path: Path) -> None:
    here, there = open_storage(str(path)), open_storage(str(path))
    add(here, "first")
    before = path.read_bytes()
    with files_no_larger(len(before) + 20), pytest.raises(StorageLost, match="File too large"):
        add(here, "second")
    assert path.read_bytes() == before
    add(there, "third")
    add(here, "second")
    for storage in (here, there, open_storage(str(path)), JournalStorage(JournalFileBackend(str(path)))):
        assert studies(storage) == ["first", "third", "second"]


def test_a_write_that_the_disk_refuses_at_its_end_is_taken_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_storage(str(path))
    add(storage, "first")
    before = path.read_bytes()

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageLost, match="No space left"):
            add(storage, "second")
    assert path.read_bytes() == before
    add(storage, "second")
    assert studies(open_storage(str(path))) == ["first", "second"]


@pytest.mark.parametrize("torn", [TORN, b"\0" * 300, b"{"])
def test_what_a_dead_process_left_is_no_record_and_goes_with_the_next_write(path: Path, torn: bytes) -> None:
    living = open_storage(str(path))
    add(living, "first")
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert studies(living) == studies(open_storage(str(path))) == ["first"]
    assert path.read_bytes() == whole + torn  # reading does not write
    add(living, "second")
    assert path.read_bytes().startswith(whole + b'{"op_code":0')
    assert studies(open_storage(str(path))) == ["first", "second"]


def test_a_torn_record_with_another_behind_it_is_named_and_passed_over(path: Path) -> None:
    add(open_storage(str(path)), "first")
    with path.open("ab") as file:
        file.write(TORN)
    plain = JournalFileBackend(str(path))
    plain.append_logs([{"op_code": 0, "worker_id": "y", "study_name": "second", "directions": [1]}])
    with pytest.warns(StorageWarning, match="line 2 begins with a record that was cut short") as told:
        storage = open_storage(str(path))
    assert studies(storage) == ["first", "second"]
    assert len(told) == 1
    add(storage, "third")
    with pytest.warns(StorageWarning):
        assert studies(open_storage(str(path))) == ["first", "second", "third"]


@pytest.mark.parametrize("change", ["missing", "twice", "swapped"])
def test_a_line_that_is_missing_or_twice_there_is_named(path: Path, change: str) -> None:
    storage = open_storage(str(path))
    for name in "abcdef":
        add(storage, name)
    lines = path.read_bytes().splitlines(keepends=True)
    changed = {
        "missing": [*lines[:2], *lines[3:]],
        "twice": [*lines[:2], lines[1], *lines[2:]],
        "swapped": [*lines[:2], lines[3], lines[2], *lines[4:]],
    }[change]
    path.write_bytes(b"".join(changed))
    with pytest.raises(StorageLost, match="line 3 says that it is line .*first 2 lines in its place keeps") as error:
        open_storage(str(path))
    assert len(str(error.value).splitlines()) == 1
    path.write_bytes(b"".join(lines[:2]))  # as advised
    assert studies(open_storage(str(path))) == ["a", "b"]


def test_optuna_reads_and_writes_the_same_file(path: Path) -> None:
    ours = open_storage(str(path))
    add(ours, "ours")
    theirs = JournalStorage(JournalFileBackend(str(path)))
    add(theirs, "theirs")
    add(ours, "again")
    assert studies(ours) == studies(theirs) == ["ours", "theirs", "again"]
    assert [json.loads(line).get("line") for line in path.read_text().splitlines()] == [1, None, 3]


@pytest.mark.parametrize("content", [b"{", b'{"op', b"my notes", b"my notes\n", b"\n", b'{"op_code":"x"}\n', b"\0\0"])
def test_a_file_of_somebody_elses_is_refused_and_not_touched(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for call in (
        lambda: open_storage(str(path)),
        lambda: am.compare("sinusoid", "ridge", storage=path, verbose=0),
        lambda: JournalFile(path),
    ):
        with pytest.raises(am.StorageError, match="line 1 is no record of a study; give another file"):
            call()
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    path.touch()
    add(open_storage(str(path)), "first")
    assert studies(open_storage(str(path))) == ["first"]


def test_a_journal_that_vanishes_is_not_begun_anew(path: Path) -> None:
    storage = open_storage(str(path))
    add(storage, "first")
    moved = path.rename(path.with_name("moved.log"))
    for call in (lambda: studies(storage), lambda: add(storage, "second")):
        with pytest.raises(StorageLost, match="is gone: it was removed or moved while it was in use"):
            call()
    assert not path.exists()
    moved.rename(path)
    add(storage, "second")
    assert studies(open_storage(str(path))) == ["first", "second"]


def test_a_journal_that_something_else_cut_is_no_longer_used(path: Path) -> None:
    storage = open_storage(str(path))
    add(storage, "first")
    add(storage, "second")
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(StorageLost, match="is shorter than it was"):
        studies(storage)


@pytest.mark.parametrize("where", ["missing.log", "folder.log", "pipe.log", "sqlite:///{}/missing.db"])
def test_what_is_not_there_is_not_made_to_be_read(tmp_path: Path, where: str) -> None:
    (tmp_path / "folder.log").mkdir()
    os.mkfifo(tmp_path / "pipe.log")
    before = sorted(tmp_path.iterdir())
    where = where.format(tmp_path) if "://" in where else str(tmp_path / where)
    with pytest.raises(am.StorageError, match="no such file|is no file"):
        open_storage(where, make=False)
    assert sorted(tmp_path.iterdir()) == before


# ---------------------------------------------------------------- the lock


def left_by(path: Path, owner: Owner) -> Path:
    """Leave the lock of another process."""
    lock = JournalLock(path).file
    os.symlink(json.dumps(owner.to_json()) + " another", lock)
    return lock


def test_the_lock_of_a_dead_process_costs_no_time(path: Path) -> None:
    storage = open_storage(str(path))
    lock = left_by(path, replace(Owner.here(), pid=2**22 - 3))
    began = time.monotonic()
    add(storage, "first")
    assert time.monotonic() - began < 1.0
    assert not lock.is_symlink()


LIVES = """
import json, time
from autometa.comparison.execution.owner import Owner
print(json.dumps(Owner.here().to_json()), flush=True)
time.sleep(600)
"""


@pytest.mark.thorough
def test_a_process_that_lives_is_waited_for_and_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_lock, "TELL_AFTER", 0.01)
    monkeypatch.setattr(journal_lock, "GRACE", 0.02)  # not for a holder that is known to live
    monkeypatch.setattr(patient_storage, "PATIENCE", 0.2)
    storage = open_storage(str(path))
    with subprocess.Popen([sys.executable, "-c", LIVES], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        lock = left_by(path, Owner.from_json(json.loads(other.stdout.readline())))
        with (
            pytest.warns(StorageWarning, match=f"locked by process {other.pid} on .*; waiting"),
            pytest.raises(StorageLost, match="locked by process .* end that process"),
        ):
            add(storage, "first")
        other.kill()
    lock.unlink()
    add(storage, "first")


def test_a_lock_that_goes_from_hand_to_hand_is_no_fault(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_storage(str(path))
    seconds, tries = itertools.count(step=100), itertools.count()
    make = JournalLock._make

    def make_at_last(self: JournalLock, mark: str) -> bool:
        return next(tries) >= 10 and make(self, mark)

    monkeypatch.setattr(journal_lock.time, "monotonic", lambda: float(next(seconds)))
    monkeypatch.setattr(journal_lock.time, "sleep", lambda pause: None)
    monkeypatch.setattr(JournalLock, "_make", make_at_last)
    monkeypatch.setattr(JournalLock, "_found", lambda self: ("another each time", next(seconds)))
    add(storage, "first")  # after 1,000 seconds, which are more than the patience for one holder
    monkeypatch.undo()
    assert next(tries) > 10
    assert studies(open_storage(str(path))) == ["first"]


@pytest.mark.parametrize("holder", [None, replace(Owner.here(), host="elsewhere")])
def test_a_lock_of_which_nothing_is_known_is_removed_after_a_while(
    path: Path, holder: Owner | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_lock, "GRACE", 0.05)
    storage = open_storage(str(path))
    if holder is None:
        os.symlink(path, JournalLock(path).file)  # as Optuna makes it
    else:
        left_by(path, holder)
    with pytest.warns(StorageWarning, match="has not changed for 0 seconds and is removed"):
        add(storage, "first")
    assert studies(open_storage(str(path))) == ["first"]


def test_a_file_in_the_place_of_the_lock_is_one_of_which_nothing_is_known(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(str(path))
    lock = JournalLock(path).file
    theirs = JournalFileOpenLock(str(path))
    theirs.acquire()
    assert lock.is_file()
    monkeypatch.setattr(patient_storage, "PATIENCE", 0.2)
    with pytest.raises(StorageLost, match=r"is locked \('.*journal.log.lock'\) for 0 seconds"):
        add(storage, "first")
    theirs.release()
    add(storage, "first")
    theirs.acquire()
    monkeypatch.setattr(journal_lock, "GRACE", 0.05)
    with pytest.warns(StorageWarning, match=r"journal.log.lock' has not changed for 0 seconds and is removed"):
        add(storage, "second")
    assert not lock.exists()
    assert studies(open_storage(str(path))) == ["first", "second"]


def test_a_file_that_was_made_anew_meanwhile_is_not_removed(path: Path) -> None:
    path.touch()
    lock = JournalLock(path)
    lock.file.touch()
    found = lock._found()
    assert found is not None
    os.utime(lock.file, ns=(found[1] + 1000, found[1] + 1000))
    lock._remove(found)
    assert lock.file.exists()


@pytest.mark.parametrize("change", [{"pid": "x"}, {"pid": 2**40}, {"host": 3}, {"more": 1}])
def test_a_lock_with_any_other_mark_is_one_of_which_nothing_is_known(
    path: Path, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_lock, "GRACE", 0.05)
    storage = open_storage(str(path))
    os.symlink(json.dumps(Owner.here().to_json() | change) + " another", JournalLock(path).file)
    with pytest.warns(StorageWarning, match="has not changed for 0 seconds and is removed"):
        add(storage, "first")


def test_a_lock_is_let_go_of_only_by_its_holder(path: Path) -> None:
    path.touch()
    lock = JournalLock(path)
    with lock.held():
        os.unlink(lock.file)
        left_by(path, Owner.here())
    assert lock.file.is_symlink()


def append_many(path: str, name: str, n: int) -> None:
    storage = open_storage(path)
    for i in range(n):
        add(storage, f"{name}-{i}")


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_processes_that_write_at_once_lose_nothing(path: Path) -> None:
    path.touch()
    os.symlink(json.dumps(replace(Owner.here(), pid=2**22 - 3).to_json()) + " x", JournalLock(path).file)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=append_many, args=(str(path), str(k), 15)) for k in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(studies(open_storage(str(path)))) == sorted(f"{k}-{i}" for k in range(4) for i in range(15))
    assert [json.loads(line)["line"] for line in path.read_text().splitlines()] == list(range(1, 61))


@pytest.mark.thorough
def test_a_process_killed_while_it_writes_leaves_a_journal_that_opens(path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from autometa.comparison.execution import journal\n"
        "from autometa.comparison.execution.storage import open_storage\n"
        "import optuna\n"
        "storage = open_storage(sys.argv[1])\n"
        "optuna.create_study(storage=storage, study_name='first')\n"
        "def half(file, end, data):\n"
        "    file.write(data[:20])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "journal.JournalFile._write = staticmethod(half)\n"
        "optuna.create_study(storage=storage, study_name='second')\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)]).returncode == -9
    assert JournalLock(path).file.is_symlink()
    storage: Any = open_storage(str(path))
    began = time.monotonic()
    add(storage, "third")
    assert time.monotonic() - began < 1.0
    assert studies(open_storage(str(path))) == ["first", "third"]


@pytest.mark.skipif(os.name == "nt", reason="Windows locks otherwise")
def test_a_lock_that_ctrl_c_left_in_this_process_is_no_other_process(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.touch()
    lock, real = JournalLock(path), os.unlink

    def interrupted(file: Any) -> None:
        monkeypatch.setattr(os, "unlink", real)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "unlink", interrupted)
    with pytest.raises(KeyboardInterrupt), lock.held():
        pass
    assert lock.file.is_symlink(), "it was left"
    monkeypatch.setattr(patient_storage, "PATIENCE", 0.5)
    with lock.held():
        assert lock.file.is_symlink()
    assert not lock.file.is_symlink()

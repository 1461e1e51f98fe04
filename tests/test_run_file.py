"""An output folder holds one comparison, and a damaged file of it is named and left as it is."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

import autometa as am
from autometa.cli import main
from autometa.comparison import work
from tiers import first_by_default

FAST: dict[str, Any] = {
    "n_trials": 2,
    "n_seeds": 1,
    "max_steps": 1,
    "n_test_tasks": 3,
    "n_valid_tasks": 3,
    "verbose": 0,
    "baselines": False,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a comparison named "run"."""
    folder = tmp_path_factory.mktemp("first") / "run"
    am.compare("sinusoid", "ridge", output=folder, **FAST)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def again(folder: Path, **change: Any) -> am.Comparison:
    return am.compare("sinusoid", "ridge", **{**FAST, "output": folder, **change})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def refused(folder: Path, call: Callable[[], object], error: type[Exception], text: str) -> None:
    """The call is refused, and every file in the folder is as it was."""
    before = contents(folder)
    with pytest.raises(error, match=text):
        call()
    assert contents(folder) == before


def test_another_comparison_does_not_write_over_the_results_of_one(run: Path, tmp_path: Path) -> None:
    text = r"name='other': output='.*run' holds the results of comparison 'run'.*give another output, or name='run'"
    refused(run, lambda: again(run, name="other"), am.InvalidParameter, text)
    refused(run, lambda: again(run, name="other", storage=tmp_path / "other.log"), am.InvalidParameter, text)


def test_the_same_name_in_another_storage_is_another_comparison(run: Path, tmp_path: Path) -> None:
    text = "whose studies are not in this storage .they were in journal.log.*give another output, or the storage"
    refused(run, lambda: again(run, storage=tmp_path / "other.log"), am.InvalidParameter, text)
    refused(run, lambda: again(run, storage=optuna.storages.InMemoryStorage()), am.InvalidParameter, text)
    (run / "journal.log").unlink()
    with pytest.raises(am.InvalidParameter, match="whose studies are not in this storage"):
        again(run)


def test_the_same_comparison_goes_on_wherever_its_storage_lies(run: Path, tmp_path: Path) -> None:
    assert again(run).complete
    assert again(run, name="run", storage=run / "journal.log").complete
    moved = shutil.move(run / "journal.log", tmp_path / "moved.log")
    assert again(run, storage=moved).complete
    storage = optuna.storages.InMemoryStorage()
    for _ in range(2):
        assert again(tmp_path / "open", storage=storage).complete


@pytest.mark.thorough
def test_a_worker_of_another_comparison_in_the_same_journal_leaves_the_models_alone(run: Path) -> None:
    journal = str(run / "journal.log")
    am.compare("sinusoid", "ridge", storage=journal, name="other", **{**FAST, "random_state": 1})
    models = contents(run / "models")
    assert work(journal, "other").complete
    assert work(journal, "run").complete
    assert contents(run / "models") == models


def test_the_command_refuses_another_name_too(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", "--tasks", "sinusoid", "--learners", "ridge", "--name", "other", "--output", str(run)]
    before = contents(run)
    assert main(arguments) == 2
    assert contents(run) == before
    assert "holds the results of comparison 'run'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "why"),
    first_by_default(
        2,
        [
            (b"", "Expecting value"),
            (b'{"name": "run", "sto', "Unterminated string"),
            (b"\xff\xfe", "can't decode byte"),
            (b"[]", "no name and no storage and no environment in it"),
            (b"{}", "no name and no environment in it"),
            (b'{"name": "run", "storage": 3, "environment": {}}', "no storage in it"),
        ],
    ),
)
def test_a_damaged_run_file_is_made_again_from_the_studies(content: bytes, why: str, run: Path) -> None:
    whole = am.Comparison.load(run)
    (run / "run.json").write_bytes(content)
    text = f"run.json' is damaged .*{why}.*; all that is done is in the studies. It is"
    before = contents(run)
    with pytest.warns(UserWarning, match=f"{text} read as comparison 'run'"):
        read = am.Comparison.load(run)
    assert read.complete
    assert read.scores.equals(whole.scores)
    assert contents(run) == before
    with pytest.warns(UserWarning, match=f"{text} made again"):
        assert again(run).complete
    assert json.loads((run / "run.json").read_text())["name"] == "run"
    assert am.Comparison.load(run).environment["cores"]


@pytest.mark.parametrize("change", [{"name": "other"}, {"storage": None}])
def test_a_damaged_run_file_is_not_written_over_for_another_comparison(
    change: dict[str, Any], run: Path, tmp_path: Path
) -> None:
    (run / "run.json").write_bytes(b"{")
    change = {"storage": tmp_path / "other.log"} if "storage" in change else change
    refused(run, lambda: again(run, **change), am.StorageError, "run.json' is damaged")


def test_a_damaged_run_file_of_a_journal_with_several_comparisons(run: Path) -> None:
    journal = str(run / "journal.log")
    am.compare("sinusoid", "ridge", storage=journal, name="other", **{**FAST, "random_state": 1})
    (run / "run.json").write_bytes(b"{")
    with pytest.warns(UserWarning, match="It is read as comparison 'run'"):
        assert am.Comparison.load(run).name == "run"
    moved = run.rename(run.with_name("moved"))
    refused(moved, lambda: am.Comparison.load(moved), am.StorageError, "run.json' is damaged")
    assert work(str(moved / "journal.log"), "other").complete


@pytest.mark.parametrize("damage", first_by_default(1, [b"", b"x", None]))
def test_a_damaged_model_of_the_winner_is_made_again(damage: bytes | None, run: Path) -> None:
    x, y = np.zeros((3, 1), dtype=np.float32), np.arange(3.0)

    def predicts(file: Path) -> list[float]:
        return am.load(file).fit(x, y).predict(x).tolist()

    saved = next((run / "models").rglob("*.autometa"))
    whole, predicted = saved.read_bytes(), predicts(saved)
    saved.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    with pytest.warns(UserWarning, match="model of the winner on 'sinusoid' cannot be used .*made again from its seed"):
        assert again(run).complete
    assert predicts(saved) == predicts(run / "best.autometa") == predicted
    assert again(run).complete


def test_reading_writes_nothing(run: Path) -> None:
    """Neither to a whole comparison nor to one whose studies were not all begun."""
    before = contents(run)
    assert am.Comparison.load(run).complete
    assert contents(run) == before
    journal = run / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    begun = next(i for i, line in enumerate(lines) if b'"study_name":"run/sinusoid/ridge"' in line)
    journal.write_bytes(b"".join(lines[:begun]))
    before = contents(run)
    read = am.Comparison.load(run)
    assert not read.complete
    assert list(read.studies) == ["run/sinusoid/ridge"]
    assert contents(run) == before


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_can_be_read(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run.chmod(0o500)
    try:
        assert am.Comparison.load(run).complete
        assert main(["report", str(run)]) == 1
    finally:
        run.chmod(0o700)
    said = capsys.readouterr()
    assert "ridge" in said.out
    assert "report.html' cannot be written" in said.err


@pytest.mark.thorough
def test_studies_in_a_storage_that_was_given_open_are_said_to_be_there(tmp_path: Path) -> None:
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/studies.db")
    made = am.compare("sinusoid", "ridge", storage=storage, output=tmp_path / "run", **FAST)
    with pytest.raises(am.StorageError, match="in a storage that was given open .RDBStorage. .*load.*storage="):
        am.Comparison.load(tmp_path / "run")
    assert am.Comparison.load(tmp_path / "run", storage=storage).scores.equals(made.scores)
    storage.engine.dispose()
    am.compare("sinusoid", "ridge", storage=optuna.storages.InMemoryStorage(), output=tmp_path / "memory", **FAST)
    with pytest.raises(am.StorageError, match="were in the memory of the process that made it"):
        am.Comparison.load(tmp_path / "memory")


def test_seconds_do_not_run_backwards_when_the_clock_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    clock = iter(range(10**6))
    monkeypatch.setattr(time, "time", lambda: now - 3600 * next(clock))
    environment = am.compare("sinusoid", "ridge", output=tmp_path / "run", **FAST).environment
    assert 0 < environment["seconds"] <= environment["seconds_of_all_calls"]


def after_line(n: int, extra: bytes) -> Callable[[bytes], bytes]:
    """Put something behind a number of lines."""

    def spoil(content: bytes) -> bytes:
        lines = content.splitlines(keepends=True)
        n_lines = n if n >= 0 else len(lines)
        return b"".join([*lines[:n_lines], extra, *lines[n_lines:]])

    return spoil


@pytest.mark.parametrize("place", [0, 3, -1])
@pytest.mark.parametrize(
    "extra", first_by_default(2, [b"garbage\n", b"\xff\xfe\n", b"5\n", b"null\n", b"{}\n", b"\0" * 50 + b"\n", b"\n"])
)
def test_garbage_in_a_journal_is_named_and_kept(place: int, extra: bytes, run: Path) -> None:
    journal = run / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(after_line(place, extra)(whole))
    number = (place if place >= 0 else whole.count(b"\n")) + 1
    text = f"journal '.*journal.log' is damaged: line {number} is no record of a study; "
    text += "give another file" if number == 1 else f"a copy of its first {number - 1} lines in its place keeps"
    refused(run, lambda: am.Comparison.load(run), am.StorageError, text)
    refused(run, lambda: again(run), am.StorageError, text)
    if place:  # as advised
        journal.write_bytes(b"".join(whole.splitlines(keepends=True)[: number - 1]))
        assert again(run).complete


@pytest.mark.parametrize("content", [b"my notes", b"my notes\nof today", b'{"mine": 1}\n'])
def test_a_file_that_is_no_journal_is_left_as_it_is(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "notes.log").write_bytes(content)
    refused(
        tmp_path,
        lambda: am.compare("sinusoid", "ridge", storage=tmp_path / "notes.log", **FAST),
        am.StorageError,
        "notes.log' is damaged: line 1 is no record of a study; give another file, or move this one away",
    )

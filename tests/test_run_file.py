"""An output folder holds one comparison, and a damaged file of it is named and left as it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

import autometa as am
from autometa.cli import main
from autometa.comparison import work

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
    [
        (b"", "Expecting value"),
        (b'{"name": "run", "sto', "Unterminated string"),
        (b"\xff\xfe", "can't decode byte"),
        (b"[]", "no name and no storage and no environment in it"),
        (b"{}", "no name and no environment in it"),
        (b'{"name": "run", "storage": 3, "environment": {}}', "no storage in it"),
    ],
)
def test_a_damaged_run_file_is_named_and_kept(content: bytes, why: str, run: Path) -> None:
    (run / "run.json").write_bytes(content)
    text = f"run.json' is damaged .*{why}.*; move it away and call compare as before"
    refused(run, lambda: am.Comparison.load(run), am.StorageError, text)
    refused(run, lambda: again(run), am.StorageError, text)
    (run / "run.json").unlink()  # as advised
    assert again(run).complete
    assert json.loads((run / "run.json").read_text())["name"] == "run"
    assert am.Comparison.load(run).complete


def after_line(n: int, extra: bytes) -> Callable[[bytes], bytes]:
    """Put something behind a number of lines."""

    def spoil(content: bytes) -> bytes:
        lines = content.splitlines(keepends=True)
        n_lines = n if n >= 0 else len(lines)
        return b"".join([*lines[:n_lines], extra, *lines[n_lines:]])

    return spoil


@pytest.mark.parametrize("place", [0, 3, -1])
@pytest.mark.parametrize("extra", [b"garbage\n", b"\xff\xfe\n", b"5\n", b"null\n", b"{}\n", b"\0" * 50 + b"\n", b"\n"])
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

"""A number that changed in a storage never becomes a score."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import Trial, TrialState

import autometa as am
from autometa.comparison.execution.patient_storage import StorageWarning
from autometa.comparison.execution.slot_study import SlotStudy
from autometa.comparison.execution.storage import open_storage

FAST: dict[str, Any] = {
    "n_trials": 2,
    "n_seeds": 2,
    "max_steps": 2,
    "n_test_tasks": 4,
    "n_valid_tasks": 3,
    "tasks_per_step": 2,
    "verbose": 0,
    "baselines": False,
}


def work(trial: Trial) -> float:
    trial.suggest_float("x", 0.1, 3, log=True)
    trial.suggest_int("n", 1, 9)
    trial.suggest_categorical("kind", ["a", 3, None])
    trial.report(0.25, 0)
    trial.set_user_attr("result", {"scores": [0.5, 1 / 3, 1e-17], 3: (1, "é")})
    return 0.5


def pruned(trial: Trial) -> float:
    work(trial)
    raise optuna.TrialPruned


def studies(storage: Any) -> SlotStudy:
    return SlotStudy(storage, "study", n_slots=3, higher_is_better=True)


def fill(storage: Any, *works: Callable[[Trial], float]) -> SlotStudy:
    study = studies(storage)
    for one in works:
        trial = study.claim()
        assert trial is not None
        study.fill(trial, one)
    return study


@pytest.fixture(params=["journal", "sqlite", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    where = {"journal": str(tmp_path / "journal.log"), "sqlite": f"sqlite:///{tmp_path}/studies.db", "memory": None}
    return open_storage(where[request.param])


def test_what_is_read_is_what_was_written(storage: Any) -> None:
    fill(storage, work, pruned, lambda trial: float("inf"))
    again = studies(storage if not hasattr(storage, "where") else open_storage(storage.where))
    assert again.slot_states() == ["done"] * 3
    states = [trial.state for trial in again.trials()]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE]


CHANGES = {
    "value": ('"values":[0.5]', '"values":[0.6]'),
    "score": ("0.3333333333333333", "0.3333333333333334"),
    "kind": ('"state":1,"values":[0.5]', '"state":2,"values":[0.5]'),
    "report": ('"intermediate_value":0.25', '"intermediate_value":0.26'),
    "slot": ('"slot":0', '"slot":2'),
    "seal": ('"seal":"', '"seal":"0'),
}


@pytest.mark.parametrize("change", [*CHANGES, "param"])
def test_a_changed_digit_is_named_and_its_slot_is_open_again(tmp_path: Path, change: str) -> None:
    path = tmp_path / "journal.log"
    study = fill(open_storage(str(path)), work, work)
    params = study.trials()[0].params
    text = path.read_text()
    before, after = CHANGES.get(change, ('"param_value_internal":', '"param_value_internal":1'))
    assert before in text
    path.write_text(text.replace(before, after, 1))
    changed = studies(open_storage(str(path)))
    with pytest.warns(StorageWarning, match=r"trial 0 of study 'study' is not as it was written .*measures it again"):
        states = changed.slot_states()
    assert states == ["open", "done", "open"]
    trial = changed.claim()
    assert trial is not None
    assert trial.user_attrs["slot"] == 0
    if change not in ("param", "slot"):
        assert trial.user_attrs["fixed"].keys() == params.keys()
    changed.fill(trial, work)
    assert changed.slot_states() == ["done", "done", "open"]


def change_journal(folder: Path, digits: str) -> None:
    journal = folder / "run" / "journal.log"
    text = journal.read_text()
    scores = text.index('"scores":')
    found = re.search(r"\d\.\d*([1-8])\d", text[scores:])
    assert found is not None
    place = scores + found.start(1)
    journal.write_text(text[:place] + digits + text[place + 1 :])


def change_database(folder: Path, digits: str) -> None:
    connection = sqlite3.connect(folder / "studies.db")
    rows = "SELECT trial_user_attribute_id, value_json FROM trial_user_attributes WHERE key = 'result'"
    number, text = connection.execute(rows).fetchone()
    scores = text.index('"scores":')
    found = re.search(r"\d\.\d*([1-8])\d", text[scores:])
    assert found is not None
    place = scores + found.start(1)
    changed = text[:place] + digits + text[place + 1 :]
    order = "UPDATE trial_user_attributes SET value_json = ? WHERE trial_user_attribute_id = ?"
    connection.execute(order, (changed, number))
    connection.commit()
    connection.close()


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_a_changed_score_of_a_final_is_measured_again(tmp_path: Path, kind: str) -> None:
    where = None if kind == "journal" else f"sqlite:///{tmp_path}/studies.db"
    change = change_journal if kind == "journal" else change_database

    def call() -> am.Comparison:
        return am.compare("sinusoid", "ridge", output=tmp_path / "run", storage=where, **FAST)

    whole = call()
    change(tmp_path, "9")
    with pytest.warns(StorageWarning, match="run/sinusoid/ridge/final' is not as it was written"):
        read = am.Comparison.load(tmp_path / "run")
    assert not read.complete
    assert set(read.scores["seed"]) == {1}
    assert read.scores.equals(whole.scores[whole.scores["seed"] == 1].reset_index(drop=True))
    with pytest.warns(StorageWarning):
        again = call()
    assert again.complete
    assert again.scores.equals(whole.scores)

"""Storages that another process serves by Optuna's gRPC proxy."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage
from optuna.trial import TrialState

import autometa as am
from autometa.cli import main
from autometa.comparison.execution import grpc_proxy, patient_storage
from autometa.comparison.execution.grpc_proxy import served
from autometa.comparison.execution.patient_storage import StorageLost, StorageWarning
from autometa.comparison.execution.slot_study import SlotStudy
from autometa.comparison.execution.storage import open_storage

SMALL: dict[str, Any] = {"n_trials": 2, "n_seeds": 2, "max_steps": 2, "tasks_per_step": 2, "n_test_tasks": 10}
SMALL |= {"n_valid_tasks": 5, "verbose": 0}


@pytest.fixture
def needs_grpc() -> None:
    pytest.importorskip("grpc")


@pytest.fixture(params=["journal", "sqlite"])
def address(needs_grpc: None, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Serve a storage of each kind."""
    where = str(tmp_path / "studies.log") if request.param == "journal" else f"sqlite:///{tmp_path}/studies.db"
    with served(open_storage(where), port=0) as address:
        yield address


def slots_of(storage: BaseStorage, n: int) -> SlotStudy:
    return SlotStudy(storage, "study", n_slots=n, higher_is_better=True)


@pytest.mark.slow
def test_a_comparison_through_a_proxy_is_that_of_the_storage_behind_it(address: str, tmp_path: Path) -> None:
    tasks = am.make_tasks("sinusoid", n_shot=4)
    through = am.compare(tasks, "ridge", storage=address, name="same", output=tmp_path / "out", **SMALL)
    alone = am.compare(tasks, "ridge", name="same", **SMALL)
    assert through.complete
    assert through.scores.equals(alone.scores)
    again = am.Comparison.load(tmp_path / "out")  # whose file names the address
    assert again.scores.equals(alone.scores)


@pytest.mark.thorough
def test_each_slot_is_filled_once_by_several_at_once(address: str) -> None:
    filled: list[int] = []

    def work() -> None:
        study = slots_of(open_storage(address), 12)
        while (trial := study.claim()) is not None:
            filled.append(trial.user_attrs["slot"])
            study.fill(trial, lambda trial: float(trial.user_attrs["slot"]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    study = slots_of(open_storage(address), 12)
    assert study.is_complete
    assert sorted(filled) == list(range(12))
    assert sorted(trial.value or 0.0 for trial in study.trials(TrialState.COMPLETE)) == list(range(12))


def test_a_record_may_be_larger_than_the_messages_of_grpc_usually_are(address: str) -> None:
    study = slots_of(open_storage(address), 1)
    trial = study.claim()
    assert trial is not None
    text = "x" * (5 * 2**20)
    trial.set_user_attr("result", text)
    assert slots_of(open_storage(address), 1).trials()[0].user_attrs["result"] == text


def test_a_storage_that_is_sent_to_another_process_opens_again(address: str) -> None:
    storage = open_storage(address)
    optuna.create_study(storage=storage, study_name="it")
    copied = pickle.loads(pickle.dumps(storage))
    assert [study.study_name for study in copied.get_all_studies()] == ["it"]


@pytest.mark.thorough
def test_a_server_that_is_gone_for_a_while_is_waited_for(
    needs_grpc: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patient_storage, "PAUSES", (0.1,))
    where = str(tmp_path / "studies.log")
    with served(open_storage(where), port=0) as address:
        storage = open_storage(address)
        study = slots_of(storage, 1)
    port = int(address.rpartition(":")[2])
    found: list[bool] = []
    waiting = threading.Thread(target=lambda: found.append(study.is_complete))

    def come_back_late() -> None:
        waiting.start()
        waiting.join(0.5)
        assert not found
        with served(open_storage(where), port=port):
            waiting.join(60)

    with pytest.warns(StorageWarning, match=rf"storage='grpc://localhost:{port}' does not answer .*UNAVAILABLE"):
        come_back_late()
    assert found == [False]


def test_a_server_that_stays_away_is_lost(needs_grpc: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(open_storage(str(tmp_path / "studies.log")), port=0) as address:
        storage = open_storage(address)
    with pytest.raises(am.StorageError, match=rf"storage='{address}' cannot be used \(UNAVAILABLE: "):
        open_storage(address)
    assert isinstance(storage, patient_storage.PatientStorage)
    with storage.at_once(), pytest.raises(StorageLost, match="no trial is lost but those at work"):
        storage.get_all_studies()


def test_a_port_that_is_taken_is_told(needs_grpc: None, tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "studies.log"))
    with served(storage, port=0) as address:
        port = int(address.rpartition(":")[2])
        with (
            pytest.raises(am.StorageError, match=f"port={port}: no server can listen there"),
            served(storage, port=port),
        ):
            raise AssertionError


@pytest.mark.parametrize(
    "where",
    ["grpc://ann:secret@host:13000", "grpc://host/base", "grpc://host:70000", "grpc://", "grpc://h?token=secret"],
)
def test_an_address_has_a_host_and_a_port_alone_and_no_secret_is_shown(where: str) -> None:
    with pytest.raises(am.StorageError, match="must be 'grpc://host:port'") as told:
        open_storage(where)
    assert "secret" not in str(told.value)


def test_without_the_extra_one_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_proxy, "find_spec", lambda name: None)
    with pytest.raises(am.StorageError, match=r"needs grpcio and protobuf; .*pip install 'autometa\[grpc\]'"):
        open_storage("grpc://localhost:13000")


def test_serve_refuses_what_is_no_port(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--storage", "studies.log", "--port", "70000"]) == 2
    assert "--port=70000 must be" in capsys.readouterr().err


@pytest.mark.slow
def test_two_machines_share_a_journal_that_one_of_them_serves(needs_grpc: None, tmp_path: Path) -> None:
    journal = tmp_path / "first" / "journal.log"
    begun = am.compare("sinusoid", "ridge", output=journal.parent, **SMALL)
    command = [sys.executable, "-m", "autometa", "serve", "--storage", str(journal), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        said = server.stdout.readline()
        address = said.partition(" at ")[2].partition(";")[0]
        assert said == f"Serving {journal} at {address}; Ctrl-C ends it.\n"
        assert main(["worker", "--storage", address, "--name", "first"]) == 0
        more = am.compare("sinusoid", "ridge", storage=address, name="first", **SMALL | {"n_trials": 3})
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=60)
        assert (server.returncode, out, err) == (0, "", "Ended. Workers wait five minutes for the same command.\n")
    finally:
        server.kill()
        server.communicate()
    assert len(more.trials) > len(begun.trials)
    assert am.Comparison.load(journal.parent).scores.equals(more.scores)

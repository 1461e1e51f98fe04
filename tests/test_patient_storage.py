"""A database that goes away in the middle of a comparison: it is waited for, and no trial is blamed."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import signal
import sqlite3
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import Trial, TrialState
from sqlalchemy import exc

import autometa as am
from autometa.comparison.execution import patient_storage
from autometa.comparison.execution import storage as storage_module
from autometa.comparison.execution.ensemble_arm import open_all_arms
from autometa.comparison.execution.owner import Owner
from autometa.comparison.execution.patient_storage import PatientStorage, StorageLost, StorageWarning
from autometa.comparison.execution.slot_study import SlotStudy
from autometa.comparison.execution.storage import open_storage
from postgres import Server, postgres_server
from tiers import first_by_default

call_module = importlib.import_module("autometa.comparison.call")
SMALL = {"n_trials": 3, "max_steps": 2, "n_test_tasks": 6, "n_valid_tasks": 4, "n_seeds": 1, "tasks_per_step": 2}


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient_storage, "PAUSES", (0.01,))
    monkeypatch.setattr(patient_storage, "PATIENCE", 30.0)


def gone(text: str = "server closed the connection unexpectedly") -> exc.OperationalError:
    return exc.OperationalError("SELECT 1", {}, Exception(text), connection_invalidated=True)


class Flaky:
    """Make calls of a storage's method fail, before or after they did their work."""

    made: ClassVar[list[Flaky]] = []

    def __init__(self, storage: PatientStorage) -> None:
        self.inner = storage.inner
        self.calls = 0
        self.made.append(self)

    def fail(
        self, method: str, n_times: int, *, after: bool = False, error: Callable[[], Exception] = gone, first: int = 0
    ) -> None:
        real = getattr(self.inner, method)
        seen = 0

        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal seen
            self.calls += 1
            seen += 1
            failing = first < seen <= first + n_times
            if failing and not after:
                raise error()
            answer = real(*arguments, **options)
            if failing:
                raise error()
            return answer

        setattr(self.inner, method, call)


@pytest.fixture(autouse=True)
def connections_closed() -> Iterator[None]:
    """Close what a flaky storage, which refers to itself, would leave to the garbage collector."""
    yield
    for flaky in Flaky.made:
        if isinstance(flaky.inner, RDBStorage):
            flaky.inner.engine.dispose()
    Flaky.made.clear()


@pytest.fixture
def storage(tmp_path: Path) -> PatientStorage:
    opened = open_storage(f"sqlite:///{tmp_path}/studies.db")
    assert isinstance(opened, PatientStorage)
    return opened


def slots(storage: Any, n_slots: int = 2) -> SlotStudy:
    return SlotStudy(storage, "study", n_slots=n_slots, higher_is_better=True)


def trial_of(study: SlotStudy) -> Trial:
    trial = study.claim()
    assert trial is not None
    return trial


WORK = [
    "create_new_trial",
    "set_trial_param",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_state_values",
    "get_trial",
    "get_all_trials",
]


@pytest.mark.parametrize("after", [False, True], ids=["nothing written", "answer lost"])
@pytest.mark.parametrize("method", first_by_default(1, WORK))
def test_an_outage_at_any_moment_is_waited_for_and_leaves_no_trace(
    storage: PatientStorage, method: str, after: bool
) -> None:
    study = slots(storage)
    Flaky(storage).fail(method, 3, after=after)

    def work(trial: Trial) -> float:
        trial.report(0.5, 0)
        trial.set_user_attr("steps", 3)
        return trial.suggest_float("x", 0, 1)

    def fill_both() -> None:
        study.fill(trial_of(study), work)
        study.fill(trial_of(study), lambda trial: 0.0)

    with pytest.warns(StorageWarning, match=r"studies.db' does not answer since .* \(server closed the connection"):
        fill_both()
    assert [trial.state for trial in study.study.trials] == [TrialState.COMPLETE] * 2
    assert study.slot_states() == ["done", "done"]
    assert study.claim() is None
    assert study.study.trials[0].user_attrs["steps"] == 3


@pytest.mark.parametrize(
    "error",
    first_by_default(
        2,
        [
            exc.PendingRollbackError("Can't reconnect until invalid transaction is rolled back."),
            exc.InterfaceError("SELECT", {}, Exception("connection already closed")),
            exc.TimeoutError("QueuePool limit reached"),
            exc.OperationalError("INSERT", {}, Exception("database is locked")),
            exc.OperationalError("SELECT", {}, Exception("FATAL: the database system is starting up")),
            ConnectionResetError(104, "Connection reset by peer"),
            optuna.exceptions.StorageInternalError("An exception is raised during the commit."),
        ],
    ),
    ids=lambda error: type(error).__name__,
)
def test_an_outage_has_many_names(storage: PatientStorage, error: Exception) -> None:
    if isinstance(error, optuna.exceptions.StorageInternalError):
        error.__cause__ = gone()
    study = slots(storage, 1)
    Flaky(storage).fail("set_trial_intermediate_value", 2, error=lambda: error)
    with pytest.warns(StorageWarning):
        study.fill(trial_of(study), lambda trial: trial.report(1.0, 0) or 1.0)
    assert study.slot_states() == ["done"]
    assert study.study.trials[0].state == TrialState.COMPLETE


def test_a_pruned_and_a_failed_trial_whose_end_was_written_although_the_answer_was_lost(
    storage: PatientStorage,
) -> None:
    study = slots(storage)

    def prune(trial: Trial) -> float:
        trial.report(0.1, 0)
        raise optuna.TrialPruned

    def fail(trial: Trial) -> float:
        raise ValueError("of its own")

    for work in (prune, fail):
        Flaky(storage).fail("set_trial_state_values", 1, after=True)
        with pytest.warns(StorageWarning):
            study.fill(trial_of(study), work)
    assert [trial.state for trial in study.study.trials] == [TrialState.PRUNED, TrialState.FAIL]
    assert study.study.trials[1].user_attrs["error"] == "ValueError: of its own"


def test_a_trial_that_another_process_ended_is_still_not_ours(storage: PatientStorage) -> None:
    study = slots(storage)
    trial = trial_of(study)
    Flaky(storage).fail("set_trial_state_values", 1)
    open_storage(storage.where).set_trial_state_values(trial._trial_id, TrialState.FAIL)
    with pytest.warns(StorageWarning), pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [1.0])


@pytest.mark.parametrize(
    "moment", first_by_default(1, ["set_trial_intermediate_value", "set_trial_state_values", "set_trial_param"])
)
def test_an_outage_that_lasts_ends_the_work_and_not_the_trial(
    storage: PatientStorage, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    storage.patience = 0.05
    study = slots(storage, 1)
    Flaky(storage).fail(moment, 10**6)

    def work(trial: Trial) -> float:
        try:
            trial.suggest_float("x", 0, 1)
        except Exception as error:
            raise ValueError("a plugin makes something else of it") from error
        trial.report(0.5, 0)
        return 1.0

    with pytest.warns(StorageWarning), pytest.raises(StorageLost, match="failed and did not come back in 0 seconds"):
        study.fill(trial_of(study), work)
    again = slots(open_storage(storage.where), 1)
    assert again.slot_states() == ["running"]
    for _ in range(4):  # as often as it happens, it is no death of a process either
        assert len(again.reap()) == 1
        assert again.slot_states() == ["open"]
        trial = trial_of(again)
        patient_storage_of(again).patience = 0.0
        Flaky(patient_storage_of(again)).fail("set_trial_intermediate_value", 10**6)
        with pytest.raises(StorageLost):
            again.fill(trial, lambda trial: trial.report(1.0, 0) or 1.0)
        again = slots(open_storage(storage.where), 1)


def patient_storage_of(study: SlotStudy) -> PatientStorage:
    assert isinstance(study.storage, PatientStorage)
    return study.storage


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        exc.ProgrammingError("SELECT", {}, Exception("permission denied")),
        exc.OperationalError("SELECT", {}, Exception("no such table: trials")),
    ],
)
def test_a_failure_that_no_waiting_mends_is_said_at_once_and_is_no_trials_failure(
    storage: PatientStorage, error: Exception
) -> None:
    study = slots(storage, 1)
    flaky = Flaky(storage)
    flaky.fail("set_trial_intermediate_value", 10**6, error=lambda: error)
    with pytest.raises(StorageLost, match="failed"):
        study.fill(trial_of(study), lambda trial: trial.report(1.0, 0) or 1.0)
    assert flaky.calls == 1
    assert study.slot_states() == ["running"]


def test_what_a_plugin_does_wrong_with_a_storage_is_its_own_failure(storage: PatientStorage, tmp_path: Path) -> None:
    for opened in (storage, open_storage(str(tmp_path / "journal.log"))):
        study = slots(opened, 3)
        for work in (
            lambda trial: trial.set_user_attr("x", object()),
            lambda trial: [trial.suggest_float("x", 0, high) for high in (1, 2)] and trial.suggest_int("x", 0, 1),
            lambda trial: (tmp_path / "no such file").read_text(),
        ):
            study.fill(trial_of(study), work)
        assert study.slot_states() == ["done"] * 3
        assert all("error" in trial.user_attrs for trial in study.study.trials)


def test_signs_of_life_go_on_after_an_outage_and_nobody_is_taken_for_dead_meanwhile(
    storage: PatientStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = slots(storage, 1)
    trial = trial_of(study)
    elsewhere = Owner.here().to_json() | {"host": "elsewhere"}
    trial.set_user_attr("owner", elsewhere)
    trial.set_user_attr("beat", 1000.0)
    Flaky(storage).fail("get_all_trials", 1)
    with pytest.warns(StorageWarning):
        assert study.reap() == []
    storage.back_at = 0.0
    assert study.reap() == [trial.number]

    monkeypatch.setattr(Owner, "BEAT", 0.02)
    storage.patience = 0.0
    beaten = threading.Event()
    real = storage.inner.set_trial_user_attr
    beats = 0

    def beat(trial_id: int, key: str, value: Any) -> None:
        nonlocal beats
        if key == "beat":
            beats += 1
            if beats == 1:
                raise gone()
            beaten.set()
        real(trial_id, key, value)

    monkeypatch.setattr(storage.inner, "set_trial_user_attr", beat)
    study.fill(trial_of(study), lambda trial: float(beaten.wait(30)))
    assert study.study.trials[-1].value == 1.0


def test_ctrl_c_while_waiting_stops_at_once(storage: PatientStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    study = slots(storage, 1)
    trial = trial_of(study)
    Flaky(storage).fail("set_trial_intermediate_value", 10**6)
    Flaky(storage).fail("set_trial_user_attr", 10**6)
    pauses = []

    def press(seconds: float) -> None:
        pauses.append(seconds)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(patient_storage.time, "sleep", press)
    with pytest.warns(StorageWarning), pytest.raises(KeyboardInterrupt):
        study.fill(trial, lambda trial: trial.report(1.0, 0) or 1.0)
    assert len(pauses) == 1


def test_where_warnings_are_errors_the_outage_is_no_trials_failure(storage: PatientStorage) -> None:
    study = slots(storage, 1)
    Flaky(storage).fail("set_trial_intermediate_value", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(StorageLost):
            study.fill(trial_of(study), lambda trial: trial.report(1.0, 0) or 1.0)
    assert study.slot_states() == ["running"]


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (gone(), True),
        (exc.OperationalError("SELECT", {}, Exception("database is locked")), True),
        (exc.OperationalError("SELECT", {}, Exception("FATAL: the database system is starting up")), True),
        (exc.OperationalError("SELECT", {}, Exception("connection refused")), False),
        (exc.OperationalError("SELECT", {}, Exception("database or disk is full")), False),
    ],
    ids=lambda value: str(getattr(value, "orig", value)),
)
def test_what_is_waited_for_when_a_database_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, waits: bool
) -> None:
    real, tries = storage_module._open, 0

    def once(where: str, *, make: bool) -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise error
        return real(where, make=make)

    monkeypatch.setattr(storage_module, "_open", once)
    where = f"sqlite:///{tmp_path}/studies.db"
    if waits:
        with pytest.warns(StorageWarning, match="does not answer since"):
            assert open_storage(where).get_all_studies() == []
    else:
        with pytest.raises(am.StorageError, match="cannot be used"):
            open_storage(where)


def test_a_database_that_another_program_locks_is_no_trials_failure(tmp_path: Path) -> None:
    quick = RDBStorage(f"sqlite:///{tmp_path}/studies.db", engine_kwargs={"connect_args": {"timeout": 0.01}})
    study = slots(PatientStorage(quick, "studies.db"), 1)
    trial = trial_of(study)
    other = sqlite3.connect(tmp_path / "studies.db", isolation_level=None, check_same_thread=False)

    def work(trial: Trial) -> float:
        other.execute("BEGIN EXCLUSIVE")
        threading.Timer(0.2, other.rollback).start()
        trial.report(0.5, 0)
        return 0.5

    with pytest.warns(StorageWarning, match="studies.db' does not answer since .*database is locked"):
        study.fill(trial, work)
    assert [trial.value for trial in study.trials()] == [0.5]
    other.close()
    quick.engine.dispose()


def test_every_method_of_a_storage_waits() -> None:
    names = {name for name, value in vars(optuna.storages.BaseStorage).items() if callable(value) and name[0] != "_"}
    assert names <= set(vars(PatientStorage))


def test_memory_is_left_as_it_is_and_an_open_storage_waits_too(tmp_path: Path) -> None:
    memory = InMemoryStorage()
    assert open_storage(memory) is memory
    opened = open_storage(RDBStorage(f"sqlite:///{tmp_path}/studies.db"))
    assert isinstance(opened, PatientStorage)
    assert open_storage(opened) is opened


@pytest.mark.thorough
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # a storage of Optuna's own closes nothing
def test_a_comparison_comes_through_an_outage_with_the_scores_it_would_have_had(tmp_path: Path) -> None:
    whole = am.compare("sinusoid", ["ridge"], name="a", storage=f"sqlite:///{tmp_path}/whole.db", **SMALL)
    inner = RDBStorage(f"sqlite:///{tmp_path}/cut.db")
    Flaky(PatientStorage(inner, "")).fail("set_trial_intermediate_value", 3, first=4)
    Flaky(PatientStorage(inner, "")).fail("create_new_trial", 2, first=2, after=True)
    with pytest.warns(StorageWarning):
        cut = am.compare("sinusoid", ["ridge"], name="a", storage=inner, **SMALL)
    assert cut.complete
    assert len(cut.failures) == 0
    assert cut.scores.equals(whole.scores)
    inner.engine.dispose()
    del cut, inner
    Flaky.made.clear()
    gc.collect()


MISSING = {
    "postgresql://u:secret@h/db": r"pip install 'psycopg\[binary\]', or .*'autometa\[postgres\]'",
    "postgresql+psycopg://h/db": r"'autometa\[postgres\]'",
    "postgresql+psycopg2://h/db": r"pip install 'psycopg2-binary'",
    "postgresql+pg8000://h/db": r"pip install 'pg8000'",
    "postgresql+asyncpg://h/db": r"asynchronous.*write 'postgresql://",
    "postgresql+nope://h/db": r"no driver 'nope' for postgresql",
    "postgres://h/db": r"did you mean 'postgresql://",
    "mysql://h/db": r"pip install 'PyMySQL', or .*'autometa\[mysql\]'",
    "mysql+mysqldb://h/db": r"pip install 'mysqlclient'",
    "mariadb+mariadbconnector://h/db": r"pip install 'mariadb'",
    "oracle://h/db": r"pip install '(oracledb|cx_Oracle)'",
    "quantum://h/db": r"knows no database 'quantum'; it may be one of postgresql",
}


@pytest.mark.parametrize("where", MISSING)
def test_a_database_without_its_driver_names_the_package(
    where: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for module in ("psycopg", "psycopg2", "pg8000", "MySQLdb", "pymysql", "mariadb", "oracledb"):
        if importlib.util.find_spec(module) is not None:
            pytest.skip(f"{module} is installed here")
    with pytest.raises(am.StorageError, match=MISSING[where]) as error:
        open_storage(where)
    assert "secret" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_real_database_is_restarted_in_the_middle(
    tmp_path: Path, n_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()
    monkeypatch.setattr(call_module, "open_all_arms", lambda *arguments: begun.set() or open_all_arms(*arguments))
    with postgres_server(tmp_path) as server:
        restart_in_the_middle(server, n_workers, begun)


def restart_in_the_middle(server: Server, n_workers: int, begun: threading.Event) -> None:
    over = threading.Event()
    restarts = 0

    def trouble() -> None:
        nonlocal restarts
        begun.wait(60)
        while not over.wait(1.5) and restarts < 6:
            server.stop()
            server.start()
            restarts += 1

    thread = threading.Thread(target=trouble)
    thread.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StorageWarning)
            options = SMALL | {"n_trials": 8, "max_steps": 60, "tasks_per_step": 4}
            compared = am.compare(
                "sinusoid", ["ridge", "multitask"], storage=server.url, name="a", n_workers=n_workers, **options
            )
    finally:
        over.set()
        thread.join()
    assert restarts
    assert compared.complete
    assert len(compared.failures) == 0
    assert all(trial.state != TrialState.RUNNING for study in compared.studies.values() for trial in study.trials)

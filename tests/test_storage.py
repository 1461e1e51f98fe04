"""Connections to a database: none is left open."""

from __future__ import annotations

import copy
import gc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import optuna
import pytest
from sqlalchemy.event import listen, remove
from sqlalchemy.pool import Pool

import autometa as am
from autometa.comparison.execution.storage import open_storage


@pytest.fixture
def connections() -> Iterator[Counter[str]]:
    """Count the connections to databases that the test opens, and those of them that are closed."""
    counts = Counter[str]()
    opened: list[object] = []

    def connect(connection: object, record: object) -> None:
        opened.append(connection)
        counts["connect"] += 1

    def close(connection: object, record: object) -> None:
        counts["close"] += any(connection is each for each in opened)  # others' may be closed meanwhile

    listeners = {"connect": connect, "close": close}
    for event, listener in listeners.items():
        listen(Pool, event, listener)
    gc.freeze()  # what is older is not looked at, which would take seconds
    yield counts
    gc.unfreeze()
    for event, listener in listeners.items():
        remove(Pool, event, listener)


def test_connections_to_a_database_are_closed_with_its_last_user(tmp_path: Path, connections: Counter[str]) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/studies.db")
    study = optuna.create_study(storage=storage)
    threads = [Thread(target=study.tell, args=(study.ask(), 0.0)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    del storage, threads
    gc.collect()
    assert connections["connect"] > connections["close"]
    del study
    gc.collect()
    assert connections["connect"] == connections["close"]


def test_connections_of_a_copied_storage_are_closed_too(tmp_path: Path, connections: Counter[str]) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/studies.db")
    assert copy.deepcopy(storage).get_all_studies() == []
    gc.collect()
    assert connections["connect"] > connections["close"] > 0
    del storage
    gc.collect()
    assert connections["connect"] == connections["close"]


def test_connections_to_a_database_that_cannot_be_used_are_closed_at_once(
    tmp_path: Path, connections: Counter[str]
) -> None:
    (tmp_path / "studies.db").write_text("no database")
    with pytest.raises(am.StorageError, match="file is not a database"):
        open_storage(f"sqlite:///{tmp_path}/studies.db")
    assert connections["connect"] == connections["close"] > 0

"""optuna-dashboard shows the studies of a comparison, whatever storage they are in."""

from __future__ import annotations

import gc
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

import autometa as am
from postgres import postgres_server

SMALL: dict[str, Any] = {"n_trials": 3, "n_seeds": 1, "max_steps": 2, "tasks_per_step": 2, "n_test_tasks": 5}
SMALL |= {"n_valid_tasks": 5, "verbose": 0, "name": "first"}

Get = Callable[[str], Any]


@pytest.fixture
def dashboard() -> Callable[[Any], Get]:
    """Open the dashboard of a storage without a server; return what answers a path."""
    module = pytest.importorskip("optuna_dashboard")

    def opened(storage: Any) -> Get:
        app = module.wsgi(storage)

        def get(path: str) -> Any:
            environ: dict[str, Any] = {"PATH_INFO": path}
            setup_testing_defaults(environ)
            status: list[str] = []
            body = b"".join(app(environ, lambda line, headers, trace=None: status.append(line)))
            assert status == ["200 OK"], (status, body)
            return json.loads(body)

        return get

    return opened


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Optuna's experiments, and of the dashboard
        yield
        gc.collect()  # the dashboard closes no connection


def check(get: Get, found: am.Comparison) -> None:
    """Check that the dashboard shows the trials that the comparison has."""
    listed = {study["study_name"]: study["study_id"] for study in get("/api/studies")["study_summaries"]}
    assert {"first", "first/sinusoid/maml", "first/sinusoid/maml/final"} <= set(listed)
    shown = get(f"/api/studies/{listed['first/sinusoid/maml']}")
    assert shown["directions"] == ["minimize"]
    values = [trial["values"][0] for trial in shown["trials"]]
    assert values == pytest.approx(found.trials.query("learner == 'maml'")["value"].tolist())
    for name in listed.values():  # the plan's and those of finals too, whose trials have no parameters
        assert "trials" in get(f"/api/studies/{name}")


def test_a_journal(tmp_path: Path, dashboard: Callable[[Any], Get]) -> None:
    found = am.compare("sinusoid", "maml", output=tmp_path / "first", **SMALL)
    check(dashboard(str(tmp_path / "first" / "journal.log")), found)


@pytest.mark.slow
def test_a_file_of_sqlite(tmp_path: Path, dashboard: Callable[[Any], Get]) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    found = am.compare("sinusoid", "maml", storage=url, **SMALL)
    check(dashboard(url), found)


@pytest.mark.slow
def test_a_database_of_postgresql(tmp_path: Path, dashboard: Callable[[Any], Get]) -> None:
    with postgres_server(tmp_path) as server:
        found = am.compare("sinusoid", "maml", storage=server.url, **SMALL)
        check(dashboard(server.url.replace("postgresql://", "postgresql+psycopg://")), found)


@pytest.mark.slow
def test_a_storage_that_is_served(tmp_path: Path, dashboard: Callable[[Any], Get]) -> None:
    pytest.importorskip("grpc")
    from optuna.storages import GrpcStorageProxy

    from autometa.comparison.execution.grpc_proxy import served
    from autometa.comparison.execution.storage import open_storage

    with served(open_storage(str(tmp_path / "studies.log")), port=0) as address:
        found = am.compare("sinusoid", "maml", storage=address, **SMALL)
        check(dashboard(GrpcStorageProxy(port=int(address.rpartition(":")[2]))), found)

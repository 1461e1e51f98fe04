"""Final runs and tables of a comparison as runs of MLflow, for those who keep all of theirs there."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from autometa.checks import check_choice
from autometa.comparison.execution.address import hide_secrets, without_password
from autometa.comparison.report.markup import flatten
from autometa.comparison.results.record import Record
from autometa.comparison.results.spreadsheet import csv_text
from autometa.contracts.plugin_code import one_line
from autometa.errors import AutometaError, InvalidParameter, warn_user

LOGS = ("mlflow",)
"""Where a comparison may be logged to."""
_KEY = "autometa.run"
"""The tag by which a run is found again: a digest of what it holds."""
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Of MLflow, where the user's environment leaves them open: its own would hold up the end of a call for minutes."""
_MOST_METRICS, _MOST_PARAMS, _LONGEST = 1000, 100, 6000
"""What MLflow takes: metrics and parameters in one call, characters of a parameter."""
_OF_SETTINGS = "settings."
"""How the names of parameters begin that are the comparison's."""


def check_log(log: Any) -> None:
    """Refuse what nothing can be logged to.

    Raises
    ------
    InvalidParameter
        There is no such thing, or its extra is not installed.
    """
    if log is None:
        return
    check_choice("log", log, LOGS)
    if find_spec("mlflow") is None:
        raise InvalidParameter(
            "log='mlflow': MLflow is not installed; install autometa with its extra: pip install 'autometa[mlflow]'."
        )


def log_to_mlflow(record: Record) -> None:
    """Write an experiment with the name of the comparison: a run for each final run, and one above them for all.

    A run that is there already is not written again, so that a call that goes on adds what is new. One that this
    comparison no longer holds, because a better trial was found, gets the tag ``autometa.outdated``. Where the tracking
    server fails, a warning says so, and nothing else is written.
    """
    with _patient_settings():
        import mlflow

        address = mlflow.get_tracking_uri()
        try:
            _log(record, mlflow.MlflowClient())
        except Exception as error:  # MLflow's, of the network and of servers
            warn_user(
                f"MLflow at {without_password(address)!r} cannot be written to "
                f"({hide_secrets(one_line(error), address)}); what is missing there is written with the next call, and "
                "the comparison itself is as it should be."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Final:
    """What MLflow is told of a final run."""

    name: str
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    metrics: list[tuple[str, float, int]] = field(default_factory=list)
    """Name, value and step."""

    @property
    def key(self) -> str:
        """A digest of all that it holds, apart from times, and from settings, which may grow and leave it as it is."""
        timed = ("_seconds", "_ms")
        metrics = [entry for entry in self.metrics if not entry[0].endswith(timed)]
        params = {name: value for name, value in self.params.items() if not name.startswith(_OF_SETTINGS)}
        text = json.dumps([self.name, params, metrics], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def _log(record: Record, client: Any) -> None:
    found = client.get_experiment_by_name(record.name)
    experiment = client.create_experiment(record.name) if found is None else found.experiment_id
    parent = _run_of(client, experiment, f"{record.name}: comparison")
    if parent is None:
        tags = {_KEY: f"{record.name}: comparison", "autometa.version": str(record.environment["autometa"])}
        parent = client.create_run(experiment, tags=tags, run_name="comparison").info.run_id
    there = _children(client, experiment, parent)
    finals = {final.key: final for final in _finals(record)}
    for key, final in finals.items():
        if key not in there:
            _write(client, experiment, parent, key, final)
    for key, run in there.items():
        if key not in finals:
            client.set_tag(run, "autometa.outdated", "true")
    _write_tables(client, parent, record)
    client.set_terminated(parent, status="FINISHED" if record.complete else "KILLED")


def _run_of(client: Any, experiment: str, key: str) -> str | None:
    quoted = key.replace("'", "''")
    runs = client.search_runs([experiment], filter_string=f"tags.`{_KEY}` = '{quoted}'", max_results=1)
    return runs[0].info.run_id if runs else None


def _children(client: Any, experiment: str, parent: str) -> dict[str, str]:
    """Return the whole runs below another, by their keys."""
    wanted = f"tags.`mlflow.parentRunId` = '{parent}' AND attributes.status = 'FINISHED'"
    found: dict[str, str] = {}
    page = None
    while True:
        runs = client.search_runs([experiment], filter_string=wanted, max_results=1000, page_token=page)
        found |= {run.data.tags.get(_KEY, ""): run.info.run_id for run in runs}
        page = runs.token
        if not page:
            return found


def _write(client: Any, experiment: str, parent: str, key: str, final: _Final) -> None:
    from mlflow.entities import Metric, Param

    tags = {**final.tags, _KEY: key, "mlflow.parentRunId": parent}
    run = client.create_run(experiment, tags=tags, run_name=final.name).info.run_id
    params = [Param(_name(name), _text(value)[:_LONGEST]) for name, value in final.params.items()]
    now = int(1000 * time.time())
    metrics = [Metric(_name(name), value, now, step) for name, value, step in final.metrics if math.isfinite(value)]
    for some in _parts(params, _MOST_PARAMS):
        client.log_batch(run, params=some)
    for many in _parts(metrics, _MOST_METRICS):
        client.log_batch(run, metrics=many)
    client.set_terminated(run)  # only now does it count as written


def _write_tables(client: Any, run: str, record: Record) -> None:
    from autometa.comparison.report.page import write_report

    with tempfile.TemporaryDirectory() as folder:
        for name in ("leaderboard", "significance", "failures"):
            file = Path(folder) / f"{name}.csv"
            file.write_text(csv_text(getattr(record.frames, name)), encoding="utf-8")
            client.log_artifact(run, str(file))
        try:
            page = Path(folder) / "report.html"
            write_report(record, page)
        except AutometaError:
            return  # of which the call tells where it writes its own
        client.log_artifact(run, str(page))


def _finals(record: Record) -> Iterator[_Final]:
    """Yield the final runs of a comparison."""
    frames = record.frames
    settings = {f"{_OF_SETTINGS}{name}": value for name, value in record.plan["settings"].items() if value is not None}
    rows = frames.leaderboard[frames.leaderboard["tasks"] == frames.leaderboard["trained_on"]]
    for row in rows.to_dict("records"):
        mine = (frames.scores["trained_on"] == row["tasks"]) & (frames.scores["learner"] == row["learner"])
        for seed, scores in frames.scores[mine].groupby("seed"):
            tags = {name: str(row[name]) for name in ("tasks", "learner", "family", "metric", "normalization")}
            yield _Final(
                name=f"{row['tasks']}/{row['learner']}/{seed}",
                params={"tasks": row["tasks"], "learner": row["learner"], "seed": seed, **row["params"], **settings},
                tags={**tags, "autometa.comparison": record.name, "autometa.version": record.environment["autometa"]},
                metrics=[*_judged(row, scores), *_curves(record, row["tasks"], row["learner"], seed)],
            )


def _judged(row: Mapping[str, Any], scores: Any) -> Iterator[tuple[str, float, int]]:
    for tasks, of_tasks in scores.groupby("tasks"):
        own = tasks == row["tasks"]
        name = "test_score" if own else f"test_score_on.{tasks.replace('/', '.')}"  # in files, '/' makes a folder
        yield name, float(of_tasks["score"].mean()), 0
    for name in ("meta_train_seconds", "adapt_ms", "predict_ms"):
        yield name, float(row[name]), 0


def _curves(record: Record, tasks: str, learner: str, seed: Any) -> Iterator[tuple[str, float, int]]:
    def own(frame: Any) -> Any:
        return frame[(frame["tasks"] == tasks) & (frame["learner"] == learner) & (frame["seed"] == seed)]

    for entry in own(record.frames.history).itertuples():
        yield "loss", float(entry.loss), int(entry.step)
    for entry in own(record.frames.curves).itertuples():
        if entry.axis == "outer steps":
            yield "valid_score", float(entry.score), int(entry.value)
        elif entry.axis != "seconds":
            yield f"test_score_by_{entry.axis.replace(' ', '_')}", float(entry.score), int(entry.value)


def _parts(entries: list[Any], most: int) -> Iterable[list[Any]]:
    return (entries[i : i + most] for i in range(0, len(entries), most))


def _name(name: str) -> str:
    """Return a name as MLflow takes it: letters, digits, and ``_-. :/``."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-. :/") else "_" for c in name)[:250]


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return json.dumps(dict(flatten(value)), default=str)
    return str(value.item() if isinstance(value, np.generic) else value)


@contextmanager
def _patient_settings() -> Iterator[None]:
    """Let MLflow give up soon inside of the block."""
    added = [name for name in _SETTINGS if name not in os.environ]
    os.environ.update({name: _SETTINGS[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)

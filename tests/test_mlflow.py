"""Comparisons that are written to MLflow as well."""

from __future__ import annotations

import json
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import autometa as am
from autometa.cli import main
from autometa.comparison.report import mlflow_runs

SMALL: dict[str, Any] = {"n_trials": 1, "n_seeds": 2, "max_steps": 4, "tasks_per_step": 2, "n_test_tasks": 10}
SMALL |= {"n_valid_tasks": 5, "verbose": 0, "log": "mlflow"}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Let MLflow keep its runs in a folder; return a client of it."""
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of files instead of a database
        import mlflow

        yield mlflow.MlflowClient()


def runs_in(client: Any, experiment: str) -> dict[str, Any]:
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return {run.info.run_id: run for run in found}


def finals_in(client: Any, experiment: str) -> dict[str, Any]:
    runs = runs_in(client, experiment).values()
    return {run.info.run_name: run for run in runs if "mlflow.parentRunId" in run.data.tags}


@pytest.fixture
def tasks() -> Any:
    return {"waves": am.make_tasks("sinusoid", n_shot=4)}


def test_every_final_run_is_a_run_of_the_experiment(server: Any, tasks: Any) -> None:
    found = am.compare(tasks, "maml", name="first", **SMALL)
    finals = finals_in(server, "first")
    assert set(finals) == {f"waves/{learner}/{seed}" for learner in ("maml", "sklearn") for seed in (0, 1)}
    final = finals["waves/maml/1"]
    scores = found.scores[(found.scores["learner"] == "maml") & (found.scores["seed"] == 1)]["score"]
    row = found.leaderboard.set_index("learner").loc["maml"]
    assert final.info.status == "FINISHED"
    assert final.data.metrics["test_score"] == pytest.approx(scores.mean())
    assert final.data.params["tasks"] == "waves"
    assert final.data.params["settings.n_seeds"] == "2"
    assert {name: final.data.params[name] for name in row["params"]} == {k: str(v) for k, v in row["params"].items()}
    assert final.data.tags["family"] == "optimization"
    history = found.history[(found.history["learner"] == "maml") & (found.history["seed"] == 1)]
    losses = {point.step: point.value for point in server.get_metric_history(final.info.run_id, "loss")}
    assert losses == pytest.approx(dict(zip(history["step"], history["loss"], strict=True)))
    curve = server.get_metric_history(final.info.run_id, "valid_score")
    assert sorted(point.step for point in curve) == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_the_report_and_the_tables_hang_on_a_run_above_the_final_ones(server: Any, tasks: Any, tmp_path: Path) -> None:
    am.compare(tasks, "ridge", output=tmp_path / "first", **SMALL)
    (above,) = (run for run in runs_in(server, "first").values() if "mlflow.parentRunId" not in run.data.tags)
    assert {run.data.tags["mlflow.parentRunId"] for run in finals_in(server, "first").values()} == {above.info.run_id}
    kept = {item.path for item in server.list_artifacts(above.info.run_id)}
    assert kept == {"failures.csv", "leaderboard.csv", "report.html", "significance.csv"}
    assert above.info.status == "FINISHED"


@pytest.mark.slow
def test_what_is_there_is_not_written_again_and_what_is_outdated_says_so(
    server: Any, tasks: Any, tmp_path: Path
) -> None:
    am.compare(tasks, "ridge", output=tmp_path / "first", **SMALL)
    before = runs_in(server, "first")
    am.compare(tasks, "ridge", output=tmp_path / "first", **SMALL)
    am.Comparison.load(tmp_path / "first").log()
    assert set(runs_in(server, "first")) == set(before)
    am.compare(tasks, "ridge", output=tmp_path / "first", **SMALL | {"n_test_tasks": 20})
    after = runs_in(server, "first")
    outdated = {key for key, run in after.items() if run.data.tags.get("autometa.outdated") == "true"}
    assert outdated == {key for key, run in before.items() if "mlflow.parentRunId" in run.data.tags}
    assert len(after) == len(before) + len(outdated)


@pytest.mark.slow
def test_what_is_judged_elsewhere_has_a_metric_of_its_own(server: Any, tasks: Any) -> None:
    other = {"other": am.make_tasks("sinusoid", n_shot=6)}
    am.compare(tasks, "ridge", test_tasks=other, name="first", **SMALL)
    assert "test_score_on.other" in finals_in(server, "first")["waves/ridge/0"].data.metrics


def test_a_server_that_fails_ends_nothing_and_is_told_once(tasks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:secret@127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.warns(UserWarning, match=rf"MLflow at 'http://ann:\*\*\*@127.0.0.1:{port}' cannot be written") as told:
        found = am.compare(tasks, "ridge", name="first", **SMALL)
    assert found.complete
    assert len(told) == 1
    assert "secret" not in str(told[0].message)


@pytest.mark.slow
def test_more_seeds_write_those_alone(server: Any, tasks: Any, tmp_path: Path) -> None:
    am.compare(tasks, "ridge", output=tmp_path / "first", **SMALL)
    before = runs_in(server, "first")
    am.compare(tasks, "ridge", output=tmp_path / "first", **SMALL | {"n_seeds": SMALL["n_seeds"] + 1})
    after = runs_in(server, "first")
    assert set(before) < set(after)
    new = [after[key].data.params["seed"] for key in set(after) - set(before)]
    assert new == [str(SMALL["n_seeds"])] * 2, "of the learner and of the baseline"
    assert not any(run.data.tags.get("autometa.outdated") for run in after.values())


def test_a_comparison_without_a_name_of_its_own_is_not_logged(tasks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_runs, "find_spec", lambda name: True)
    with pytest.raises(am.InvalidParameter, match="log='mlflow' finds runs again by the name .* give name= or output="):
        am.compare(tasks, "ridge", **SMALL)


def test_without_the_extra_one_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_runs, "find_spec", lambda name: None)
    with pytest.raises(am.InvalidParameter, match=r"MLflow is not installed; .*pip install 'autometa\[mlflow\]'"):
        am.compare("sinusoid", "ridge", **SMALL)


def test_there_is_nothing_else_to_log_to() -> None:
    with pytest.raises(am.InvalidParameter, match="log='wandb' must be"):
        am.compare("sinusoid", "ridge", **SMALL | {"log": "wandb"})


@pytest.mark.slow
def test_the_command_line_logs_too(server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--trials",
        "1",
        "--steps",
        "2",
        "--seeds",
        "1",
        "--n-test-tasks",
        "5",
        "--valid-tasks",
        "5",
        "-q",
        "--json",
    ]
    where = ["--output", str(tmp_path / "first"), "--log", "mlflow"]
    assert main(["compare", "--tasks", "sinusoid", "--learners", "ridge", *options, *where]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(finals_in(server, "first")) == len(rows)

"""Comparisons whose workers run on the nodes of a Ray cluster; two nodes on this machine stand for two machines."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

import autometa as am
from autometa.cli import main
from autometa.comparison.execution import ray_cluster
from autometa.comparison.execution.ray_cluster import Needs, RayCluster
from autometa.comparison.execution.slot_study import SlotStudy
from autometa.comparison.execution.storage import open_storage

SMALL: dict[str, Any] = {"n_trials": 2, "n_seeds": 2, "max_steps": 3, "tasks_per_step": 2, "n_test_tasks": 20}
SMALL |= {"n_valid_tasks": 5, "name": "same", "verbose": 0}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start a cluster whose first node has room for nothing."""
    ray = pytest.importorskip("ray")
    pytest.importorskip("grpc")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONWARNINGS", "ignore")  # of its processes
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        yield cluster
        ray.shutdown()
        cluster.shutdown()


def one_thread(**settings: Any) -> am.Comparison:
    """Compare in this process, with as many threads as a Ray worker has."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            return am.compare("sinusoid", ["ridge", "maml"], **SMALL | settings)
    finally:
        torch.set_num_threads(before)


def slots(comparison: am.Comparison) -> list[tuple[str, str, int]]:
    return sorted(zip(comparison.trials["tasks"], comparison.trials["learner"], comparison.trials["slot"], strict=True))


@pytest.mark.slow
def test_a_cluster_gives_the_results_of_one_process(cluster: Any, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=1)
    output = tmp_path / "same"
    found = am.compare(
        "sinusoid", ["ridge", "maml"], engine="ray", address=cluster.address, output=output, **SMALL
    )  # fmt: skip
    alone = one_thread()
    assert found.complete
    assert found.scores.equals(alone.scores)
    assert found.trials["params"].tolist() == alone.trials["params"].tolist()
    assert found.environment["ray"] == "2 nodes, 1 CPUs"
    assert list((output / "models").rglob("*.autometa"))
    assert not list(output.glob(".autometa-*"))
    assert am.Comparison.load(output).scores.equals(alone.scores)


@pytest.mark.slow
def test_a_node_is_lost_and_what_it_was_at_work_on_is_done_elsewhere(cluster: Any, tmp_path: Path) -> None:
    """One worker: what a study draws depends on its own trials alone, so that the loss changes no number."""
    settings = {"max_steps": 150}
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    struck: list[FrozenTrial] = []
    storage = open_storage(str(tmp_path / "studies.log"))

    def strike() -> None:
        while not (running := _at_work(storage)):
            time.sleep(0.05)
        struck.extend(running)
        _lose(cluster, nodes, running[0].user_attrs["supervisor"]["pid"])

    striker = threading.Thread(target=strike)
    striker.start()
    with pytest.warns(RuntimeWarning, match=r"the node .* is lost: what was at work there .*is done elsewhere"):
        found = am.compare(
            "sinusoid", ["ridge", "maml"], engine="ray", address=cluster.address, storage=storage, **SMALL | settings
        )
    striker.join()
    alone = one_thread(**settings)
    assert found.complete
    assert found.scores.equals(alone.scores)
    assert found.trials["params"].tolist() == alone.trials["params"].tolist()
    assert slots(found) == slots(alone)
    assert not len(found.failures)
    ended = [storage.get_trial(trial._trial_id) for trial in struck]
    assert [trial.state for trial in ended] == [TrialState.FAIL]
    assert ended[0].user_attrs["interrupted"]  # given back: it does not count against the slot
    assert "died" not in ended[0].user_attrs


@pytest.mark.slow
def test_workers_share_a_gpu_by_halves_and_fill_each_slot_once(cluster: Any, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=2, num_gpus=1)
    found = am.compare(
        "sinusoid", ["ridge", "maml"], engine="ray", address=cluster.address, n_workers=3, device="cpu",
        resources={"cpu": 0.5, "gpu": 0.5}, storage=f"sqlite:///{tmp_path}/studies.db", **SMALL,
    )  # fmt: skip
    assert found.complete
    assert found.environment["ray"] == "2 nodes, 2 CPUs, 1 GPUs"
    storage = open_storage(f"sqlite:///{tmp_path}/studies.db")
    trials = [trial for study in optuna.get_all_study_names(storage) if "/" in study
              for trial in optuna.load_study(storage=storage, study_name=study).trials]  # fmt: skip
    counted = [trial for trial in trials if trial.state != TrialState.FAIL]
    assert len(counted) == 3 * 4
    assert slots(found) == slots(one_thread())
    # The third has no room: two halves make a whole.
    assert 1 <= len({trial.user_attrs["owner"]["pid"] for trial in counted}) <= 2


@pytest.mark.slow
def test_a_worker_that_ends_on_a_living_node_counts_against_its_slot(cluster: Any, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=1)
    storage = open_storage(str(tmp_path / "studies.log"))
    struck: list[FrozenTrial] = []

    def strike() -> None:
        while not (running := _at_work(storage)):
            time.sleep(0.05)
        struck.extend(running)
        worker = running[0].user_attrs["supervisor"]["pid"]
        for pid in [worker, *list(_descendants(worker))]:  # as the system does where memory ends
            os.kill(pid, signal.SIGKILL)

    striker = threading.Thread(target=strike)
    striker.start()
    with pytest.warns(RuntimeWarning, match="a worker on .* died: what was at work there of sinusoid/"):
        found = am.compare(
            "sinusoid", "maml", engine="ray", address=cluster.address, storage=storage, **SMALL | {"max_steps": 300}
        )
    striker.join()
    assert found.complete
    assert not len(found.failures)
    assert storage.get_trial(struck[0]._trial_id).user_attrs["died"] == "its worker"


@pytest.mark.slow
def test_what_no_node_has_is_waited_for_and_told(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from autometa.comparison.execution import ray_engine

    monkeypatch.setattr(ray_engine, "TELL_AFTER", 1.0)

    def stop_later() -> None:
        time.sleep(8)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=stop_later).start()
    with (
        pytest.warns(
            RuntimeWarning, match=r"no node has room for a worker \(cpu=1, fast=1\) .*; the cluster has 1 node"
        ),
        pytest.warns(UserWarning, match="interrupted: the comparison holds what was done so far"),
    ):
        found = am.compare(
            "sinusoid", "ridge", engine="ray", address=cluster.address, resources={"cpu": 1, "fast": 1},
            output=tmp_path / "same", **SMALL,
        )  # fmt: skip
    assert not found.complete
    assert am.compare("sinusoid", "ridge", output=tmp_path / "same", **SMALL).complete


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"engine": "dask"}, "engine='dask' must be one of"),
        ({"address": "auto"}, "address='auto' with engine='processes': only engine='ray' takes it"),
        ({"resources": {"cpu": 1}}, "with engine='processes': only engine='ray' takes it"),
        ({"engine": "ray", "resources": 2}, "resources=2 must be a mapping such as"),
        ({"engine": "ray", "resources": {"cpu": -1}}, "cpu=-1 of resources must be"),
        ({"engine": "ray", "resources": {"gpu": 1.5}}, "gpu=1.5 of resources must be below 1, .* or a whole number"),
        ({"engine": "ray", "address": 5}, "address=5 must be"),
    ],
)
def test_wrong_arguments_are_told_before_any_work(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(am.InvalidParameter, match=said):
        am.compare("sinusoid", "ridge", **SMALL, **arguments)


def test_without_the_extra_one_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "find_spec", lambda name: None)
    with pytest.raises(am.InvalidParameter, match=r"Ray is not installed; .*pip install 'autometa\[ray\]'"):
        am.compare("sinusoid", "ridge", engine="ray", **SMALL)


def test_a_worker_needs_a_core_and_a_gpu_where_it_computes_on_one() -> None:
    assert Needs.of(None, "cuda:0").options == {"num_cpus": 1.0, "num_gpus": 1.0, "resources": {}}
    assert Needs.of(None, "auto").options == {"num_cpus": 1.0, "num_gpus": 0.0, "resources": {}}
    shared = Needs.of({"cpu": 2.5, "gpu": 0.25, "fast": 1}, "cuda")
    assert shared.options == {"num_cpus": 2.5, "num_gpus": 0.25, "resources": {"fast": 1.0}}
    assert shared.threads == 2
    assert str(shared) == "cpu=2.5, gpu=0.25, fast=1"
    assert shared.fit({"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0, "fast": 1.0}})
    assert not shared.fit({"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}})
    assert not shared.fit({"Alive": False, "Resources": {"CPU": 4.0, "GPU": 1.0, "fast": 1.0}})


def test_processes_need_no_cluster() -> None:
    assert RayCluster.of("processes", None, None, "cpu") is None


def test_the_command_line_takes_the_engine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = ["--tasks", "sinusoid", "--learners", "ridge", "--output", str(tmp_path / "out")]
    assert main(["compare", *options, "--engine", "dask"]) == 2
    assert "--engine='dask' must be one of" in capsys.readouterr().err
    assert main(["compare", *options, "--engine", "ray", "--resources", "cpu=1,gpu=two"]) == 2
    assert "--resources='cpu=1,gpu=two' must look like cpu=1,gpu=0.5" in capsys.readouterr().err


def test_the_slots_of_a_worker_that_is_gone_are_found_by_who_watched_them() -> None:
    study = SlotStudy(optuna.storages.InMemoryStorage(), "study", n_slots=2, higher_is_better=True)
    first, second = study.claim(), study.claim()
    assert first is not None
    assert second is not None
    watcher = {"host": "far", "boot": "b", "namespace": "n", "pid": 7, "started": "1"}
    first.set_user_attr("supervisor", watcher)
    second.set_user_attr("supervisor", watcher | {"host": "near"})
    assert [trial.number for trial in study.watched_by(watcher)] == [first.number]
    assert all(study.give_back(trial) for trial in study.watched_by(watcher))
    assert study.slot_states() == ["open", "running"]


def _at_work(storage: optuna.storages.BaseStorage) -> list[FrozenTrial]:
    """Return what is meta-trained now."""
    names = [name for name in optuna.get_all_study_names(storage) if name.endswith("/maml")]
    found = [trial for name in names for trial in optuna.load_study(storage=storage, study_name=name).trials]
    return [trial for trial in found if trial.state == TrialState.RUNNING and trial.user_attrs.get("drawn")]


def _lose(cluster: Any, nodes: list[Any], worker: int) -> None:
    """End the node that a worker runs on, and all its processes, as a power cut does."""
    for node in nodes:
        raylet = node.all_processes["raylet"][0].process.pid
        everything = list(_descendants(raylet))
        if worker in everything:
            for pid in [raylet, *everything]:
                os.kill(pid, signal.SIGKILL)
            cluster.remove_node(node, allow_graceful=False)
            return
    raise AssertionError("no node runs that worker")


def _descendants(pid: int) -> Iterator[int]:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (thread / "children").read_text().split()):
            yield child
            yield from _descendants(child)

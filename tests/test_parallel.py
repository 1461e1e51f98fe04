"""Two processes that share the tasks of every step do what one does, and fail as one does."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import autometa as am
from autometa.training.devices import _is_of_others, check_devices

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("two_processes", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_script(folder: Path, *what: str) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), *what], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have left what they found."""
    path = tmp_path_factory.mktemp("two")
    run_script(path, "together")
    return path


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[dict[str, Any]]:
    """Results of both processes."""
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(2)]


def test_an_error_between_processes_is_told_from_one_of_the_learner() -> None:
    with pytest.raises(ValueError, match="process group") as between:
        torch.distributed.barrier()  # there is no other process
    with pytest.raises(am.InvalidParameter) as own:
        am.make_learner("ridge", nonsense=1)
    assert _is_of_others(between.value)
    assert not _is_of_others(own.value)


def alone(script: ModuleType, name: str, **changes: Any) -> dict[str, Any]:
    """What one process ends in."""
    run = script.training(name, **changes)
    run.run_to()
    result: dict[str, Any] = script.ended(run)
    return result


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["maml", "prototypical", "pooled", "reptile", "implicit", "evolution"])
def test_two_processes_end_where_one_does(script: ModuleType, ranks: list[dict[str, Any]], name: str) -> None:
    one = alone(script, name)
    for rank in ranks:
        # Softmax does not see a row that all classes share: its gradient is rounding, of which Adam makes 1e-12.
        torch.testing.assert_close(rank[name], one, rtol=1e-9, atol=1e-11)
    assert len(one["loss"]) == script.N_STEPS


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["maml", "prototypical", "pooled", "reptile", "implicit", "evolution", "batch norm"])
def test_both_processes_hold_the_same_bits(ranks: list[dict[str, Any]], name: str) -> None:
    first, second = (rank[name] for rank in ranks)
    assert first["loss"] == second["loss"]
    assert all(torch.equal(value, second["state"][key]) for key, value in first["state"].items())


@pytest.mark.thorough
def test_running_averages_are_means_over_the_processes(script: ModuleType, ranks: list[dict[str, Any]]) -> None:
    one, two = alone(script, "batch norm")["state"], ranks[0]["batch norm"]["state"]
    means = [name for name in one if name.endswith("running_mean")]
    assert means
    # The first layer's inputs do not depend on what was learned, so its mean over halves is its mean over all,
    # but for the weights, which batch statistics of halves move a little apart.
    torch.testing.assert_close(two[means[0]], one[means[0]], rtol=0.2, atol=0.02)
    counts = [name for name in one if name.endswith("num_batches_tracked")]
    assert all(torch.equal(one[name], two[name]) for name in counts)


@pytest.mark.thorough
def test_processes_draw_random_numbers_of_their_own_and_record_the_mean(
    script: ModuleType, ranks: list[dict[str, Any]]
) -> None:
    losses = ranks[0]["drawing"]["loss"]
    assert losses == ranks[1]["drawing"]["loss"]
    expected = []
    for step in range(script.N_STEPS):
        seed = am.derive_seed(3, "step", step)
        draws = []
        for rank in range(2):
            generator = torch.Generator().manual_seed(am.derive_seed(seed, "process", rank))
            draws.append(torch.rand(script.TASKS // 2, generator=generator))
        expected.append(float(torch.cat(draws).mean()))
    assert losses == pytest.approx(expected, rel=1e-6)


@pytest.mark.thorough
def test_processes_end_after_the_same_step(script: ModuleType, ranks: list[dict[str, Any]]) -> None:
    steps = [rank["ending"]["steps"] for rank in ranks]
    assert steps == [alone(script, "ending")["steps"]] * 2
    assert steps[0] < script.N_STEPS
    timed = [rank["timed"]["steps"] for rank in ranks]
    assert timed[0] == timed[1] > 0


@pytest.mark.thorough
def test_a_run_continues_in_two_processes_or_in_one(
    script: ModuleType, ranks: list[dict[str, Any]], folder: Path
) -> None:
    one = alone(script, "maml")
    torch.testing.assert_close(ranks[0]["continued"], one, rtol=1e-9, atol=1e-12)
    run = script.training("maml")
    run.load_state_dict(torch.load(folder / "half.pt", weights_only=False))
    assert run.step_count == script.N_STEPS // 2
    run.run_to()
    torch.testing.assert_close(script.ended(run), one, rtol=1e-9, atol=1e-12)


def estimator(script: ModuleType, n_devices: int) -> tuple[am.FewShotRegressor, Any]:
    """The estimator whose meta-training is the script's run "maml", and its tasks."""
    run = script.runs()["maml"]
    made = am.FewShotRegressor(
        run["learner"],
        run["meta_optimizer"],
        max_steps=script.N_STEPS,
        tasks_per_step=script.TASKS,
        device="cpu",
        precision="64",
        n_devices=n_devices,
    )
    return made, run["sampler"]


@pytest.mark.thorough
@pytest.mark.parametrize("n_devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_meta_fit_goes_on_from_the_file_of_two_processes(
    script: ModuleType, folder: Path, tmp_path: Path, n_devices: int
) -> None:
    file = tmp_path / "half.autometa"
    file.write_bytes((folder / "half.autometa").read_bytes())
    made, tasks = estimator(script, n_devices)
    made.meta_fit(tasks, checkpoint=file)
    one = alone(script, "maml")
    torch.testing.assert_close(dict(made.module_.state_dict()), one["state"], rtol=1e-9, atol=1e-12)
    assert made.history_["loss"].tolist() == pytest.approx(one["loss"], rel=1e-9)
    assert file.read_bytes() != (folder / "half.autometa").read_bytes()
    support = tasks.sample(1, split="test", seed=0).support
    x, y = support.x[0].numpy(), support.y[0, :, 0].numpy()
    assert made.fit(x, y).predict(x).shape == y.shape


@pytest.mark.thorough
def test_what_cannot_be_shared_is_refused_by_every_process(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert rank["refused"]["unequal"].startswith("InvalidParameter: tasks_per_step=5 tasks cannot be shared equall")
        assert rank["refused"]["collect"].startswith("Incompatible: meta_optimizer NeedsAll needs all tasks of a step")


@pytest.mark.slow
def test_a_failing_a_killed_and_an_interrupted_process_are_one_error_and_leave_none_behind(tmp_path: Path) -> None:
    run_script(tmp_path, "broken", "killed", "interrupted")
    broken, killed, interrupted = (
        (tmp_path / f"{kind}.txt").read_text() for kind in ("broken", "killed", "interrupted")
    )
    assert broken.startswith("RuntimeError: the second process is broken")
    assert "raised in process 1 of 2" in broken
    assert killed.startswith("ProcessFailed: one of the 2 processes of the meta-training ended without a result")
    assert interrupted.startswith("KeyboardInterrupt")
    for told in (broken, killed, interrupted):
        assert told.endswith("[0 left, False]")


def test_what_cannot_run_is_refused_before_a_process_starts(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meta_fit(**changes: Any) -> None:
        made, tasks = estimator(script, 2)
        made.set_params(**changes).meta_fit(tasks)

    with pytest.raises(am.InvalidParameter, match="n_devices=0 must be a positive integer"):
        meta_fit(n_devices=0)
    with pytest.raises(am.InvalidParameter, match="tasks_per_step=3 tasks cannot be shared equally among 2"):
        meta_fit(tasks_per_step=3)
    with pytest.raises(am.Incompatible, match="meta_optimizer NeedsAll needs all tasks of a step in one process"):
        meta_fit(meta_optimizer=script.NeedsAll())
    made, _ = estimator(script, 2)
    with pytest.raises(am.InvalidParameter, match=r"must travel to other processes, and one of them cannot"):
        made.meta_fit(_untransportable())
    with pytest.raises(am.InvalidParameter, match=r"works with 'cpu' and 'cuda', not with device='mps'"):
        check_devices(2, torch.device("mps"), "auto")
    with pytest.raises(am.InvalidParameter, match=r"device='cuda:1' names one device"):
        check_devices(2, torch.device("cuda:1"), "cuda:1")
    with pytest.raises(am.InvalidParameter, match="needs as many GPUs, and this machine has"):
        check_devices(10_000, torch.device("cuda"), "auto")
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(am.MissingData, match="install autometa with the extra 'parallel'"):
        meta_fit()


def _untransportable() -> am.TaskSampler:
    from autometa.testing.toys import Lines

    class Local(Lines):
        pass

    return Local()

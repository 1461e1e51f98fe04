"""Pretraining: the curve, the weights in a file, and going on after an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from sklearn.base import clone

import autometa as am
from autometa.training import checkpoint as checkpoints
from mixed_tables import PROBLEMS, info_of, mixed_rows, task
from tiers import first_by_default

SMALL = {"cell_width": 4, "row_width": 8, "n_heads": 2, "row_blocks": 1}


class Waves(am.TaskSampler):
    """Tables whose target is a sine of the first column, or its sign; their sizes vary."""

    drawn = 0
    after = 10**9
    """Interrupt when one more batch than this is drawn."""

    def __init__(self, *, problem: str = "classification", n_columns: int = 3, n_shot: int = 4) -> None:
        self.problem = problem
        self.n_columns = n_columns
        self.n_shot = n_shot

    @property
    def info(self) -> am.TaskInfo:
        n_outputs = 2 if self.problem == "classification" else 1
        shape = (self.n_columns,)
        return am.TaskInfo(problem=self.problem, input_shape=shape, n_outputs=n_outputs, n_shot=self.n_shot, n_query=4)

    def varied(self, seed: int) -> Self:
        generator = np.random.default_rng(seed)
        return clone(self).set_params(n_columns=int(generator.integers(1, 5)), n_shot=int(generator.integers(2, 9)))

    def sample(self, n_tasks: int, *, split: Any = "train", seed: int) -> am.TaskBatch:
        if split == "train" and n_tasks > 1:
            if Waves.drawn >= Waves.after:
                raise KeyboardInterrupt
            Waves.drawn += 1
        generator = np.random.default_rng(am.derive_seed(seed, split))
        times = 2 if self.problem == "classification" else 1
        n_support, n = times * self.n_shot, times * (self.n_shot + 4)
        x = generator.standard_normal((n_tasks, n, self.n_columns)).astype(np.float32)
        y = torch.from_numpy(np.sin(3 * x[..., 0]))
        examples = am.Examples(torch.from_numpy(x), y if times == 1 else (y > 0).long(), n_classes=2 * (times - 1))
        return am.TaskBatch(support=examples.select(slice(n_support)), query=examples.select(slice(n_support, None)))


@pytest.fixture(autouse=True)
def written_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(Waves, "after", 10**9)
    monkeypatch.setattr(Waves, "drawn", 0)


def pretrain(output: Path, problem: str = "classification", **changes: Any) -> Any:
    options = {"n_steps": 12, "tasks_per_step": 3, "n_looks": 3, "n_valid": 2, "device": "cpu"} | changes
    return am.pretrain(Waves(problem=problem), am.make_learner("pfn", **SMALL), output=output, **options)


def weights_in(file: Path, problem: str = "classification") -> dict[str, torch.Tensor]:
    return am.read_weights(file, learner="tabular/pfn", problem=problem).state


@pytest.mark.parametrize("problem", first_by_default(1, PROBLEMS))
def test_the_curve_tells_the_held_out_loss_beside_that_of_the_untrained_network(problem: str, tmp_path: Path) -> None:
    curve = pretrain(tmp_path / "weights", problem)
    assert curve["step"].tolist() == [4, 8, 12]
    assert curve["untrained_valid_loss"].nunique() == 1
    assert (curve["valid_loss"] != curve["untrained_valid_loss"]).all()
    prior, learner = Waves(problem=problem), am.make_learner("kernel_experts")
    seeds = [am.derive_seed(0, "held out", str(i)) for i in range(2)]
    scores = []
    for sampler, seed in zip(map(prior.varied, seeds), seeds, strict=True):
        batch = sampler.sample(16, split="valid", seed=seed)
        with torch.no_grad():
            scores.append(am.judge(learner, learner.build(sampler.info), batch).scores)
    assert curve["untrained_valid_score"][0] == pytest.approx(float(torch.cat(scores).mean()))


@pytest.mark.thorough
@pytest.mark.parametrize("problem", ["classification", pytest.param("regression", marks=pytest.mark.slow)])
def test_an_interrupted_call_goes_on_and_ends_in_the_same_weights(
    problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pretrain(tmp_path / "whole", problem)
    file = tmp_path / "run.ckpt"
    Waves.drawn = 0
    monkeypatch.setattr(Waves, "after", 7)
    with pytest.raises(KeyboardInterrupt):
        pretrain(tmp_path / "again", problem, checkpoint=file)
    assert not (tmp_path / "again").exists()
    monkeypatch.setattr(Waves, "after", 12)
    again = pretrain(tmp_path / "again", problem, checkpoint=file)
    shown = [name for name in whole.columns if name != "seconds"]
    assert again[shown].equals(whole[shown])
    first, second = weights_in(tmp_path / "whole", problem), weights_in(tmp_path / "again", problem)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    with pytest.raises(am.InvalidParameter, match="another meta-training"):
        pretrain(tmp_path / "again", problem, checkpoint=file, lr=0.1)


@pytest.mark.thorough
@pytest.mark.parametrize("problem", PROBLEMS)
def test_pretrained_weights_answer_for_a_table_of_any_shape(problem: str, tmp_path: Path) -> None:
    pretrain(tmp_path / "weights", problem)
    learner = am.make_learner("pfn", weights=tmp_path / "weights")
    support, x = task(problem), mixed_rows(2, 7, seed=9)
    module = learner.build(info_of(problem, 7, 3 if problem == "classification" else 1)).double()
    assert all(torch.equal(module.state_dict()[name], value) for name, value in weights_in_double(tmp_path, problem))
    with torch.no_grad():
        assert learner.predict(module, learner.adapt(module, support), x).isfinite().all()


def weights_in_double(folder: Path, problem: str) -> list[tuple[str, torch.Tensor]]:
    return [(name, value.double()) for name, value in weights_in(folder / "weights", problem).items()]


def test_an_estimator_uses_the_weights_and_is_saved_with_their_place(tmp_path: Path) -> None:
    pretrain(tmp_path / "weights")
    learner = am.make_learner("pfn", weights=str(tmp_path / "weights"))
    X, y = np.random.default_rng(0).standard_normal((30, 4)), np.arange(30) % 3
    model = am.FewShotClassifier(learner).fit(X, y)
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(am.load(tmp_path / "model").predict_proba(X), model.predict_proba(X))
    plain = am.FewShotClassifier("pfn").fit(X, y)
    assert not np.allclose(plain.predict_proba(X), model.predict_proba(X), atol=1e-6)


@pytest.mark.thorough
def test_pretraining_helps_on_held_out_tables(tmp_path: Path) -> None:
    curve = pretrain(tmp_path / "weights", n_steps=60, tasks_per_step=8, n_looks=1, n_valid=8)
    last = curve.iloc[-1]
    assert last["valid_loss"] < last["untrained_valid_loss"]


@pytest.mark.thorough
def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    pretrain(tmp_path / "weights")
    info = info_of("regression", 4, 1)
    with pytest.raises(am.Incompatible, match="for classification, not of 'tabular/pfn' for regression"):
        am.make_learner("pfn", weights=tmp_path / "weights").build(info)
    with pytest.raises(am.MissingData, match="weights="):
        am.make_learner("pfn", weights=tmp_path / "nowhere").build(info)
    X, y = np.random.default_rng(0).standard_normal((6, 2)), np.arange(6) % 2
    am.FewShotClassifier("pfn").fit(X, y).save(tmp_path / "model")
    with pytest.raises(am.InvalidFile, match="no pretrained weights"):
        am.make_learner("pfn", weights=tmp_path / "model").build(info)
    data = bytearray((tmp_path / "weights").read_bytes())
    data[-3] ^= 1
    (tmp_path / "weights").write_bytes(bytes(data))
    with pytest.raises(am.InvalidFile, match="checksum"):
        am.make_learner("pfn", weights=tmp_path / "weights").build(info_of("classification", 4, 2))


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"n_steps": 0}, am.InvalidParameter, "n_steps=0 must be a positive integer"),
        ({"lr": -1}, am.InvalidParameter, "lr=-1 must be a positive number"),
        ({"learner": "ridge"}, am.Incompatible, "Ridge"),
        ({"learner": "cnp"}, am.Incompatible, "'model/cnp' is for regression"),
        ({"prior": "nothing"}, am.UnknownName, "nothing"),
        ({"output": "/nowhere/weights"}, am.StorageError, "output="),
    ],
)
def test_a_wrong_argument_is_named(tmp_path: Path, changes: dict[str, Any], error: type[Exception], text: str) -> None:
    arguments = {"prior": Waves(), "output": tmp_path / "weights", "n_steps": 1, "n_valid": 1} | changes
    with pytest.raises(error, match=text):
        am.pretrain(arguments.pop("prior"), arguments.pop("learner", "tabular/pfn"), **arguments)

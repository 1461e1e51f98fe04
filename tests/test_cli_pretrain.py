"""``autometa pretrain``: options, a study file, exit codes, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import autometa as am
from autometa.cli import main
from autometa.training import checkpoint, progress
from autometa.training.outer_loop import MetaTraining

STUDY = """
output = "weights"
steps = 2
tasks_per_step = 1
cells_per_step = 200
looks = 1
valid = 1
device = "cpu"

[prior]
sampler = "sinusoid"
n_shot = 5

[learner]
learner = "tabular/pfn"
cell_width = 4
row_width = 8
n_heads = 2
row_blocks = 1
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("study.toml").write_text(STUDY)
    return "study.toml"


def test_a_study_file_is_pretrained_and_goes_on(study: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", study, "--quiet"]) == 0
    shown = capfd.readouterr().out
    assert "untrained" in shown
    assert shown.endswith("Weights: weights\n")
    weights = am.read_weights("weights", learner="tabular/pfn", problem="regression")
    assert weights.record["n_steps"] == 2
    assert weights.record["prior"]["name"] == "tasks/sinusoid"
    assert main(["pretrain", study, "--quiet", "--json"]) == 0  # the checkpoint tells that all is done
    assert [row["step"] for row in json.loads(capfd.readouterr().out)] == [2]
    again = am.read_weights("weights", learner="tabular/pfn", problem="regression").state
    assert all(torch.equal(value, weights.state[name]) for name, value in again.items())
    assert main(["pretrain", study, "--quiet", "--steps", "3"]) == 2
    assert "checkpoint=" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--steps", "0"], 2, "--steps=0 must be a positive integer"),
        (["--prior", "prior_nothing"], 2, "prior_nothing"),
        (["--learner", "ridge", "--steps", "1"], 2, "Ridge"),
        (["--output", "nowhere/weights"], 1, "output='nowhere/weights' cannot be written"),
        (["missing.toml"], 1, "'missing.toml' does not exist"),
        (["wrong.toml"], 2, "did you mean 'steps'?"),
        (["prior.toml"], 2, 'a table [prior] with sampler = "NAME"'),
    ],
)
def test_what_is_wrong_is_named(
    study: str, arguments: list[str], code: int, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("wrong.toml").write_text("step = 3\n")
    Path("prior.toml").write_text("[prior]\nproblem = 'regression'\n")
    given = arguments if arguments[0].endswith("toml") else [study, *arguments]
    assert main(["pretrain", "--quiet", *given]) == code
    assert text in capfd.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0, "What is done is kept in weights.ckpt"), (30.0, "Nothing is kept yet: weights.ckpt is first written")],
)
def test_ctrl_c_says_what_is_kept(
    study: str, seconds: float, said: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    step = MetaTraining._step

    def interrupted(training: MetaTraining, update: Any) -> None:
        if training.step_count == 1:
            raise KeyboardInterrupt
        step(training, update)

    monkeypatch.setattr(progress, "UPDATES", 1)  # between the steps of one update it is written as well
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", seconds)
    with monkeypatch.context() as patched:
        patched.setattr(MetaTraining, "_step", interrupted)
        assert main(["pretrain", "--quiet", study]) == 130
    assert said in capfd.readouterr().err
    assert Path("weights.ckpt").exists() == (seconds == 0)
    assert main(["pretrain", "--quiet", study]) == 0

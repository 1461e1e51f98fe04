"""What a final run measures beside its scores: how far a learner's doubt can be believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

import autometa as am
from autometa.comparison.execution.calibration import MeasuredBeside, calibration_of
from autometa.comparison.execution.stored_trials import RESULT
from autometa.schema import misfit
from autometa.training.evaluation import evaluate, seen_by

CPU = torch.device("cpu")
DIGITS = am.make_tasks("digits", n_query=3)


def test_log_loss_is_that_of_scikit_learn_on_the_tasks_judged() -> None:
    learner = am.make_learner("prototypical")
    module, outcomes = learner.build(DIGITS.info), []
    calibration = calibration_of(learner, module, has_classes=True)
    assert calibration is not None
    beside = MeasuredBeside(calibration, CPU)

    def look(batch: Any, adapted: Any, outcome: Any) -> None:
        outcomes.append(outcome)

    evaluate(learner, module, DIGITS, split="test", n_tasks=30, seed=0, look=seen_by(beside, None, look))
    probabilities = torch.cat([outcome.outputs for outcome in outcomes]).double().softmax(-1).flatten(0, 1)
    right = torch.cat([outcome.query.y for outcome in outcomes]).flatten()
    assert beside.measured()["log_loss"] == pytest.approx(log_loss(right, probabilities))
    assert 0 <= beside.measured()["calibration_error"] <= 1


class Careless:
    """Draws at random as it looks, and fails at the second batch."""

    def __init__(self) -> None:
        self.n_looks = 0

    def __call__(self, *args: Any) -> None:
        torch.rand(7)
        self.n_looks += 1
        if self.n_looks == 2:
            raise ValueError("no\nquantile")

    def measured(self) -> dict[str, float]:
        return {"coverage": float("nan")}


def test_who_looks_has_no_say_in_a_score() -> None:
    careless = Careless()
    beside = MeasuredBeside(careless, CPU)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for _ in range(4):
        beside(None, None, None)  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), before)
    assert beside.measured() == {"error": "ValueError: no quantile"}
    assert careless.n_looks == 2
    assert MeasuredBeside(Careless(), CPU).measured() == {"error": "its answers are not finite."}


@pytest.mark.thorough
@pytest.mark.reports
def test_the_calibration_of_a_comparison_is_by_the_shots_of_its_tasks(tmp_path: Path) -> None:
    options = {
        "n_trials": 1,
        "n_seeds": 2,
        "n_test_tasks": 10,
        "n_valid_tasks": 10,
        "max_steps": 1,
        "verbose": 0,
        "device": "cpu",
    }
    tasks = {"digits": DIGITS, "sinusoid": am.make_tasks("sinusoid")}
    found = am.compare(tasks, {"gp": "kernel_experts", "plain": "ridge"}, baselines=False, output=tmp_path, **options)
    assert list(found.failures["reason"]) == []
    told = found.calibration.set_index(["tasks", "learner", "seed"])
    assert {(tasks, learner) for tasks, learner, _ in told.index} == {
        ("digits", "gp"), ("digits", "plain"), ("sinusoid", "gp"),
    }  # fmt: skip
    assert set(told.loc["digits", "rows"]) == {1}
    assert np.isfinite(told.loc["digits", ["log_loss", "calibration_error"]]).all(axis=None)
    assert told.loc["sinusoid", "coverage"].between(0, 1).all()
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("calibration, or can its own doubt be believed?") == 2
    for arm in found._arms:
        for final in arm.finals():
            assert misfit(final.user_attrs["result"], RESULT) is None

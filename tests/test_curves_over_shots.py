"""Curves over shots: every learner has one, whatever else it is judged over."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import autometa as am
from learning import STANDARD_ERRORS

FAST: dict[str, Any] = {
    "n_trials": 1,
    "n_test_tasks": 20,
    "n_valid_tasks": 5,
    "n_seeds": 2,
    "max_steps": 2,
    "tasks_per_step": 2,
    "verbose": 0,
}


FEW_STEPS = am.make_learner("fine_tune", backbone="identity", steps=10)


def test_learners_of_gradient_steps_have_one_beside_that_over_steps() -> None:
    tasks = {"sines": am.make_tasks("sinusoid", n_shot=5)}
    comparison = am.compare(tasks, {"maml": "maml", "fine_tune": FEW_STEPS, "ridge": "ridge"}, baselines=False, **FAST)
    curves = comparison.curves
    shots = curves[curves["axis"] == "shots"]
    assert set(shots["learner"]) == {"maml", "fine_tune", "ridge"}
    for _, run in shots.groupby(["learner", "seed"]):
        assert run["value"].tolist() == [1, 2, 3, 5]
        assert run["score"].notna().all()
    steps = curves[curves["axis"] == "adaptation steps"]
    assert set(steps["learner"]) == {"maml", "fine_tune"}
    # with all shots and its own number of steps both curves say the same
    for learner, number in (("maml", am.make_learner("maml").get_params()["steps"]), ("fine_tune", 10)):
        of = {
            axis: rows.set_index("value")["score"]
            for axis, rows in curves[(curves["learner"] == learner) & (curves["seed"] == 0)].groupby("axis")
        }
        assert of["adaptation steps"].loc[number] == pytest.approx(of["shots"].loc[5])


@pytest.mark.thorough
def test_more_examples_help_a_learner_of_gradient_steps() -> None:
    tasks = {"letters": am.make_tasks("glyphs", size=8, n_way=3, n_shot=5, n_query=5)}
    comparison = am.compare(tasks, {"fine_tune": FEW_STEPS}, baselines=False, **{**FAST, "n_test_tasks": 50})
    curves = comparison.curves
    by_shots = curves[curves["axis"] == "shots"].groupby("value")["score"].mean()
    # accuracies of 50 tasks of 15 queries each
    assert by_shots[5] - by_shots[1] > STANDARD_ERRORS * (2 * 0.25 / (50 * 15)) ** 0.5


class NeedsTwo(am.Learner):
    """Leaves one example out, and so cannot adapt to a single one."""

    default_meta_optimizer: ClassVar[str | None] = None
    provides: ClassVar[frozenset[str]] = frozenset()
    adaptation_parameters = frozenset({"steps"})

    def __init__(self, steps: int = 1) -> None:
        self.steps = steps

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.Identity()

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        if support.y.shape[1] < 2:
            raise RuntimeError("one example is too few")
        return support.targets().mean(1, keepdim=True)

    def predict(self, module: nn.Module, adapted: Tensor, x: Tensor) -> Tensor:
        return adapted.expand(-1, x.shape[1], -1) + torch.zeros_like(x[..., :1])


def test_a_learner_that_cannot_do_with_fewer_keeps_its_score_and_says_why() -> None:
    tasks = {"sines": am.make_tasks("sinusoid", n_shot=5)}
    with pytest.warns(UserWarning, match="failed"):
        comparison = am.compare(tasks, {"needs two": NeedsTwo()}, baselines=False, **FAST)
    assert len(comparison.leaderboard) == 1
    failures = comparison.failures
    assert set(failures["stage"]) == {"judging with fewer shots"}
    assert failures["reason"].str.contains("one example is too few").all()
    assert set(comparison.curves["axis"]) == {"outer steps", "seconds", "adaptation steps"}

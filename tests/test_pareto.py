"""Score against time and memory: who is on the front, and what counts as memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import autometa as am
from autometa.comparison.results.pareto import PARETO, not_dominated, pareto_of
from autometa.engine.size import MEBIBYTE, bytes_of, held_mebibytes
from test_comparison import FAST, Mean


class Heavy(Mean):
    """Holds 1000 numbers of θ that change no answer, and adapts 10 a task."""

    default_meta_optimizer: ClassVar[str | None] = None

    def __init__(self, scale: float = 1.0, width: int = 1000) -> None:
        super().__init__(scale)
        self.width = width

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.Linear(self.width, 1, bias=False)

    def adapt(self, module: nn.Module, support: am.Examples) -> Any:
        mean = super().adapt(module, support)
        return {"mean": mean, "more": [mean.repeat(1, 9)], "theta": next(module.parameters())}

    def predict(self, module: nn.Module, adapted: Any, x: Tensor) -> Tensor:
        return super().predict(module, adapted["mean"], x)


def board(*rows: tuple[str, float, float, float], tasks: str = "t") -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["learner", "score", "adapt_ms", "mebibytes"])
    return frame.assign(tasks=tasks, trained_on=tasks, predict_ms=1.0)


def test_rows_that_another_beats_everywhere_are_dominated() -> None:
    prices = np.array([[1.0, 5, 5], [2, 4, 5], [2, 5, 5], [3, 3, 3], [3, 3, 3], [np.nan, 0, 0]])
    assert not_dominated(prices).tolist() == [True, True, False, True, True, False]


@pytest.mark.parametrize("better", [True, False])
def test_the_front_goes_by_the_direction_of_the_score(better: bool) -> None:
    sign = 1 if better else -1
    rows = board(("best", sign * 3, 9, 9), ("fast", sign * 2, 1, 8), ("slow", sign * 2, 9, 9), ("small", sign, 8, 1))
    found = pareto_of(rows, {"t": better})
    assert list(found.columns) == PARETO
    assert found.set_index("learner")["on_front"].to_dict() == {
        "best": True,
        "fast": True,
        "slow": False,
        "small": True,
    }
    assert found["milliseconds_per_task"].tolist() == [10, 2, 10, 9]
    assert found["on_front"].dtype == bool


def test_a_cost_that_is_not_known_of_all_takes_no_part() -> None:
    rows = board(("best", 3, 9, np.nan), ("fast", 2, 1, 8), ("small", 1, 8, 1))
    assert pareto_of(rows, {"t": True}).set_index("learner")["on_front"].to_dict() == {
        "best": True,
        "fast": True,
        "small": False,
    }
    both = pd.concat([board(("a", 1, 1, 1)), board(("a", 0, 2, 2), tasks="u")], ignore_index=True)
    assert pareto_of(both, {"t": True, "u": True})["on_front"].all(), "a front for each task distribution"


def test_shared_and_repeated_numbers_count_once() -> None:
    numbers = torch.zeros(10)
    assert bytes_of([numbers]) == bytes_of([numbers, numbers.view(2, 5), numbers.expand(7, 10)]) == 40
    assert bytes_of([numbers[:3], "text", None, torch.zeros(2, dtype=torch.float64), torch.zeros(0)]) == 12 + 16


def test_memory_is_theta_and_the_state_of_one_task() -> None:
    tasks, learner = am.make_tasks("sinusoid"), Heavy()
    module = learner.build(tasks.info).train()
    one = tasks.sample(1, split="test", seed=0)
    assert held_mebibytes(learner, module, one) * MEBIBYTE == 4 * (1000 + 10)
    assert module.training
    assert held_mebibytes(Mean(), nn.Identity(), one) * MEBIBYTE == 4


def test_memory_of_an_actor_counts_what_it_remembers() -> None:
    worlds = am.make_tasks("bandit")
    learner = am.make_learner("ucb")
    module = learner.build(worlds.info)
    drawn = worlds.sample(1, split="test", seed=0)
    assert 0 < held_mebibytes(learner, module, drawn) == held_mebibytes(learner, module, drawn) < 0.1


def test_a_comparison_tells_score_time_and_memory(tmp_path: Path) -> None:
    found = am.compare("sinusoid", {"mean": Mean(), "heavy": Heavy()}, output=tmp_path / "run", **FAST)
    front, rows = found.pareto.set_index("learner"), found.leaderboard.set_index("learner")
    assert list(found.pareto.columns) == PARETO
    assert (front["mebibytes"] * MEBIBYTE).to_dict() == {"mean": 4, "heavy": 4040}
    assert (front["milliseconds_per_task"] == rows["adapt_ms"] + rows["predict_ms"]).all()
    assert (front["score"] == rows["score"]).all()
    assert front["on_front"].any()
    assert front.loc["mean", "on_front"], "no other is as small"
    assert len(pd.read_csv(tmp_path / "run" / "pareto.csv")) == 2


def test_nothing_judged_is_an_empty_front() -> None:
    assert pareto_of(board().iloc[:0], {}).empty

"""Of a run the θ counts that did best on the meta-valid tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from torch import Tensor, nn

import autometa as am
from autometa.comparison.execution.finals import train_final
from autometa.comparison.execution.kept_best import KeptBest
from autometa.comparison.execution.trial import RUNGS, run_trial, start_training
from autometa.comparison.plan.pair import Pair
from autometa.comparison.plan.plan import make_plan
from autometa.comparison.plan.search_space import Drawn
from autometa.comparison.plan.settings import Settings
from autometa.engine.random_state import fresh_module

TASKS = am.make_tasks("sinusoid", n_shot=5)
PARAMS = {"learner__regularization": 1.0, "learner__backbone": "auto"}


class Spoils(am.MetaOptimizer):
    """Learns as "gradient" does for a while, then ruins θ, a little more with every step."""

    def __init__(self, *, good_steps: int = 10) -> None:
        self.good_steps = good_steps

    def start(self, learner: Any, module: nn.Module, info: am.TaskInfo) -> None:
        self.module_, self.taken_ = module, 0
        self.inner_ = am.make_meta_optimizer("gradient")
        self.inner_.start(learner, module, info)

    def step(self, batch: am.TaskBatch) -> dict[str, Tensor]:
        self.taken_ += 1
        if self.taken_ <= self.good_steps:
            return self.inner_.step(batch)
        with torch.no_grad():
            for value in self.module_.parameters():
                value.add_(torch.randn_like(value), alpha=0.3)
        return {"loss": torch.zeros(())}


def pair_of(good_steps: int, *, max_steps: int = 40) -> Pair:
    settings = Settings(max_steps=max_steps, n_trials=1, n_seeds=1, n_valid_tasks=60, n_test_tasks=60)
    learners = {"spoiled": (am.make_learner("ridge"), Spoils(good_steps=good_steps))}
    (pair, *_) = make_plan({"sines": TASKS}, learners, settings, name="t", baselines=False).pairs
    return pair


def state(module: nn.Module) -> Tensor:
    return torch.cat([value.flatten() for value in module.state_dict().values()])


@pytest.mark.parametrize(("good_steps", "kept"), [(0, 0), (10, 10), (40, 40)])
def test_the_best_theta_of_a_run_is_kept(good_steps: int, kept: int) -> None:
    pair = pair_of(good_steps)
    training, curve, step = train_final(pair, PARAMS, 0, torch.device("cpu"))
    assert [int(point[0]) for point in curve] == [0, 10, 20, 30, 40]
    assert step == kept
    assert min(point[2] for point in curve) == curve[kept // 10][2]
    again = start_training(
        pair, pair.candidate.draw(optuna.trial.FixedTrial(PARAMS)), torch.device("cpu"), seed=training.seed
    )
    again.run_to(kept / 40)
    assert torch.equal(state(training.module), state(again.module))


def test_a_trial_counts_its_best_score_and_ends_once_it_has_clearly_turned_down() -> None:
    study = optuna.create_study(pruner=optuna.pruners.NopPruner())
    pair = pair_of(10)
    study.enqueue_trial(PARAMS)
    trial = study.ask()
    value = run_trial(pair, pair.candidate.draw(trial), trial, torch.device("cpu"))
    frozen = study.trials[0]
    assert frozen.user_attrs["steps"] == 30, "the second and the third rung were clearly worse than the first"
    assert value == frozen.intermediate_values[0] < frozen.intermediate_values[1]


def test_the_untrained_theta_is_no_trials_score() -> None:
    """Meta-training that only ruins θ: trials would all tie at what they began with."""
    study = optuna.create_study(pruner=optuna.pruners.NopPruner())
    pair = pair_of(0)
    study.enqueue_trial(PARAMS)
    trial = study.ask()
    value = run_trial(pair, pair.candidate.draw(trial), trial, torch.device("cpu"))
    _, curve, step = train_final(pair, trial.params, 0, torch.device("cpu"))
    assert step == 0
    assert value > 2 * curve[0][2]


def test_a_trial_that_goes_on_learning_goes_on_to_its_end() -> None:
    study = optuna.create_study(pruner=optuna.pruners.NopPruner())
    pair = pair_of(40)
    study.enqueue_trial(PARAMS)
    trial = study.ask()
    value = run_trial(pair, pair.candidate.draw(trial), trial, torch.device("cpu"))
    frozen = study.trials[0]
    assert frozen.user_attrs["steps"] == 40
    assert len(frozen.intermediate_values) == len(RUNGS)
    assert value == min(frozen.intermediate_values.values())


def test_a_score_within_its_error_or_a_single_dip_has_not_turned_down(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = pair_of(0)
    kept = KeptBest(pair, start_training(pair, Drawn(pair.candidate.learner, None), torch.device("cpu"), seed=0))
    noise = np.random.default_rng(0).normal(size=60)
    worse = 1.02 + 0.001 * noise
    found = iter([np.ones(60), worse, 1.02 + noise, worse, np.ones(60), worse, worse, 0.9 * np.ones(60)])
    monkeypatch.setattr(kept, "_judge", lambda: next(found))
    turned = []
    for _ in range(8):
        kept.look()
        turned.append(kept.has_turned_down)
    assert turned == [False] * 6 + [True, False], "a single dip is none, nor are two that are not in a row"


def test_a_comparison_judges_and_hands_back_the_best_theta(tmp_path: Path) -> None:
    """Meta-training that only ruins θ leaves the untrained one: it is judged and saved."""
    found = am.compare(
        {"sines": TASKS},
        {"spoiled": (am.make_learner("ridge"), Spoils(good_steps=0))},
        baselines=False, n_trials=1, n_seeds=1, max_steps=8, n_test_tasks=40, n_valid_tasks=40, verbose=0,
        output=tmp_path / "run",
    )  # fmt: skip
    (saved,) = (tmp_path / "run" / "models").rglob("*.autometa")
    model = am.load(saved, trusted=[f"{__name__}:Spoils"])
    numbers = [float(score) for score in found.scores["score"]]
    assert np.mean(numbers) < 20, "a ruined θ errs by far more"
    untrained = fresh_module(model.learner_, TASKS.info, pair_of(0).seed("final", 0))
    assert torch.equal(state(model.module_), state(untrained))

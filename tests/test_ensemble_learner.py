"""The learner ``ensemble``: the mean of what its members answer, worked out by hand and used like any learner."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import autometa as am
from autometa.comparison.plan.entrants import every_learner
from test_conformance import assert_conforms, school_table
from toy_tasks import SINES


class Says(am.Learner):
    """Says the same whatever it is asked: logits, or a mean with a standard deviation."""

    default_meta_optimizer: ClassVar[str | None] = None

    def __init__(self, values: tuple[float, ...] = (0.0,), deviation: float | None = None, knows: bool = False) -> None:
        self.values = values
        self.deviation = deviation
        self.knows = knows

    @property
    def provides(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset() if self.deviation is None else frozenset({"distribution"})

    @property
    def predicts_unseen_classes(self) -> bool:  # type: ignore[override]
        return self.knows

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.Identity()

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        return torch.tensor(self.values).expand(len(support), -1)

    def predict(self, module: nn.Module, adapted: Tensor, x: Tensor) -> Tensor:
        return adapted.unsqueeze(1).expand(-1, x.shape[1], -1)

    def predict_distribution(self, module: nn.Module, adapted: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.predict(module, adapted, x)
        return mean, torch.full_like(mean, self.deviation or 1.0)


def ensemble(*members: Any, weights: list[float] | None = None) -> Any:
    return am.make_learner("ensemble", members=list(members), weights=weights)


def outputs(learner: am.Learner, support: am.Examples, n: int = 2) -> Tensor:
    module = nn.ModuleList([nn.Identity() for _ in learner.members])
    return learner.predict(module, learner.adapt(module, support), torch.zeros(len(support), n, 1))


def of_classes(*labels: int, n_classes: int = 3) -> am.Examples:
    return am.Examples(x=torch.zeros(1, len(labels), 1), y=torch.tensor([labels]), n_classes=n_classes)


def logits(*probabilities: float) -> Says:
    return Says(tuple(math.log(p) + 5.0 for p in probabilities))  # logits are told up to a constant


def test_probabilities_are_the_weighted_mean_of_the_members_own() -> None:
    two = ensemble(logits(0.7, 0.2, 0.1), logits(0.1, 0.1, 0.8), weights=[3, 1])
    found = outputs(two, of_classes(0, 1, 2))
    torch.testing.assert_close(found.exp(), torch.tensor([0.55, 0.175, 0.275]).expand(1, 2, 3))
    equal = outputs(ensemble(logits(0.7, 0.2, 0.1), logits(0.1, 0.1, 0.8)), of_classes(0, 1, 2))
    torch.testing.assert_close(equal.exp(), torch.tensor([0.4, 0.15, 0.45]).expand(1, 2, 3))


def test_a_member_has_no_probability_for_a_class_that_the_support_lacks_unless_it_knows_it() -> None:
    # Alone, the first member would answer 0.5, 0.5 where class 2 is missing.
    found = outputs(ensemble(logits(0.25, 0.25, 0.5), logits(0.9, 0.1, 1e-9)), of_classes(0, 1))
    torch.testing.assert_close(found.exp(), torch.tensor([0.7, 0.3, 0.0]).expand(1, 2, 3))
    knowing = Says(tuple(math.log(p) for p in (0.25, 0.25, 0.5)), knows=True)
    mixed = ensemble(knowing, logits(0.9, 0.1, 1e-9))
    assert mixed.predicts_unseen_classes
    torch.testing.assert_close(
        outputs(mixed, of_classes(0, 1)).exp(), torch.tensor([0.575, 0.175, 0.25]).expand(1, 2, 3)
    )


def test_real_predictions_are_means_and_deviations_those_of_the_mixture() -> None:
    two = ensemble(Says((1.0, -2.0), deviation=1.0), Says((4.0, -2.0), deviation=2.0), weights=[1, 2])
    assert two.provides == {"distribution"}
    module = nn.ModuleList([nn.Identity(), nn.Identity()])
    support = am.Examples(x=torch.zeros(1, 3, 1), y=torch.zeros(1, 3, 2))
    adapted, x = two.adapt(module, support), torch.zeros(1, 5, 1)
    mean, deviation = two.predict_distribution(module, adapted, x)
    torch.testing.assert_close(mean, torch.tensor([3.0, -2.0]).expand(1, 5, 2))
    torch.testing.assert_close(two.predict(module, adapted, x), mean)
    # E[y²] - E[y]² = (1·(1 + 1) + 2·(4 + 16)) / 3 - 9 = 5, and (1·(1 + 4) + 2·(4 + 4)) / 3 - 4 = 3
    torch.testing.assert_close(deviation.square(), torch.tensor([5.0, 3.0]).expand(1, 5, 2))
    assert ensemble(Says((1.0,), deviation=1.0), Says()).provides == frozenset()


@pytest.mark.parametrize(
    "members",
    [
        ["optimization/ridge", "optimization/ridge"],
        pytest.param(["sklearn", "optimization/ridge"], marks=pytest.mark.slow),
        pytest.param(["kernel_experts", "mixed_effects"], marks=pytest.mark.slow),
    ],
)
def test_ensembles_pass_the_kit(members: list[str]) -> None:
    assert_conforms(am.make_learner("ensemble", members=members))


def test_tasks_together_are_tasks_alone() -> None:
    tasks = am.make_tasks("glyphs", size=8, n_way=3, n_query=4)
    learner = ensemble("prototypical", am.make_learner("maml", steps=2), "sklearn")
    module = learner.build(tasks.info).double().eval()
    batch = tasks.sample(5, seed=0).to(dtype=torch.float64)
    with torch.no_grad():
        together = am.judge(learner, module, batch).outputs
        alone = [am.judge(learner, module, batch[i : i + 1]).outputs for i in range(5)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_an_estimator_predicts_saves_and_loads_what_its_members_predict_together(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(40, 3))
    y = np.where(X[:, 0] + X[:, 1] ** 2 > 0.5, "yes", "no")
    members = ["sklearn", "kernel_experts"]
    model = am.FewShotClassifier(ensemble(*members, weights=[1, 3])).fit(X[:20], y[:20])
    alone = [am.FewShotClassifier(name).fit(X[:20], y[:20]).predict_proba(X[20:]) for name in members]
    found = model.predict_proba(X[20:])
    np.testing.assert_allclose(found, (alone[0] + 3 * alone[1]) / 4, atol=1e-6)
    model.save(tmp_path / "both.autometa")
    again = am.load(tmp_path / "both.autometa")
    np.testing.assert_array_equal(again.predict_proba(X[20:]), found)
    assert repr(again.learner) == repr(model.learner)


def test_a_table_is_learned_and_saved_with_memories_of_its_members(tmp_path: Path) -> None:
    table = school_table("score")
    X, y, school = table.drop(columns=["school", "score"]), table["score"], table["school"]
    model = am.FewShotRegressor(ensemble("mixed_effects", "kernel_experts"), random_state=0)
    model.meta_fit(X, y, task=school, n_shot=3).fit(X, y, task=school)
    mean, deviation = model.predict(X, task=school, return_std=True)
    assert (deviation > 0).all()
    model.save(tmp_path / "table.autometa")
    again = am.load(tmp_path / "table.autometa")
    for one, other in zip(again.predict(X, task=school, return_std=True), (mean, deviation), strict=True):
        np.testing.assert_array_equal(one, other)
    unseen = pd.Series(["nobody's"] * len(X))
    assert np.isfinite(again.predict(X, task=unseen)).all()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, r"members=\(\) of learner 'ensemble' must be a list of one learner or more"),
        ({"members": "maml"}, r"members='maml' .* must be a list"),
        ({"members": ["mamll"]}, "did you mean 'maml'"),
        ({"members": ["control/rl2"]}, "must adapt and predict"),
        ({"members": ["maml", "ridge"], "weights": [1]}, r"weights=\[1\] .* list of 2 positive numbers"),
        ({"members": ["maml"], "weights": [0]}, "weights=0 of learner 'ensemble'"),
        ({"members": ["maml"], "weights": [float("nan")]}, "weights=nan of learner 'ensemble'"),
    ],
)
def test_what_cannot_answer_together_is_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(am.AutometaError, match=message):
        am.make_learner("ensemble", **params).build(SINES)


def test_it_takes_no_part_where_all_are_asked_for() -> None:
    assert "prototypical" in every_learner({"classification"})
    assert not any("ensemble" in name for name in every_learner({"classification", "regression"}))

"""AutoFewShotClassifier and AutoFewShotRegressor: compare, keep the winner, be a scikit-learn estimator."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

import autometa as am
import shape_checks
from test_comparison import Fragile
from tiers import first_by_default

FAST: dict[str, Any] = {
    "n_trials": 2,
    "n_test_tasks": 10,
    "n_valid_tasks": 5,
    "max_steps": 3,
    "tasks_per_step": 2,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def regressor() -> am.AutoFewShotRegressor:
    return am.AutoFewShotRegressor(learners=["ridge"], random_state=0, **FAST).meta_fit("sinusoid")


def one_wave() -> tuple[np.ndarray, np.ndarray]:
    batch = am.make_tasks("sinusoid", n_shot=20).sample(1, split="test", seed=0)
    return batch.support.x[0].numpy(), batch.support.y[0, :, 0].numpy()


def test_meta_fit_keeps_the_winner_of_a_comparison(regressor: am.AutoFewShotRegressor) -> None:
    assert set(regressor.leaderboard_["learner"]) == {"ridge", "sklearn"}
    x, y = one_wave()
    winner = regressor.comparison_.best_estimator().set_params(device="cpu")
    np.testing.assert_allclose(regressor.fit(x, y).predict(x), winner.fit(x, y).predict(x))
    assert regressor.n_features_in_ == 1


def automatic(tasks: str, learners: list[am.Learner], **options: Any) -> am.AutoFewShotRegressor:
    return am.AutoFewShotRegressor(learners, **options).meta_fit(tasks)


@pytest.mark.parametrize("call", [am.compare, automatic])
def test_warnings_are_of_the_line_that_called(
    call: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shape_checks, "CALLS", 0)  # whose frames users do not have
    with pytest.warns(UserWarning, match=r"see \.failures") as told:
        call("sinusoid", [Fragile()], n_seeds=1, verbose=0, output=tmp_path / "run", **FAST)
    assert {warning.filename for warning in told} == {__file__}


def test_a_clone_keeps_what_meta_fit_learned_and_not_what_fit_did(regressor: am.AutoFewShotRegressor) -> None:
    x, y = one_wave()
    fitted = clone(regressor).fit(x, y)
    assert fitted.estimator_.device == "cpu"
    copy = clone(fitted)
    with pytest.raises(NotFittedError):
        copy.predict(x)
    np.testing.assert_allclose(copy.fit(x, y).predict(x), fitted.predict(x))
    assert np.isfinite(cross_val_score(regressor, x, y, cv=3)).all()


def test_quantiles_are_the_winners(regressor: am.AutoFewShotRegressor) -> None:
    x, y = np.linspace(-3, 3, 10).reshape(-1, 1), np.sin(np.linspace(-3, 3, 10))
    chosen = copy.copy(regressor)
    chosen.estimator_ = am.FewShotRegressor("kernel_experts").fit(x, y)
    found = chosen.predict_quantiles(x, [0.1, 0.9])
    np.testing.assert_array_equal(found, chosen.estimator_.predict_quantiles(x, [0.1, 0.9]))
    with pytest.raises(am.Incompatible, match="without a standard deviation"):
        clone(regressor).fit(x, y).predict_quantiles(x, 0.5)


def test_pickling_and_saving_keep_the_predictions(regressor: am.AutoFewShotRegressor, tmp_path: Any) -> None:
    x, y = one_wave()
    fitted = clone(regressor).fit(x, y)
    assert fitted.estimator_.device == "cpu"
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_allclose(copy.predict(x), fitted.predict(x))
    assert list(copy.leaderboard_["learner"]) == list(fitted.leaderboard_["learner"])
    fitted.save(tmp_path / "model.autometa")
    np.testing.assert_allclose(am.load(tmp_path / "model.autometa").predict(x), fitted.predict(x), rtol=1e-5)


def test_the_classifier_gives_probabilities_of_the_labels_it_was_fitted_to() -> None:
    tasks = am.make_tasks("digits", n_way=2, n_shot=2, n_query=3)
    classifier = am.AutoFewShotClassifier(learners=["prototypical"], random_state=0, **FAST).meta_fit(tasks)
    batch = tasks.sample(1, split="test", seed=0)
    x, y = batch.support.x[0].numpy(), np.array(["no", "yes"])[batch.support.y[0].numpy()]
    classifier.fit(x, y)
    assert list(classifier.classes_) == ["no", "yes"]
    probabilities = classifier.predict_proba(x)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(classifier.classes_[probabilities.argmax(axis=1)], classifier.predict(x))


@pytest.mark.parametrize("kind", first_by_default(1, [am.AutoFewShotRegressor, am.AutoFewShotClassifier]))
def test_the_winner_answers_before_any_row_of_a_task_is_known_where_it_can(kind: Any) -> None:
    random = np.random.default_rng(0)
    table = pd.DataFrame({"school": np.repeat(np.arange(20).astype(str), 10), "hours": random.uniform(0, 9, 200)})
    is_classifier = kind is am.AutoFewShotClassifier
    table["passed"] = np.where(table["hours"] > 4, "yes", "no") if is_classifier else table["hours"] * 2
    learner = am.make_learner("prototypical" if is_classifier else "ridge", backbone="identity")
    auto = kind([learner], random_state=0, **FAST).meta_fit(
        table[["hours"]], table["passed"], task=table["school"], n_shot=5
    )
    new = table[["hours"]][:5]
    for fresh in (auto, clone(auto), pickle.loads(pickle.dumps(auto))):
        np.testing.assert_array_equal(fresh.predict(new), auto.best_estimator_.predict(new))
        assert list(fresh.feature_names_in_) == ["hours"]
        if is_classifier:
            assert list(fresh.classes_) == ["no", "yes"]
            assert fresh.predict_proba(new).shape == (5, 2)
    assert auto.score(new, table["passed"][:5]) == auto.best_estimator_.score(new, table["passed"][:5])


def test_what_has_learned_nothing_says_so_under_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError, match="AutoFewShotClassifier"):
        am.AutoFewShotClassifier().predict(np.zeros((2, 3)))
    with pytest.raises(NotFittedError, match="This AutoFewShotRegressor has learned nothing to save yet"):
        am.AutoFewShotRegressor().save(tmp_path / "nothing.autometa")


def test_tasks_of_another_problem_are_refused() -> None:
    with pytest.raises(am.Incompatible, match="are regression; AutoFewShotClassifier is for classification"):
        am.AutoFewShotClassifier(**FAST).meta_fit("sinusoid")


@pytest.mark.thorough
@parametrize_with_checks([am.AutoFewShotClassifier(device="cpu"), am.AutoFewShotRegressor(device="cpu")])
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)

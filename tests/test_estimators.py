"""Few-shot estimators: meta-trained once, then used like any other scikit-learn estimator."""

from __future__ import annotations

import pickle
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted
from torch import nn

import autometa as am
from autometa.contracts.forward import forward
from autometa.estimators import asking
from autometa.training import MetaTraining
from learning import assert_better, assert_lower, training_seed

DIGITS = {"n_way": 3, "n_shot": 5, "n_query": 30}


@pytest.fixture(scope="module")
def digits():
    return am.make_tasks("digits", **DIGITS)


@pytest.fixture(scope="module")
def digit_classifier(digits):
    network = am.make_backbone("mlp", hidden=(64,))
    estimator = am.FewShotClassifier(
        "prototypical", backbone=network, max_steps=10, tasks_per_step=4, random_state=training_seed()
    )
    return estimator.meta_fit(digits)


@pytest.fixture(scope="module")
def sine_regressor():
    tasks = am.make_tasks("sinusoid")
    return am.FewShotRegressor("ridge", max_steps=150, tasks_per_step=8, random_state=training_seed()).meta_fit(tasks)


@pytest.fixture(scope="module")
def letters(digits):
    """One held-out task: support images, labels, query images, labels; the labels are strings."""
    task = digits.sample(1, split="test", seed=3)
    names = np.array(["seven", "eight", "nine"])
    return (
        task.support.x[0].numpy(),
        names[task.support.y[0].numpy()],
        task.query.x[0].numpy(),
        names[task.query.y[0].numpy()],
    )


@pytest.fixture(scope="module")
def sine():
    task = am.make_tasks("sinusoid").sample(1, split="test", seed=1)
    arrays = (task.support.x[0], task.support.y[0, :, 0], task.query.x[0], task.query.y[0, :, 0])
    return tuple(part.numpy() for part in arrays)


def assert_better_than_chance(right):
    """Assert that answers to images of three classes are right more often than guesses."""
    assert_better(right.astype(float), 1 / 3, am.make_tasks("digits", **DIGITS).info)


def school_table(n_schools: int = 24, rows: int = 16, seed: int = 0) -> pd.DataFrame:
    """Schools whose scores depend on hours by a slope of their own; strings and missing values among the features."""
    rng = np.random.default_rng(seed)
    school = np.repeat(np.arange(n_schools), rows)
    slope = rng.normal(2.0, 0.5, n_schools)[school]
    hours = rng.uniform(0, 10, len(school))
    kind = rng.choice(["day", "boarding"], len(school))
    score = 50 + slope * hours + 5 * (kind == "day") + rng.normal(0, 0.5, len(school))
    hours[rng.random(len(school)) < 0.1] = np.nan
    return pd.DataFrame({"school": school, "hours": hours, "kind": kind, "score": score})


@pytest.fixture(scope="module")
def schools():
    return school_table()


FEATURES = ["hours", "kind"]


@pytest.fixture(scope="module")
def school_regressor(schools):
    estimator = am.FewShotRegressor("ridge", backbone="identity", max_steps=20, random_state=training_seed())
    return estimator.meta_fit(schools[FEATURES], schools["score"], task=schools["school"], n_shot=5)


def grade_classifier(learner: str, schools: pd.DataFrame) -> am.FewShotClassifier:
    grades = pd.cut(schools["score"], [-np.inf, 55, 65, np.inf], labels=["C", "B", "A"]).astype(str)
    estimator = am.FewShotClassifier(learner, max_steps=10, tasks_per_step=4, random_state=0)
    return estimator.meta_fit(schools[FEATURES], grades, task=schools["school"], n_shot=3)


# -------------------------------------------------------------------- plain, without meta-training


def test_without_meta_fit_both_are_sound_plain_estimators():
    X, y = load_iris(return_X_y=True)
    assert cross_val_score(am.FewShotClassifier(), X, y).mean() > 0.8
    X, y = load_diabetes(return_X_y=True)
    assert cross_val_score(am.FewShotRegressor(), X * 1e3, y).mean() > 0.4


def test_plain_predictions_do_not_depend_on_the_scale_of_features_and_targets():
    X, y = load_diabetes(return_X_y=True)
    plain = am.FewShotRegressor().fit(X[:50], y[:50]).predict(X[50:])
    scaled = am.FewShotRegressor().fit(X[:50] * 1e4 - 7, y[:50] * 1e-3 + 2).predict(X[50:] * 1e4 - 7)
    np.testing.assert_allclose(scaled, plain * 1e-3 + 2, rtol=1e-6)


def test_constant_features_and_targets_are_learned():
    X = np.column_stack([np.full(10, 0.1), np.arange(10.0)])
    assert np.allclose(am.FewShotRegressor().fit(X, np.full(10, 3.3)).predict(X), 3.3)


def test_several_targets_are_predicted_together_and_a_column_is_one_target():
    X = np.random.default_rng(0).normal(size=(40, 3))
    y = np.column_stack([X[:, 0], 100 * X[:, 1]])
    both = am.FewShotRegressor().fit(X, y)
    assert both.predict(X).shape == (40, 2)
    assert both.score(X, y) > 0.95
    with pytest.warns(DataConversionWarning):
        assert am.FewShotRegressor().fit(X, y[:, :1]).predict(X).shape == (40,)


def test_random_state_decides_the_network():
    X, y = load_iris(return_X_y=True)

    def probabilities(seed):
        return am.FewShotClassifier("ridge", backbone="mlp", random_state=seed).fit(X, y).predict_proba(X)

    np.testing.assert_array_equal(probabilities(0), probabilities(0))
    assert np.abs(probabilities(0) - probabilities(1)).max() > 1e-4


def test_torchs_random_state_is_left_alone():
    X, y = load_iris(return_X_y=True)
    before = torch.get_rng_state()
    am.FewShotClassifier("ridge", backbone="mlp", random_state=0).fit(X, y).predict(X)
    assert torch.equal(before, torch.get_rng_state())


# -------------------------------------------------------------------- meta-training


def test_meta_training_helps_on_sine_waves_never_seen(sine_regressor):
    plain = am.FewShotRegressor("ridge", backbone="identity")
    batch = am.make_tasks("sinusoid").sample(50, split="test", seed=1)

    def errors(estimator):
        squares = []
        for x, y, query, truth in zip(batch.support.x, batch.support.y, batch.query.x, batch.query.y, strict=True):
            predicted = clone(estimator).fit(x.numpy(), y[:, 0].numpy()).predict(query.numpy())
            squares.append(np.mean((predicted - truth[:, 0].numpy()) ** 2))
        return np.array(squares)

    assert_lower(errors(sine_regressor), errors(plain) / 2)


def test_what_is_trained_is_what_predicts(sine):
    x, y, query, _ = sine
    sampler = am.make_tasks("sinusoid")
    training = MetaTraining(am.make_learner("ridge"), am.make_meta_optimizer("gradient"), sampler, n_steps=3,
                            tasks_per_step=2, seed=5)  # fmt: skip
    training.run_to()
    estimator = am.FewShotRegressor.from_training(training, device="cpu").fit(x, y)
    support = am.Examples(torch.from_numpy(x)[None], torch.from_numpy(y)[None, :, None])
    with torch.no_grad():
        expected = forward(training.learner, training.module.eval(), support, torch.from_numpy(query)[None])
    np.testing.assert_allclose(estimator.predict(query), expected[0, :, 0].numpy(), rtol=1e-5)
    assert estimator.max_steps == 3
    assert len(estimator.history_) == 3


def test_from_training_refuses_another_problem():
    training = MetaTraining(
        am.make_learner("ridge"), None, am.make_tasks("sinusoid"), n_steps=1, tasks_per_step=1, seed=0
    )
    with pytest.raises(am.Incompatible, match=r"training is for regression and FewShotClassifier"):
        am.FewShotClassifier.from_training(training)


def test_meta_fit_leaves_what_it_learned_in_attributes(digit_classifier):
    assert isinstance(digit_classifier.module_, nn.Module)
    assert type(digit_classifier.learner_).__name__ == "Prototypical"
    assert type(digit_classifier.meta_optimizer_).__name__ == "Gradient"
    assert digit_classifier.task_info_.input_shape == (1, 8, 8)
    assert list(digit_classifier.history_["step"]) == list(range(1, 11))
    assert digit_classifier.n_features_in_ == 64


def test_the_same_seed_gives_the_same_estimator(digits, letters):
    support, labels, query, _ = letters

    def probabilities():
        estimator = am.FewShotClassifier(max_steps=3, tasks_per_step=2, random_state=7, device="cpu").meta_fit(digits)
        return estimator.fit(support, labels).predict_proba(query)

    np.testing.assert_array_equal(probabilities(), probabilities())


def test_images_are_taken_in_every_layout(digit_classifier, letters):
    support, labels, query, _ = letters
    estimator = clone(digit_classifier).fit(support, labels)
    expected = estimator.predict_proba(query)
    for layout in ((-1, 8, 8), (-1, 64)):
        other = clone(digit_classifier).fit(support.reshape(layout), labels)
        np.testing.assert_array_equal(other.predict_proba(query.reshape(layout)), expected)


def test_images_of_bytes_mean_what_they_mean_to_samplers(digit_classifier, letters):
    support, labels, _, _ = letters
    bytes_ = np.round(support * 255).astype(np.uint8)
    expected = clone(digit_classifier).fit(bytes_ / 255.0, labels).predict_proba(bytes_ / 255.0)
    np.testing.assert_allclose(clone(digit_classifier).fit(bytes_, labels).predict_proba(bytes_), expected, rtol=1e-5)


def test_any_number_of_classes_and_rows(digit_classifier):
    rng = np.random.default_rng(0)
    for n_classes, n_rows in ((2, 3), (7, 30)):
        X, y = rng.random((n_rows, 64)), np.arange(n_rows) % n_classes
        assert clone(digit_classifier).fit(X, y).predict_proba(rng.random((11, 64))).shape == (11, n_classes)


def test_probabilities_stand_in_the_order_of_the_classes(digit_classifier, letters):
    support, labels, query, truth = letters
    estimator = clone(digit_classifier).fit(support, labels)
    assert list(estimator.classes_) == ["eight", "nine", "seven"]
    probabilities = estimator.predict_proba(query)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(estimator.classes_[probabilities.argmax(axis=1)], estimator.predict(query))
    right = estimator.predict(query) == truth
    assert estimator.score(query, truth) == right.mean()
    assert_better_than_chance(right)


def test_memory_of_a_prediction_is_bounded_by_chunks(digit_classifier, letters, monkeypatch):
    support, labels, query, _ = letters
    estimator = clone(digit_classifier).fit(support, labels)
    whole = estimator.predict_proba(query)
    sizes = []
    predict = type(estimator.learner_).predict

    def counted(self, module, adapted, x):
        sizes.append(x.shape[1])
        return predict(self, module, adapted, x)

    monkeypatch.setattr(type(estimator.learner_), "predict", counted)
    monkeypatch.setattr(asking, "VALUES_AT_ONCE", 10 * 64)
    np.testing.assert_allclose(estimator.predict_proba(query), whole, rtol=1e-4, atol=1e-6)
    assert sizes == [10] * 9


def test_transductive_batch_norm_sees_all_rows_together(digits, letters, monkeypatch):
    support, labels, query, _ = letters
    backbone = am.make_backbone("conv4", norm="batch", batch_norm="transductive")
    estimator = am.FewShotClassifier(backbone=backbone, max_steps=1, tasks_per_step=2, random_state=0).meta_fit(digits)
    whole = estimator.fit(support, labels).predict_proba(query)
    monkeypatch.setattr(asking, "VALUES_AT_ONCE", 64)
    np.testing.assert_array_equal(estimator.predict_proba(query), whole)


def test_precision_can_be_chosen(digits, letters):
    support, labels, _, _ = letters
    estimator = am.FewShotClassifier(max_steps=1, tasks_per_step=2, precision="64", random_state=0).meta_fit(digits)
    assert {p.dtype for p in estimator.fit(support, labels).module_.parameters()} == {torch.float64}


def test_progress_is_shown_only_when_asked_for(digits, capsys):
    estimator = am.FewShotClassifier(max_steps=2, tasks_per_step=1, random_state=0).meta_fit(digits)
    assert capsys.readouterr() == ("", "")
    estimator.set_params(verbose=1).meta_fit(digits)
    assert "Prototypical" in capsys.readouterr().out


def test_an_interrupted_meta_fit_leaves_the_estimator_as_it_was(digit_classifier, letters, monkeypatch):
    support, labels, query, _ = letters
    estimator = clone(digit_classifier).fit(support, labels)
    before, state = estimator.predict_proba(query), dict(vars(estimator))

    def interrupt(self, progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(MetaTraining, "run_to", interrupt)
    with pytest.raises(KeyboardInterrupt):
        estimator.meta_fit("digits")
    assert vars(estimator) == state
    np.testing.assert_array_equal(estimator.predict_proba(query), before)


def test_meta_fit_forgets_the_task_that_was_fitted(digit_classifier, letters, digits):
    support, labels, query, _ = letters
    estimator = am.FewShotClassifier(max_steps=1, tasks_per_step=1, random_state=0).fit(support.reshape(15, -1), labels)
    estimator.meta_fit(digits)
    assert not hasattr(estimator, "classes_")
    with pytest.raises(NotFittedError):
        estimator.predict(query)


# -------------------------------------------------------------------- scikit-learn's tools on a meta-trained estimator


def test_a_clone_keeps_what_meta_fit_learned_and_not_what_fit_learned(digit_classifier, letters):
    support, labels, query, _ = letters
    fitted = clone(digit_classifier).fit(support, labels)
    copied = clone(fitted)
    with pytest.raises(NotFittedError):
        check_is_fitted(copied)
    assert not hasattr(copied, "classes_")
    np.testing.assert_array_equal(copied.fit(support, labels).predict_proba(query), fitted.predict_proba(query))


def test_fitting_changes_nothing_that_clones_share(digit_classifier, letters):
    support, labels, _, _ = letters
    before = {name: value.clone() for name, value in digit_classifier.module_.state_dict().items()}
    clone(digit_classifier).fit(support, labels).predict(support)
    after = digit_classifier.module_.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.slow
def test_cross_validation_runs_in_parallel(digit_classifier, letters):
    _, _, query, truth = letters
    alone = cross_val_score(digit_classifier, query.reshape(len(query), -1), truth, cv=3)
    parallel = cross_val_score(digit_classifier, query.reshape(len(query), -1), truth, cv=3, n_jobs=2)
    np.testing.assert_allclose(parallel, alone)
    assert_better_than_chance(cross_val_predict(digit_classifier, query.reshape(len(query), -1), truth, cv=3) == truth)


@pytest.mark.thorough
def test_threads_do_not_share_a_network(letters, digits):
    _, _, query, truth = letters
    maml = am.FewShotClassifier("maml", max_steps=1, tasks_per_step=1, random_state=0).meta_fit(digits)
    X = query.reshape(len(query), -1)
    alone = cross_val_score(maml, X, truth, cv=5)
    with joblib.parallel_backend("threading", n_jobs=2):
        np.testing.assert_allclose(cross_val_score(maml, X, truth, cv=5), alone)


def test_grid_search_over_parameters_of_a_learner_given_by_name(letters, digits):
    _, _, query, truth = letters
    maml = am.FewShotClassifier("maml", max_steps=2, tasks_per_step=2, random_state=0).meta_fit(digits)
    search = GridSearchCV(maml, {"learner__steps": [0, 5]}, cv=3).fit(query.reshape(len(query), -1), truth)
    none, five = search.cv_results_["mean_test_score"]
    assert none < five
    assert search.best_estimator_.learner_.steps == 5
    assert maml.learner == "maml"


def test_a_pipeline_passes_names_of_columns_on():
    frame = load_iris(as_frame=True)
    pipeline = make_pipeline(StandardScaler(), am.FewShotClassifier()).set_output(transform="pandas")
    pipeline.fit(frame.data, frame.target)
    assert list(pipeline[-1].feature_names_in_) == list(frame.data.columns)
    assert pipeline.score(frame.data, frame.target) > 0.8


def test_a_pipeline_around_a_meta_trained_estimator(digit_classifier, letters):
    _, _, query, truth = letters
    frame = pd.DataFrame(query.reshape(len(query), -1)).rename(columns=str)
    scaler = StandardScaler(with_mean=False, with_std=False)
    pipeline = make_pipeline(scaler, digit_classifier).set_output(transform="pandas")
    assert_better_than_chance(cross_val_predict(pipeline, frame, truth, cv=3) == truth)


def test_probabilities_can_be_calibrated(digit_classifier, letters):
    _, _, query, truth = letters
    X = query.reshape(len(query), -1)
    calibrated = CalibratedClassifierCV(digit_classifier, cv=3).fit(X, truth)
    assert_better_than_chance(calibrated.predict(X) == truth)


def test_pickle_and_joblib_keep_everything(digit_classifier, letters, tmp_path):
    support, labels, query, _ = letters
    fitted = clone(digit_classifier).fit(support, labels)
    joblib.dump(fitted, tmp_path / "model.joblib")
    rounding = 0 if next(fitted.module_.parameters()).device.type == "cpu" else 1e-5  # a copy comes back on the CPU
    for copied in (pickle.loads(pickle.dumps(fitted)), joblib.load(tmp_path / "model.joblib")):
        np.testing.assert_allclose(copied.predict_proba(query), fitted.predict_proba(query), rtol=rounding)
        np.testing.assert_array_equal(clone(copied).fit(support, labels).predict(query), fitted.predict(query))


# -------------------------------------------------------------------- parameters that change after meta-training


def test_parameters_of_adaptation_count_at_the_next_fit(digit_classifier, letters):
    support, labels, query, _ = letters
    sharp = clone(digit_classifier).set_params(learner__temperature=0.1).fit(support, labels)
    soft = clone(digit_classifier).set_params(learner__temperature=10.0).fit(support, labels)
    assert (sharp.predict_proba(query).max(axis=1) > soft.predict_proba(query).max(axis=1)).all()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"learner": "ridge"}, "learner=Ridge"),
        ({"backbone": "mlp"}, r"learner__backbone=MLP\(\)"),
        ({"max_steps": 11}, "max_steps=11"),
        ({"tasks_per_step": 5}, "tasks_per_step=5"),
        ({"meta_optimizer__lr": 0.5}, r"meta_optimizer=Gradient\(lr=0.5\)"),
    ],
)
def test_a_change_that_needs_meta_training_again_is_an_error(digit_classifier, letters, change, named):
    support, labels, _, _ = letters
    estimator = clone(digit_classifier).set_params(**change)
    with pytest.raises(am.InvalidParameter, match=named + r" changed after meta_fit.*learner__temperature"):
        estimator.fit(support, labels)


def test_setting_a_parameter_of_a_named_learner_makes_it_an_object():
    estimator = am.FewShotClassifier("maml").set_params(learner__steps=3, meta_optimizer__lr=0.1)
    assert estimator.learner.steps == 3
    assert estimator.meta_optimizer.lr == 0.1
    assert am.FewShotRegressor().set_params(learner__regularization=2.0).learner.regularization == 2.0
    assert am.FewShotRegressor(backbone="mlp").set_params(backbone__hidden=(8,)).backbone.hidden == (8,)
    with pytest.raises(am.InvalidParameter, match=r"backbone='auto' has no parameters.*name the backbone"):
        am.FewShotRegressor().set_params(backbone__hidden=(8,))
    with pytest.raises(am.InvalidParameter, match=r"SupportOnly has nothing to meta-train"):
        am.FewShotRegressor("sklearn").set_params(meta_optimizer__lr=0.1)
    with pytest.raises(ValueError, match="Invalid parameter 'stepz'"):
        am.FewShotClassifier("maml").set_params(learner__stepz=3)


def test_the_learners_own_backbone_comes_first():
    learner = am.make_learner("ridge", backbone=am.make_backbone("mlp", hidden=(3,)))
    X = np.random.default_rng(0).normal(size=(9, 4))
    assert am.FewShotRegressor(learner, backbone="identity").fit(X, X[:, 0]).module_.backbone.n_features == 3
    assert am.FewShotRegressor("ridge", backbone="identity").fit(X, X[:, 0]).module_.backbone.n_features == 4


def test_any_scikit_learn_estimator_is_a_learner():
    X, y = load_iris(return_X_y=True)
    learner = am.make_learner("sklearn", estimator=LogisticRegression(C=0.5))
    few_shot = am.FewShotClassifier(learner).fit(X, y)
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=0.5)).fit(X, y)
    np.testing.assert_allclose(few_shot.predict_proba(X), plain.predict_proba(X), atol=1e-6)


# -------------------------------------------------------------------- tables


def test_a_table_goes_in_raw_and_predictions_come_out_in_its_units(school_regressor):
    new = school_table(n_schools=1, rows=60, seed=9)
    known, asked = new[:20], new[20:]
    predicted = clone(school_regressor).fit(known[FEATURES], known["score"]).predict(asked[FEATURES])
    assert_lower((predicted - asked["score"]) ** 2, (known["score"].mean() - asked["score"]) ** 2)
    assert new[FEATURES].isna().to_numpy().any()


def test_a_table_keeps_its_columns(school_regressor, schools):
    assert list(school_regressor.feature_names_in_) == FEATURES
    assert school_regressor.n_features_in_ == 2
    renamed = schools[FEATURES].rename(columns={"hours": "minutes"})
    with pytest.raises(ValueError, match="feature names should match"):
        clone(school_regressor).fit(renamed, schools["score"])
    with pytest.raises(ValueError, match="feature names should match"):
        clone(school_regressor).fit(schools[["hours"]], schools["score"])


def test_a_meta_trained_table_works_with_scikit_learns_tools(school_regressor):
    new = school_table(n_schools=1, rows=60, seed=9)
    predicted = cross_val_predict(school_regressor, new[FEATURES], new["score"], cv=3)
    assert_lower((predicted - new["score"]) ** 2, (new["score"].mean() - new["score"]) ** 2)


def test_classes_of_a_table_are_those_of_the_support_set(schools):
    estimator = grade_classifier("prototypical", schools)
    new = school_table(n_schools=1, rows=12, seed=4)[FEATURES]
    estimator.fit(new, ["A", "C"] * 6)
    assert list(estimator.classes_) == ["A", "C"]
    assert estimator.predict_proba(new).shape == (12, 2)
    assert set(estimator.predict(new)) <= {"A", "C"}


def test_a_learner_that_knows_the_classes_may_predict_one_the_support_lacks(schools):
    estimator = grade_classifier("sklearn_pooled", schools)
    new = school_table(n_schools=1, rows=12, seed=4)[FEATURES]
    estimator.fit(new, ["A"] * 12)
    assert list(estimator.classes_) == ["A", "B", "C"]
    assert estimator.predict_proba(new).shape == (12, 3)


def test_labels_that_meta_training_did_not_know_are_named(schools):
    estimator = grade_classifier("prototypical", schools)
    new = school_table(n_schools=1, rows=4, seed=4)[FEATURES]
    with pytest.raises(am.InvalidData, match="class 'F'"):
        estimator.fit(new, ["A", "F"] * 2)


@pytest.mark.thorough
def test_a_table_may_be_an_array(schools):
    X = np.column_stack([schools["hours"].fillna(0), schools["kind"] == "day"]).astype(float)
    estimator = am.FewShotRegressor(max_steps=2, tasks_per_step=2, random_state=0)
    estimator.meta_fit(X, schools["score"].to_numpy(), task=schools["school"].to_numpy(), n_shot=4, n_query=4)
    assert estimator.fit(X[:5], schools["score"][:5]).predict(X).shape == (len(X),)


@pytest.mark.thorough
def test_columns_named_like_target_and_task_are_features(schools):
    frame = schools.rename(columns={"hours": "task", "kind": "target"})
    estimator = am.FewShotRegressor(max_steps=1, tasks_per_step=2, random_state=0)
    estimator.meta_fit(frame[["task", "target"]], frame["score"], task=frame["school"], n_shot=5)
    assert list(estimator.feature_names_in_) == ["task", "target"]


# -------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (am.FewShotClassifier("prototypicall"), "did you mean 'prototypical'"),
        (
            am.FewShotRegressor("prototypical"),
            r"'prototypical' is for classification, not for regression; use another, such as 'ridge'\.$",
        ),
        (am.FewShotRegressor(am.make_learner("prototypical")), "'prototypical' is for classification"),
        (am.FewShotClassifier(3), "3 is no learner"),
        (am.FewShotClassifier(device="nowhere"), "device='nowhere'"),
        *(
            (am.FewShotClassifier(device=value), "device=.* is not a device; use")
            for value in (None, True, 2.5, b"cpu")
        ),
        (am.FewShotClassifier(precision="16"), "precision='16' must be"),
        (am.FewShotClassifier(precision=None), "precision=None must be"),
        *(
            (
                am.FewShotClassifier(random_state=value),
                r"random_state=.* must be an integer from 0 to 4294967295, or None",
            )
            for value in ("text", -1, 2.5, True, 2**32, [1], np.random.default_rng(0))
        ),
    ],
)
def test_a_wrong_parameter_is_named_at_fit(estimator, message):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(am.AutometaError, match=message):
        estimator.fit(X, y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"max_steps": -1}, "max_steps=-1 must be an integer of at least 0"),
        ({"max_steps": 2.5}, "max_steps=2.5 must be"),
        ({"tasks_per_step": 0}, "tasks_per_step=0 must be a positive integer"),
        ({"meta_optimizer": "sgdd"}, "meta-optimizer 'sgdd' is not installed"),
        ({"meta_optimizer": "reptile"}, "Reptile needs a learner that provides"),
        ({"learner": "in_contexd"}, "did you mean 'in_context'"),
        ({"random_state": -1}, "random_state=-1 must be an integer from 0 to"),
        ({"device": None}, "device=None is not a device"),
    ],
)
def test_a_wrong_parameter_is_named_before_meta_training(digits, params, message):
    with pytest.raises(am.AutometaError, match=message):
        am.FewShotClassifier(**params).meta_fit(digits)


def test_tasks_of_another_problem_name_the_right_estimator(digits):
    with pytest.raises(am.Incompatible, match="Sinusoid are regression and FewShotClassifier.*use FewShotRegressor"):
        am.FewShotClassifier().meta_fit("sinusoid")
    with pytest.raises(am.Incompatible, match="use FewShotClassifier"):
        am.FewShotRegressor().meta_fit(digits)


def test_what_is_no_task_distribution_is_refused(schools, digits):
    with pytest.raises(am.InvalidParameter, match=r"tasks=DataFrame is no task sampler.*meta_fit\(X, y, task=ids\)"):
        am.FewShotRegressor().meta_fit(schools)
    with pytest.raises(am.InvalidParameter, match="task=None: a table needs all three"):
        am.FewShotRegressor().meta_fit(schools[FEATURES], schools["score"])
    with pytest.raises(am.InvalidParameter, match="y=None: a table needs all three"):
        am.FewShotRegressor().meta_fit(schools[FEATURES], task=schools["school"])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        am.FewShotRegressor().meta_fit(schools[FEATURES], schools["score"], task=schools["school"][:-1])
    with pytest.raises(am.InvalidParameter, match="n_shot and n_query are for tables"):
        am.FewShotClassifier().meta_fit(digits, n_shot=3)


def test_one_class_is_not_enough(digit_classifier, letters):
    support, _, _, _ = letters
    for estimator in (clone(digit_classifier), am.FewShotClassifier()):
        with pytest.raises(am.InvalidData, match=r"one class only, 'a'; a classifier needs rows of at least 2 classes"):
            estimator.fit(support.reshape(15, -1), ["a"] * 15)


def test_another_number_of_features_than_in_meta_training_is_an_error(digit_classifier, letters, sine_regressor):
    support, labels, _, _ = letters
    with pytest.raises(ValueError, match=r"\(15, 9, 9\); this estimator was meta-trained on \('?n'?, 1, 8, 8\)"):
        clone(digit_classifier).fit(np.zeros((15, 9, 9)), labels)
    with pytest.raises(ValueError, match="63 features, but FewShotClassifier was meta-trained on 64"):
        clone(digit_classifier).fit(support.reshape(15, -1)[:, :63], labels)
    with pytest.raises(ValueError, match="2 features, but FewShotRegressor is expecting 1"):
        clone(sine_regressor).fit(np.zeros((3, 1)), np.arange(3.0)).predict(np.zeros((3, 2)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_missing_and_infinite_values_are_refused(digit_classifier, letters, sine_regressor, sine, bad):
    support, labels, _, _ = letters
    broken = support.copy()
    broken[0, 0, 0, 0] = bad
    with pytest.raises(ValueError, match="NaN|infinity"):
        clone(digit_classifier).fit(broken, labels)
    x, y, _, _ = sine
    with pytest.raises(ValueError, match="NaN|infinity"):
        clone(sine_regressor).fit(x, np.where(np.arange(len(y)) == 0, bad, y))


def test_infinite_values_in_a_table_name_the_column(school_regressor, schools):
    broken = schools[FEATURES].assign(hours=np.inf)
    with pytest.raises(am.InvalidData, match="column 'hours'"):
        clone(school_regressor).fit(broken, schools["score"])


def test_more_targets_than_meta_trained_are_refused(sine_regressor, sine):
    x, y, _, _ = sine
    with pytest.raises(am.InvalidData, match="2 targets per row; this estimator was meta-trained on 1"):
        clone(sine_regressor).fit(x, np.column_stack([y, y]))


def test_targets_that_are_no_numbers_are_refused():
    with pytest.raises(am.InvalidData, match="y holds 'a' in row 0 .* a regression needs numbers"):
        am.FewShotRegressor().fit(np.zeros((3, 2)), ["a", "b", "c"])


class Exploding(am.Learner):
    """A learner whose adaptation diverges."""

    def build(self, info):
        return nn.Identity()

    def adapt(self, module, support):
        return support.targets().sum(1)

    def predict(self, module, adapted, x):
        return torch.full((*x.shape[:2], adapted.shape[-1]), torch.nan, dtype=x.dtype)


def test_an_adaptation_that_diverged_is_an_error_and_not_a_class():
    X, y = load_iris(return_X_y=True)
    estimator = am.FewShotClassifier(Exploding()).fit(X, y)
    with pytest.raises(am.TrainingDiverged, match=r"Exploding adapted to values that are not finite; scale X\."):
        estimator.predict(X)


def test_nothing_warns_when_all_is_well(digit_classifier, letters):
    support, labels, query, _ = letters
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frozen = support.copy()
        frozen.flags.writeable = False
        clone(digit_classifier).fit(frozen, labels).predict(query)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, None),
        ({"learner__steps": 400}, r"adapted to values that are not finite; it was meta-trained with steps=2\."),
        ({"learner__steps": 400, "learner__first_order": True}, "meta-trained with first_order=False, steps=2"),
    ],
)
def test_a_fit_that_diverges_says_what_was_meta_trained(changed, message):
    tasks = am.make_tasks("sinusoid", n_shot=5)
    model = am.FewShotRegressor(am.make_learner("maml", steps=2, inner_lr=0.3), max_steps=0, random_state=0)
    model.meta_fit(tasks).set_params(**changed)
    X, y = np.linspace(-5, 5, 8)[:, None], 50 * np.sin(np.linspace(-5, 5, 8))
    if message is None:
        assert np.isfinite(model.fit(X, y).predict(X)).all()
    else:
        with pytest.raises(am.TrainingDiverged, match=message):
            model.fit(X, y)
        with pytest.raises(NotFittedError):
            model.predict(X)


@pytest.mark.parametrize("value", [0, 2**32 - 1, np.int64(3), None, np.random.RandomState(0), np.random])
def test_every_kind_of_random_state_is_taken(value):
    am.FewShotClassifier(random_state=value).fit(*load_iris(return_X_y=True))

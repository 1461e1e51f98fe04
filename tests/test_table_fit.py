"""A table of anything is fitted as it is, without meta-training."""

from __future__ import annotations

import dataclasses
import datetime as dt
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import autometa as am
from autometa.contracts.problems import PROBLEMS
from autometa.estimators.saved_state import _encode_affine, _plain_encoder
from autometa.estimators.state import Affine
from table_frames import StandInFrame

LEARNERS = {"classification": "prototypical", "regression": "ridge"}


def people(n: int = 40, seed: int = 0) -> dict[str, list[Any]]:
    """Columns of every kind; the target follows from the weight and the city."""
    rng = np.random.default_rng(seed)
    weight, city = rng.uniform(50, 90, n), rng.choice(["Oslo", "Rome", "Kyiv"], n)
    return {
        "weight": [None if missing else float(w) for w, missing in zip(weight, rng.random(n) < 0.1, strict=True)],
        "city": city.tolist(),
        "member": (rng.random(n) < 0.5).tolist(),
        "since": [dt.datetime(2020, 1, 1) + dt.timedelta(days=int(d)) for d in rng.integers(0, 900, n)],
        "plan": [
            None if missing else p for p, missing in zip(rng.choice(list("ab"), n), rng.random(n) < 0.3, strict=True)
        ],
        "country": ["no"] * n,
        "note": [None] * n,
        "target": (weight - 70 + 30 * (city == "Rome")).tolist(),
    }


def features(n: int = 40, seed: int = 0) -> pd.DataFrame:
    return pd.DataFrame(people(n, seed)).drop(columns="target")


def target(problem: str, n: int = 40, seed: int = 0) -> Any:
    y = np.array(people(n, seed)["target"])
    return y if problem == "regression" else np.where(y > 5, "heavy", "light")


def fitted(problem: str, X: Any, **params: Any) -> Any:
    return PROBLEMS[problem].estimator(LEARNERS[problem], random_state=0, **params).fit(X, target(problem))


@pytest.mark.parametrize("problem", LEARNERS)
def test_a_table_of_every_kind_of_column_is_learned(problem: str) -> None:
    estimator = fitted(problem, features())
    X, y = features(200, seed=1), target(problem, 200, seed=1)
    assert estimator.score(X, y) > {"classification": 0.7, "regression": 0.9}[problem]
    assert list(estimator.feature_names_in_) == list(X.columns)
    assert estimator.n_features_in_ == 7
    if problem == "classification":
        assert list(estimator.classes_) == ["heavy", "light"]


def containers() -> dict[str, Any]:
    columns = {name: values for name, values in people().items() if name != "target"}
    frame = pd.DataFrame(columns)
    made: dict[str, Any] = {
        "categories": frame.astype({"city": "category", "plan": "category"}),
        "nullable": frame.convert_dtypes(),
        "object array": frame.astype(object).to_numpy(),
        "lists": list(map(list, zip(*columns.values(), strict=True))),
        "stand-in": StandInFrame(columns),
    }
    try:
        import polars
        import pyarrow
    except ImportError:
        return made
    made["polars"], made["pyarrow"] = polars.DataFrame(columns), pyarrow.table(columns)
    made["pyarrow types"] = frame.drop(columns="note").convert_dtypes(dtype_backend="pyarrow").assign(note=None)
    return made


@pytest.mark.parametrize("container", containers())
def test_the_same_table_is_the_same_in_every_container(container: str) -> None:
    X = containers()[container]
    expected = fitted("regression", features()).predict(features())
    np.testing.assert_allclose(fitted("regression", X).predict(X), expected, rtol=1e-9)


@pytest.mark.parametrize("convert", [np.asarray, np.ndarray.tolist, pd.DataFrame, lambda X: X.astype(object)])
def test_numbers_are_the_same_however_they_come(convert: Any) -> None:
    X = np.random.default_rng(0).normal(size=(20, 3))
    X[3, 1] = np.nan
    expected = am.FewShotRegressor("ridge").fit(X, X[:, 0]).predict(X)
    found = am.FewShotRegressor("ridge").fit(convert(X), X[:, 0]).predict(convert(X))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_masked_value_is_missing() -> None:
    X = np.random.default_rng(0).normal(size=(20, 2))
    masked = np.ma.masked_array(X, mask=np.arange(40).reshape(20, 2) == 7)
    holed = np.where(masked.mask, np.nan, X)
    expected = am.FewShotRegressor("ridge").fit(holed, X[:, 0]).predict(holed)
    np.testing.assert_allclose(am.FewShotRegressor("ridge").fit(masked, X[:, 0]).predict(masked), expected, rtol=1e-9)


@pytest.mark.parametrize("problem", LEARNERS)
@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_few_rows_are_enough(problem: str, n: int) -> None:
    y = np.arange(n) % 2
    estimator = PROBLEMS[problem].estimator(LEARNERS[problem]).fit(features(n), y)
    assert np.isfinite(estimator.predict(features(9, seed=1))).all()


def test_what_is_predicted_for_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    estimator, X = fitted("regression", features()), features(20, seed=1)
    alone = np.concatenate([estimator.predict(X[i : i + 1]) for i in range(len(X))])
    np.testing.assert_array_equal(estimator.predict(X), alone)


def test_digits_that_float32_loses_are_kept() -> None:
    X = np.random.default_rng(0).normal(size=(30, 2))
    y = 3 * X[:, 0]
    estimator = am.FewShotRegressor(am.make_learner("ridge", regularization=1e-9)).fit(pd.DataFrame(X), y)
    assert np.abs(estimator.predict(pd.DataFrame(X)) - y).max() < 1e-8


def test_levels_never_seen_and_values_newly_missing_are_answered() -> None:
    estimator = fitted("classification", features())
    X = features(5, seed=1).assign(city="Lima", weight=None, member=[True, None, False, None, True], note="new")
    assert set(estimator.predict(X)) <= {"heavy", "light"}


def test_every_level_of_a_few_rows_has_a_feature() -> None:
    levels = [f"level {i}" for i in range(60)]
    X, y = pd.DataFrame({"code": levels, "n": 0.0}), np.arange(60.0)
    learner = am.make_learner("ridge", regularization=1e-6)
    np.testing.assert_allclose(am.FewShotRegressor(learner).fit(X, y).predict(X), y, atol=1e-3)
    many = pd.DataFrame({"code": [f"level {i % 500}" for i in range(1000)]})
    info = am.FewShotRegressor(learner).fit(many, np.arange(1000.0)).task_info_
    assert info.input_shape == (101,)  # the commonest and one for all others


def test_the_learner_is_told_the_kind_and_the_column_of_every_feature() -> None:
    info = fitted("regression", features()[["weight", "city"]]).task_info_
    assert info.feature_kinds == ("numeric", "missing", "categorical", "categorical", "categorical")
    assert info.feature_columns == (0, 0, 1, 1, 1)


@pytest.mark.parametrize("problem", LEARNERS)
def test_a_fitted_table_survives_files_pickles_and_clones(problem: str, tmp_path: Any) -> None:
    estimator, X = fitted(problem, features()), features(9, seed=1)
    estimator.save(tmp_path / "model.autometa")
    for other in (
        am.load(tmp_path / "model.autometa"),
        pickle.loads(pickle.dumps(estimator)),
        clone(estimator).fit(features(), target(problem)),
    ):
        np.testing.assert_array_equal(other.predict(X), estimator.predict(X))
        assert list(other.feature_names_in_) == list(X.columns)


def test_a_table_goes_through_scikit_learns_tools() -> None:
    model = make_pipeline(FunctionTransformer(), am.FewShotClassifier("prototypical"))
    assert cross_val_score(model, features(), target("classification"), cv=3).mean() > 0.7


@pytest.mark.parametrize(
    ("X", "match"),
    [
        (features().assign(weight=np.inf), "column 'weight' holds infinite values"),
        (np.full((40, 2), np.inf), "infinity"),
        (features().rename(columns={"city": 0}), "mixes column names"),
        (features()[[]], r"0 feature\(s\)"),
        (features()[:0], r"0 sample\(s\)"),
        (features().assign(city=[[1]] * 40), "column 'city' holds a list"),
    ],
)
def test_what_cannot_be_used_is_named(X: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        am.FewShotClassifier("prototypical").fit(X, target("classification"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda X: X.drop(columns="city"), "feature names should match"),
        (lambda X: X.assign(weight="much"), "column 'weight' was numeric"),
        (lambda X: X.assign(weight=-np.inf), "column 'weight' holds infinite values"),
        (lambda X: X[list(reversed(X.columns))], "order"),
    ],
)
def test_other_columns_than_those_fitted_are_refused(change: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        fitted("regression", features()).predict(change(features()))


def test_many_columns_of_numbers_are_encoded_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 6)) * [1, 1e200, 1, 1e-200, 0, 1]
    X[rng.random(X.shape) < 0.1] = np.nan
    X[:, 5] = np.nan
    # numbers as objects are encoded column by column
    array, frame = am.TableEncoder().fit(X), am.TableEncoder().fit(pd.DataFrame(X).astype(object))
    assert array.kinds_ == frame.kinds_
    for asked in (X, X[:3] * 2, np.zeros((1, 6))):
        expected = frame.transform(pd.DataFrame(asked).astype(object), dtype=np.float64)
        np.testing.assert_allclose(array.transform(asked, dtype=np.float64), expected, rtol=1e-12, atol=1e-12)
        assert array.transform(asked).dtype == np.float32


def test_files_of_earlier_versions_hold_means_and_scales(tmp_path: Any) -> None:
    X = np.random.default_rng(0).normal(3, 5, (20, 4))
    affine = Affine.standardising(X)
    encoder = _plain_encoder({"inputs": _encode_affine(affine), "info": {"input_shape": [4]}})
    assert encoder is not None
    np.testing.assert_array_equal(encoder.transform(X, dtype=np.float64), affine.encode(X))
    assert _plain_encoder({"inputs": None, "info": {"input_shape": [4]}}) is None


AUTO = """
import autometa as am
from autometa_plugins.optimization.ridge import Ridge
class Experts(Ridge):
    pass
@am.hookimpl
def autometa_learners():
    yield am.LearnerSpec(name="kernel_experts", factory=Experts, summary="Stands in.",
                         problems=frozenset({"classification", "regression"}))
"""


def test_auto_takes_the_learner_for_tables_until_meta_training(install: Any, monkeypatch: Any) -> None:
    name_table_learner(monkeypatch, "stand_in/kernel_experts")
    install("stand-in", "stand_in", AUTO)
    X = np.random.default_rng(0).normal(size=(20, 2))
    for estimator in (am.FewShotClassifier(), am.FewShotRegressor()):
        assert type(estimator.fit(X, X[:, 0] > 0).learner_).__name__ == "Experts"
    tasks = am.make_tasks("digits", n_way=2, n_shot=1, n_query=2)
    trained = am.FewShotClassifier(max_steps=1, tasks_per_step=1).meta_fit(tasks)
    support = tasks.sample(1, seed=0).support
    assert type(trained.fit(support.x[0], support.y[0]).learner_).__name__ == "Prototypical"


@pytest.mark.thorough
def test_auto_takes_mixed_effects_for_the_tasks_of_a_table() -> None:
    rng = np.random.default_rng(0)
    X, school = rng.normal(size=(60, 2)), np.repeat(np.arange(6), 10)
    frame = pd.DataFrame(X, columns=["a", "b"]).assign(school=school.astype(str), score=X[:, 0] + school)
    trained = am.FewShotRegressor(random_state=0).meta_fit(frame, "score", task="school", n_shot=3)
    sampler = am.make_tasks("table", data=frame, task="school", target="score", n_shot=3)
    for estimator in (trained, am.FewShotRegressor(random_state=0).meta_fit(sampler)):
        assert type(estimator.learner_).__name__ == "MixedEffects"
        assert type(estimator.fit(frame[["a", "b"]][:4], X[:4, 0]).learner_).__name__ == "MixedEffects"


def test_auto_takes_the_learner_of_the_problem_where_that_for_tables_is_not_installed(monkeypatch: Any) -> None:
    name_table_learner(monkeypatch, "nowhere/kernel_experts")
    X = np.random.default_rng(0).normal(size=(20, 2))
    assert type(am.FewShotClassifier().fit(X, X[:, 0] > 0).learner_).__name__ == "Prototypical"


def name_table_learner(monkeypatch: Any, name: str) -> None:
    for problem in list(PROBLEMS.values()):
        monkeypatch.setitem(PROBLEMS, problem.name, dataclasses.replace(problem, rows_learner=name))


def test_the_target_may_be_the_name_of_a_column() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=40), "b": rng.choice(["x", "z"], 40), "kind": ["u", "v"] * 20})
    table["score"] = table["a"] + (table["kind"] == "u")
    real = am.FewShotRegressor().fit(table, "score")
    assert real.feature_names_in_.tolist() == ["a", "b", "kind"]
    X = table.drop(columns="score")
    np.testing.assert_array_equal(real.predict(X), am.FewShotRegressor().fit(X, table["score"]).predict(X))
    assert real.score(table, "score") == real.score(X, table["score"])
    kinds = am.FewShotClassifier().fit(table, "kind")
    assert kinds.feature_names_in_.tolist() == ["a", "b", "score"]
    assert kinds.score(table, "kind") == kinds.score(table.drop(columns="kind"), table["kind"])
    with pytest.raises(am.InvalidData, match="y='knd' is no column of X; did you mean 'kind'"):
        am.FewShotClassifier().fit(table, "knd")

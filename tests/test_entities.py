"""Entities as they come: support sets of any size, and one table with all its entities."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import autometa as am
from autometa.contracts.problems import PROBLEMS
from tiers import first_by_default, representatives_by_default

LEARNERS = {
    "classification": ["prototypical", "ridge", "maml", "in_context", "sklearn", "sklearn_pooled"],
    "regression": ["ridge", "maml", "in_context", "cnp", "sklearn", "sklearn_pooled"],
}
EVERY = [(problem, learner) for problem, learners in LEARNERS.items() for learner in learners]
FEATURES = ["hours", "kind"]


def schools(n_schools: int = 14, seed: int = 0) -> pd.DataFrame:
    """Schools of 3 to 20 pupils; hours help in each, from a level of its own."""
    rng = np.random.default_rng(seed)
    sizes = np.linspace(3, 20, n_schools).astype(int)
    school = np.repeat(np.arange(n_schools), sizes)
    n = len(school)
    frame = pd.DataFrame({"school": [f"s{i}" for i in school], "hours": rng.uniform(0, 10, n)})
    frame["kind"] = rng.choice(["day", "night", None], n)
    frame["score"] = 50 + 3 * frame["hours"] + rng.normal(0, 12, n_schools)[school] + rng.normal(0, 1, n)
    frame["grade"] = np.where(frame["score"] > 75, "A", np.where(frame["score"] > 55, "B", "C"))
    return frame


def target(problem: str) -> str:
    return "score" if problem == "regression" else "grade"


def meta_trained(problem: str, learner: str, **params: Any) -> Any:
    estimator = PROBLEMS[problem].estimator(learner, max_steps=3, tasks_per_step=4, random_state=0, **params)
    frame = schools()
    return estimator.meta_fit(frame[FEATURES], frame[target(problem)], task=frame["school"], n_shot=2)


# support sets of any size


@pytest.mark.parametrize(("problem", "learner"), representatives_by_default(EVERY))
def test_a_support_of_any_rows_is_answered(problem: str, learner: str) -> None:
    estimator, new = meta_trained(problem, learner), schools(seed=1)
    rng = np.random.default_rng(0)
    for n in (0, 1, 2, 5, 5, 5):
        known = new.iloc[rng.choice(len(new), n, replace=False)]
        predicted = estimator.fit(known[FEATURES], known[target(problem)]).predict(new[FEATURES])
        if problem == "regression":
            assert np.isfinite(predicted).all()
            continue
        probabilities = estimator.predict_proba(new[FEATURES])
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        everything = n == 0 or learner in ("ridge", "sklearn_pooled")  # which know classes that a support lacks
        assert list(estimator.classes_) == (["A", "B", "C"] if everything else sorted(set(known["grade"])))
        assert set(predicted) <= set(estimator.classes_)


@pytest.mark.parametrize(("problem", "learner"), representatives_by_default(EVERY))
def test_no_row_is_answered_alike_by_fit_and_without_it(problem: str, learner: str, tmp_path: Any) -> None:
    estimator, new = meta_trained(problem, learner), schools(seed=1)
    directly = estimator.predict(new[FEATURES])
    estimator.save(tmp_path / "model.autometa")
    for other in (clone(estimator), am.load(tmp_path / "model.autometa"), pickle.loads(pickle.dumps(estimator))):
        np.testing.assert_array_equal(other.predict(new[FEATURES]), directly)
    fitted = estimator.fit(new[FEATURES][:0], new[target(problem)][:0])
    np.testing.assert_array_equal(fitted.predict(new[FEATURES]), directly)
    np.testing.assert_array_equal(clone(estimator).fit([], []).predict(new[FEATURES]), directly)
    fitted.save(tmp_path / "model.autometa")
    np.testing.assert_array_equal(am.load(tmp_path / "model.autometa").predict(new[FEATURES]), directly)


def test_without_a_row_the_mean_and_the_shares_of_the_classes_are_told() -> None:
    frame = schools()
    local, prototypes = meta_trained("regression", "sklearn"), meta_trained("classification", "prototypical")
    np.testing.assert_allclose(local.predict(frame[FEATURES]), frame["score"].mean(), rtol=1e-6)
    shares = frame["grade"].value_counts(normalize=True).sort_index()
    assert list(prototypes.classes_) == list(shares.index)
    np.testing.assert_allclose(prototypes.predict_proba(frame[FEATURES][:3]), [shares] * 3, rtol=1e-5)
    assert set(prototypes.predict(frame[FEATURES])) == {shares.idxmax()}


def test_a_learner_that_knows_the_population_answers_by_it() -> None:
    frame = schools(seed=1)
    estimator = meta_trained("regression", "sklearn_pooled", device="cpu")
    assert np.corrcoef(estimator.predict(frame[FEATURES]), frame["hours"])[0, 1] > 0.8
    assert np.ptp(estimator.predict(frame[FEATURES])) > 10


@pytest.mark.parametrize("estimator", [am.FewShotClassifier("ridge"), am.FewShotRegressor("ridge")])
def test_without_meta_training_nothing_is_answered_before_fit(estimator: Any) -> None:
    with pytest.raises(NotFittedError):
        estimator.predict([[1.0, 2.0]])
    with pytest.raises(ValueError, match="0 sample"):
        estimator.fit(np.empty((0, 2)), [])


def test_tasks_that_draw_their_classes_anew_have_no_population() -> None:
    tasks = am.make_tasks("digits", n_way=2, n_shot=1, n_query=2)
    estimator = am.FewShotClassifier("prototypical", max_steps=0).meta_fit(tasks)
    with pytest.raises(NotFittedError):
        estimator.predict(np.zeros((1, 64)))
    with pytest.raises(ValueError, match="0 sample"):
        estimator.fit(np.empty((0, 64)), [])
    with pytest.raises(ValueError, match="one class only"):
        estimator.fit(np.zeros((2, 64)), ["a", "a"])


def test_rows_that_are_none_must_have_the_columns_of_meta_training() -> None:
    estimator, frame = meta_trained("regression", "ridge"), schools()
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.fit(frame[["hours"]][:0], [])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        estimator.fit(frame[FEATURES][:0], [1.0])
    with pytest.raises(ValueError, match="0 rows"):
        estimator.predict(frame[FEATURES][:0])


class NeedsRows(type(am.make_learner("ridge"))):  # type: ignore[misc]
    needs_support = True


def test_a_learner_that_needs_rows_says_so() -> None:
    frame = schools()
    estimator = am.FewShotRegressor(NeedsRows(), max_steps=0)
    estimator.meta_fit(frame[FEATURES], frame["score"], task=frame["school"], n_shot=2)
    with pytest.raises(NotFittedError):
        estimator.predict(frame[FEATURES])
    with pytest.raises(am.InvalidData, match=r"NeedsRows cannot answer without any \(needs_support\)"):
        estimator.fit(frame[FEATURES][:0], [])
    estimator.fit(frame[FEATURES], frame["score"], task=frame["school"])
    with pytest.raises(am.InvalidData, match="entity 'new' was not among those fitted, and NeedsRows"):
        estimator.predict(frame[FEATURES][:2], task=["s1", "new"])
    assert estimator.predict(frame[FEATURES][:2], task=["s1", "s2"]).shape == (2,)


# every entity is trained on


def test_meta_fit_trains_on_every_entity() -> None:
    frame = schools()
    estimator = meta_trained("regression", "sklearn_pooled", device="cpu")
    assert estimator.task_info_.n_base_tasks == frame["school"].nunique()
    few = am.FewShotRegressor("ridge", max_steps=1, random_state=0)
    few.meta_fit(frame[FEATURES], frame["score"], task=frame["school"], n_shot=10)
    assert few.task_info_.n_base_tasks == frame["school"].nunique()  # also of fewer than 10 rows


def held(frame: pd.DataFrame, **params: Any) -> Any:
    return am.make_tasks("table", data=frame[["school", *FEATURES, "score"]], task="school", target="score", **params)


def test_entities_may_all_be_for_training() -> None:
    tasks = held(schools(), n_shot=2, valid_fraction=0, test_fraction=0)
    assert tasks.info.n_base_tasks == 14
    assert sorted(set(tasks.sample(14, seed=0).ids.tolist())) == list(range(14))
    for split in ("valid", "test"):
        with pytest.raises(am.InvalidParameter, match=f"split='{split}' has no task: {split}_fraction=0"):
            tasks.sample(1, split=split, seed=0)
    assert tasks.describe()["held out"] == {"valid": [], "test": []}
    only_test = held(schools(), n_shot=2, valid_fraction=0, test_fraction=0.2)
    assert len(only_test.sample(3, split="test", seed=0)) == 3


@pytest.mark.parametrize(("fractions", "least"), [((0, 0), 1), ((0, 0.2), 2), ((0.2, 0.2), 3)])
def test_as_many_entities_are_needed_as_there_are_splits(fractions: tuple[float, float], least: int) -> None:
    sizes = {"n_shot": 2, "valid_fraction": fractions[0], "test_fraction": fractions[1]}
    assert held(schools(least), **sizes).info.n_base_tasks == 1
    few = schools(least - 1) if least > 1 else schools()[:2]
    with pytest.raises(am.InvalidData, match="one is needed" if least == 1 else f"at least {least} are needed"):
        assert held(few, **sizes).info


def test_shots_are_drawn_as_people_have_them() -> None:
    frame = schools(40)
    table = {"data": frame[["school", *FEATURES, "grade"]], "task": "school", "target": "grade"}
    tasks = am.make_tasks("table", **table, n_shot=3, n_query=50, stratified=False, valid_fraction=0)
    batch = tasks.sample(32, seed=0)
    sizes = frame["school"].value_counts().to_numpy()
    assert (batch.support.mask.sum(1) == 3).all()
    assert set((batch.support.mask.sum(1) + batch.query.mask.sum(1)).tolist()) <= set(sizes.tolist())
    n_classes = (batch.support.one_hot().sum(1) > 0).sum(1)
    assert set(n_classes.tolist()) == {1, 2, 3}
    by_class = am.make_tasks("table", **table, n_shot=3, n_query=50).sample(8, seed=0)
    assert by_class.support.mask.sum(1).max() > 3
    with pytest.raises(am.InvalidParameter, match="stratified='no'"):
        assert am.make_tasks("table", **table, stratified="no").info


def test_an_entity_of_one_class_is_a_task_where_any_rows_are_drawn() -> None:
    frame = schools().assign(grade=lambda f: f["grade"].where(f["school"] != "s13", "A"))
    table = {"data": frame[["school", *FEATURES, "grade"]], "task": "school", "target": "grade", "n_shot": 2}
    assert am.make_tasks("table", **table).describe()["tasks left out"] == _of_one_class(frame)
    assert am.make_tasks("table", **table, stratified=False).describe()["tasks left out"] == 0
    assert am.make_tasks("table", **table, every_entity=True).describe()["tasks left out"] == 0


def _of_one_class(frame: pd.DataFrame) -> int:
    return int(frame.groupby("school")["grade"].nunique().eq(1).sum())


@pytest.mark.parametrize("column", ["score", "grade"])
def test_a_support_may_be_without_any_row(column: str) -> None:
    table = {"data": schools()[["school", *FEATURES, column]], "task": "school", "target": column, "n_query": 30}
    tasks = am.make_tasks("table", **table, n_shot=0, stratified=False)
    batch = tasks.sample(8, split="test", seed=0)
    assert not batch.support.mask.any()
    assert set(batch.query.mask.sum(1).tolist()) <= set(schools()["school"].value_counts())
    learner = am.make_learner("ridge")
    outcome = am.judge(learner, learner.build(tasks.info).eval(), batch)
    assert outcome.losses.isfinite().all()


def test_small_entities_give_all_rows_but_one() -> None:
    tasks = held(schools(), n_shot=8, n_query=4, every_entity=True, valid_fraction=0, test_fraction=0)
    assert tasks.describe()["tasks left out"] == 0
    batch = tasks.sample(40, seed=0)
    rows = schools()["school"].value_counts().to_numpy()
    assert sorted(set(batch.support.mask.sum(1).tolist())) == sorted({min(8, n - 1) for n in rows} & set(range(2, 9)))
    assert (batch.query.mask.sum(1) >= 1).all()


def test_meta_training_takes_any_rows() -> None:
    frame = schools()
    for learner in LEARNERS["classification"]:
        estimator = am.FewShotClassifier(learner, max_steps=2, tasks_per_step=8, random_state=0)
        estimator.meta_fit(frame[FEATURES], frame["grade"], task=frame["school"], n_shot=2, stratified=False)
        assert np.isfinite(estimator.history_["loss"]).all() if len(estimator.history_) else True
    with pytest.raises(am.InvalidParameter, match="for tables, so are stratified and order"):
        am.FewShotRegressor().meta_fit("sinusoid", stratified=False)


# one table, one fit


def whole(problem: str, learner: str, **params: Any) -> Any:
    estimator = PROBLEMS[problem].estimator(learner, max_steps=3, tasks_per_step=4, random_state=0, **params)
    frame = schools()
    return estimator.fit(frame[FEATURES], frame[target(problem)], task=frame["school"])


@pytest.mark.parametrize(("problem", "learner"), representatives_by_default(EVERY))
def test_every_row_is_answered_by_its_own_entity(problem: str, learner: str) -> None:
    estimator, frame, new = whole(problem, learner), schools(), schools(seed=1).sample(60, random_state=0)
    task = new["school"].where(np.arange(60) % 5 > 0, "another")
    together = estimator.predict_proba if problem == "classification" else estimator.predict
    found = together(new[FEATURES], task=task)
    for name in task.unique():
        known = frame[frame["school"] == name]
        alone = clone(estimator).fit(known[FEATURES], known[target(problem)])
        asked = new[(task == name).to_numpy()]
        expected = getattr(alone, together.__name__)(asked[FEATURES])
        if problem == "classification":
            every = np.zeros((len(asked), 3))
            every[:, np.searchsorted(estimator.classes_, alone.classes_)] = expected
            expected = every
        np.testing.assert_allclose(found[(task == name).to_numpy()], expected, rtol=1e-3, atol=1e-3)


def test_one_fit_knows_the_level_of_every_entity() -> None:
    estimator, new = whole("regression", "ridge", backbone="identity"), schools(seed=0)
    new["hours"] = np.random.default_rng(2).uniform(0, 10, len(new))
    level = schools().assign(rest=lambda f: f["score"] - 3 * f["hours"]).groupby("school")["rest"].mean()
    new["score"] = 3 * new["hours"] + level[new["school"]].to_numpy()
    assert estimator.score(new[FEATURES], new["score"], task=new["school"]) > 0.7
    assert estimator.score(new[FEATURES], new["score"]) < 0.1


@pytest.mark.parametrize(
    "learner", ["prototypical", pytest.param("mixed_effects", marks=pytest.mark.thorough), "sklearn_pooled"]
)
def test_a_class_that_only_an_entity_of_one_row_has_is_fitted(learner: str) -> None:
    one = pd.DataFrame({"school": ["s99"], "hours": [30.0], "kind": ["day"], "grade": ["D"]})
    frame = pd.concat([schools(), one], ignore_index=True)
    estimator = am.FewShotClassifier(learner, max_steps=2, tasks_per_step=4, random_state=0)
    estimator.fit(frame[FEATURES], frame["grade"], task=frame["school"])
    assert estimator.classes_.tolist() == ["A", "B", "C", "D"]
    assert estimator.task_info_.n_base_tasks == 15
    assert estimator.predict_proba(one[FEATURES], task=["s99"])[0].argmax() == 3


@pytest.mark.parametrize("problem", LEARNERS)
def test_one_fit_is_meta_fit_and_a_state_for_each_entity(problem: str, tmp_path: Any) -> None:
    estimator, frame = whole(problem, LEARNERS[problem][0]), schools()
    assert estimator.task_info_.n_base_tasks == 14
    assert list(estimator.feature_names_in_) == FEATURES
    predicted = estimator.predict(frame[FEATURES], task=frame["school"])
    estimator.save(tmp_path / "model.autometa")
    for other in (am.load(tmp_path / "model.autometa"), pickle.loads(pickle.dumps(estimator))):
        np.testing.assert_array_equal(other.predict(frame[FEATURES], task=frame["school"]), predicted)
    population = clone(estimator).predict(frame[FEATURES])
    nowhere = estimator.predict(frame[FEATURES], task=["nowhere"] * len(frame))
    missing = estimator.predict(frame[FEATURES], task=[None] * len(frame))
    for answer in (nowhere, missing, estimator.predict(frame[FEATURES])):
        if problem == "regression":
            np.testing.assert_allclose(answer, population, rtol=1e-5)
        else:
            np.testing.assert_array_equal(answer, population)


@pytest.mark.parametrize("convert", [np.array, list, lambda c: c.astype("category"), lambda c: c.str[1:].astype(int)])
def test_an_entity_is_known_by_its_name_however_it_comes(convert: Any) -> None:
    frame = schools()
    estimator = am.FewShotRegressor("ridge", max_steps=1, random_state=0)
    expected = whole("regression", "ridge").set_params().predict(frame[FEATURES], task=frame["school"])
    estimator = whole("regression", "ridge")
    refitted = clone(estimator).fit(frame[FEATURES], frame["score"], task=convert(frame["school"]))
    asked = refitted.predict(frame[FEATURES], task=convert(frame["school"]))
    assert asked.shape == expected.shape
    numbers = convert(frame["school"])
    if getattr(numbers, "dtype", None) == np.int64:  # numbers with missing ones become floats
        floats = numbers.astype(float).where(frame["school"] != "s3")
        same = (frame["school"] != "s3").to_numpy()
        np.testing.assert_allclose(refitted.predict(frame[FEATURES], task=floats)[same], asked[same], rtol=1e-4)


def test_the_entity_may_be_a_column_by_name() -> None:
    frame = schools()
    table = frame[["school", *FEATURES]]
    estimator = am.FewShotRegressor("ridge", max_steps=1, random_state=0).fit(table, frame["score"], task="school")
    expected = estimator.predict(frame[FEATURES], task=frame["school"])
    np.testing.assert_array_equal(estimator.predict(table, task="school"), expected)
    assert estimator.score(table, frame["score"], task="school") > 0.5
    with pytest.raises(am.InvalidData, match="task='scool' is no column of X; did you mean 'school'"):
        estimator.predict(table, task="scool")


def test_the_memory_of_many_entities_is_bounded(monkeypatch: Any) -> None:
    from autometa.estimators import asking

    estimator, frame = whole("regression", "ridge"), schools()
    expected = estimator.predict(frame[FEATURES], task=frame["school"])
    sizes = []
    read = asking._read
    monkeypatch.setattr(asking, "VALUES_AT_ONCE", 60)
    monkeypatch.setattr(asking, "_read", lambda fitted, x, how: sizes.append(x.size) or read(fitted, x, how))
    found = estimator.predict(frame[FEATURES], task=frame["school"])
    assert len(sizes) > 10
    assert max(sizes) <= 60
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_standard_deviation_is_told_for_each_entity() -> None:
    estimator, frame = whole("regression", "cnp"), schools()
    mean, deviation = estimator.predict(frame[FEATURES], return_std=True, task=frame["school"])
    np.testing.assert_allclose(mean, estimator.predict(frame[FEATURES], task=frame["school"]), rtol=1e-5)
    assert (deviation > 0).all()
    assert mean.shape == deviation.shape == (len(frame),)


@pytest.mark.parametrize(
    ("task", "match"),
    [
        (["s1"], "inconsistent numbers of samples"),
        ([None] + ["s1"] * 20, "task misses 1 values, the first in row 0"),
        ([{"s1"}] * 21, "task holds a set"),
    ],
)
def test_entities_that_cannot_be_used_are_named(task: Any, match: str) -> None:
    frame = schools()[:21]
    with pytest.raises(ValueError, match=match):
        am.FewShotRegressor("ridge", max_steps=1).fit(frame[FEATURES], frame["score"], task=task)


def test_an_entity_is_refused_where_one_task_was_fitted() -> None:
    frame = schools()
    estimator = am.FewShotRegressor("ridge").fit(frame[FEATURES], frame["score"])
    with pytest.raises(am.InvalidParameter, match="task is given to predict but was not to fit"):
        estimator.predict(frame[FEATURES], task=frame["school"])


@pytest.mark.parametrize("problem", LEARNERS)
@pytest.mark.parametrize("learner", first_by_default(1, ["ridge", "sklearn", "in_context"]))
def test_a_file_may_leave_the_support_rows_out(problem: str, learner: str, tmp_path: Any) -> None:
    estimator, frame = whole(problem, learner), schools()
    estimator.save(tmp_path / "all")
    estimator.save(tmp_path / "few", keep_support=False)
    bare = am.load(tmp_path / "few")
    np.testing.assert_array_equal(bare.predict(frame[FEATURES]), clone(estimator).predict(frame[FEATURES]))
    if problem == "classification":
        assert list(bare.classes_) == ["A", "B", "C"]
    known = frame[:5]
    found, expected = (e.fit(known[FEATURES], known[target(problem)]) for e in (bare, clone(estimator)))
    np.testing.assert_array_equal(found.predict(frame[FEATURES]), expected.predict(frame[FEATURES]))
    if learner == "sklearn":  # whose state is the rows themselves
        assert (tmp_path / "few").stat().st_size < (tmp_path / "all").stat().st_size / 1.5


def test_without_meta_training_a_file_holds_the_support_or_nothing(tmp_path: Any) -> None:
    estimator = am.FewShotRegressor("ridge").fit(np.eye(3), [1.0, 2.0, 3.0])
    with pytest.raises(am.InvalidParameter, match="keep_support=False would leave nothing"):
        estimator.save(tmp_path / "model", keep_support=False)
    with pytest.raises(NotFittedError):
        am.FewShotRegressor("ridge").save(tmp_path / "model", keep_support=False)


# in order


def dated() -> pd.DataFrame:
    """Schools whose rows come in any order; the number of a row is its day."""
    frame = schools().assign(day=lambda f: f.groupby("school").cumcount())
    return frame.sample(frac=1, random_state=0).reset_index(drop=True)


@pytest.mark.parametrize("column", ["score", "grade"])
@pytest.mark.parametrize("as_date", [False, True])
def test_the_support_is_the_earliest_rows(column: str, as_date: bool) -> None:
    frame = dated()
    start = pd.Timestamp("2024-01-01")
    frame["when"] = start + pd.to_timedelta(frame["day"], unit="D") if as_date else frame["day"]
    table = {"data": frame[["school", "hours", "day", "when", column]], "task": "school", "target": column}
    tasks = am.make_tasks("table", **table, n_shot=2, n_query=30, order="when", stratified=False)
    assert tasks.info.input_shape == (2,)  # what orders them is no feature
    day = tasks.encoder.columns_[1]
    for split in ("train", "test"):
        batch = tasks.sample(20, split=split, seed=0)
        days = {name: part.x[..., 1] * day.scale + day.mean for name, part in vars_of(batch).items()}
        np.testing.assert_allclose(days["support"], np.tile([0.0, 1.0], (20, 1)), atol=1e-4)
        assert (days["query"][batch.query.mask] > 1.5).all()


def vars_of(batch: am.TaskBatch) -> dict[str, am.Examples]:
    return {"support": batch.support, "query": batch.query}


def test_the_earliest_rows_of_each_class_are_taken_where_shots_are_of_classes() -> None:
    frame = dated()
    table = {"data": frame[["school", "day", "hours", "grade"]], "task": "school", "target": "grade"}
    tasks = am.make_tasks("table", **table, n_shot=1, n_query=30, order="day")
    first = frame.sort_values("day").groupby(["school", "grade"])["hours"].first()
    column = tasks.encoder.columns_[0]
    batch = tasks.sample(6, seed=0)
    hours = batch.support.x[..., 0] * column.scale + column.mean
    known = np.sort(first.to_numpy())
    for hour in hours[batch.support.mask].tolist():
        assert np.abs(known - hour).min() < 1e-3


def test_an_order_is_given_by_name_or_as_an_array() -> None:
    frame = dated()
    expected = am.FewShotRegressor("maml", max_steps=2, random_state=0)
    expected.meta_fit(frame[FEATURES], frame["score"], task=frame["school"], order=frame["day"], n_shot=2)
    table = frame[["school", *FEATURES, "day", "score"]]
    found = am.FewShotRegressor("maml", max_steps=2, random_state=0)
    found.meta_fit(table, "score", task="school", order="day", n_shot=2)
    np.testing.assert_array_equal(found.predict(frame[FEATURES]), expected.predict(frame[FEATURES]))
    whole = am.FewShotRegressor("ridge", max_steps=2, random_state=0).fit(table, "score", task="school", order="day")
    assert whole.n_features_in_ == 2


@pytest.mark.parametrize(
    ("order", "match"),
    [
        ("dya", "order='dya' is no column of X; did you mean 'day'"),
        ("school", "task and order are both 'school'"),
        ("kind", r"order misses \d+ values, the first in row \d+"),
        (list("ab") * 100, "inconsistent"),
    ],
)
def test_an_order_that_cannot_be_used_is_named(order: Any, match: str) -> None:
    frame = dated()[["school", *FEATURES, "day"]]
    with pytest.raises(ValueError, match=match):
        am.FewShotRegressor("ridge").fit(frame, dated()["score"], task="school", order=order)
    tasks = held(dated().assign(kind="day"), order="kind")
    with pytest.raises(am.InvalidData, match="neither of numbers nor of dates"):
        assert tasks.info
    with pytest.raises(am.InvalidParameter, match="order without task"):
        am.FewShotRegressor("ridge").fit(frame, dated()["score"], order="day")


@pytest.fixture
def routing() -> Any:
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("problem", first_by_default(1, LEARNERS))
def test_scikit_learns_tools_carry_the_entity(problem: str) -> None:
    frame = schools()
    X, y = frame[FEATURES], frame[target(problem)]
    few_shot = PROBLEMS[problem].estimator("ridge", max_steps=2, tasks_per_step=4, random_state=0)
    few_shot.set_fit_request(task=True).set_predict_request(task=True).set_score_request(task=True)
    model = make_pipeline(FunctionTransformer(), few_shot)
    expected = clone(few_shot).fit(X, y, task=frame["school"]).predict(X, task=frame["school"])
    found = model.fit(X, y, task=frame["school"]).predict(X, task=frame["school"])
    np.testing.assert_array_equal(found, expected)
    scores = cross_validate(model, X, y, params={"task": frame["school"]}, cv=2)["test_score"]
    assert np.isfinite(scores).all()
    groups = GroupKFold(2)
    unknown = cross_validate(
        model, X, y, params={"task": frame["school"], "groups": frame["school"]}, cv=groups, error_score="raise"
    )
    assert np.isfinite(unknown["test_score"]).all()
    search = GridSearchCV(few_shot, {"learner__regularization": [0.1, 10.0]}, cv=2, error_score="raise")
    search.fit(X, y, task=frame["school"])
    assert len(search.best_estimator_.predict(X, task=frame["school"])) == len(X)


def test_predict_before_fit_draws_no_random_number() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=60), "entity": np.repeat([f"e{i}" for i in range(6)], 10)})
    state = np.random.RandomState(0)
    made = am.FewShotRegressor("ridge", max_steps=2, random_state=state)
    made.meta_fit(frame[["x"]], 2 * frame["x"], task=frame["entity"], n_shot=2)
    before = state.get_state()[2]
    first, second = made.predict(frame[["x"]]), made.predict(frame[["x"]])
    assert state.get_state()[2] == before
    np.testing.assert_array_equal(first, second)


def test_a_number_of_rows_that_no_entity_has_is_the_most_that_any_can_give() -> None:
    frame = schools()
    tasks = held(frame, n_shot=500, every_entity=True, valid_fraction=0, test_fraction=0)
    most = frame.groupby("school").size().max() - 1
    with pytest.warns(UserWarning, match=f"n_shot=500 is more than any task can give: {most} is the most"):
        info = tasks.info
    assert info.n_shot == most
    assert tasks.sample(20, seed=0).support.mask.sum(1).max() == most
    with pytest.warns(UserWarning, match="n_shot=500 is more than any task can give"):
        am.FewShotRegressor("sklearn").meta_fit(frame, "score", task="school", n_shot=500)

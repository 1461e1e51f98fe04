"""``cross_validate_tasks``: meta-train on some entities, judge on new ones with a few labelled rows each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold, KFold, LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import autometa as am

SEEN: list[tuple[str, Any]] = []


class MeanOfSupport(RegressorMixin, BaseEstimator):
    """Predict the mean of the labelled rows, of none that of the entities met in meta-training; note all calls."""

    def meta_fit(self, X: Any, y: Any, *, task: Any, **sizes: Any) -> MeanOfSupport:
        SEEN.append(("meta_fit", (X, y, task, sizes)))
        self.population_ = float(np.mean(y))
        return self

    def fit(self, X: Any, y: Any) -> MeanOfSupport:
        SEEN.append(("fit", X))
        self.mean_ = float(np.mean(y)) if len(y) else self.population_
        return self

    def predict(self, X: Any) -> Any:
        SEEN.append(("predict", X))
        return np.full(len(X), self.mean_)

    def __sklearn_clone__(self) -> MeanOfSupport:
        copied = MeanOfSupport()
        vars(copied).update(vars(self))
        return copied


@pytest.fixture
def table() -> pd.DataFrame:
    """Ten schools of 4 to 13 rows, each with a level of its own."""
    rng = np.random.default_rng(0)
    school = np.repeat([f"s{i}" for i in range(10)], np.arange(4, 14))
    level = {name: rng.normal(0, 5) for name in np.unique(school)}
    frame = pd.DataFrame(
        {"school": school, "day": rng.permutation(len(school)), "hours": rng.uniform(0, 9, len(school))}
    )
    frame["score"] = frame["hours"] + frame["school"].map(level) + rng.normal(0, 1, len(school))
    return frame.sample(frac=1, random_state=0)


def test_every_entity_is_judged_once_on_rows_that_nothing_was_learned_from(table: pd.DataFrame) -> None:
    SEEN.clear()
    frame = am.cross_validate_tasks(MeanOfSupport(), table, "score", "school", cv=5, n_shot=3)
    assert sorted(frame["task"]) == sorted(table["school"].unique())
    assert (frame.groupby("fold").size() == 2).all()
    size = table.groupby("school").size()
    assert (frame.set_index("task")["n_query"] == (size - 3)[frame["task"]]).all()
    learned = [task for name, call in SEEN if name == "meta_fit" for task in [set(call[2])]]
    for fold, schools in frame.groupby("fold")["task"]:
        assert not learned[fold] & set(schools)
        assert len(learned[fold]) == 8
    assert all(list(call[0].columns) == ["day", "hours"] for name, call in SEEN if name == "meta_fit")
    support = [set(X["day"]) for name, X in SEEN if name == "fit"]
    query = [set(X["day"]) for name, X in SEEN if name == "predict"]
    for given, asked in zip(support, query[::2], strict=True):  # predict is called for each of two scores
        assert len(given) == 3
        assert not given & asked


def test_scores_are_those_of_the_rows(table: pd.DataFrame) -> None:
    frame = am.cross_validate_tasks(MeanOfSupport(), table, "score", "school", n_shot=np.array([0, 2]), order="day")
    for row in frame.itertuples():
        own = table[table["school"] == row.task].sort_values("day")["score"].to_numpy()
        rest = table[~table["school"].isin(frame.loc[frame["fold"] == row.fold, "task"])]["score"]
        mean = own[: row.n_shot].mean() if row.n_shot else rest.mean()
        assert row.n_query == len(own) - 2  # the same rows for both numbers
        np.testing.assert_allclose([row.mse, row.mae], [((own[2:] - mean) ** 2).mean(), abs(own[2:] - mean).mean()])


def test_fewer_labelled_rows_are_among_the_more_and_all_are_judged_on_the_same(table: pd.DataFrame) -> None:
    SEEN.clear()
    with pytest.warns(UserWarning, match=r"2 of 30 pairs of an entity .* are left out"):
        frame = am.cross_validate_tasks(MeanOfSupport(), table, "score", "school", n_shot=[5, 1, 2, 1])
    assert frame.groupby("n_shot").size().to_dict() == {1: 10, 2: 10, 5: 8}
    calls = iter([(name, set(X["day"])) for name, X in SEEN if name != "meta_fit"])
    for _, rows in frame.groupby("task", sort=False):
        before, asked = set[int](), None
        for shot in rows["n_shot"]:
            _, given = next(calls)
            assert before <= given
            assert len(given) == shot
            first, second = next(calls)[1], next(calls)[1]
            assert first == second
            assert asked in (None, first)
            before, asked = given, first


def test_an_estimator_without_meta_fit_is_the_pooled_model(table: pd.DataFrame) -> None:
    X, y, school = table[["hours"]], table["score"].to_numpy(), table["school"].to_numpy()
    frame = am.cross_validate_tasks(Ridge(), X, y, school, cv=LeaveOneGroupOut(), n_shot=0)
    for row in frame.itertuples():
        new = school == row.task
        predicted = Ridge().fit(X[~new], y[~new]).predict(X[new])
        assert row.mse == pytest.approx(np.mean((predicted - y[new]) ** 2))


def test_folds_are_those_of_a_splitter_or_of_pairs_of_rows(table: pd.DataFrame) -> None:
    folds = GroupKFold(3)
    pairs = list(folds.split(table, groups=table["school"]))
    by_splitter, by_pairs = (
        am.cross_validate_tasks(Ridge(), table[["hours"]], table["score"], table["school"], cv=cv, n_shot=1)
        for cv in (folds, pairs)
    )
    pd.testing.assert_frame_equal(by_splitter, by_pairs)
    tasks = np.unique(table["school"].to_numpy()[pairs[0][1]])
    assert sorted(by_pairs.loc[by_pairs["fold"] == 0, "task"]) == tasks.tolist()


def test_the_seed_decides_folds_and_labelled_rows(table: pd.DataFrame) -> None:
    first, again, other = (
        am.cross_validate_tasks(MeanOfSupport(), table, "score", "school", n_shot=2, random_state=seed)
        for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(first, again)
    assert not np.allclose(first.set_index("task")["mse"], other.set_index("task")["mse"].reindex(first["task"]))


@pytest.mark.thorough
def test_a_new_entity_gains_from_its_rows_and_beats_pooling() -> None:
    rng = np.random.default_rng(0)
    machine = np.repeat(np.arange(40), 14)
    X = pd.DataFrame({"load": rng.normal(size=560), "kind": rng.choice(["a", "b"], 560)})
    y = X["load"] + 2 * (X["kind"] == "a") + rng.normal(0, 2, 40)[machine] + rng.normal(0, 0.5, 560)
    mixed = am.FewShotRegressor(am.make_learner("mixed_effects", pool="mixed"), random_state=0)
    own = am.cross_validate_tasks(mixed, X, y, machine, n_shot=(0, 4), cv=2)
    pooled = am.cross_validate_tasks(Ridge(), X[["load"]], y, machine, n_shot=4, cv=2)
    few = own[own["n_shot"] == 4].set_index("task")["mae"]
    for control in (own[own["n_shot"] == 0].set_index("task")["mae"], pooled.set_index("task")["mae"]):
        gain = control - few
        assert gain.mean() > 4 * gain.std() / np.sqrt(len(gain))


def test_classes_are_judged_by_accuracy_and_log_loss() -> None:
    rng = np.random.default_rng(0)
    patient = np.repeat([f"p{i}" for i in range(12)], 10)
    X, y = rng.normal(size=(120, 2)), rng.choice(["ill", "well"], 120)
    frame = am.cross_validate_tasks(LogisticRegression(), X, y, patient, n_shot=2, cv=3)
    row = frame.iloc[0]
    new, fold = patient == row["task"], np.isin(patient, frame.loc[frame["fold"] == row["fold"], "task"])
    fitted = LogisticRegression().fit(X[~fold], y[~fold])
    # which two rows are labelled is drawn: the scores are those of some eight of the ten rows
    right = fitted.predict(X[new]) == y[new]
    assert row["n_query"] == 8
    assert round(8 * row["accuracy"]) in range(right.sum() - 2, right.sum() + 1)
    assert 0.3 < frame["log_loss"].mean() < 1.5
    few_shot = am.FewShotClassifier(am.make_learner("mixed_effects", pool="linear"), random_state=0)
    own = am.cross_validate_tasks(few_shot, X, y, patient, n_shot=(0, 1), cv=2)
    assert own["log_loss"].notna().all()
    assert len(own) == 24


def test_a_class_that_an_estimator_never_saw_has_almost_no_probability() -> None:
    class Always(ClassifierMixin, BaseEstimator):
        def fit(self, X: Any, y: Any) -> Always:
            self.classes_ = np.array(["a"])
            return self

        def predict(self, X: Any) -> Any:
            return np.full(len(X), "a")

        def predict_proba(self, X: Any) -> Any:
            return np.ones((len(X), 1))

    y = np.array(["a", "b"] * 6)
    frame = am.cross_validate_tasks(Always(), np.zeros((12, 1)), y, np.repeat(range(3), 4), n_shot=0, cv=3)
    assert frame["accuracy"].tolist() == [0.5] * 3
    np.testing.assert_allclose(frame["log_loss"], -np.log(1e-12) / 2)


@pytest.mark.thorough
def test_a_class_of_one_entity_alone_is_scored_on_and_loses_nothing() -> None:
    rng = np.random.default_rng(0)
    patient = np.repeat([f"p{i}" for i in range(9)], 10)
    X, y = rng.normal(size=(90, 2)), rng.choice(["ill", "well"], 90).astype(object)
    y[patient == "p3"] = "rare"
    few_shot = am.FewShotClassifier(am.make_learner("mixed_effects", pool="linear"), random_state=0)
    with pytest.warns(UserWarning, match="no entity to learn from has the class 'rare': 10 rows"):
        frame = am.cross_validate_tasks(few_shot, X, y, patient, n_shot=3, cv=3).set_index("task")
    assert len(frame) == 9
    assert frame["accuracy"]["p3"] == 0
    assert frame["log_loss"]["p3"] == pytest.approx(-np.log(1e-12))
    assert (frame["log_loss"].drop("p3") < 5).all()


def test_no_labelled_row_is_learned_for_from_entities_of_one_row() -> None:
    X, y = np.arange(12.0)[:, None], np.arange(12.0)
    few_shot = am.FewShotRegressor(am.make_learner("mixed_effects", pool="linear"), random_state=0)
    frame = am.cross_validate_tasks(few_shot, X, y, np.arange(12), n_shot=0, cv=3)
    assert len(frame) == 12
    assert frame["mae"].mean() < 2


def test_scoring_by_names_and_functions(table: pd.DataFrame) -> None:
    arguments = (MeanOfSupport(), table, "score", "school")
    both = am.cross_validate_tasks(*arguments, n_shot=3, scoring=["neg_mean_squared_error", "neg_max_error"])
    plain = am.cross_validate_tasks(*arguments, n_shot=3)
    np.testing.assert_allclose(both["neg_mean_squared_error"], -plain["mse"])

    def rows(estimator: Any, X: Any, y: Any) -> float:
        return float(len(y))

    own = am.cross_validate_tasks(*arguments, n_shot=3, scoring=rows)
    assert own["rows"].tolist() == own["n_query"].tolist()


def test_arguments_of_meta_fit_may_be_overridden(table: pd.DataFrame) -> None:
    SEEN.clear()
    arguments = (MeanOfSupport(), table, "score", "school")
    am.cross_validate_tasks(*arguments, n_shot=(0, 3), order="day", cv=2, meta_fit_params={"n_query": 7})
    sizes = SEEN[0][1][3]
    assert (sizes["n_shot"], sizes["stratified"], sizes["n_query"]) == (3, False, 7)
    assert sorted(sizes["order"]) == sorted(SEEN[0][1][0].index.map(table.reset_index()["day"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cv": 1}, "cv=1"),
        ({"cv": 11}, "cv=11 is more than the 10 entities"),
        ({"cv": "three"}, "cv='three' must be"),
        ({"cv": KFold(3).split(np.zeros(85))}, "on both sides; take one that keeps groups together"),
        ({"n_shot": -1}, "n_shot=-1"),
        ({"n_shot": 2.5}, "n_shot=2.5"),
        ({"n_shot": []}, "n_shot"),
        ({"n_shot": 13}, "no entity has more rows than that"),
        ({"scoring": 3}, "scoring=3 must be"),
        ({"scoring": ["accuracy", "acuracy"]}, "scoring='acuracy' is no scorer"),
        ({"random_state": None}, "random_state=None"),
        ({"estimator": Ridge}, "is no classifier and no regressor"),
        ({"estimator": make_pipeline(StandardScaler(), am.FewShotRegressor())}, "whose meta_fit a pipeline"),
        ({"task": "scool"}, "did you mean 'school'"),
        ({"task": None}, "task"),
        ({"y": None}, "y"),
        ({"order": pd.Series([pd.NaT] + [pd.Timestamp(2024, 1, 1)] * 84)}, "order misses 1 value"),
    ],
)
def test_bad_arguments_are_named(table: pd.DataFrame, change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"estimator": Ridge(), "X": table, "y": "score", "task": "school"} | change
    with pytest.raises(am.AutometaError, match=message):
        am.cross_validate_tasks(**arguments)

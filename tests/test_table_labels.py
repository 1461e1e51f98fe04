"""What targets and class labels of a table may be: one rule for meta_fit, fit, score and files."""

from __future__ import annotations

import datetime as dt
import warnings
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.model_selection import cross_val_predict
from sklearn.multiclass import OneVsRestClassifier

import autometa as am
from table_frames import StandInColumn, StandInFrame
from tiers import first_by_default

N_TASKS, ROWS = 12, 20
NEW = 60
"""Rows to fit on in place of a new task."""


def schools(seed: int = 0) -> pd.DataFrame:
    """Schools with a number and a category; the score follows both."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"school": np.repeat([f"s{i}" for i in range(N_TASKS)], ROWS)})
    frame["hours"] = rng.normal(size=len(frame))
    frame["kind"] = rng.choice(["day", "boarding"], len(frame))
    frame["score"] = 2 * frame["hours"] + (frame["kind"] == "day") + 0.1 * rng.normal(size=len(frame))
    return frame


FRAME = schools()
X, TASK, SCORE = FRAME[["hours", "kind"]], FRAME["school"], FRAME["score"]
HIGH = (SCORE.median() < SCORE).to_numpy()


def labelled(low: Any, high: Any, dtype: Any = object) -> pd.Series[Any]:
    values = np.empty(len(HIGH), dtype=object)
    for i, is_high in enumerate(HIGH):
        values[i] = high if is_high else low
    return pd.Series(values, dtype=dtype)


def classifier(learner: str = "prototypical", **options: Any) -> am.FewShotClassifier:
    return am.FewShotClassifier(learner, max_steps=2, tasks_per_step=2, device="cpu", random_state=0, **options)


def regressor() -> am.FewShotRegressor:
    return am.FewShotRegressor("ridge", max_steps=2, tasks_per_step=2, device="cpu", random_state=0)


# class labels


GOOD = {
    "str": labelled("low", "high"),
    "pandas str": labelled("low", "high", "str"),
    "string": labelled("low", "high", "string"),
    "category": labelled("low", "high", "category"),
    "category of int": labelled(3, 7, "category"),
    "int": labelled(3, 7, int),
    "object int": labelled(3, 7),
    "Int64": labelled(3, 7, "Int64"),
    "uint8": labelled(3, 7, "uint8"),
    "whole float": labelled(1.0, 2.0, float),
    "object float": labelled(1.0, 2),
    "bool": labelled(False, True, bool),
    "object bool": labelled(False, True),
    "numpy bool": labelled(np.False_, np.True_),
    "boolean": labelled(False, True, "boolean"),
    "Timestamp": labelled(pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-02 12:00")),
    "datetime64[ns]": labelled(pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-02"), "datetime64[ns]"),
    "datetime64[s]": labelled(pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-02"), "datetime64[s]"),
    "nanoseconds": labelled(pd.Timestamp(1), pd.Timestamp(2), "datetime64[ns]"),
    "date": labelled(dt.date(1500, 1, 1), dt.date(9999, 12, 31)),
    "datetime": labelled(dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 2)),
}


@pytest.mark.parametrize("name", first_by_default(8, GOOD))
def test_labels_are_taken_everywhere_and_saved(name, tmp_path):
    y = GOOD[name]
    trained = classifier().meta_fit(X, y, task=TASK, n_shot=3).fit(X[:NEW], y[:NEW])
    assert trained.score(X, y) > 0.8
    predicted = trained.predict(X)
    assert (predicted == am.read_target(y, "classification")[1]).mean() == trained.score(X, y)
    trained.save(tmp_path / "model.autometa")
    again = am.load(tmp_path / "model.autometa")
    assert again.classes_.dtype == trained.classes_.dtype
    np.testing.assert_array_equal(again.predict(X), predicted)
    assert again.fit(X[:NEW], list(y[:NEW])).score(X, y) == trained.score(X, y)
    assert classifier().fit(X[["hours"]], y).score(X[["hours"]], y) > 0.8  # without meta-training


BAD = {
    "0.5 in row 1": labelled(0.5, 1.0, float),
    "0.5 in row 1 ": labelled(0.5, 1.0),
    "b'high' in row 0": labelled(b"low", b"high"),
    "b'high' in row 0 ": np.array(labelled("low", "high"), dtype="S4"),
    r"\(1,\) in row 0": labelled((0,), (1,)),
    "Decimal": labelled(Decimal(0), Decimal(1)),
    "Fraction": labelled(Fraction(0), Fraction(1)),
    "Timestamp.*tz=": labelled(pd.Timestamp("2024-01-01", tz="UTC"), pd.Timestamp("2024-01-02", tz="UTC")),
    "datetime.*tzinfo": labelled(dt.datetime(2024, 1, 1, tzinfo=dt.UTC), dt.datetime(2024, 1, 2, tzinfo=dt.UTC)),
    "Timestamp.*tz= ": labelled(pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-02"), "datetime64[s]").dt.tz_localize(
        "Europe/Berlin"
    ),
    "Timedelta": labelled(pd.Timedelta(1), pd.Timedelta(2), "timedelta64[ns]"),
    "Period": labelled(pd.Period("2024"), pd.Period("2025")),
    "2j": labelled(1j, 2j, complex),
    "mixes labels of several types": labelled(1, "high"),
    "mixes labels of several types ": labelled(True, 2),
    "misses 1 values, the first in row 4": labelled("low", "high").where(np.arange(len(HIGH)) != 4),
}


@pytest.mark.parametrize("match", BAD)
def test_labels_of_other_types_are_refused_by_every_door(match, monkeypatch):
    y = BAD[match]
    train = am.FewShotClassifier.meta_fit.__globals__["MetaTraining"]
    with monkeypatch.context() as untrained:
        untrained.setitem(am.FewShotClassifier.meta_fit.__globals__, "MetaTraining", None)
        with pytest.raises(am.InvalidData, match=match.strip()):
            classifier().meta_fit(X, y, task=TASK, n_shot=3)
    assert am.FewShotClassifier.meta_fit.__globals__["MetaTraining"] is train
    with pytest.raises(am.InvalidData, match=match.strip()):
        am.read_target(y, "classification")
    for estimator, rows in (
        (classifier().meta_fit(X, HIGH, task=TASK, n_shot=3), X),
        (classifier(), X[["hours"]]),
    ):
        with pytest.raises(am.InvalidData, match=match.strip()):
            estimator.fit(rows, y)


def test_an_unknown_label_is_named_with_its_row():
    trained = classifier().meta_fit(X, GOOD["str"], task=TASK, n_shot=3)
    with pytest.raises(am.InvalidData, match=r"class 'hihg' in row 2 .*none of 'high', 'low'"):
        trained.fit(X[:4], ["low", "high", "hihg", "low"])


# targets of a regression


@pytest.mark.parametrize(
    "convert",
    [
        lambda v: v.astype(object),
        lambda v: v.map(lambda x: Decimal(repr(x))),
        lambda v: v.map(Fraction),
        lambda v: v.map(lambda x: Decimal(repr(x)) if x > 0 else x),
        lambda v: v.astype("Float64"),
        lambda v: list(v),
        lambda v: v.astype("category"),
        lambda v: [np.float64(x) for x in v],
        lambda v: StandInColumn(list(v)),
        lambda v: v.to_numpy()[:, None].ravel(),
    ],
)
def test_targets_of_any_type_of_number_are_the_same(convert):
    expected = regressor().meta_fit(X, SCORE, task=TASK, n_shot=5).fit(X[:9], SCORE[:9]).predict(X)
    got = regressor().meta_fit(X, convert(SCORE), task=TASK, n_shot=5).fit(X[:9], convert(SCORE[:9])).predict(X)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("whole", [lambda v: v.astype("Int64"), lambda v: v.astype(bool), lambda v: v.astype(object)])
def test_whole_numbers_and_booleans_are_targets_too(whole):
    y = whole(pd.Series(HIGH.astype(int)))
    trained = regressor().meta_fit(X, y, task=TASK, n_shot=5)
    expected = regressor().meta_fit(X, HIGH.astype(float), task=TASK, n_shot=5).fit(X[:9], HIGH[:9]).predict(X)
    np.testing.assert_allclose(trained.fit(X[:9], y[:9]).predict(X), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ("n.d.", r"y holds 'n.d.' in row 17 .*while 239 of 240 are numbers"),
        ("1,234", r"y holds '1,234' in row 17"),
        ("5%", r"y holds '5%' in row 17"),
        ("5", r"y holds the text '5' in row 17.*pd.to_numeric"),
        (None, r"y misses 1 values, the first in row 17"),
        (10**400, r"y holds infinite values, the first in row 17"),
        (Decimal("Infinity"), r"y holds infinite values, the first in row 17"),
        (dt.date(2024, 1, 1), r"y holds datetime.date\(2024, 1, 1\) in row 17"),
        (1j, r"y holds 1j|complex"),
        ((1.0,), r"y holds \(1.0,\) in row 17"),
    ],
)
def test_targets_that_are_no_numbers_are_named_by_every_door(bad, match):
    y = SCORE.astype(object).copy()
    y[17] = bad
    with pytest.raises(am.InvalidData, match=match):
        regressor().meta_fit(X, y, task=TASK, n_shot=5)
    for estimator, rows in ((regressor().meta_fit(X, SCORE, task=TASK, n_shot=5), X), (regressor(), X[["hours"]])):
        with pytest.raises(am.InvalidData, match=match):
            estimator.fit(rows, y)
    data = FRAME.assign(score=y)
    with pytest.raises(am.InvalidData, match="column 'score'"):
        _ = am.make_tasks("table", data=data, task="school", target="score", n_shot=5, problem="regression").info


@pytest.mark.parametrize("dates", ["datetime64[s]", "timedelta64[s]", object])
def test_dates_are_no_targets(dates):
    y = pd.Series(pd.date_range("2024-01-01", periods=len(X)))
    y = (y - pd.Timestamp("2023-01-01")).astype(dates) if dates == "timedelta64[s]" else y.astype(dates)
    for fit in (lambda: regressor().meta_fit(X, y, task=TASK, n_shot=5), lambda: regressor().fit(X[["hours"]], y)):
        with pytest.raises(am.InvalidData, match="a regression needs numbers, such as"):
            fit()


def test_several_targets_are_read_column_by_column():
    y = pd.DataFrame({"a": SCORE.map(lambda v: Decimal(repr(v))), "b": SCORE.astype("Float32")})
    plain = am.FewShotRegressor().fit(X[["hours"]], y)
    expected = am.FewShotRegressor().fit(X[["hours"]], y.astype(float).to_numpy()).predict(X[["hours"]])
    np.testing.assert_allclose(plain.predict(X[["hours"]]), expected, rtol=1e-6)
    with pytest.raises(am.InvalidData, match="b holds 'x' in row 3"):
        am.FewShotRegressor().fit(X[["hours"]], y.assign(b=y["b"].astype(object).where(y.index != 3, "x")))


# "auto" of a table


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([0, 1, 0], "classification"),
        ([0.5, 1.0, 0.5], "regression"),
        ([1, 2, 3], "regression"),
        (pd.Categorical([1, 2, 3]), "classification"),
        ([Decimal(1), 2.5, 3], "regression"),
        ([True, False, True], "classification"),
        (pd.Categorical(["1", "2", "3"]), "classification"),
        (["a", "b", "1"], "classification"),
        ([dt.date(2024, 1, 1), dt.date(2024, 1, 2), dt.date(2024, 1, 3)], "classification"),
    ],
)
def test_the_problem_follows_from_the_values(values, problem):
    assert am.read_target(values)[0] == problem


@pytest.mark.parametrize(
    "values", [np.array(["1.5", "2.7"]), ["1", "2", "3"], pd.Series(["1e3", None, "2"]), pd.Series([" 4", "-5"])]
)
def test_a_target_of_text_that_is_all_numbers_is_refused_unless_it_is_said_what_it_is(values):
    with pytest.raises(am.InvalidData, match=r"holds the text '.*' in row 0 .*to_numeric.*problem='classification'"):
        am.read_target(values)
    if pd.isna(values).any():
        return
    problem, labels = am.read_target(values, "classification")
    assert problem == "classification"
    assert list(labels) == list(values)
    with pytest.raises(am.InvalidData, match="convert it to numbers first"):
        am.read_target(values, "regression")


@pytest.mark.parametrize("odd", ["n.d.", "1,234", "5%", "-", "?"])
def test_a_target_that_is_mostly_numbers_is_refused_by_value_and_row(odd, tmp_path):
    data = FRAME.assign(score=SCORE.astype(object).where(FRAME.index != 17, odd))
    data.to_csv(tmp_path / "schools.csv", index=False)
    for given in (data, tmp_path / "schools.csv"):
        tasks = am.make_tasks("table", data=given, task="school", target="score", n_shot=5)
        pattern = rf"target column 'score' holds '{odd}' in row 17 .*problem='classification'".replace("?'", r"\?'", 1)
        with pytest.raises(am.InvalidData, match=pattern):
            _ = tasks.info


# scikit-learn's tools that number the labels


WRAPPERS = {
    "bagging": lambda c: BaggingClassifier(c, n_estimators=3, random_state=0),
    "voting": lambda c: VotingClassifier([("a", c), ("b", c)]),
    "soft voting": lambda c: VotingClassifier([("a", c), ("b", c)], voting="soft"),
    "stacking": lambda c: StackingClassifier([("a", c)], cv=2),
    "one against the rest": OneVsRestClassifier,
}


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("labels", first_by_default(1, ["str", "date", "object bool"]))
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("learner", first_by_default(1, ["prototypical", "maml"]))
def test_tools_that_number_the_labels_work(learner, wrapper, labels):
    y = am.read_target(GOOD[labels], "classification")[1]
    names, numbers = np.unique(y, return_inverse=True)
    trained, numbered = (classifier(learner).meta_fit(X, given, task=TASK, n_shot=3) for given in (y, numbers))
    wrapped = WRAPPERS[wrapper](trained).fit(X[:NEW], y[:NEW])
    expected = WRAPPERS[wrapper](numbered).fit(X[:NEW], numbers[:NEW])
    np.testing.assert_array_equal(wrapped.predict(X), names[expected.predict(X)])
    assert learner == "maml" or (wrapped.predict(X) == y).mean() > 0.7


@pytest.mark.parametrize("labels", [[1, 2], [0, 5], [1.0, 2.0]])
def test_a_number_that_is_no_label_is_never_taken_for_the_place_of_one(labels):
    trained = classifier("prototypical").meta_fit(X, np.asarray(labels)[HIGH.astype(int)], task=TASK, n_shot=3)
    wrong = HIGH[:NEW].astype(int) if 0 not in labels else 1 - HIGH[:NEW].astype(int)
    with pytest.raises(am.InvalidData, match="numbers in place of the classes .* meta_fit on labels 0, 1"):
        trained.fit(X[:NEW], wrong)
    with pytest.raises(am.InvalidData, match="numbers in place of the classes"):
        VotingClassifier([("a", trained)]).fit(X[:NEW], np.asarray(labels)[HIGH[:NEW].astype(int)])


@pytest.mark.parametrize(("names", "given"), [("123", [1, 2]), ("123", [0, 2]), (["01", "2.0", "3"], [1, 2])])
def test_a_number_whose_text_is_a_label_is_no_place(names, given):
    y = pd.cut(SCORE, [-np.inf, -1, 1, np.inf], labels=list(names)).astype(str).to_numpy()
    trained = classifier("prototypical").meta_fit(X, y, task=TASK, n_shot=2)
    with pytest.raises(am.InvalidData, match="which is none of '0?1'"):
        trained.fit(X[:NEW], np.asarray(given)[HIGH[:NEW].astype(int)])
    assert set(trained.fit(X[:NEW], y[:NEW]).classes_) == set(names)


def test_places_are_taken_where_no_label_reads_as_one_of_them():
    y = np.asarray(["10", "20"], dtype=object)[HIGH.astype(int)]
    trained = classifier("prototypical").meta_fit(X, y, task=TASK, n_shot=3)
    voting = VotingClassifier([("a", trained)]).fit(X[:NEW], y[:NEW])
    assert (voting.predict(X) == y).mean() > 0.7


@pytest.mark.parametrize("learner", first_by_default(1, ["prototypical", "auto"]))
def test_three_classes_are_numbered_and_named_again(learner):
    y = pd.cut(SCORE, [-np.inf, -1, 1, np.inf], labels=["C", "B", "A"]).astype(str).to_numpy()
    trained = classifier(learner).meta_fit(X, y, task=TASK, n_shot=2)
    proba = cross_val_predict(trained, X[:NEW], y[:NEW], method="predict_proba", cv=3)
    assert proba.shape == (NEW, 3)
    assert (np.unique(y)[proba.argmax(1)] == y[:NEW]).mean() > 0.6
    two = np.flatnonzero(y != "B")
    voting = VotingClassifier([("a", trained)], voting="soft")
    if trained.learner_.predicts_unseen_classes:  # which two of the three are meant is not told
        with pytest.raises(am.InvalidData, match=r"numbers in place of the classes \['A', 'B', 'C'\]"):
            voting.fit(X.iloc[two], y[two])
    else:
        assert set(voting.fit(X.iloc[two], y[two]).predict(X)) == {"A", "C"}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_a_learner_that_answers_for_all_classes_can_be_wrapped_where_each_fit_sees_all(wrapper):
    for y in (np.asarray(GOOD["str"]), HIGH.astype(int)):
        trained = classifier("sklearn_pooled").meta_fit(X, y, task=TASK, n_shot=3)
        assert WRAPPERS[wrapper](trained).fit(X[:NEW], y[:NEW]).score(X, y) > 0.7


# X, y and task of meta_fit


@pytest.mark.parametrize("as_given", [lambda f: f, lambda f: StandInFrame({n: f[n].tolist() for n in f.columns})])
def test_task_and_target_may_be_columns_by_name(as_given):
    expected = regressor().meta_fit(X, SCORE, task=TASK, n_shot=5)
    for tasks, y in ((FRAME.drop(columns="score"), SCORE), (FRAME, "score")):
        named = regressor().meta_fit(as_given(tasks), y, task="school", n_shot=5)
        assert list(named.feature_names_in_) == ["hours", "kind"]
        np.testing.assert_array_equal(named.fit(X[:9], SCORE[:9]).predict(X), expected.fit(X[:9], SCORE[:9]).predict(X))


def test_a_column_of_an_array_is_named_by_its_number():
    rows = np.column_stack([FRAME["hours"], np.repeat(np.arange(N_TASKS), ROWS)])
    assert regressor().meta_fit(rows, SCORE, task=1, n_shot=5).n_features_in_ == 1


def test_a_name_that_is_no_column_is_refused_with_the_nearest():
    with pytest.raises(am.InvalidData, match="task='shcool' is no column of X; did you mean 'school'"):
        regressor().meta_fit(FRAME, "score", task="shcool")
    with pytest.raises(am.InvalidData, match="y='mark' is no column of X; it has 'school'"):
        regressor().meta_fit(FRAME, "mark", task="school")
    with pytest.raises(am.InvalidParameter, match="both 'school'"):
        regressor().meta_fit(FRAME, "school", task="school")


def test_mixed_column_names_are_refused_before_meta_training():
    with pytest.raises(am.InvalidData, match="mixes column names"):
        regressor().set_params(max_steps=10**9).meta_fit(X.rename(columns={"kind": 1}), SCORE, task=TASK, n_shot=5)


@pytest.mark.parametrize("library", ["polars", "pyarrow", "stand-in"])
def test_frames_of_other_libraries_are_meta_trained_on_and_fitted(library):
    def frame(given: pd.DataFrame) -> Any:
        columns = {name: given[name].tolist() for name in given.columns}
        if library == "stand-in":
            return StandInFrame(columns)
        module = pytest.importorskip(library)
        return module.DataFrame(columns) if library == "polars" else module.table(columns)

    table = frame(FRAME)
    trained = regressor().meta_fit(frame(X), table["score"], task=table["school"], n_shot=5)
    expected = regressor().meta_fit(X, SCORE, task=TASK, n_shot=5).fit(X[:9], SCORE[:9]).predict(X)
    assert list(trained.feature_names_in_) == ["hours", "kind"]
    np.testing.assert_array_equal(trained.fit(frame(X[:9]), frame(FRAME[:9])["score"]).predict(frame(X)), expected)
    sampler = am.make_tasks("table", data=table, task="school", target="score", n_shot=5)
    assert (
        sampler.encoder.to_json()
        == am.make_tasks("table", data=FRAME, task="school", target="score", n_shot=5).encoder.to_json()
    )


def test_lists_of_rows_are_the_same_as_their_frame():
    rows = X.to_numpy().tolist()
    trained = regressor().meta_fit(rows, list(SCORE), task=list(TASK), n_shot=5)
    expected = regressor().meta_fit(X, SCORE, task=TASK, n_shot=5).fit(X[:9], SCORE[:9]).predict(X)
    np.testing.assert_array_equal(trained.fit(rows[:9], list(SCORE[:9])).predict(rows), expected)


# n_shot left out


@pytest.mark.parametrize(("rows", "expected"), [(3, 1), (4, 2), (9, 4), (20, 10), (50, 10)])
def test_n_shot_left_out_is_half_of_the_median_task(rows, expected):
    sizes = np.array([rows] * 9 + [rows + 40, rows + 2])
    task = np.repeat(np.arange(len(sizes)), sizes)
    x = np.random.default_rng(0).normal(size=(len(task), 1))
    with pytest.warns(UserWarning, match=f"n_shot was left out: {expected} support row.* the {rows} that") as said:
        trained = regressor().meta_fit(x, x[:, 0], task=task)
    assert len(said) == 1
    assert said[0].filename == __file__
    assert trained.task_info_.n_shot == expected


def test_n_shot_left_out_counts_rows_of_each_class():
    with pytest.warns(UserWarning, match="5 support rows of each task and class, half of the 10"):
        trained = classifier().meta_fit(X, GOOD["str"], task=TASK)
    assert trained.task_info_.n_shot == 5


def test_n_shot_that_is_given_is_not_spoken_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        regressor().meta_fit(X, SCORE, task=TASK, n_shot=4)


def test_the_estimator_that_chooses_its_learner_scores_by_the_same_rule():
    chosen = am.AutoFewShotClassifier(device="cpu", random_state=0)
    for name in ("object bool", "date"):
        assert chosen.fit(X[["hours"]], GOOD[name]).score(X[["hours"]], GOOD[name]) > 0.8


@pytest.mark.parametrize("value", [1e20, float(2**53 + 2)])
def test_a_float_too_large_to_be_told_from_the_next_is_no_label(value):
    with pytest.raises(am.InvalidData, match=r"Unknown label type: y holds [\d.e+]+ in row 1"):
        am.read_target([0.0, value, 1.0], "classification")


def test_a_list_of_names_is_no_name():
    for given in ({"task": ["school"], "y": "score"}, {"task": "school", "y": ["score"]}):
        with pytest.raises(am.InvalidParameter, match=r"(task|y)=\['\w+'\] is a list of names; give .*(task|y)='\w+'"):
            regressor().meta_fit(schools(), given["y"], task=given["task"])


def test_a_signaling_decimal_is_named_by_column_and_row():
    values = pd.Series([Decimal(1), Decimal("sNaN"), Decimal(3)], dtype=object)
    table = pd.DataFrame({"a": values})
    fitted = am.TableEncoder().fit(pd.DataFrame({"a": [1.0, 2.0]}))
    for door in (am.TableEncoder().fit, fitted.transform):
        with pytest.raises(am.InvalidData, match=r"column 'a' holds Decimal\('sNaN'\) in row 1"):
            door(table)
    with pytest.raises(am.InvalidData, match=r"y holds Decimal\('sNaN'\) in row 1"):
        am.read_target(values)
    for name in ("task", "y"):
        tasks = am.make_tasks(
            "table",
            data=pd.DataFrame({"task": [1, 2, 3], "y": 1, "x": 2}).assign(**{name: values}),
            task="task",
            target="y",
        )
        with pytest.raises(am.InvalidData, match=rf"column '{name}' holds Decimal\('sNaN'\) in row 1"):
            tasks.describe()

"""What the columns of a table may hold, in which containers, and how each kind becomes numbers."""

from __future__ import annotations

import datetime as dt
import warnings
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix, eye_array

import autometa as am
from autometa.tables.scale import standardise
from table_frames import StandInFrame

UTC = dt.UTC
BERLIN = dt.timezone(dt.timedelta(hours=1))


def column(values: Any, **options: Any) -> pd.DataFrame:
    return pd.DataFrame({"a": pd.Series(values, **options)})


def encoded(fitted: pd.DataFrame, given: pd.DataFrame | None = None) -> np.ndarray[Any, Any]:
    return am.TableEncoder().fit(fitted).transform(fitted if given is None else given)


def kind(frame: pd.DataFrame) -> str:
    return am.TableEncoder().fit(frame).columns_[0].kind


# scales


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e-13, 1.0, 1e9, 1e39, 1e160, 5e307])
@pytest.mark.parametrize("offset", [0, 1])
def test_numbers_of_any_size_are_standardised(scale: float, offset: int) -> None:
    x = np.array([1.0, 2.0, 3.0]) + offset * 1e6 * (scale in (1e-13, 1.0, 1e9))
    expected = [-1.2247449, 0, 1.2247449]
    np.testing.assert_allclose(encoded(column(x * scale))[:, 0], expected, rtol=1e-3, atol=1e-6)
    target = am.TableEncoder().fit(column(x), x * scale, problem="regression")
    np.testing.assert_allclose(target.encode_target(x * scale), expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(target.decode_target(expected), x * scale, rtol=1e-6, atol=5e-324)


def test_what_is_no_number_is_standardised_without_a_warning() -> None:
    largest = np.finfo(np.float32).max
    for mean, expected in ((0.0, [largest, 1.0, np.nan]), (np.inf, [np.nan, -largest, np.nan])):
        np.testing.assert_array_equal(standardise(np.array([np.inf, 1.0, np.nan]), mean, 1.0), expected)


@pytest.mark.parametrize("value", [0.0, 0.1, -7e-200, 1e16 / 3, 1e300])
def test_a_constant_is_no_information_whatever_its_size(value: float) -> None:
    assert (encoded(column([value] * 7)) == 0).all()


@pytest.mark.parametrize("fitted", [[1.0, 2.0], [1e-300, 2e-300], [-1.7e308, 1.7e308], [0.0, 0.0]])
def test_what_is_far_outside_stays_finite(fitted: list[float]) -> None:
    far = column([1.7e308, -1.7e308, 1e39, 5e-324])
    result = encoded(column(fitted), far)
    assert np.isfinite(result).all()
    assert (np.diff(result[[1, 2, 0], 0].astype(float)) >= 0).all()


def test_a_power_of_two_changes_nothing_but_the_scale() -> None:
    x = np.random.default_rng(0).normal(3, 2, 50)
    np.testing.assert_array_equal(encoded(column(x)), encoded(column(x * 2.0**-900)))


@pytest.mark.parametrize("x", [[-1.7e308, -1.7e308, 1.7e308], [1.7e308, 1.7e308, -1.7e308], [1.7e308, -1e308, 0]])
def test_the_distance_from_the_mean_may_be_beyond_all_floats(x: list[float]) -> None:
    np.testing.assert_array_equal(encoded(column(x)), encoded(column(np.array(x) * 2.0**-900)))


@pytest.mark.parametrize("missing", [[], [np.nan]])
def test_two_numbers_in_the_middle_may_have_a_sum_that_no_float_holds(missing: list[float]) -> None:
    x = np.array([1.4e308, 1.5e308, 1.6e308, 1.7e308, *missing])
    np.testing.assert_array_equal(encoded(column(x)), encoded(column(x * 2.0**-900)))


@pytest.mark.parametrize("estimator", [am.FewShotRegressor(), am.FewShotClassifier()])
def test_plain_features_may_have_any_size(estimator: Any) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 2)), np.arange(30) % 2
    huge = estimator.fit(X * 1e160, y).predict(X * 1e160)
    np.testing.assert_allclose(huge, estimator.fit(X, y).predict(X), rtol=1e-6)


@pytest.mark.parametrize("estimator", [am.FewShotRegressor(), am.FewShotClassifier()])
@pytest.mark.parametrize("sizes", [[-1e308, 1e308], [-1.7e308, -1.7e308, 1.7e308, 1.7e308, 1.7e308], [1e308]])
def test_features_whose_sum_no_float_holds_are_used_without_a_warning(estimator: Any, sizes: list[float]) -> None:
    X = np.stack([np.resize(sizes, 40), np.random.default_rng(0).normal(size=40)], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = estimator.fit(X, np.arange(40) // 2 % 2)
        assert np.isfinite(fitted.predict(X)).all()


def test_targets_whose_sum_no_float_holds_are_refused_or_used_without_a_warning() -> None:
    X, y = np.random.default_rng(0).normal(size=(40, 2)), np.resize([-1.7e308, 1.7e308, 1.7e308], 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(am.InvalidData, match="y holds -1.7e\\+308 in row 0"):
            am.FewShotClassifier().fit(X, y)
        for targets in (y, np.stack([y, y], axis=1)):
            assert np.isfinite(am.FewShotRegressor().fit(X, targets).predict(X)).all()


# containers


ROWS = [[1.5, "u", True, dt.date(2024, 1, 1)], [2.5, "v", False, dt.date(2024, 1, 3)], [None, "u", None, None]]
NAMES = ["number", "text", "truth", "day"]


def by_column() -> dict[str, list[Any]]:
    return {name: [row[i] for row in ROWS] for i, name in enumerate(NAMES)}


def containers() -> dict[str, Any]:
    return {
        "DataFrame": pd.DataFrame(ROWS, columns=NAMES),
        "lists": ROWS,
        "tuples": tuple(map(tuple, ROWS)),
        "object array": np.array(ROWS, dtype=object),
        "arrays": [np.array(row, dtype=object) for row in ROWS],
        "dicts": [dict(zip(NAMES, row, strict=True)) for row in ROWS],
        "stand-in": StandInFrame(by_column()),
    }


@pytest.mark.parametrize("container", containers())
def test_the_same_rows_are_the_same_in_every_container(container: str) -> None:
    X = containers()[container]
    encoder = am.TableEncoder().fit(X)
    assert [c.kind for c in encoder.columns_] == ["numeric", "categorical", "categorical", "datetime"]
    expected = am.TableEncoder().fit(pd.DataFrame(ROWS, columns=NAMES)).transform(pd.DataFrame(ROWS, columns=NAMES))
    np.testing.assert_array_equal(encoder.transform(X), expected)
    named = container in ("DataFrame", "dicts", "stand-in")
    assert list(getattr(encoder, "feature_names_in_", [])) == (NAMES if named else [])
    alone = np.concatenate([encoder.transform(ROWS[i : i + 1]) for i in range(3)])
    np.testing.assert_array_equal(alone, expected)


def test_columns_of_rows_that_are_series_are_found_by_name() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": ["x", "y", "x"]})
    rows = [row for _, row in frame.iterrows()]
    encoder = am.TableEncoder().fit(rows)
    assert list(encoder.feature_names_in_) == ["a", "b"]
    swapped = [row[["b", "a"]] for row in rows]
    for given in (rows, swapped, frame[["b", "a"]], [dict(row) for row in swapped]):
        np.testing.assert_array_equal(encoder.transform(given), am.TableEncoder().fit(frame).transform(frame))
    assert not hasattr(am.TableEncoder().fit([pd.Series([1, 2]), pd.Series([3, 4])]), "feature_names_in_")


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_frames_of_other_libraries_keep_names_and_kinds(library: str) -> None:
    module = pytest.importorskip(library)
    X = module.DataFrame(by_column()) if library == "polars" else module.table(by_column())
    encoder = am.TableEncoder().fit(X)
    expected = am.TableEncoder().fit(pd.DataFrame(ROWS, columns=NAMES))
    assert [c.kind for c in encoder.columns_] == [c.kind for c in expected.columns_]
    assert list(encoder.feature_names_in_) == NAMES
    np.testing.assert_array_equal(encoder.transform(X), expected.transform(pd.DataFrame(ROWS, columns=NAMES)))


def test_columns_of_another_library_are_found_by_name() -> None:
    encoder = am.TableEncoder().fit(pd.DataFrame(ROWS, columns=NAMES))
    turned = StandInFrame(dict(reversed(by_column().items())))
    np.testing.assert_array_equal(encoder.transform(turned), encoder.transform(pd.DataFrame(ROWS, columns=NAMES)))


@pytest.mark.parametrize("X", [eye_array(3), csr_matrix(np.eye(3))])
def test_a_sparse_matrix_is_refused_by_name(X: Any) -> None:
    with pytest.raises(am.InvalidData, match="sparse matrix.*toarray"):
        am.TableEncoder().fit(X)


@pytest.mark.parametrize(
    ("X", "match"),
    [
        ([1.0, 2.0], "row 0 of the list is 1.0"),
        (["ab", "cd"], "row 0 of the list is 'ab'"),
        ([[1, 2], [3]], "row 0 has 2 columns, row 1 1"),
        ({"a": [1, 2]}, r"give pd.DataFrame\(X\)"),
        (np.zeros(3), "it has 1"),
        ([[], []], "no columns"),
        (np.zeros((2, 2, 2)), "it has 3"),
        (pd.DataFrame([[1, 2]], columns=["a", 1]), "mixes column names of several types, such as 'a' and 1"),
        (pd.DataFrame([[1, 2, 3]], columns=[None, 2, "b"]), "mixes column names"),
    ],
)
def test_what_is_no_table_is_refused_with_a_hint(X: Any, match: str) -> None:
    with pytest.raises(am.InvalidData, match=match):
        am.TableEncoder().fit(X)


@pytest.mark.parametrize("method", ["collect", "compute"])
def test_a_lazy_frame_is_refused_with_what_fills_it(method: str) -> None:
    lazy = type("LazyFrame", (), {method: lambda self: None})()
    with pytest.raises(am.InvalidData, match=rf"X is a lazy LazyFrame.*X.{method}\(\)"):
        am.TableEncoder().fit(lazy)


def test_an_array_of_strings_says_that_its_numbers_are_text() -> None:
    with pytest.warns(UserWarning, match="column '0' is taken as categories: it comes from an array of strings"):
        am.TableEncoder().fit(np.array([[1.5, "u"], [2.5, "v"]]))


def test_a_masked_array_has_missing_values() -> None:
    masked = np.ma.masked_array([[1.0], [2.0], [3.0]], mask=[[0], [1], [0]])
    np.testing.assert_array_equal(encoded(masked), encoded(column([1.0, np.nan, 3.0])))


# numbers


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([1, None, 3], dtype="Int64"),
        pd.Series([1, None, 3], dtype="UInt8"),
        pd.Series([1, None, 3], dtype="Float32"),
        pd.Series([1, None, 3], dtype="float16"),
        pd.Series([1, None, 3], dtype=object),
        pd.Series([1, np.nan, 3.0], dtype=object),
        pd.Series([Decimal(1), None, Decimal(3)], dtype=object),
        pd.Series([Decimal(1), np.nan, 3], dtype=object),
        pd.Series([Fraction(1), pd.NA, np.float32(3)], dtype=object),
        pd.Series(pd.arrays.SparseArray([1.0, np.nan, 3.0])),
    ],
    ids=lambda values: f"{values.dtype}-{values[0]!r}",
)
def test_numbers_of_any_type_are_numbers(values: pd.Series[Any]) -> None:
    np.testing.assert_array_equal(encoded(values.to_frame("a")), encoded(column([1.0, np.nan, 3.0])))


@pytest.mark.parametrize("value", [np.inf, Decimal("Infinity"), 10**400])
def test_what_no_float_can_hold_is_refused(value: Any) -> None:
    with pytest.raises(am.InvalidData, match="column 'a' holds infinite values, the first in row 1"):
        am.TableEncoder().fit(column([1, value], dtype=object))


# booleans


TRUTHS = {
    "bool": [True, False],
    "object": pd.Series([True, False], dtype=object),
    "boolean": pd.Series([True, False], dtype="boolean"),
    "int": [1, 0],
    "float": [1.0, 0.0],
    "Int8": pd.Series([1, 0], dtype="Int8"),
    "object int": pd.Series([1, 0], dtype=object),
    "category": pd.Series([True, False], dtype="category"),
    "text": ["True", "False"],
    "lower": ["true", "false"],
}


@pytest.mark.parametrize("given", TRUTHS)
@pytest.mark.parametrize("fitted", ["bool", "object", "boolean", "category", "text"])
def test_booleans_are_recognised_however_they_come(fitted: str, given: str) -> None:
    assert encoded(column(TRUTHS[fitted]), column(TRUTHS[given])).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("given", ["bool", "object", "boolean"])
@pytest.mark.parametrize("fitted", ["int", "float", "Int8", "object int"])
def test_a_column_of_zeros_and_ones_takes_booleans(fitted: str, given: str) -> None:
    np.testing.assert_array_equal(
        encoded(column(TRUTHS[fitted]), column(TRUTHS[given])), encoded(column(TRUTHS[fitted]))
    )


@pytest.mark.parametrize("given", [[2, 0], [0.5, 1], pd.Series([1, 7], dtype=object), ["yes", "no"], [True, "7"]])
def test_what_is_no_boolean_is_refused(given: Any) -> None:
    with pytest.raises(am.InvalidData, match="column 'a' held booleans .* and holds (2|0.5|7|'yes'|'7') in row"):
        encoded(column([True, False]), column(given))


@pytest.mark.parametrize("given", [[1, 2], [0.5, 0.1], [True, False], pd.to_datetime(["2024-01-01", "2024-01-02"])])
def test_a_column_of_text_that_becomes_another_type_is_refused(given: Any) -> None:
    with pytest.raises(
        am.InvalidData, match="column 'a' was categorical .* such as 'x', and is now (numeric|boolean|datetime)"
    ):
        encoded(column(["x", "y"]), column(given))


def test_text_that_was_true_or_false_may_be_something_else_later() -> None:
    assert encoded(column(["True", "False"]), column(["Unknown", "True"])).tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize("fitted", [["0", "1"], pd.Categorical([0, 1])])
def test_levels_zero_and_one_take_booleans(fitted: Any) -> None:
    assert encoded(column(fitted), column([True, False])).tolist() == [[0, 1], [1, 0]]


def test_levels_that_are_numbers_are_the_same_as_numbers_and_text() -> None:
    fitted = column(pd.Categorical([1, 2, 1]))
    for given in ([1, 2, 9], [1.0, 2.0, 9.0], ["1", "2", "9"], pd.Series([Decimal(1), np.float32(2), 9], dtype=object)):
        assert encoded(fitted, column(given)).tolist() == [[1, 0], [0, 1], [0, 0]]
    assert encoded(column([1.0, 2.0]), column([None, 1.0])).shape == (2, 1)


# empty columns


@pytest.mark.parametrize("empty", [[None, None], [np.nan, np.nan], pd.Series([None, None], dtype="category")])
@pytest.mark.parametrize("given", [["x", None], [3.5, None], [True, None], [dt.date(2024, 1, 1), None]])
def test_an_empty_column_has_no_kind_yet(empty: Any, given: Any) -> None:
    assert encoded(column(empty), column(given)).tolist() == [[0, 0], [0, 1]]


def test_an_empty_column_of_the_meta_train_tasks_may_hold_text_elsewhere() -> None:
    frame = pd.DataFrame({"task": np.repeat(list("abcdef"), 8), "x": np.arange(48.0), "y": np.arange(48.0) % 5})
    tasks = am.make_tasks("table", data=frame, task="task", target="y", n_shot=2)
    held_out = tasks.describe()["held out"]["test"]
    for value in ("text", 7, dt.date(2024, 1, 1)):
        note = frame["task"].map(lambda task, value=value: value if task in held_out else None).astype(object)
        sampled = am.make_tasks("table", data=frame.assign(note=note), task="task", target="y", n_shot=2)
        assert sampled.sample(2, split="test", seed=0).support.x.isfinite().all()


# dates


EPOCH = dt.date(1970, 1, 1)
DAYS = [(dt.date(1500, 6, 15) - EPOCH).days, 19_723.5, (dt.date(9999, 12, 31) - EPOCH).days]


def dates() -> dict[str, Any]:
    plain = [dt.datetime(1500, 6, 15), dt.datetime(2024, 1, 1, 12), dt.datetime(9999, 12, 31)]
    return {
        "datetime64[s]": np.array(plain, dtype="M8[s]"),
        "datetime64[us]": np.array(plain, dtype="M8[us]"),
        "datetime": pd.Series(plain, dtype=object),
        "zoned": pd.Series([value.replace(tzinfo=UTC) for value in plain], dtype=object),
        "Timestamp": pd.Series([pd.Timestamp(value) for value in plain], dtype=object),
        "numpy": pd.Series([np.datetime64(value) for value in plain], dtype=object),
        "text": ["1500-06-15", "2024-01-01T12:00", "9999-12-31 00:00:00"],
        "zoned text": ["1500-06-15T00:00Z", "2024-01-01 13:00:00+01:00", "9999-12-31T00:00:00.000+00:00"],
        "mixed": pd.Series([plain[0].date(), "2024-01-01 12:00", pd.Timestamp("9999-12-31")], dtype=object),
        "string": pd.Series(["1500-06-15", "2024-01-01 12:00", "9999-12-31"], dtype="string"),
    }


@pytest.mark.parametrize("given", dates())
@pytest.mark.parametrize("fitted", dates())
def test_dates_of_any_year_and_form_are_days(fitted: str, given: str) -> None:
    encoder = am.TableEncoder().fit(column(dates()[fitted]))
    (learned,) = encoder.columns_
    assert (learned.kind, learned.median) == ("datetime", DAYS[1])
    expected = (np.array(DAYS) - np.mean(DAYS)) / np.std(DAYS)
    np.testing.assert_allclose(encoder.transform(column(dates()[given]))[:, 0], expected, rtol=1e-6)


def test_days_follow_the_calendar_and_the_zone() -> None:
    values = pd.Series([dt.date(1970, 1, 2), dt.datetime(1970, 1, 2, 1, tzinfo=BERLIN), None], dtype=object)
    (learned,) = am.TableEncoder().fit(values.to_frame("a")).columns_
    assert (learned.kind, learned.mean, learned.has_missing) == ("datetime", 1.0, True)
    zoned = pd.Series(pd.to_datetime(["1970-01-02 01:00"])).dt.tz_localize("Europe/Berlin")
    assert am.TableEncoder().fit(zoned.to_frame("a")).columns_[0].mean == 1.0


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([dt.timedelta(days=1), dt.timedelta(days=300_000)], dtype=object),
        np.array([1, 300_000], dtype="m8[D]").astype("m8[s]"),
        pd.Series([pd.Timedelta(days=1), dt.timedelta(days=300_000)], dtype=object),
    ],
)
def test_durations_are_days(values: Any) -> None:
    (learned,) = am.TableEncoder().fit(column(values)).columns_
    assert (learned.kind, learned.mean) == ("timedelta", 150_000.5)


@pytest.mark.parametrize(
    "values",
    [["2024", "2025"], ["20240101", "20240102"], ["2024-01", "2024-02"], ["12:30", "13:00"], ["2024-W01", "a"]],
)
@pytest.mark.filterwarnings("ignore:column 'a' is taken as categories")
def test_text_that_is_no_whole_date_stays_text(values: list[str]) -> None:
    assert kind(column(values)) == "categorical"


@pytest.mark.parametrize(
    ("values", "odd"),
    [
        (["2024-01-01", "2024-01-02", "unknown"], "'unknown' in row 2"),
        (["2024-01-01", "2024-02-30", "2024-01-02"], "'2024-02-30' in row 1"),
        (["31.12.2024", "01.01.2025", "02.01.2025"], "'31.12.2024' in row 0"),
        (["12/31/2024", "1/1/2025"], "'12/31/2024' in row 0"),
        (["2024-1-5", "2024-12-5"], "'2024-1-5' in row 0"),
        (["31-Dec-2024", "1-Jan-2025"], "'31-Dec-2024' in row 0"),
        (["Dec 31, 2024", "Jan 1, 2025"], "'Dec 31, 2024' in row 0"),
        (["Tue, 31 December 2024"], "'Tue, 31 December 2024' in row 0"),
        (["20241231T235930"], "'20241231T235930' in row 0"),
        (["2024-12-31T23", "2025-01-01T01"], "'2024-12-31T23' in row 0"),
    ],
)
def test_text_that_is_mostly_dates_stays_text_with_a_warning(values: list[str], odd: str) -> None:
    with pytest.warns(UserWarning, match=f"column 'a' is taken as categories: it holds {odd} .*pd.to_datetime"):
        assert kind(column(values)) == "categorical"


def test_a_column_of_dates_names_what_is_none() -> None:
    with pytest.raises(am.InvalidData, match="column 'a' was datetime .* it holds 'soon' in row 1"):
        encoded(column(["2024-01-01", "2024-01-02"]), column(["2024-01-01", "soon"]))


# numbers written as text


@pytest.mark.parametrize(
    ("values", "odd"),
    [
        (["1.5", "2", "-"], "'-' in row 2 .*while 2 of 3 are numbers"),
        (["1", "n.d.", "3"], "'n.d.' in row 1"),
        ([1.5, 2.5, "?"], r"'\?' in row 2"),
        (["1,234", "5", "6"], "'1,234' in row 0 .*not read as numbers"),
        (["5%", "7%"], "'5%' in row 0"),
        (["$ 3", "$ 4.50"], r"'\$ 3' in row 0"),
        (["1,5", "2,5"], "'1,5' in row 0"),
        (["<0.1", "0.2", "0.3"], "'<0.1' in row 0"),
        (["1_000", "2_500"], "'1_000' in row 0"),
        (["1 kg", "2.5 kg"], "'1 kg' in row 0"),
        (["3 m/s", "5km/h"], "'3 m/s' in row 0"),
        (["1.5", "2.7", "3.1"], "the text '1.5' in row 0 .*all of its text is numbers"),
    ],
)
def test_text_that_is_mostly_numbers_stays_text_with_a_warning(values: list[Any], odd: str) -> None:
    with pytest.warns(UserWarning, match=f"column 'a' is taken as categories: it holds {odd}.*pd.to_numeric"):
        assert kind(column(values, dtype=object)) == "categorical"


@pytest.mark.parametrize(
    "values",
    [
        ["007", "012"],
        ["a", "b", "1"],
        ["x1", "x2"],
        ["1-2", "3-4"],
        ["v1.2.3", "2.0"],
        ["0", "1"],
        ["1A", "2B"],
        ["1 low", "2 high"],
        ["01234", "12345"],
        ["Mark 1", "Mars 2020"],
    ],
)
def test_text_that_is_meant_as_text_says_nothing(values: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kind(column(values)) == "categorical"


def test_times_of_the_day_stay_text_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="it holds '12:30' in row 0 .*not read as times.*pd.to_timedelta"):
        assert kind(column(["12:30", "9:05:10 pm"])) == "categorical"


def test_every_column_of_numbers_as_text_is_warned_of_once() -> None:
    with pytest.warns(UserWarning, match="holds the text .* is numbers") as warned:
        am.TableEncoder().fit([["1.5", "2"], ["2.5", "3"], ["7.25", "8"]])
    assert [str(warning.message)[:10] for warning in warned] == ["column '0'", "column '1'"]


@pytest.mark.parametrize("n_levels", [3, 30])
@pytest.mark.parametrize("convert", [int, float])
def test_codes_written_as_text_are_no_numbers(n_levels: int, convert: Any) -> None:
    codes = [f"{1234 + i:05d}" for i in range(n_levels)] + ["12345"]
    encoder = am.TableEncoder().fit(column(codes))
    for given in ([1234, 1235], [12345, 1234], pd.Series([1234, "01235"], dtype=object), pd.Categorical([1234])):
        frame = column(given)
        frame = frame.astype(convert) if frame["a"].dtype.kind == "i" else frame
        with pytest.raises(am.InvalidData, match=r"column 'a' was text .* such as '01\d+', and holds the number 1234"):
            encoder.transform(frame)
    assert encoder.transform(column(codes)).sum() == len(codes)


@pytest.mark.filterwarnings("ignore:column 'a' is taken as categories")
@pytest.mark.parametrize("fitted", [["1.5", "2.5"], [f"w{i}" for i in range(30)], [f"{i}.5" for i in range(30)]])
def test_numbers_that_are_the_text_of_no_level_change_the_kind(fitted: list[str]) -> None:
    with pytest.raises(am.InvalidData, match="column 'a' was categorical .*, and is now numeric"):
        encoded(column(fitted), column([1.75, 2.25]))


def test_rare_whole_numbers_share_the_column_of_other_levels() -> None:
    assert encoded(column(pd.Categorical(range(100, 130))), column([129])).tolist() == [[0.0] * 20 + [1.0]]


def test_a_value_that_is_no_number_is_named_wherever_its_task_falls() -> None:
    frame = pd.DataFrame({"task": np.repeat(list("abcdef"), 8), "x": np.arange(48), "y": np.arange(48.0)})
    for row in (0, 17, 47):
        text = frame["x"].astype(str).where(frame.index != row, "-")
        with pytest.warns(UserWarning, match=rf"column 'x' .* '-' in row {row} \(counted from 0\)"):
            _ = am.make_tasks("table", data=frame.assign(x=text), task="task", target="y", n_shot=2).info


def test_rows_are_named_as_in_the_table_given() -> None:
    frame = pd.DataFrame({"task": np.repeat(list("abcdef"), [1, 8, 8, 8, 8, 8]), "y": np.arange(41.0)})
    frame["x"] = pd.Series(range(41)).astype(str).where(frame.index != 17, "-")
    with pytest.warns(UserWarning, match="holds '-' in row 17, while"):  # the task of one row is left out
        _ = am.make_tasks("table", data=frame, task="task", target="y", n_shot=2).info
    with pytest.warns(UserWarning, match="holds '-' in row 'r17', while"):
        am.TableEncoder().fit(frame[["x"]].set_axis([f"r{i}" for i in range(41)]))


# other types, where pyarrow is installed


def test_arrow_columns_are_what_they_hold() -> None:
    pa = pytest.importorskip("pyarrow")
    values = {
        "numeric": pa.array([Decimal("1.5"), None]),
        "datetime": pa.array([dt.date(1500, 1, 1), None]),
        "timedelta": pa.array([dt.timedelta(days=1), None]),
        "categorical": pa.array([True, None]),
        "empty": pa.array([None, None]),
    }
    for expected, array in values.items():
        assert kind(column(pd.arrays.ArrowExtensionArray(array))) == expected
    moments = pa.array([dt.datetime(9999, 12, 31)], pa.timestamp("us", tz="Europe/Berlin"))
    assert am.TableEncoder().fit(column(pd.arrays.ArrowExtensionArray(moments))).columns_[0].mean == DAYS[2]
    labels = pd.arrays.ArrowExtensionArray(pa.array(["x", "y"]).dictionary_encode())
    assert encoded(column(labels), column(["x", "y"])).tolist() == [[1, 0], [0, 1]]


# what earlier versions wrote

EARLIER = (
    '{"format": 1, "max_levels": 20, "feature_names": ["n", "t", "f", "d", "e"], "columns": ['
    '{"name": "n", "kind": "numeric", "has_missing": true, "median": 2.5, "mean": 2.5, "scale": 1.224744871391589, '
    '"levels": [], "has_other": false}, '
    '{"name": "t", "kind": "categorical", "has_missing": false, "median": 0.0, "mean": 0.0, "scale": 1.0, '
    '"levels": ["x", "y"], "has_other": false}, '
    '{"name": "f", "kind": "categorical", "has_missing": false, "median": 0.0, "mean": 0.0, "scale": 1.0, '
    '"levels": ["False", "True"], "has_other": false}, '
    '{"name": "d", "kind": "datetime", "has_missing": false, "median": 19725.0, "mean": 19725.0, '
    '"scale": 1.632993161855452, "levels": [], "has_other": false}, '
    '{"name": "e", "kind": "numeric", "has_missing": true, "median": 0.0, "mean": 0.0, "scale": 1.0, "levels": [], '
    '"has_other": false}], '
    '"problem": "classification", "classes": ["a", "b"], "target_mean": 0.0, "target_scale": 1.0}'
)


def test_an_encoder_that_was_written_before_still_encodes() -> None:
    frame = pd.DataFrame(
        {
            "n": [1.0, None, 4.0],
            "t": ["x", "y", "x"],
            "f": [True, False, True],
            "d": pd.to_datetime(["2024-01-01", "2024-01-03", "2024-01-05"]),
            "e": [None] * 3,
        }
    )
    edge = 1.2247449159622192
    assert am.TableEncoder.from_json(EARLIER).transform(frame).tolist() == [
        [-edge, 0, 1, 0, 0, 1, -edge, 0, 1],
        [0, 1, 0, 1, 1, 0, 0, 0, 1],
        [edge, 0, 1, 0, 0, 1, edge, 0, 1],
    ]
    assert am.TableEncoder.from_json(EARLIER).encode_target(["b", "a"]).tolist() == [1, 0]

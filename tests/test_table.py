"""One table becomes tasks: encoding, splits by entity, ragged tasks, clear refusals."""

from __future__ import annotations

import doctest
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from autometa_plugins.tasks.table import Table

import autometa as am
from autometa.tables import encoder


def schools(n_schools: int = 15, seed: int = 0) -> pd.DataFrame:
    """Schools of 4 to 40 pupils: a number, a category, missing values; the row's own number as a feature."""
    generator = np.random.default_rng(seed)
    sizes = np.linspace(4, 40, n_schools).astype(int)
    frame = pd.DataFrame({"school": np.repeat([f"s{i:02d}" for i in range(n_schools)], sizes)})
    n = len(frame)
    frame["hours"] = generator.normal(10, 3, n)
    frame.loc[::9, "hours"] = np.nan
    frame["kind"] = generator.choice(["a", "b", "c"], n)
    frame["row"] = np.arange(n, dtype=float)
    frame["score"] = frame["row"] * 2.0 + 5.0
    return frame.sample(frac=1, random_state=0).reset_index(drop=True)


def grades(n_schools: int = 15) -> pd.DataFrame:
    frame = schools(n_schools)
    frame["score"] = np.where(frame["row"] % 5 == 0, "top", np.where(frame["row"] % 2 == 0, "mid", "low"))
    return frame


def make(frame: pd.DataFrame, **parameters: Any) -> Table:
    return Table(data=frame, task="school", target="score", **{"n_shot": 3, "n_query": 6, **parameters})


def row_numbers(sampler: Table, examples: am.Examples) -> list[list[int]]:
    """The feature "row" of every existing example, in its own units."""
    column = sampler.encoder.columns_[2]
    position = len(sampler.encoder.columns_[0].output_kinds) + len(sampler.encoder.columns_[1].output_kinds)
    values = (examples.x[..., position].double() * column.scale + column.mean).round().long()
    return [row[mask].tolist() for row, mask in zip(values, examples.mask, strict=True)]


def held_out(sampler: Table) -> list[str]:
    names = sampler.describe()["held out"]
    return [*names["valid"], *names["test"]]


# drawing


@pytest.mark.parametrize("frame", [schools(), grades()], ids=["regression", "classification"])
def test_support_and_query_are_different_rows_of_one_entity(frame: pd.DataFrame) -> None:
    sampler = make(frame)
    school_of = frame.set_index("row")["school"]
    for split in am.SPLITS:
        batch = sampler.sample(40, split=split, seed=0)
        pairs = zip(row_numbers(sampler, batch.support), row_numbers(sampler, batch.query), strict=True)
        for support, query in pairs:
            assert support
            assert query
            assert len(set(support + query)) == len(support) + len(query)
            assert len(set(school_of[support + query])) == 1


def test_entities_of_the_splits_are_disjoint_and_all_are_used() -> None:
    sampler = make(schools())
    ids = {split: set(sampler.sample(60, split=split, seed=0).ids.tolist()) for split in am.SPLITS}
    assert ids == {"train": set(range(9)), "valid": set(range(9, 12)), "test": set(range(12, 15))}
    assert sampler.info.n_base_tasks == 9
    other = make(schools(), split_seed=1)
    assert other.describe()["held out"] != sampler.describe()["held out"]


def test_all_entities_are_met_before_one_is_met_again() -> None:
    ids = make(schools()).sample(27, seed=4).ids
    assert ids is not None
    rounds = ids.view(3, 9)
    assert all(sorted(row.tolist()) == list(range(9)) for row in rounds)
    assert not torch.equal(rounds[0], rounds[1])


def test_an_entity_met_again_gives_new_rows() -> None:
    sampler = make(schools())
    batch = sampler.sample(18, seed=4)
    first, second = ((batch.ids == 0).nonzero().flatten()).tolist()
    drawn = row_numbers(sampler, batch.support)
    assert drawn[first] != drawn[second]


def test_small_tasks_are_padded_with_zeros_and_large_ones_capped() -> None:
    sampler = make(schools(), n_shot=3, n_query=20)
    batch = sampler.sample(15, seed=0)
    assert batch.support.mask.all()
    counts = batch.query.mask.sum(1)
    assert counts.max() == 20
    assert counts.min() < 20
    assert (batch.query.x[~batch.query.mask] == 0).all()
    assert (batch.query.y[~batch.query.mask] == 0).all()


def test_targets_are_standardised_and_the_scale_is_told() -> None:
    frame = schools()
    sampler = make(frame)
    batch = sampler.sample(9, seed=0)
    score = frame.set_index("row")["score"]
    decoded = sampler.encoder.decode_target(batch.support.y.flatten(1))
    for rows, values in zip(row_numbers(sampler, batch.support), decoded, strict=True):
        np.testing.assert_allclose(values, score[rows], rtol=1e-4)
    train = frame[~frame["school"].isin(held_out(sampler))]
    assert sampler.info.target_scale == pytest.approx(train["score"].std(ddof=0))


def test_classes_mean_the_same_in_every_task_and_each_has_its_shots() -> None:
    frame = grades()
    sampler = make(frame, n_shot=2)
    info = sampler.info
    assert (info.problem, info.shared_classes, info.n_outputs) == ("classification", True, 3)
    batch = sampler.sample(30, seed=0)
    assert batch.classes is None
    grade = frame.set_index("row")["score"]
    counts = frame.groupby("school")["score"].value_counts()
    for rows, y, mask in zip(row_numbers(sampler, batch.support), batch.support.y, batch.support.mask, strict=True):
        assert sampler.encoder.decode_target(y[mask].numpy()).tolist() == grade[rows].tolist()
        school = frame.set_index("row")["school"][rows[0]]
        for label, n in counts[school].items():
            assert (grade[rows] == label).sum() == min(2, max(n - 1, 1))


def test_entities_that_cannot_be_tasks_are_left_out_and_counted() -> None:
    frame = grades()
    frame.loc[frame["school"] == "s07", "score"] = "mid"
    assert make(frame, n_shot=3).describe()["tasks left out"] == 1
    assert make(schools(), n_shot=10).describe()["tasks left out"] == 3
    assert make(schools(), n_shot=10).sample(30, seed=0).support.mask.all()


def test_numbers_are_a_regression_and_two_values_are_classes() -> None:
    frame = schools()
    assert make(frame).info.problem == "regression"
    frame["score"] = (frame["row"] % 2).astype(int)
    assert make(frame).info.problem == "classification"
    assert make(frame, problem="regression").info.problem == "regression"


def test_a_csv_file_gives_the_tasks_of_its_frame(tmp_path: Path) -> None:
    frame = grades()
    frame.to_csv(tmp_path / "grades.csv", index=False)
    from_file = Table(data=tmp_path / "grades.csv", task="school", target="score", n_shot=3, n_query=6)
    a, b = (sampler.sample(5, seed=0) for sampler in (make(frame), from_file))
    assert torch.equal(a.query.x, b.query.x)
    assert torch.equal(a.query.y, b.query.y)


def test_nothing_of_held_out_entities_enters_the_encoder() -> None:
    frame = schools()
    changed = frame.copy()
    rows = changed["school"].isin(held_out(make(frame)))
    changed.loc[rows, "hours"] = 1e6
    changed.loc[rows, "kind"] = "never seen"
    changed.loc[rows, "score"] *= 50
    assert make(changed).encoder.to_json() == make(frame).encoder.to_json()


def test_rows_can_lie_on_another_device() -> None:
    tasks = make(schools())
    assert tasks.to("meta").sample(2, seed=0).query.x.device.type == "meta"
    assert tasks.sample(2, seed=0).query.x.device.type == "cpu"


@pytest.mark.parametrize("name", ["school_exam_ilea", "landmine_fields", "cracker_brand_choice", "pig_growth"])
def test_real_tables_become_tasks(data_root: Path, name: str) -> None:
    sampler = Table(data=data_root / "tables" / "grouped" / f"{name}.csv", task="task", target="target", n_shot=5)
    for split in am.SPLITS:
        batch = sampler.sample(30, split=split, seed=0)
        assert torch.isfinite(batch.support.x).all()
        assert batch.support.mask.any(1).all()
        assert batch.query.mask.any(1).all()


# refusals


def refused(error: type[Exception], match: str, frame: Any = None, **parameters: Any) -> None:
    full = {"data": schools() if frame is None else frame, "task": "school", "target": "score", "n_shot": 3}
    with pytest.raises(error, match=match):
        _ = Table(**{**full, **parameters}).info


def test_columns_that_are_not_there_are_named_with_the_nearest() -> None:
    refused(am.InvalidData, "task='schol' is no column.*did you mean 'school'", task="schol")
    refused(am.InvalidData, "target='mark' is no column.*'hours'", target="mark")
    refused(am.InvalidParameter, "both 'score'", task="score")
    refused(am.InvalidData, "no column beside", frame=schools()[["school", "score"]])


def test_targets_that_cannot_be_learned_are_refused() -> None:
    frame = schools()
    refused(am.InvalidData, "'score' is constant", frame=frame.assign(score=1.0))
    refused(am.InvalidData, "'score' is constant", frame=grades().assign(score="low"))
    refused(am.InvalidData, "'score' misses 1", frame=frame.assign(score=frame["score"].where(frame["row"] != 3)))
    infinite = frame.assign(score=frame["score"].where(frame["row"] > 30, np.inf))
    refused(am.InvalidData, "infinite", frame=infinite)
    refused(am.InvalidData, "'score' holds 'top' in row 0 .*a regression needs numbers", grades(), problem="regression")
    refused(am.InvalidParameter, "problem='ranking'", problem="ranking")


def test_tables_of_too_few_or_too_small_tasks_are_refused() -> None:
    refused(am.InvalidData, "has 2 tasks, of which 2 .*at least 3", frame=schools(2))
    refused(am.InvalidData, "of which 0 can be split into n_shot=40", n_shot=40)
    refused(
        am.InvalidData, "'school' misses 1", frame=schools().assign(school=lambda f: f["school"].where(f.index > 0))
    )


def test_infinite_features_are_refused_by_name() -> None:
    refused(am.InvalidData, "column 'hours' holds infinite", frame=schools().assign(hours=np.inf))


def test_data_that_are_no_table_are_refused(tmp_path: Path) -> None:
    refused(am.InvalidParameter, "data=None", data=None)
    refused(am.MissingData, "nowhere.csv", data="nowhere.csv")
    (tmp_path / "empty.csv").write_text("")
    refused(am.InvalidData, "empty.csv", data=tmp_path / "empty.csv")


@pytest.mark.parametrize(
    ("name", "value"), [("n_shot", -1), ("n_query", 0), ("valid_fraction", 1.0), ("test_fraction", -0.1)]
)
def test_parameters_out_of_range_are_named(name: str, value: Any) -> None:
    refused(am.InvalidParameter, f"{name}={value}", **{name: value})
    refused(am.InvalidParameter, "leave none", valid_fraction=0.5, test_fraction=0.5)


# the encoder


def mixed() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "number": [1.0, np.nan, 3.0, 5.0],
            "count": pd.array([1, None, 2, 3], dtype="Int64"),
            "text": ["x", "y", None, "x"],
            "flag": [True, False, True, True],
            "level": pd.Categorical([1, 2, 1, None]),
            "day": pd.to_datetime(["2024-01-01", "2024-01-03", None, "2024-01-05"]),
            "took": pd.to_timedelta([1, 2, 3, 4], unit="h"),
        }
    )


def test_columns_are_encoded_by_their_type() -> None:
    encoder = am.TableEncoder().fit(mixed())
    encoded = encoder.transform(mixed())
    assert encoded.dtype == np.float32
    assert encoded.shape == (4, len(encoder.kinds_))
    assert len(encoder.sources_) == len(encoder.kinds_)
    assert set(encoder.sources_) == set(range(encoder.n_features_in_))
    assert np.isfinite(encoded).all()
    assert [column.kind for column in encoder.columns_] == [
        "numeric",
        "numeric",
        "categorical",
        "categorical",
        "categorical",
        "datetime",
        "timedelta",
    ]
    number, missing = encoded[:, 0], encoded[:, 1]
    np.testing.assert_allclose(number, (np.array([1, 3, 3, 5]) - 3) / np.sqrt(2), rtol=1e-6)
    assert missing.tolist() == [0, 1, 0, 0]
    assert encoded[:, 4:7].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_rare_levels_share_a_column_with_unknown_ones() -> None:
    frame = pd.DataFrame({"city": ["a"] * 5 + ["b"] * 4 + ["c", "d"]})
    encoder = am.TableEncoder(max_levels=2).fit(frame)
    new = pd.DataFrame({"city": ["a", "b", "c", "elsewhere", None]})
    assert encoder.transform(new).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 0]]


def test_rows_are_encoded_one_by_one_as_together() -> None:
    encoder = am.TableEncoder().fit(mixed())
    alone = np.concatenate([encoder.transform(mixed().iloc[i : i + 1]) for i in range(4)])
    np.testing.assert_array_equal(alone, encoder.transform(mixed()))


def test_columns_are_found_by_name_in_any_order() -> None:
    encoder = am.TableEncoder().fit(mixed())
    shuffled = mixed()[list(mixed().columns[::-1])].assign(extra=1)
    np.testing.assert_array_equal(encoder.transform(shuffled), encoder.transform(mixed()))


@pytest.mark.parametrize("dtype", [float, object])
def test_arrays_are_encoded_by_position(dtype: type) -> None:
    array = np.arange(12.0).reshape(4, 3).astype(dtype)
    encoder = am.TableEncoder().fit(array)
    assert not hasattr(encoder, "feature_names_in_")
    np.testing.assert_allclose(encoder.transform(array).std(0), 1, rtol=1e-6)
    with pytest.raises(am.InvalidData, match="2 columns, but the encoder was fitted on 3"):
        encoder.transform(array[:, :2])


@pytest.mark.parametrize(
    ("y", "problem"),
    [([1.0, 2.0, 4.0, 9.0], "regression"), (list("abca"), "classification"), ([3, 1, 3, 2], "classification")],
)
def test_text_keeps_everything_an_encoder_learned(y: list[Any], problem: Any) -> None:
    encoder = am.TableEncoder(max_levels=3).fit(mixed(), y, problem=problem)
    again = am.TableEncoder.from_json(json.dumps(json.loads(encoder.to_json())))
    np.testing.assert_array_equal(again.transform(mixed()), encoder.transform(mixed()))
    decoded = again.decode_target(again.encode_target(y))
    assert again.kinds_ == encoder.kinds_
    assert again.sources_ == encoder.sources_
    assert decoded.tolist() == pytest.approx(y, rel=1e-6) if problem == "regression" else decoded.tolist() == y


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 99}', '{"format": 1, "columns": [{}]}'])
def test_text_that_is_no_encoder_is_refused(text: str) -> None:
    with pytest.raises(am.InvalidFile, match="table encoder"):
        am.TableEncoder.from_json(text)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"class_shares": [0.1]}, "1 shares of 2 classes"),
        ({"class_shares": []}, "0 shares of 2 classes"),
        ({"class_shares": ["x", "y"]}, r"class_shares\[0\] is 'x'"),
        ({"class_shares": [-1, 2]}, r"class_shares\[0\] is -1"),
        ({"class_shares": [0.5, 2]}, r"class_shares\[1\] is 2"),
        ({"class_shares": [math.nan, math.nan]}, r"class_shares\[0\] is nan"),
        ({"class_shares": [10**400, 1]}, r"class_shares\[0\] is 1000"),
        ({"class_shares": [0, 0.0]}, "are all 0"),
        ({"class_shares": {"a": 1}}, "class_shares is an object"),
        ({"class_shares": None}, "class_shares is None"),
        ({"classes": [], "class_shares": []}, "no class"),
        ({"classes_type": "i4,,"}, "classes_type is 'i4,,'"),
        ({"target_mean": 10**400}, "target_mean is 1000"),
    ],
)
def test_an_encoder_with_classes_that_make_no_sense_is_refused(changes: dict[str, Any], told: str) -> None:
    state = json.loads(am.TableEncoder().fit(mixed(), list("abba"), problem="classification").to_json())
    assert state["class_shares"] == [0.5, 0.5]
    with pytest.raises(am.InvalidFile, match=told):
        am.TableEncoder.from_json(json.dumps(state | changes))


def test_classes_of_an_encoder_that_learned_from_no_row_have_equal_shares() -> None:
    encoder = am.TableEncoder().fit(
        mixed(), list("abba"), problem="classification", rows=np.zeros(4, dtype=bool), classes=["a", "b"]
    )
    assert am.TableEncoder.from_json(encoder.to_json()).class_shares_.tolist() == [0.5, 0.5]


def test_an_encoder_tells_whether_targets_are_classes_and_refuses_a_problem_that_is_not_there() -> None:
    encoder = am.TableEncoder()
    assert not encoder.fit(mixed()).has_classes_
    assert encoder.fit(mixed(), list("baba"), problem="classification").has_classes_
    text = encoder.to_json()
    assert am.TableEncoder.from_json(text).has_classes_
    with pytest.raises(am.InvalidFile, match="problem='ranking'"):
        am.TableEncoder.from_json(text.replace('"classification"', '"ranking"'))
    assert not encoder.fit(mixed(), [1.0, 2.0, 3.0, 5.0], problem="regression").has_classes_
    for problem in ("ranking", None):
        with pytest.raises(am.InvalidParameter, match=f"problem={problem!r} must be one of 'classification', 'regr"):
            encoder.fit(mixed(), list("baba"), problem=problem)


def test_classes_are_sorted_and_unknown_labels_named() -> None:
    encoder = am.TableEncoder().fit(mixed(), list("baba"), problem="classification", classes=["c"])
    assert encoder.classes_.tolist() == ["a", "b", "c"]
    assert encoder.encode_target(["c", "a"]).tolist() == [2, 0]
    with pytest.raises(am.InvalidData, match="the class 'z'"):
        encoder.encode_target(["z"])


def test_columns_that_do_not_fit_are_named() -> None:
    encoder = am.TableEncoder().fit(mixed())
    with pytest.raises(am.InvalidData, match="lacks the columns 'text'"):
        encoder.transform(mixed().drop(columns="text"))
    with pytest.raises(am.InvalidData, match="column 'number' was numeric .* now categorical"):
        encoder.transform(mixed().assign(number="many"))
    with pytest.raises(am.InvalidData, match="column 'z' has the type complex128"):
        am.TableEncoder().fit(pd.DataFrame({"z": [1j]}))
    with pytest.raises(am.InvalidData, match="column 'z' holds a list"):
        am.TableEncoder().fit(pd.DataFrame({"z": [[1], [2]]}))
    with pytest.raises(am.InvalidData, match="column 'z' twice"):
        am.TableEncoder().fit(pd.DataFrame([[1, 2]], columns=["z", "z"]))


def test_empty_and_constant_columns_become_finite_numbers() -> None:
    frame = pd.DataFrame({"empty": [np.nan] * 3, "none": [None] * 3, "same": [7.0] * 3})
    encoded = am.TableEncoder().fit(frame).transform(frame)
    assert encoded.tolist() == [[0, 1, 0, 1, 0]] * 3


def test_the_example_in_the_docstring_runs() -> None:
    outcome = doctest.testmod(encoder)
    assert outcome.attempted
    assert not outcome.failed

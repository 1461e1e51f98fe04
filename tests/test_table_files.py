"""Tables from CSV files: separators, encodings, the task column, numbers and dates."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.io.common import get_handle

import autometa as am


def frame(names: Any = "abcdef") -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"school": np.repeat(list(names), 8)})
    table["hours"] = rng.normal(size=len(table)).round(3)
    table["note"] = rng.choice(["x", 'with, "quotes"', "with; semicolon"], len(table))
    table["score"] = rng.normal(size=len(table)).round(3)
    return table


def tasks_of(data: Any, **parameters: Any) -> Any:
    return am.make_tasks("table", data=data, task="school", target="score", n_shot=2, **parameters)


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("quoting", [0, 1])
def test_separators_and_encodings_are_told_apart(tmp_path, sep, encoding, quoting):
    frame().to_csv(tmp_path / "table.csv", index=False, sep=sep, encoding=encoding, quoting=quoting)
    assert tasks_of(tmp_path / "table.csv").encoder.to_json() == tasks_of(frame()).encoder.to_json()


@pytest.mark.parametrize("sep", [",", ";", "\t", "|", ":", "~"])
@pytest.mark.parametrize("line", ["sep={}\r\n", '"SEP={}"\n'])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_line_that_tells_excel_the_separator_is_no_header(tmp_path, sep, line, encoding):
    text = line.format(sep) + frame().to_csv(index=False, sep=sep)
    read = tasks_of(written(tmp_path, text.encode(encoding)))
    assert read.encoder.to_json() == tasks_of(frame()).encoder.to_json()


def test_what_excel_is_told_counts_for_what_else_is_read(tmp_path):
    """Another separator is not tried, and lines are counted from the first of the file."""
    text = frame().to_csv(index=False, sep=";")
    with pytest.raises(am.InvalidData, match="has one column only, .*, divided by ',', as its first line tells"):
        tasks_of(written(tmp_path, f"sep=,\n{text}")).info  # noqa: B018
    with pytest.raises(am.InvalidData, match="in line 10"):
        tasks_of(written(tmp_path, "sep=;\n" + wide(";", first=7))).info  # noqa: B018


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zip", "tar", "tar.gz"])
def test_a_compressed_file_is_read(tmp_path, suffix, encoding):
    path = tmp_path / f"table.csv.{suffix}"
    with get_handle(path, "wb", compression="infer", is_text=False) as file:
        file.handle.write(frame().to_csv(index=False, sep=";").encode(encoding))
    assert tasks_of(path).encoder.to_json() == tasks_of(frame()).encoder.to_json()


@pytest.mark.parametrize("name", ["score", "hours", "school"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_name_twice_in_a_header_is_refused(tmp_path, name, encoding):
    table = frame()
    table.insert(0, name, table[name], allow_duplicates=True)
    table.to_csv(tmp_path / "table.csv", index=False, sep=";", encoding=encoding)
    with pytest.raises(am.InvalidData, match=f"table.csv' has the column '{name}' twice"):
        tasks_of(tmp_path / "table.csv").info  # noqa: B018


def test_a_separator_inside_quoted_names_does_not_count(tmp_path):
    renamed = frame().rename(columns={"note": "a;b;c;d", "hours": "x\ty"})
    renamed.to_csv(tmp_path / "table.csv", index=False)
    assert list(tasks_of(tmp_path / "table.csv").encoder.feature_names_in_) == ["x\ty", "a;b;c;d"]


@pytest.mark.parametrize("sep", [";", "\t", "|"])
def test_decimal_commas_are_numbers_where_commas_do_not_separate(tmp_path, sep):
    frame().to_csv(tmp_path / "table.csv", index=False, sep=sep, decimal=",")
    assert tasks_of(tmp_path / "table.csv").encoder.to_json() == tasks_of(frame()).encoder.to_json()


def test_a_comma_that_may_mean_thousands_is_no_decimal_comma(tmp_path):
    table = frame()
    table["hours"] = [f"{1 + i % 9},{100 + i}" for i in range(len(table))]
    table.to_csv(tmp_path / "table.csv", index=False, sep="\t")
    with pytest.warns(UserWarning, match="column 'hours' is taken as categories: it holds '1,100' in row 0"):
        assert tasks_of(tmp_path / "table.csv").encoder.columns_[0].kind == "categorical"


def test_a_misspelt_column_is_looked_for_in_the_columns_there_are(tmp_path):
    frame().rename(columns={"school": "shcool"}).to_csv(tmp_path / "table.csv", index=False, sep=";")
    with pytest.raises(am.InvalidData, match="task='school' is no column of the table; did you mean 'shcool'"):
        _ = tasks_of(tmp_path / "table.csv").info


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (frame().to_csv(index=False, sep="#"), "has one column only.*commas, semicolons, tabs or bars.*sep="),
        ("", "cannot be read as CSV"),
        ("school,hours,score\n", "target column 'score' has no rows"),
        ("school,hours,score\na,1,5\nb,2,5\n", r"target column 'score' is constant \(5\)"),
        ("school,hours,score\na,1,2\na,1,2,3,4\n", "cannot be read as CSV"),
        ("school,hours,score\nä,1,2\n".encode("latin-1"), "save it as UTF-8"),
    ],
)
def test_files_that_cannot_be_read_are_refused_with_a_hint(tmp_path, text, match):
    with pytest.raises(am.InvalidData, match=match):
        _ = tasks_of(written(tmp_path, text)).info


def wide(sep: str = ",", cell: str = "9", first: int = 0) -> str:
    """Return a table with one more cell than the header has names, in all rows from a first one on."""
    header, *rows = frame().to_csv(index=False, sep=sep).splitlines()
    return "\n".join([header, *(row + (sep + cell) * (i >= first) for i, row in enumerate(rows))]) + "\n"


@pytest.mark.parametrize("sep", [",", ";"])
@pytest.mark.parametrize(("first", "match"), [(0, "its first row than names in its header, 4;"), (7, "in line 9")])
def test_rows_with_more_cells_than_the_header_are_refused(tmp_path, sep, first, match):
    with pytest.raises(am.InvalidData, match=rf"table\.csv' .*{match}"):
        _ = tasks_of(written(tmp_path, wide(sep, first=first))).info


def test_separators_at_the_end_of_all_rows_shift_nothing(tmp_path):
    assert tasks_of(written(tmp_path, wide(cell=""))).encoder.to_json() == tasks_of(frame()).encoder.to_json()


@pytest.mark.parametrize("sep", [",", ";"])
@pytest.mark.parametrize(("before", "after", "places"), [("", "_", "5"), ("", "___", "5, 6, 7"), ("_", "_", "1, 6")])
def test_columns_without_a_name_and_a_value_are_told_and_left_out(tmp_path, sep, before, after, places):
    lines = frame().to_csv(index=False, sep=sep).splitlines()
    text = "".join(f"{before}{line}{after}\n" for line in lines).replace("_", sep)
    with pytest.warns(UserWarning, match=rf"table\.csv': columns without a name .* number {places} of ") as told:
        assert tasks_of(written(tmp_path, text)).encoder.to_json() == tasks_of(frame()).encoder.to_json()
    assert len(told) == 1


def test_a_home_folder_is_opened_as_it_is_digested(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    frame().to_csv(tmp_path / "table.csv", index=False)
    for data in ("~/table.csv", Path("~/table.csv")):
        sampler = tasks_of(data)
        assert sampler.encoder.to_json() == tasks_of(frame()).encoder.to_json()
        assert list(sampler.content()) == ["data"]


NAMES = ["007", "7", "NA", "null", "1.50", "1.5", "nan", "None", "True", "1e3", "1000", "-"]


def test_tasks_of_a_file_are_text_as_it_stands(tmp_path):
    frame(NAMES).to_csv(tmp_path / "table.csv", index=False)
    sampler = tasks_of(tmp_path / "table.csv")
    facts = sampler.describe()
    assert sum(facts["tasks"].values()) == len(NAMES)
    assert facts["rows per task"] == {"fewest": 8, "median": 8.0, "most": 8}
    assert {*facts["held out"]["valid"], *facts["held out"]["test"]} <= set(NAMES)


@pytest.mark.parametrize("quoting", [0, 1])
def test_only_an_empty_cell_names_no_task(tmp_path, quoting):
    frame(["NA", "b", "c", ""]).to_csv(tmp_path / "table.csv", index=False, quoting=quoting)
    with pytest.raises(am.InvalidData, match="task column 'school' misses 8 values"):
        _ = tasks_of(tmp_path / "table.csv").info


def test_names_that_read_the_same_are_refused_in_a_frame():
    table = frame()
    mixed = table.assign(school=[7] * 8 + ["7"] * 8 + table["school"].tolist()[16:])
    with pytest.raises(am.InvalidData, match="task column 'school' holds (7 and '7'|'7' and 7), which read the same"):
        _ = tasks_of(mixed).info


def test_missing_values_of_other_columns_are_missing(tmp_path):
    table = frame()
    table["hours"] = table["hours"].astype(object).where(table.index % 5 > 0, "NA")
    table.to_csv(tmp_path / "table.csv", index=False)
    learned = tasks_of(tmp_path / "table.csv").encoder.columns_[0]
    assert (learned.kind, learned.has_missing) == ("numeric", True)


def test_dates_of_a_file_are_numbers(tmp_path):
    table = frame()
    table["day"] = pd.date_range("1500-01-01", periods=len(table), unit="s").astype(str)
    table["moment"] = [f"9999-12-{1 + i % 30:02d}T12:00:00Z" for i in range(len(table))]
    table.to_csv(tmp_path / "table.csv", index=False)
    assert [c.kind for c in tasks_of(tmp_path / "table.csv").encoder.columns_[2:]] == ["datetime", "datetime"]


def test_the_order_of_tasks_is_that_of_their_names():
    numbered = frame().assign(school=np.repeat([10, 9, 8, 7, 6, 5], 8))
    assert tasks_of(numbered).describe() == tasks_of(numbered.astype({"school": str})).describe()


# what a target of a file is


def labels_file(tmp_path: Path, labels: list[str], sep: str = ",") -> Path:
    rows = [sep.join(["school", "hours", "score"])]
    rows += [sep.join([f"s{i // 20}", str(i % 7), labels[i % len(labels)]]) for i in range(120)]
    return written(tmp_path, "\n".join(rows) + "\n")


@pytest.mark.parametrize("sep", [",", ";"])
@pytest.mark.parametrize("problem", ["auto", "classification"])
@pytest.mark.parametrize("labels", [["NA", "None", "ok"], ["NA", "n/a"], ["False", "None", "True"]])
def test_classes_of_a_file_may_be_called_as_what_is_missing(tmp_path, labels, problem, sep):
    tasks = tasks_of(labels_file(tmp_path, labels, sep), problem=problem)
    assert tasks.describe()["classes"] == labels


def test_an_empty_cell_of_a_text_target_is_missing(tmp_path):
    with pytest.raises(am.InvalidData, match="target column 'score' misses 40 values"):
        tasks_of(labels_file(tmp_path, ["NA", "", "ok"]), problem="classification").describe()


def test_missing_numbers_of_a_target_are_no_class(tmp_path):
    for problem in ("auto", "regression", "classification"):
        with pytest.raises(am.InvalidData, match="target column 'score' misses 40 values"):
            tasks_of(labels_file(tmp_path, ["1", "NA", "2"]), problem=problem).describe()


@pytest.mark.parametrize("sep", [",", ";"])
@pytest.mark.parametrize("labels", [["01", "02"], ["07", "7", "8"]])
def test_classes_of_a_file_keep_zeros_in_front(tmp_path, labels, sep):
    path = labels_file(tmp_path, labels, sep)
    assert tasks_of(path, problem="classification").describe()["classes"] == labels
    assert tasks_of(path, problem="regression").info.problem == "regression"
    with pytest.raises(am.InvalidData, match=f"'{labels[0]}' in row 0 .* say problem='classification'"):
        tasks_of(path).describe()


def test_whole_numbers_and_booleans_of_a_file_stay_what_they_are(tmp_path):
    for labels, kind in ((["1", "2"], "i"), (["True", "False"], "b")):
        tasks = tasks_of(labels_file(tmp_path, labels), problem="classification")
        assert tasks.encoder.classes_.dtype.kind == kind


def test_booleans_with_missing_ones_are_read_whatever_the_separator(tmp_path):
    rows = ["school;hours;score", *(f"s{i // 20};{('True', '', 'False')[i % 3]};{i % 9}" for i in range(120))]
    assert tasks_of(written(tmp_path, "\n".join(rows))).info.input_shape == (3,)


def test_written_row_names_are_warned_of(tmp_path):
    frame().to_csv(tmp_path / "table.csv")
    tasks = tasks_of(tmp_path / "table.csv")
    with pytest.warns(UserWarning, match="column 'Unnamed: 0' is taken as a feature, but seems to be the row names"):
        tasks.describe()


# data that change


def test_a_file_that_changed_after_it_was_read_is_refused(tmp_path):
    path = tmp_path / "table.csv"
    frame().to_csv(path, index=False)
    unread, read = tasks_of(path), tasks_of(str(path))
    rows = read.sample(2, seed=0).support.y
    there = read.to("cpu")
    assert read.content() == there.content() == unread.content()
    frame().assign(score=lambda table: 100 * table["score"]).to_csv(path, index=False)
    for stale in (read, there):
        with pytest.raises(am.InvalidData, match="data='.*table.csv' changed after this sampler read it"):
            stale.content()
    with pytest.raises(am.InvalidData, match="make the sampler anew"):
        am.compare(read, ["ridge"], n_trials=1, max_steps=1)
    assert unread.content() == tasks_of(path).content()
    frame().to_csv(path, index=False)
    assert read.content() == tasks_of(path).content()
    assert read.sample(2, seed=0).support.y.equal(rows)


def test_a_frame_that_changed_in_place_is_refused(tmp_path):
    table = frame()
    tasks = tasks_of(table)
    assert tasks.content() == {}
    tasks.sample(1, seed=0)
    assert tasks.content() == {}
    table["score"] *= 100
    model = am.FewShotRegressor(learner="ridge", max_steps=1, random_state=0)
    with pytest.raises(am.InvalidData, match="the DataFrame in data changed after this sampler read it"):
        model.meta_fit(tasks, checkpoint=tmp_path / "run.checkpoint")


# targets of any size


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_a_target_whose_square_no_float_holds_is_named_with_its_scale(scale):
    table = frame().assign(score=lambda table: table["score"] * scale)
    with pytest.raises(
        am.InvalidData, match=r"target column 'score' has a standard deviation of .*e[+-]\d+, .*rescale"
    ):
        am.compare(tasks_of(table), ["ridge"], n_trials=1, max_steps=1)


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zip", "tar", "tar.gz"])
@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_damaged_archive_is_one_error_that_names_it(tmp_path, suffix, damage):
    path = tmp_path / f"table.csv.{suffix}"
    frame().to_csv(path, index=False)
    content = path.read_bytes()
    path.write_bytes(
        {"cut": content[: 700 if suffix == "tar" else len(content) // 2], "noise": b"\x01\x02" * 600, "empty": b""}[
            damage
        ]
    )
    with pytest.raises(am.InvalidData, match=r"data='.*table\.csv\."):
        assert tasks_of(path).info


def test_an_archive_of_several_files_or_with_a_password_is_one_error(tmp_path):
    path = tmp_path / "table.csv.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("table.csv", frame().to_csv(index=False))
    sound = path.read_bytes()
    place = sound.index(b"PK\1\2")
    path.write_bytes(sound[:6] + b"\1\0" + sound[8 : place + 8] + b"\1\0" + sound[place + 10 :])
    with pytest.raises(am.InvalidData, match=r"table\.csv\.zip.*encrypted"):
        assert tasks_of(path).info
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "x")
        archive.writestr("b.csv", "x")
    with pytest.raises(am.InvalidData, match=r"table\.csv\.zip.*Multiple files"):
        assert tasks_of(path).info


def test_a_table_is_read_from_a_regular_file_alone(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", "/dev/zero"):
        with pytest.raises(am.MissingData, match="is no file"):
            assert tasks_of(path).info

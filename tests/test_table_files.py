"""Tables from CSV files: separators, encodings, the task column, numbers and dates."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

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
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("quoting", [0, 1])
def test_separators_and_encodings_are_told_apart(tmp_path, sep, encoding, quoting):
    frame().to_csv(tmp_path / "table.csv", index=False, sep=sep, encoding=encoding, quoting=quoting)
    assert tasks_of(tmp_path / "table.csv").encoder.to_json() == tasks_of(frame()).encoder.to_json()


def test_a_compressed_file_is_read(tmp_path):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(frame().to_csv(index=False, sep=";").encode()))
    assert tasks_of(path).encoder.to_json() == tasks_of(frame()).encoder.to_json()


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
        ("school,hours,score\na,1,2\na,1,2,3,4\n", "cannot be read as CSV"),
        ("school,hours,score\nä,1,2\n".encode("latin-1"), "save it as UTF-8"),
    ],
)
def test_files_that_cannot_be_read_are_refused_with_a_hint(tmp_path, text, match):
    with pytest.raises(am.InvalidData, match=match):
        _ = tasks_of(written(tmp_path, text)).info


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

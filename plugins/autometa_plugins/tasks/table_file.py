"""Reading a table from a CSV file: its separator, its task column as text, its decimal commas."""

from __future__ import annotations

import codecs
import csv
import re
from pathlib import Path
from typing import Any

import pandas as pd

import autometa as am

SEPARATORS = (",", ";", "\t", "|")
"""Tried in this order."""

_MARK = "="
_THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}(,\d{3})+\s*")
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+(,\d+)?\s*")


def read_csv(path: str | Path, task: Any, target: Any) -> pd.DataFrame:
    """Read a CSV file, divided by commas, semicolons, tabs or bars.

    The separator is the first one that gives the header a task and a target column. Values of the task column are
    text as it stands, and only empty cells are missing there. In a file without commas as separators, columns whose
    numbers have decimal commas are numbers.

    Parameters
    ----------
    path : path
        In UTF-8, or in UTF-16 with a byte order mark; may be compressed.
    task, target : str
        Names of two columns.

    Raises
    ------
    MissingData
        There is no such file.
    InvalidData
        It cannot be read, or has no such columns with any separator.
    """
    if not Path(path).is_file():
        raise am.MissingData(f"data={str(path)!r} is no file; give the path of a CSV file or a DataFrame.")
    options: dict[str, Any] = {"encoding": _encoding(path), "low_memory": False}
    try:
        headers = {separator: _header(path, separator, options) for separator in SEPARATORS}
        separator = _separator(path, headers, task, target)
        frame = pd.read_csv(path, sep=separator, converters={task: _marked}, **options)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, csv.Error) as error:
        raise am.InvalidData(f"data={str(path)!r} cannot be read as CSV: {error}") from error
    except UnicodeError as error:
        raise am.InvalidData(f"data={str(path)!r} cannot be read as CSV: {error}; save it as UTF-8.") from error
    if task in frame.columns:
        frame[task] = frame[task].str.removeprefix(_MARK).replace("", None)
    return frame if separator == "," else _with_decimal_commas(frame, task)


def _encoding(path: str | Path) -> str:
    with open(path, "rb") as file:
        start = file.read(2)
    return "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _header(path: str | Path, separator: str, options: dict[str, Any]) -> list[str]:
    return [str(name) for name in pd.read_csv(path, sep=separator, nrows=0, **options).columns]


def _separator(path: str | Path, headers: dict[str, list[str]], task: Any, target: Any) -> str:
    """Return the first separator whose header has both columns; else the one that makes most columns."""
    for separator, names in headers.items():
        if task in names and target in names:
            return separator
    separator = max(headers, key=lambda separator: len(headers[separator]))
    if len(headers[separator]) == 1:
        raise am.InvalidData(
            f"data={str(path)!r} has one column only, {headers[separator][0]!r}, divided by commas, semicolons, tabs "
            "or bars; for another separator give the DataFrame that pd.read_csv(path, sep=...) returns."
        )
    return separator


def _marked(cell: str) -> str:
    """Mark a cell, so that pandas takes no name, such as "NA", for a missing value or a number."""
    return f"{_MARK}{cell}"


def _with_decimal_commas(frame: pd.DataFrame, task: Any) -> pd.DataFrame:
    for name in frame.columns:
        if name == task or not pd.api.types.is_string_dtype(frame[name].dtype):
            continue
        present = frame[name].dropna()
        # "1,234" may be a number above a thousand: some value must say that it is none
        written = present[present.str.contains(",", regex=False)]
        is_decimal = not written.str.fullmatch(_THOUSANDS).all()
        if is_decimal and present.str.fullmatch(_DECIMAL_COMMA).all():
            frame[name] = pd.to_numeric(frame[name].str.replace(",", "."))
    return frame

"""Reading a table from a CSV file: its separator, its task column as text, its decimal commas."""

from __future__ import annotations

import codecs
import csv
import lzma
import os
import re
import tarfile
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.io.common import get_handle

import autometa as am

SEPARATORS = (",", ";", "\t", "|")
"""Tried in this order."""

_BROKEN = (
    *(OSError, EOFError, ValueError, RuntimeError, ImportError, MemoryError),
    *(zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError),
)
"""What archives raise that are damaged, encrypted, empty or hold several files."""
_SEPARATOR_LINE = re.compile(r"sep=(.)", re.IGNORECASE)
_NO_SEPARATOR = "\x1f"
"""Divides no file: the header is one cell."""
_MARK = "="
_THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}(,\d{3})+\s*")
_ZERO_IN_FRONT = re.compile(r"\s*0\d+\s*")
UNNAMED = re.compile(r"Unnamed: \d+")
"""What pandas calls a column without a name."""
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+(,\d+)?\s*")


def read_csv(path: str | os.PathLike[str], task: Any, target: Any, problem: str) -> pd.DataFrame:
    """Read a CSV file, divided by commas, semicolons, tabs or bars.

    The separator is the one that a first line ``sep=;`` tells, as Excel writes it, else the first one that gives the
    header a task and a target column. Values of the task column are
    text as it stands, and only empty cells are missing there. In a file without commas as separators, columns whose
    numbers have decimal commas are numbers. Columns without a name and a value are left out, with a warning.

    Parameters
    ----------
    path : path
        In UTF-8, or in UTF-16 or UTF-32 with a byte order mark; may be compressed.
    task, target : str
        Names of two columns.
    problem : {"auto", "regression", "classification"}
        Unless it is a regression, a target of text, or of numbers with zeros in front, is text as it stands, and only
        empty cells are missing there.

    Raises
    ------
    MissingData
        There is no such file.
    InvalidData
        It cannot be read, has rows with more cells than its header, a column twice, or no such columns with any
        separator.
    """
    path = Path(os.path.expanduser(path))
    if not path.is_file():
        raise am.MissingData(f"data={str(path)!r} is no file; give the path of a CSV file or a DataFrame.")
    try:
        options: dict[str, Any] = {"encoding": _encoding(path), "low_memory": False}
        told = _told_separator(path, options)
        if told:
            options["skiprows"] = 1
        headers = {separator: _header(path, separator, options) for separator in told or SEPARATORS}
        separator = _separator(path, headers, task, target)
        _check_names(path, separator, options)
        with warnings.catch_warnings():
            # pandas would take the first cells for row names, or leave out the last ones with this warning
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(path, sep=separator, converters={task: _marked}, index_col=False, **options)
    except pd.errors.ParserWarning as error:
        raise am.InvalidData(
            f"data={str(path)!r} has more cells in its first row than names in its header, {len(headers[separator])}; "
            "give every column a name, that of row names too, or remove the further cells."
        ) from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, csv.Error) as error:
        raise am.InvalidData(f"data={str(path)!r} cannot be read as CSV: {error}") from error
    except UnicodeError as error:
        raise am.InvalidData(f"data={str(path)!r} cannot be read as CSV: {error}; save it as UTF-8.") from error
    except am.InvalidData:
        raise
    except _BROKEN as error:
        raise am.InvalidData(f"data={str(path)!r} cannot be read: {error}; repair it, or unpack it first.") from error
    if task in frame.columns:
        frame[task] = _unmarked(frame[task])
    frame = _without_empty(path, frame)
    if separator != ",":
        frame = _with_decimal_commas(frame, task)
    if problem != "regression" and target != task and target in frame.columns and _may_be_text(frame[target]):
        as_text: dict[str, Any] = {"dtype": str, "keep_default_na": False, "na_values": [""]}
        written = pd.read_csv(path, sep=separator, index_col=False, usecols=[target], **as_text, **options)[target]
        if not _is_numbers(frame[target]) or written.str.fullmatch(_ZERO_IN_FRONT).any():
            frame[target] = written
    return frame


def _without_empty(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Leave out columns without a name and a value, such as separators at the end of every row make."""
    empty = [name for name in frame.columns if UNNAMED.fullmatch(str(name)) and frame[name].isna().all()]
    if empty:
        places = ", ".join(str(1 + frame.columns.get_loc(name)) for name in empty[:_MOST_NAMED])
        more = f" and {len(empty) - _MOST_NAMED} more" if len(empty) > _MOST_NAMED else ""
        am.warn_user(
            f"data={str(path)!r}: columns without a name and a value are left out, number {places}{more} of "
            f"{len(frame.columns)}; a separator at the end of every row makes one."
        )
    return frame.drop(columns=empty)


_MOST_NAMED = 10
"""Columns that a warning names."""


def _may_be_text(target: pd.Series) -> bool:
    """Tell whether a column that pandas read may have been text: not booleans, nor numbers with a fraction."""
    if pd.api.types.is_bool_dtype(target.dtype):
        return False
    present = target.dropna()
    return not _is_numbers(target) or bool((present == present.round()).all())


def _is_numbers(target: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(target.dtype) and not target.isna().all()


def _unmarked(cells: pd.Series) -> pd.Series:
    return cells.str.removeprefix(_MARK).replace("", None)


def _encoding(path: Path) -> str:
    with get_handle(path, "rb", compression="infer", is_text=False) as file:  # unpacked, as pandas will read it
        start = file.handle.read(4)
    if start in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):  # the former begins as UTF-16 does
        return "utf-32"
    return "utf-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def _told_separator(path: Path, options: dict[str, Any]) -> str:
    """Return the separator that a line before the header tells Excel, ``sep=;``; empty where there is none."""
    told = _SEPARATOR_LINE.fullmatch(_header(path, _NO_SEPARATOR, options)[0])
    return told[1] if told else ""


def _header(path: Path, separator: str, options: dict[str, Any]) -> list[str]:
    return [str(name) for name in pd.read_csv(path, sep=separator, nrows=0, **options).columns]


def _check_names(path: Path, separator: str, options: dict[str, Any]) -> None:
    """Refuse a header with a name twice, of which pandas would call the second one ``name.1``."""
    header = pd.read_csv(path, sep=separator, header=None, nrows=1, dtype=str, **options).iloc[0].dropna()
    if header.duplicated().any():
        raise am.InvalidData(f"data={str(path)!r} has the column {header[header.duplicated()].iloc[0]!r} twice.")


def _separator(path: Path, headers: dict[str, list[str]], task: Any, target: Any) -> str:
    """Return the first separator whose header has both columns; else the one that makes most columns."""
    for separator, names in headers.items():
        if task in names and target in names:
            return separator
    separator = max(headers, key=lambda separator: len(headers[separator]))
    if len(headers[separator]) == 1:
        by = "commas, semicolons, tabs or bars" if len(headers) > 1 else f"{separator!r}, as its first line tells"
        raise am.InvalidData(
            f"data={str(path)!r} has one column only, {headers[separator][0]!r}, divided by {by}; for another "
            "separator give the DataFrame that pd.read_csv(path, sep=...) returns."
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
        if pd.api.types.infer_dtype(present) != "string":  # booleans, some of them missing
            continue
        # "1,234" may be a number above a thousand: some value must say that it is none
        written = present[present.str.contains(",", regex=False)]
        is_decimal = not written.str.fullmatch(_THOUSANDS).all()
        if is_decimal and present.str.fullmatch(_DECIMAL_COMMA).all():
            frame[name] = pd.to_numeric(frame[name].str.replace(",", "."))
    return frame

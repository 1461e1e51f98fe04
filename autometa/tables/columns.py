"""One column of a table: what is learned of it, and how it is encoded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autometa.errors import InvalidData
from autometa.tables.scale import mean_and_scale, standardise
from autometa.tables.text import (
    days_of_texts,
    is_date,
    is_number,
    is_number_object,
    present_texts,
    row_of,
)
from autometa.tables.values import (
    InvalidColumn,
    Kind,
    first_that,
    is_boolean,
    is_plain,
    kind_of,
    levels_of,
    numbers_of,
)

_TRUTHS = {"false": "False", "true": "True", "0": "False", "1": "True"}
_NUMBERS = {"False": "0", "True": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """How one column is encoded.

    Parameters
    ----------
    name : str
    kind : {"numeric", "datetime", "timedelta", "categorical", "empty"}
        "empty": nothing was there to learn from, so that values of any kind become 0.
    has_missing : bool
        Whether a column tells where values were missing.
    median, mean, scale : float
        Of a number: what replaces missing values, and what standardises.
    levels : tuple of str
        Of a category: levels with a column of their own.
    has_other : bool
        Whether rarer and unknown levels have a column.
    is_boolean : bool
        Whether the values were booleans; then nothing else is taken, but 0 and 1, and "true" and "false".
    """

    name: str
    kind: Kind
    has_missing: bool
    median: float = 0.0
    mean: float = 0.0
    scale: float = 1.0
    levels: tuple[str, ...] = ()
    has_other: bool = False
    is_boolean: bool = False

    @property
    def output_kinds(self) -> tuple[str, ...]:
        """Kinds of the columns it becomes."""
        own = ("numeric",) if self.kind != "categorical" else ("categorical",) * (len(self.levels) + self.has_other)
        return own + ("missing",) * self.has_missing

    def encode(self, values: pd.Series) -> NDArray[np.float64]:
        """Encode values as finite numbers [n, len(output_kinds)].

        Raises
        ------
        InvalidData
            The values are infinite or of another kind.
        """
        try:
            return self._encode_levels(values) if self.kind == "categorical" else self._encode_numbers(values)
        except InvalidColumn as error:
            raise InvalidData(f"column {self.name!r} {error}.") from error

    def _encode_numbers(self, values: pd.Series) -> NDArray[np.float64]:
        missing = values.isna().to_numpy(dtype=bool)
        if self.kind == "empty":
            standard = np.zeros(len(values))
        else:
            numbers = self._numbers(values)
            missing = np.isnan(numbers)
            standard = standardise(np.where(missing, self.median, numbers), self.mean, self.scale)
        return np.stack([standard, missing] if self.has_missing else [standard], axis=1)

    def _numbers(self, values: pd.Series) -> NDArray[np.float64]:
        if self.kind == "datetime" and values.dtype.kind == "O":
            days = days_of_texts(values.to_numpy(dtype=object))
            if not np.isnan(days[values.notna().to_numpy(dtype=bool)]).any():
                return days
        found = kind_of(values)
        is_truth = self.kind == "numeric" and found == "categorical" and is_boolean(values)
        if found not in (self.kind, "empty") and not is_truth:
            what = f"was {self.kind} when the encoder was fitted and is now {found} ({values.dtype})"
            if found == "categorical":
                value, row = first_that(values, self._is_odd)
                what += f": it holds {value!r} in {row}"
            raise InvalidColumn(what)
        return numbers_of(values, found)

    def _is_odd(self, value: Any) -> bool:
        """Tell whether a value is the reason that a column is no longer of this kind."""
        return not (is_date(value) if self.kind == "datetime" else is_number_object(value))

    def _encode_levels(self, values: pd.Series) -> NDArray[np.float64]:
        texts = levels_of(values)
        missing = values.isna().to_numpy(dtype=bool)
        if not self.has_other and self.levels:
            texts = self._truths(values, texts)
        code = pd.Index(self.levels, dtype=object).get_indexer(pd.Index(texts, dtype=object))
        self._check_type(values, code[~missing])
        encoded = np.zeros((len(values), len(self.output_kinds)))
        known = (code >= 0) & ~missing
        encoded[known.nonzero()[0], code[known]] = 1
        if self.has_other:
            encoded[(code < 0) & ~missing, len(self.levels)] = 1
        if self.has_missing:
            encoded[missing, -1] = 1
        return encoded

    def _truths(self, values: pd.Series, texts: NDArray[Any]) -> NDArray[Any]:
        """Read 0 and 1 where booleans were fitted, and booleans where 0 and 1 were."""
        if {"0", "1"}.issuperset(self.levels) and is_boolean(values):
            return np.array([_NUMBERS.get(text, text) for text in texts], dtype=object)
        if values.dtype.kind == "b" or not {"False", "True"}.issuperset(self.levels):
            return texts
        present = values.notna().to_numpy(dtype=bool)
        truths = np.array([_TRUTHS.get(str(text).strip().lower(), str(text)) for text in texts], dtype=object)
        # Without the note that they were booleans, which files of earlier versions lack, text may be a new level.
        wrong = present & ~np.isin(truths, ["False", "True"]) if present.any() else present
        if not self.is_boolean:
            wrong &= np.array([is_number_object(value) for value in values.to_numpy(dtype=object)], dtype=bool)
        if wrong.any():
            value = values.to_numpy(dtype=object)[int(np.argmax(wrong))]
            raise InvalidColumn(
                f"held booleans when the encoder was fitted and holds {value!r} in {row_of(values, wrong)}; use True "
                "and False, or 1 and 0"
            )
        return truths

    def _check_type(self, values: pd.Series, code: NDArray[np.int64]) -> None:
        """Refuse a column whose kind is one that the levels cannot have come from; ``code`` tells the known ones."""
        if not self.levels or not len(code):
            return
        self._check_codes(values, code)
        if (code >= 0).any():
            return
        kind = kind_of(values)
        if kind == "categorical" and not is_boolean(values):
            return
        is_text = values.dtype.kind != "M" and present_texts(values) is not None
        if is_text and (self.has_other or any(map(is_date, self.levels))):
            return
        if kind == "numeric" and self.has_other and all(map(str.isdecimal, self.levels)):
            return  # rarer levels were numbers too
        what = "boolean" if kind == "categorical" else kind
        raise InvalidColumn(
            f"was categorical when the encoder was fitted, with levels such as {self.levels[0]!r}, and is now {what} "
            f"({values.dtype})"
        )

    def _check_codes(self, values: pd.Series, code: NDArray[np.int64]) -> None:
        """Refuse numbers where the text was numbers in a form that numbers lose, such as "01234"."""
        written = next((level for level in self.levels if is_number(level) and not is_plain(level)), None)
        if written is None:
            return
        present = values.notna().to_numpy(dtype=bool)
        odd = np.array([is_number_object(value) for value in values.to_numpy(dtype=object)], dtype=bool) & present
        odd[present] &= code < 0
        if odd.any():
            value = values.to_numpy(dtype=object)[int(np.argmax(odd))]
            raise InvalidColumn(
                f"was text when the encoder was fitted, with levels such as {written!r}, and holds the number "
                f"{value!r} in {row_of(values, odd)}; give text, as pd.read_csv(..., dtype=str) reads it"
            )


def read_column(values: pd.Series, name: str, max_levels: int, rows: NDArray[np.bool_] | None = None) -> Column:
    """Learn how to encode a column.

    Parameters
    ----------
    values : Series
        All of them say what kind of column it is.
    name : str
    max_levels : int
    rows : array of bool, optional
        The rows to learn numbers and levels from; all by default.

    Raises
    ------
    InvalidData
        Infinite values, or a type that is neither number, date, boolean, text nor category.
    """
    try:
        kind = kind_of(values)
        learned = values if rows is None else values[rows]
        missing = learned.isna().to_numpy(dtype=bool)
        if missing.all():
            return Column(name=name, kind="empty", has_missing=True)
        if kind == "categorical":
            counts = Counter(levels_of(learned)[~missing].tolist())
            levels = sorted(counts, key=lambda level: (-counts[level], level))
            return Column(
                name=name,
                kind=kind,
                has_missing=bool(missing.any()),
                levels=tuple(sorted(levels[:max_levels])),
                has_other=len(levels) > max_levels,
                is_boolean=is_boolean(values),
            )
        numbers = numbers_of(learned, kind)
    except InvalidColumn as error:
        raise InvalidData(f"column {name!r} {error}.") from error
    missing = np.isnan(numbers)
    median = _median(numbers[~missing])
    mean, scale = mean_and_scale(np.where(missing, median, numbers))
    return Column(
        name=name, kind=kind, has_missing=bool(missing.any()), median=median, mean=float(mean), scale=float(scale)
    )


def _median(numbers: NDArray[np.float64]) -> float:
    with np.errstate(over="ignore"):
        median = float(np.median(numbers))
    # The sum of the two in the middle may overflow; that of their halves does not.
    return median if np.isfinite(median) else float(2 * np.median(numbers / 2))

"""Numbers and dates that a table holds as text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autometa.errors import InvalidData

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
_UNIT = (
    "([kmµ]g|lbs?|oz|[kcmµn]m|ft|inch|[dcm]l|ms|sec|min|hrs?|hours?|days?|weeks?|months?|years?|yrs?|°[cf]|m[vaw]|kwh?|wh"
    "|[kmg]?hz|[kmgt]b|[kmh]?pa|bar|m?mol|usd|eur|gbp|chf)"
)
_LETTER = "[glmshdcfkvawb]"
_WRITTEN = re.compile(
    r"(?=.*\d)\s*[(]?[-+−]?\s*[$€£¥<>~≈≤≥]?\s*(\d{1,3}([ ,.'’_\u00a0\u202f]\d{3})+|\d+)?([.,]\d*)?([eE][+-]?\d+)?"
    rf"(\s*([%‰$€£¥]|{_UNIT}(/({_UNIT}|{_LETTER}))?)|\s+{_LETTER}(/({_UNIT}|{_LETTER}))?)?\s*[)]?\s*",
    re.IGNORECASE,
)
_LEADING_ZERO = re.compile(r"\s*[+-]?0\d.*")
_ISO = re.compile(
    r"\s*\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d+)?)?\s*(Z|z|UTC|[+-]\d\d(:?\d\d)?)?)?\s*",
)
_DAY = r"((mon|tues?|wed(nes)?|thu(rs)?|fri|sat(ur)?|sun)(day)?\.?,?\s+)?"
_MONTH = (
    r"(jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|oct(ober)?|nov(ember)?"
    r"|dec(ember)?)\.?"
)
_CLOCK = r"\d{1,2}:\d\d(:\d\d([.,]\d+)?)?(\s*[ap]\.?m\.?)?"
_OTHER_DATE = re.compile(
    rf"\s*{_DAY}(\d{{1,2}}[./-]\d{{1,2}}[./-]\d{{2,4}}|\d{{4}}[./-]\d{{1,2}}[./-]\d{{1,2}}"
    rf"|\d{{1,2}}(st|nd|rd|th)?[ ./-]*{_MONTH}[ ,./-]*\d{{2,4}}"
    rf"|{_MONTH}[ ./-]*(\d{{1,2}}(st|nd|rd|th)?[ ,./-]+)?\d{{4}}"
    rf"|\d{{4}}[ ./-]*{_MONTH}[ ./-]*\d{{1,2}}|\d{{8}}(?=T))([T, ]+(\d{{1,2}}:\d\d.*|\d\d|\d{{4}}(\d\d)?))?Z?\s*",
    re.IGNORECASE,
)
_TIME = re.compile(rf"\s*{_CLOCK}\s*", re.IGNORECASE)
_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
_EPOCH = date(1970, 1, 1).toordinal()


def is_number_object(value: Any) -> bool:
    """Tell whether one value is a real number; True and False are none."""
    return isinstance(value, (Real, Decimal)) and not isinstance(value, (bool, np.bool_))


def is_number(text: str) -> bool:
    """Tell whether text is a plain number, such as "-1.5e3"."""
    return _NUMBER.fullmatch(text) is not None


def is_written_number(text: str) -> bool:
    """Tell whether text is a number as people write it: also "1,234", "5%", "$ 3", "<0.1" and "1 kg"."""
    return _WRITTEN.fullmatch(text) is not None or is_number(text)


def is_numbers(texts: Sequence[str]) -> bool:
    """Tell whether texts are all plain numbers, none of them a code with zeros in front, such as "007"."""
    return all(map(is_number, texts)) and not any(map(has_leading_zero, texts))


def has_leading_zero(text: str) -> bool:
    """Tell whether text starts with a zero that a number would not keep, as "007" does."""
    return _LEADING_ZERO.fullmatch(text) is not None


def days_of_text(text: str) -> float | None:
    """Return an ISO date, with or without a time and a zone, as days since 1970 (UTC); None if it is none."""
    if _ISO.fullmatch(text) is None:
        return None
    stripped = re.sub(r"\s*(z|UTC)$", "Z", text.strip()).replace(",", ".")
    stripped = re.sub(r"\s+(?=[Z+])", "", stripped)
    try:
        return days_of(datetime.fromisoformat(stripped))
    except ValueError:
        return None


def days_of_texts(texts: Sequence[Any] | NDArray[Any]) -> NDArray[np.float64]:
    """Return what :func:`days_of_text` tells of many values; NaN for those that are no ISO date, or no text."""
    days = np.full(len(texts), np.nan)
    dated = [i for i, text in enumerate(texts) if isinstance(text, str) and _ISO.fullmatch(text)]
    if dated:
        moments = pd.to_datetime(pd.Series([texts[i] for i in dated]), format="ISO8601", utc=True, errors="coerce")
        days[dated] = days_of_dtype(moments)
    for i in dated:
        if np.isnan(days[i]):  # forms and years that pandas does not read
            found = days_of_text(texts[i])
            days[i] = np.nan if found is None else found
    return days


def days_of_dtype(values: pd.Series) -> NDArray[np.float64]:
    """Return a column of a type of numpy's dates or durations, or of pandas' dates with a zone, as days."""
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        values = values.dt.tz_convert("UTC").dt.tz_localize(None)
    array = values.to_numpy()
    unit = np.datetime_data(array.dtype)[0]
    return np.where(np.isnat(array), np.nan, array.view(np.int64).astype(np.float64) / _PER_DAY[unit])


def days_of(value: date) -> float:
    """Return a date or a date with time as days since 1970; one with a zone in UTC."""
    days = float(value.toordinal() - _EPOCH)
    if isinstance(value, datetime):
        days += (value.hour * 3600 + value.minute * 60 + value.second + value.microsecond / 1e6) / 86400
        offset = value.utcoffset() if value.tzinfo is not None and value.tzinfo is not UTC else None
        if offset is not None:
            days -= offset.total_seconds() / 86400
    return days


def present_texts(values: pd.Series) -> list[str] | None:
    """Return the distinct present values of a column, if all are text; else None."""
    distinct = pd.unique(values[values.notna().to_numpy(dtype=bool)])
    found = [value for value in distinct if isinstance(value, str)]
    return found if found and len(found) == len(distinct) else None


def all_dates(values: pd.Series) -> bool:
    """Tell whether a column is text and every value present an ISO date."""
    present = values.to_numpy(dtype=object)[values.notna().to_numpy(dtype=bool)]
    if not len(present) or not isinstance(present[0], str) or days_of_text(present[0]) is None:
        return False
    return not np.isnan(days_of_texts(present)).any()


def misread(values: pd.Series) -> str | None:
    """Explain why a column that holds text may be meant as numbers or dates; None if it seems to be meant as text.

    More than half of its rows then are or read as numbers (or dates), and some do not or are written in a way that
    cannot be read for certain. The explanation completes "column ... ".
    """
    objects = values.to_numpy(dtype=object)[values.notna().to_numpy(dtype=bool)]
    try:
        counts = Counter(objects.tolist())
    except TypeError:  # lists and other containers
        return None
    if not any(isinstance(value, str) for value in counts):
        return None
    for what, exact, loose, hint in (
        ("numbers", _is_number, _is_written_number, "pd.to_numeric(column, errors='coerce')"),
        ("dates", is_date, _is_written_date, "pd.to_datetime(column, format=..., errors='coerce')"),
        ("times", _is_never, _is_time, "pd.to_timedelta(column + ':00')"),
    ):
        n_read = _count(counts, loose, len(objects))
        odd = None if n_read is None else next((value for value in counts if not exact(value)), None)
        if odd is not None:
            where = [type(value) is type(odd) and value == odd for value in values.to_numpy(dtype=object)]
            all_read = n_read == len(objects)
            said = f"and is not read as {what}" if all_read else f"while {n_read} of {len(objects)} are {what}"
            return f"holds {odd!r} in {row_of(values, where)}, {said}; replace such values, or convert it ({hint})"
    return None


def _count(counts: Counter[Any], holds: Callable[[Any], bool], n: int) -> int | None:
    """Count the values of which something holds; None as soon as that cannot be more than half of ``n``."""
    n_held = n_failed = 0
    for value, count in counts.items():
        if holds(value):
            n_held += count
        else:
            n_failed += count
            if 2 * n_failed >= n:
                return None
    return n_held


def _is_number(value: Any) -> bool:
    return is_number(value) if isinstance(value, str) else is_number_object(value)


def _is_written_number(value: Any) -> bool:
    return is_written_number(value) if isinstance(value, str) else is_number_object(value)


def is_date(value: Any) -> bool:
    """Tell whether one value is a date, or text that is an ISO date."""
    return days_of_text(value) is not None if isinstance(value, str) else isinstance(value, (date, np.datetime64))


def _is_written_date(value: Any) -> bool:
    return is_date(value) or (isinstance(value, str) and _OTHER_DATE.fullmatch(value) is not None)


def _is_time(value: Any) -> bool:
    return isinstance(value, str) and _TIME.fullmatch(value) is not None


def _is_never(value: Any) -> bool:
    return False


def row_of(values: pd.Series, where: Any) -> str:
    """Name the first row where a mask is true: by its place, or by its label if that is another."""
    place = int(np.argmax(where))
    label = values.index[place]
    if isinstance(label, np.generic):
        label = label.item()
    return f"row {place} (counted from 0)" if label == place else f"row {label!r}"


def refuse_missing(values: pd.Series, what: str) -> None:
    """Refuse a column that misses values.

    Raises
    ------
    InvalidData
    """
    missing = values.isna().to_numpy(dtype=bool)
    if missing.any():
        raise InvalidData(
            f"{what} misses {int(missing.sum())} values, the first in {row_of(values, missing)}; remove those rows."
        )

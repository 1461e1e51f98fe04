"""Documents from outside, checked against a schema before anything is made of them.

A schema is a plain value that looks like the document:

- a type or a union, such as ``str | None``: an instance of it. A bool is no int, and an int is a float too.
- ``[schema]``: a list, every item of which fits.
- ``{"name": schema, "other?": schema}``: an object with these entries; those with ``?`` may be absent.
- ``{str: schema}``: an object with any names, every value of which fits.
- :class:`Row`, :class:`Closed`, :class:`OneOf`.
- a tuple of schemas: any one of them; of plain values: any one of these.
- a function: returns None, or says what the value must be.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType, UnionType
from typing import Any

MOST_DEPTH = 100
"""Levels of nesting that a document may have."""

Schema = Any


def read_json(text: str | bytes) -> Any:
    """Read a document of at most :data:`MOST_DEPTH` levels.

    Raises
    ------
    ValueError
        The text is no JSON, or is nested deeper.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    check_depth(value)
    return value


def check_depth(value: Any) -> None:
    """Refuse a document of more levels than any of ours has, which functions that follow it could not follow.

    Raises
    ------
    ValueError
        It is nested deeper than :data:`MOST_DEPTH` levels.
    """
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [part for one in level for part in _parts(one) if isinstance(part, dict | list)]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def misfit(value: Any, schema: Schema, where: str = "") -> str | None:
    """Say where a document does not fit a schema, what must be there and what is; None if all of it fits.

    The document is one of at most :data:`MOST_DEPTH` levels, see :func:`read_json` and :func:`check_depth`.
    """
    if isinstance(schema, FunctionType):  # most often: numbers of long lists
        wanted = schema(value)
        return None if wanted is None else _told(where, value, wanted)
    if isinstance(schema, list):
        return _misfit_of_items(value, schema, where)
    if isinstance(schema, OneOf):
        return _misfit_of_one(value, schema, where)
    if isinstance(schema, dict):
        return _misfit_of_entries(value, schema, where)
    if isinstance(schema, tuple):
        return _misfit_of_all(value, schema, where)
    return None if _is_instance(value, schema) else _told(where, value, _name(schema))


def whole(least: int = 0, most: int = 2**63 - 1) -> Callable[[Any], str | None]:
    """Make the schema of an integer from ``least`` to ``most``."""

    def check(value: Any) -> str | None:
        fits = _is_instance(value, int) and least <= value <= most
        return None if fits else f"a whole number from {least} to {most}"

    return check


def finite(value: Any) -> str | None:
    """Schema of a number that is neither NaN nor infinite, nor an integer too large for a float."""
    return None if _is_instance(value, float) and abs(value) <= sys.float_info.max else "a finite number"


def positive(value: Any) -> str | None:
    """Schema of a finite number above 0."""
    return None if finite(value) is None and value > 0 else "a finite number above 0"


def share(value: Any) -> str | None:
    """Schema of a number from 0 to 1."""
    return None if finite(value) is None and 0 <= value <= 1 else "a number from 0 to 1"


def text_like(pattern: str, wanted: str) -> Callable[[Any], str | None]:
    """Make the schema of text that a pattern describes as a whole."""
    known = re.compile(pattern)

    def check(value: Any) -> str | None:
        return None if isinstance(value, str) and known.fullmatch(value) else wanted

    return check


def anything(value: Any) -> str | None:
    """Schema of what is checked where it is read."""
    return None


def misfit_of_any(value: Any, schema: Schema) -> str | None:
    """Say where a document of any depth does not fit a schema; None if all of it fits."""
    try:
        check_depth(value)
    except ValueError as error:
        return str(error)
    return misfit(value, schema)


class Row(list[Schema]):
    """A list of as many items as schemas, each of which fits its own."""


class Closed(dict[str, Schema]):
    """An object with these entries and no others."""


class OneOf(dict[str, Schema]):
    """An object with one entry, whose name says which schema its value fits."""


def _parts(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _is_schema(one: Any) -> bool:
    return isinstance(one, type | UnionType | list | dict | tuple) or callable(one)


def _is_instance(value: Any, kind: Any) -> bool:
    if isinstance(value, bool):
        return kind is bool or (isinstance(kind, UnionType) and bool in kind.__args__)
    takes_float = kind is float or (isinstance(kind, UnionType) and float in kind.__args__)
    return isinstance(value, kind) or (takes_float and isinstance(value, int))


def _misfit_of_items(value: Any, schema: list[Schema], where: str) -> str | None:
    if not isinstance(value, list):
        return _told(where, value, "a list")
    if isinstance(schema, Row) and len(value) != len(schema):
        return _told(where, value, f"a list of {len(schema)}")
    if not isinstance(schema, Row) and isinstance(schema[0], FunctionType):  # long lists of numbers, most of them right
        wrong = next((i for i, part in enumerate(value) if schema[0](part) is not None), None)
        return None if wrong is None else misfit(value[wrong], schema[0], f"{where}[{wrong}]")
    schemas = schema if isinstance(schema, Row) else itertools.repeat(schema[0], len(value))
    places = enumerate(zip(value, schemas, strict=True))
    return _first(misfit(part, one, f"{where}[{i}]") for i, (part, one) in places)


def _misfit_of_one(value: Any, schema: OneOf, where: str) -> str | None:
    if not isinstance(value, dict) or len(value) != 1 or next(iter(value)) not in schema:
        return _told(where, value, f"an object with one entry, one of {', '.join(schema)}")
    ((kind, part),) = value.items()
    return misfit(part, schema[kind], _inside(where, kind))


def _misfit_of_entries(value: Any, schema: dict[Any, Schema], where: str) -> str | None:
    if not isinstance(value, dict):
        return _told(where, value, "an object")
    if str in schema:
        return _first(misfit(part, schema[str], _inside(where, name)) for name, part in value.items())
    names = {entry.removesuffix("?") for entry in schema}
    further = [name for name in value if name not in names] if isinstance(schema, Closed) else []
    if further:
        return f"{_inside(where, further[0])} is not known"
    for entry, wanted in schema.items():
        name = entry.removesuffix("?")
        if name in value:
            found = misfit(value[name], wanted, _inside(where, name))
            if found is not None:
                return found
        elif name == entry:
            return f"{_inside(where, name)} is missing"
    return None


def _misfit_of_all(value: Any, schemas: tuple[Schema, ...], where: str) -> str | None:
    """Say what is wrong where nothing fits: what the schema that went furthest into the document said."""
    if not any(_is_schema(one) for one in schemas):
        fits = any(type(value) is type(one) and value == one for one in schemas)
        return None if fits else _told(where, value, f"one of {', '.join(map(repr, schemas))}")
    found = []
    for one in schemas:
        text = misfit(value, one, where) if _is_schema(one) else _unequal(value, one, where)
        if text is None:
            return None
        found.append(text)
    return max(found, key=lambda text: len(text.partition(" ")[0]))


def _first(found: Iterator[str | None]) -> str | None:
    return next((text for text in found if text is not None), None)


def _unequal(value: Any, wanted: Any, where: str) -> str | None:
    return None if type(value) is type(wanted) and value == wanted else _told(where, value, repr(wanted))


def _inside(where: str, name: Any) -> str:
    return f"{where}.{name!s:.40}" if where else f"{name!s:.40}"


def _told(where: str, value: Any, wanted: str) -> str:
    return f"{where or 'it'} is {_short(value)} and must be {wanted}"


def _short(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


@functools.cache
def _name(kind: Any) -> str:
    names = {str: "text", int: "a whole number", float: "a number", dict: "an object", list: "a list", bool: "a bool"}
    kinds = kind.__args__ if isinstance(kind, UnionType) else (kind,)
    return " or ".join(names.get(one, "null") for one in kinds)


_TOO_DEEP = f"it is nested deeper than {MOST_DEPTH} levels"

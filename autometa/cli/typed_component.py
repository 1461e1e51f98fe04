"""Components made of typed parameters, each read by what the component's constructor takes."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from autometa.errors import InvalidParameter

_ON, _OFF = ("yes", "true", "on"), ("no", "false", "off")
_WORDS: dict[Any, str] = {
    bool: "yes or no",
    int: "an integer",
    float: "a number",
    None: "none",
}
"""What is taken, in words, by the plain types: a text is none of them."""


def make_typed(kind: str, name: str, params: Mapping[str, Any] | None = None) -> Any:
    """Make a component by its name from parameters of a command line or a study file.

    Raises
    ------
    InvalidParameter
        A text where the constructor takes none.
    """
    from autometa.host import find, make

    found = find(kind, name)
    factory = found.spec.resolve()
    whose = f"{kind} {found.name!r}"
    return make(
        kind, name, **{key: _read(key, value, _taken(factory, key), whose) for key, value in (params or {}).items()}
    )


def _taken(factory: Callable[..., Any], name: str) -> list[Any]:
    """Return what the parameter takes: types, literal values and None; nothing where that is not told."""
    parameter = inspect.signature(factory).parameters.get(name)
    if parameter is None:
        return []
    hint = parameter.annotation
    if hint is parameter.empty:
        return [bool] if isinstance(parameter.default, bool) else []
    if isinstance(hint, str):
        function = factory.__init__ if isinstance(factory, type) else factory  # type: ignore[misc]
        holder = types.SimpleNamespace(__annotations__={name: hint})
        try:
            hint = typing.get_type_hints(holder, getattr(inspect.unwrap(function), "__globals__", {}))[name]
        except Exception:  # a name that only type checkers import: the component itself must judge
            return []
    return _parts(hint)


def _parts(hint: Any) -> list[Any]:
    """Take a union and its literals apart."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [part for member in typing.get_args(hint) for part in _parts(member)]
    if typing.get_origin(hint) is Literal:
        return list(typing.get_args(hint))
    return [None if hint is type(None) else hint]


def _read(name: str, value: Any, taken: list[Any], whose: str) -> Any:
    """Return the value as the constructor takes it, or refuse it."""
    takes_text = str in taken or Path in taken
    if isinstance(value, str):
        if bool in taken and value.strip().lower() in (*_ON, *_OFF):
            return value.strip().lower() in _ON
        is_plain = all(part in _WORDS or isinstance(part, str) for part in taken)
        if taken and is_plain and value not in taken:
            raise _refusal(name, value, taken, whose)
    elif value is None and None not in taken and ("none" in taken or takes_text):
        return "none"  # which was read as None, and is a word of this component
    elif isinstance(value, int | float) and takes_text and not {bool, int, float} & set(taken):
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidParameter(f"{name}={value!r} of {whose} must be text; put it in quotes.")
        return str(value)  # a folder such as 2024
    elif taken == [bool] and not isinstance(value, bool):
        raise _refusal(name, value, taken, whose)
    return value


def _refusal(name: str, value: Any, taken: list[Any], whose: str) -> InvalidParameter:
    wanted = " or ".join(dict.fromkeys(_WORDS[part] if part in _WORDS else repr(part) for part in taken))
    return InvalidParameter(f"{name}={value!r} of {whose} must be {wanted}.")

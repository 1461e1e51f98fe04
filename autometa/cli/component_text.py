"""Components as typed on a command line: ``omniglot:root=../data,n_way=5``."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

from autometa.errors import InvalidParameter

_WORDS = {"true": True, "false": False, "none": None}


def split_components(text: str) -> list[str]:
    """Divide components at commas: ``ridge,maml:steps=3,inner_lr=0.1,sklearn`` are three."""
    found: list[str] = []
    for part in _split(text):
        if found and re.match(r"\s*\w+\s*=", part):
            found[-1] += f",{part}"
        else:
            found.append(part.strip())
    return found


def parse_component(text: str) -> tuple[str, dict[str, Any]]:
    """Split ``name:key=value,...`` into the name and its parameters.

    Values are Python literals (``5``, ``0.1``, ``True``, ``[1, 2]``, ``'a, b'``); anything else is text.

    Raises
    ------
    InvalidParameter
        There is no name, or a part that is not ``key=value``.
    """
    name, _, rest = text.partition(":")
    if not name.strip():
        raise InvalidParameter(f"{text!r} has no name; write NAME or NAME:key=value,key=value.")
    params: dict[str, Any] = {}
    for part in _split(rest):
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals or not key.isidentifier():
            raise InvalidParameter(f"{part!r} in {text!r} must look like key=value, such as n_way=5.")
        if key in params:
            raise InvalidParameter(f"{key!r} is given twice in {text!r}.")
        params[key] = parse_value(value)
    return name.strip(), params


def parse_learner(text: str) -> tuple[str, str | None, dict[str, Any]]:
    """Split ``learner[:meta_optimizer][:key=value,...]``; the meta-optimizer is None where none is named."""
    name, _, rest = text.partition(":")
    first, colon, others = rest.partition(":")
    if first.strip() and "=" not in first:
        return name.strip(), first.strip(), parse_component(f"{name}{colon}{others}")[1]
    name, params = parse_component(text)
    return name, None, params


def parse_value(text: str) -> Any:
    """Return the Python literal, one of true, false and none in any case, or the text itself."""
    text = text.strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _split(text: str) -> list[str]:
    """Split at commas that stand outside of brackets and quotes."""
    parts, depth, quote, part = [], 0, "", ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        if letter == "," and depth == 0 and not quote:
            parts.append(part)
            part = ""
        else:
            part += letter
    parts.append(part)
    return [part for part in parts if part.strip()]


def labels(components: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Give every component a readable name that no other has.

    Parameters
    ----------
    components : sequence of (name, parameters)

    Returns
    -------
    list of str
        The name alone where it stands once; else followed by the parameters that tell it from its namesakes.
    """
    given: list[str] = []
    for name, params in components:
        namesakes = [other for other_name, other in components if other_name == name]
        telling = [key for key in params if any(other.get(key, ...) != params[key] for other in namesakes)]
        short = name.rpartition("/")[2]
        label = " ".join([short, *(f"{key}={_short(params[key])}" for key in telling)])
        free, n = label, 1
        while free in given:
            free, n = f"{label}#{n + 1}", n + 1
        given.append(free)
    return given


def _short(value: Any) -> str:
    """A value for a label: of a path its last part, since names of studies are divided by '/'."""
    return re.sub(r"\s+", " ", str(value).rstrip("/").rpartition("/")[2])

"""What sets the plan of a meta-training apart from another, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autometa.files.description import changed_content, same_description


def difference_in_words(name: str, stored: Any, here: Any) -> str:
    """Say in words what differs in one part of the plan."""
    changed = changed_content(stored, here)
    if changed:
        return f"the data of {', '.join(changed)} changed since"
    if name == "tasks" and isinstance(stored, Mapping):
        same = same_description(stored["sampler"], here["sampler"])
        # Shapes and sizes follow from the sampler: they tell something only where it is the same.
        stored, here = (
            {"class": "TaskInfo", "params": side["info"]} if same else side["sampler"] for side in (stored, here)
        )
    given = _other_data(stored, here)
    if given:
        return f"{name}: {' and '.join(given)}"
    there, now = _two_sides(stored, here)
    return f"{name}: {there} there, {now} here"


def _differing(stored: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return the parameters that differ between two components of one class."""
    names = {**stored["params"], **here["params"]}
    absent: dict[str, Any] = {"absent": None}
    return [
        name
        for name in names
        if not same_description(stored["params"].get(name, absent), here["params"].get(name, absent))
    ]


def _is_alike(stored: Any, here: Any) -> bool:
    """Tell whether two descriptions are components of one class."""
    both = all(isinstance(side, Mapping) and "params" in side for side in (stored, here))
    return both and bool(stored["class"] == here["class"])


def _other_data(stored: Any, here: Any) -> list[str]:
    """Return what is told of two components that differ in nothing but the content of objects given to them."""
    if not _is_alike(stored, here):
        return []
    found = []
    for name in _differing(stored, here):
        there, now = stored["params"].get(name), here["params"].get(name)
        if not (_is_opaque(there) and _is_opaque(now) and there["opaque"] == now["opaque"]):
            return []
        found.append(f"the {now['opaque']} given as {name} has other content")
    return found


def _is_opaque(value: Any) -> bool:
    return isinstance(value, Mapping) and "opaque" in value


def _two_sides(stored: Any, here: Any) -> tuple[str, str]:
    """Put both values on one line each; of components of one class only the parameters that differ."""
    names = _differing(stored, here) if _is_alike(stored, here) else []
    if not names:
        return _short(stored), _short(here)
    sides: tuple[list[str], list[str]] = ([], [])
    for name in names:
        if name in stored["params"] and name in here["params"]:
            pair = _two_sides(stored["params"][name], here["params"][name])
        else:
            there, now = (_short(side["params"][name]) if name in side["params"] else "" for side in (stored, here))
            pair = there, now
        for side, text in zip(sides, pair, strict=True):
            if text:
                side.append(f"{name}={text}")
    kind = here["class"].rpartition(":")[2]
    return f"{kind}({', '.join(sides[0])})", f"{kind}({', '.join(sides[1])})"


def _short(value: Any) -> str:
    """Put a value on one line; a component becomes its class and parameters, an object its type."""
    if isinstance(value, Mapping) and "class" in value:
        parameters = ", ".join(f"{name}={_short(part)}" for name, part in value["params"].items())
        value = f"{value['class'].rpartition(':')[2]}({parameters})"
    elif _is_opaque(value):
        value = f"<{value['opaque'].rpartition(':')[2]} {value['hash'][:6]}>"
    elif isinstance(value, Mapping) and len(value) == 1 and not {"tuple", "mapping"}.isdisjoint(value):
        ((kind, parts),) = value.items()
        texts = map(_short, parts) if kind == "tuple" else (f"{key}: {_short(part)}" for key, part in parts.items())
        value = ", ".join(texts).join("()" if kind == "tuple" else "{}")
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."

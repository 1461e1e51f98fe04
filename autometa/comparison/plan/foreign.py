"""What a plan that somebody else made may lead to here: paths and code, of which nothing is used unasked."""

from __future__ import annotations

import inspect
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

from autometa.checks import check_path, check_texts
from autometa.errors import AutometaError, InvalidParameter
from autometa.files.description import installed_name
from autometa.host.catalog import find

Paths = str | os.PathLike[str] | Collection[str | os.PathLike[str]]


@dataclass(frozen=True, slots=True)
class Named:
    """A path, or the import path of a function, that a parameter of a plan names."""

    kind: Literal["path", "code"]
    text: str
    parameter: str
    component: str
    """Such as ``"task sampler 'tasks/omniglot'"``."""


def check_foreign(
    described: Mapping[str, Any],
    where: str,
    allowed_paths: Paths | None,
    trusted: Collection[str] | None,
    *,
    option: str,
) -> None:
    """Refuse a plan that names paths or code that its user did not allow, before anything of it is made.

    Parameters
    ----------
    described : mapping
        The plan as it is stored.
    where : str
        What to call it in an error.
    allowed_paths : path or collection of paths, optional
        Files and folders that it may name, with all that lies in them. None: any.
    trusted : collection of str, optional
        Import paths of functions that it may name. None: they are checked elsewhere.
    option : str
        How to allow more, as ``"work(..., {})"``.

    Raises
    ------
    InvalidParameter
    """
    roots = [] if allowed_paths is None else check_allowed_paths(allowed_paths)
    if trusted is not None:
        check_texts("trusted", trusted, such_as="my_package:my_function")
    named = [one for kind in ("tasks", "test_tasks", "learners") for one in named_by(described.get(kind, {}))]
    paths = [one for one in named if one.kind == "path" and not _is_within(one.text, roots)]
    if paths and allowed_paths is not None:
        texts = list(dict.fromkeys(one.text for one in paths))
        hint = " ".join(f"--allow-path {text!r}" for text in texts)
        raise InvalidParameter(
            f"{where} names the path {texts[0]!r} ({paths[0].parameter} of {paths[0].component}), and whoever made it "
            f"may name any; nothing was read or written. If you know {'it' if len(texts) == 1 else 'them'}, say "
            f"{hint}, or in Python {option.format(f'allowed_paths={texts!r}')}."
        )
    code = sorted({one.text for one in named if one.kind == "code" and one.text not in (trusted or ())})
    if code and trusted is not None:
        raise InvalidParameter(
            f"{where} names {code[0]!r}, code that it calls with its rows; if you know it, say "
            f"{' '.join(f'--trust {path}' for path in code)}, or in Python {option.format(f'trusted={code!r}')}."
        )


def check_allowed_paths(given: Paths) -> list[Path]:
    """Return folders and files as absolute paths.

    Raises
    ------
    InvalidParameter
        Something else than paths is given.
    """
    if not isinstance(given, str | os.PathLike | Collection) or isinstance(given, bytes | Mapping):
        raise InvalidParameter(f"allowed_paths={given!r} must be a list of paths.")
    paths = [given] if isinstance(given, str | os.PathLike) else list(given)
    for path in paths:
        check_path("allowed_paths", path)
    return [Path(os.path.abspath(os.path.expanduser(path))) for path in paths]


def named_by(described: Any) -> Iterator[Named]:
    """Return all that the components of a description name."""
    if isinstance(described, list):
        for item in described:
            yield from named_by(item)
    elif isinstance(described, Mapping):
        params = described.get("params")
        if isinstance(params, Mapping) and isinstance(described.get("name"), str):
            kind, name = str(described.get("kind")), described["name"]
            paths, code = _naming(kind, installed_name(described))
            for key, value in params.items():
                for text in _texts(value):
                    if key in code and ":" in text:
                        yield Named("code", text, key, f"{kind} {name!r}")
                    elif key in paths or _looks_like_a_path(text):
                        yield Named("path", text, key, f"{kind} {name!r}")
        for value in described.values():
            yield from named_by(value)


def _naming(kind: str, name: str) -> tuple[set[str], set[str]]:
    """Return the parameters of a component that name paths, and those that name code.

    What the class says counts, and what the constructor takes: a ``Path`` in an annotation is one.
    """
    try:
        factory = find(kind, name).spec.resolve()
    except AutometaError:  # nothing is made of it then, which whoever makes it is told
        return set(), set()
    paths = set(getattr(factory, "names_files", ())) | {
        parameter.name
        for parameter in inspect.signature(factory).parameters.values()
        if "Path" in str(parameter.annotation)
    }
    return paths, set(getattr(factory, "names_code", ()))


def _texts(value: Any) -> Iterator[str]:
    """Return all texts in a described value, names in a mapping among them, but not those of components in it."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, Mapping) and not _is_component(value):
        for name, item in value.items():
            # The entries of a mapping have any names, so that one may look like a component and is none.
            held = item if name == "mapping" and isinstance(item, Mapping) else {}
            yield from held
            for part in held.values() if held else (item,):
                yield from _texts(part)


def _is_component(described: Mapping[str, Any]) -> bool:
    """Tell whether a component is made of what is described, see :func:`autometa.files.description.restore`."""
    is_other = "tuple" in described or "mapping" in described
    is_named = isinstance(described.get("kind"), str) and isinstance(described.get("name"), str)
    return is_named and not is_other and isinstance(described.get("params"), Mapping)


def _looks_like_a_path(text: str) -> bool:
    """Tell whether text leads out of the working folder, whatever its parameter is for."""
    parts = text.replace("\\", "/").split("/")
    return text.startswith(("/", "~")) or ".." in parts or bool(PureWindowsPath(text).drive)


def _is_within(text: str, roots: Collection[Path]) -> bool:
    """Tell whether a path lies in one of the roots, by its name and by where its links lead."""
    if not roots:
        return False
    path = os.path.abspath(os.path.expanduser(text))
    # By name first: what lies elsewhere is not even looked at.
    near = [root for root in roots if Path(path).is_relative_to(root)]
    try:
        return any(Path(path).resolve().is_relative_to(root.resolve()) for root in near)
    except (OSError, ValueError, RuntimeError):
        return False

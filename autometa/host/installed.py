"""Entry points of all installed distributions; one whose metadata is damaged does not hide the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import PurePath
from typing import Any

from packaging.utils import canonicalize_name

from autometa.contracts.plugin_code import one_line
from autometa.errors import PluginError

ENTRY_POINTS = "entry_points.txt"


@dataclass(frozen=True, slots=True)
class Damaged:
    """A distribution whose entry points cannot be read."""

    names: tuple[str, ...]
    """Plugins that its entry points seem to name; else the name of the distribution."""
    distribution: str
    version: str
    error: PluginError


def installed(group: str) -> tuple[list[EntryPoint], list[Damaged]]:
    """Return the entry points of a group, first on the path first, and the distributions that cannot be read.

    Of two distributions of one name, the first on the path counts: Python imports that one.
    """
    points: list[EntryPoint] = []
    damaged: list[Damaged] = []
    seen: set[str] = set()
    for found in distributions():
        name = _key(found)
        if name in seen:
            continue
        seen.add(name)
        try:
            points.extend(found.entry_points.select(group=group))
        except Exception as error:  # a damaged file raises what its damage leads to
            damaged.append(_damaged(found, group, error))
    return points, damaged


def origin_of(found: Distribution | None) -> tuple[str, str]:
    """Return name and version of a distribution; where its metadata is damaged, those of its folder."""
    if found is None:
        return "unknown", "unknown"
    in_folder = _folder_says(found)
    try:
        name, version = found.name, found.version
    except Exception:  # whoever loads the plugin is told
        name, version = canonicalize_name(in_folder[0]), in_folder[1]
    return name or canonicalize_name(in_folder[0]) or "unknown", version or in_folder[1] or "unknown"


def _damaged(found: Distribution, group: str, error: Exception) -> Damaged:
    distribution, version = origin_of(found)
    reason = PluginError(f"its {ENTRY_POINTS} cannot be read ({one_line(error)}); install {distribution!r} again.")
    reason.__cause__ = error
    names = dict.fromkeys(_names_in(_text(found), group))
    return Damaged(tuple(names) or (distribution,), distribution, version, reason)


def _key(found: Distribution) -> str:
    """Tell distributions apart; by the folder's name, because reading all metadata takes time."""
    return canonicalize_name(_folder_says(found)[0] or origin_of(found)[0])


def _folder_says(found: Distribution) -> tuple[str, str]:
    """Return name and version in the name of the metadata folder; empty where there is none."""
    path: Any = getattr(found, "_path", None)
    folder = PurePath(str(path)).name if path is not None else ""
    stem, _, suffix = folder.rpartition(".")
    if suffix not in ("dist-info", "egg-info"):
        return "", ""
    name, _, rest = stem.partition("-")
    return name, rest.partition("-")[0]


def _text(found: Distribution) -> str:
    """Read the entry points whatever their encoding."""
    path: Any = getattr(found, "_path", None)
    try:
        data: bytes = path.joinpath(ENTRY_POINTS).read_bytes()
    except (OSError, AttributeError, KeyError):
        return ""
    return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", errors="replace")


def _names_in(text: str, group: str) -> Iterator[str]:
    """Return what stands before '=' in the section of a group."""
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line.strip("[] ")
        elif section == group and line and not line.startswith(("#", ";")):
            yield line.partition("=")[0].strip() or line

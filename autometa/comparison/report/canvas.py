"""Matplotlib figures as small inline SVG whose colours follow the page, in light, in dark and on paper."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle

# Stand-ins drawn by matplotlib and replaced by CSS variables, so that one picture serves every colour scheme.
INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper"}
N_COLORS, N_GREYS = 9, 3
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">", "h")
_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "autometa",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "path.simplify": True,
}


@dataclass(frozen=True, slots=True)
class Style:
    """How one learner looks in every figure of a report."""

    color: str
    """The colour that matplotlib draws with, to be replaced by the variable."""
    variable: str
    """The CSS variable that replaces it."""
    marker: str
    dashed: bool

    def chip(self) -> str:
        """Return a tiny SVG of the marker for legends and tables."""
        marker = MarkerStyle(self.marker)
        polygons = marker.get_path().transformed(marker.get_transform()).to_polygons(closed_only=False)
        corners = [np.asarray(polygon, dtype=float) for polygon in polygons]
        scale = 4.2 / max(float(np.abs(polygon).max()) for polygon in corners)
        placed = [5 + scale * polygon * (1, -1) for polygon in corners]
        path = " ".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in polygon) + "Z" for polygon in placed)
        drawn = f'<path d="{path}" style="fill:var({self.variable})"/>'
        return f'<svg class="chip" viewBox="0 0 10 10" aria-hidden="true">{drawn}</svg>'


def styles(learners: Iterable[str], baselines: Iterable[str] = ()) -> dict[str, Style]:
    """Give every learner a colour and a marker; baselines get greys and dashes.

    The same names give the same styles, whatever their order.
    """
    plain = set(baselines)
    names = sorted(set(learners))
    given: dict[str, Style] = {}
    for i, name in enumerate(sorted(names, key=lambda name: (name in plain, name))):
        if name in plain:
            k = sum(style.dashed for style in given.values()) % N_GREYS
            color, variable = f"#0b00{k:02x}", f"--g{k}"
        else:
            color, variable = f"#0a00{i % N_COLORS:02x}", f"--s{i % N_COLORS}"
        given[name] = Style(color, variable, _MARKERS[i % len(_MARKERS)], name in plain)
    return given


def axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Open a figure (inches) with one plain pair of axes."""
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        ax = figure.add_subplot()
    figure.patch.set_visible(False)
    ax.patch.set_visible(False)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(MUTED)
    ax.tick_params(which="both", colors=MUTED, labelcolor=INK, labelsize=8)
    ax.grid(True, color=GRID, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.xaxis.label.set_color(INK)
    ax.yaxis.label.set_color(INK)
    return figure, ax


def to_svg(figure: Figure, title: str) -> str:
    """Render a figure as an inline SVG element of flexible size; equal figures give equal text.

    Parameters
    ----------
    figure : Figure
    title : str
        Read aloud by screen readers.
    """
    buffer = io.StringIO()
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        # The browser draws the text, and has the characters that this font lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        FigureCanvasSVG(figure).print_svg(
            buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = buffer.getvalue()
    view = re.search(r'viewBox="([^"]+)"', text)
    assert view is not None
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"<[^>]*>", lambda found: _shortened(found[0]), body)  # between tags stands text, which stays
    body = _without_plain_groups(body)
    body = re.sub(r"\n\s*", "\n", body)
    said = html.escape(title)
    return f'<svg class="plot" viewBox="{view[1]}" role="img" aria-label="{said}"><title>{said}</title>{body}'


def _shortened(tag: str) -> str:
    """Return a tag of an SVG with shorter numbers and styles, and with the page's variables for colours."""
    # Names of parts are repeated in every figure; the hashed ones stay. The page has a font of its own.
    tag = re.sub(r' id="(?:[A-Za-z0-9]+_\d+|matplotlib\.[^"]*)"', "", tag)
    tag = re.sub(r' transform="rotate\(-0 [^"]*"', "", tag)
    tag = re.sub(r"(\d\.\d{2})\d+", r"\1", tag)
    tag = re.sub(r' d="[^"]*"', lambda found: re.sub(r"\s*([A-Z])\s*", r"\1", found[0]), tag)
    tag = re.sub(r'style="[^"]*"', lambda found: re.sub(r"([:;]) ", r"\1", found[0]), tag)
    tag = tag.replace("font-family:'DejaVu Sans', sans-serif;", "")
    for color, variable in _VARIABLES.items():
        tag = tag.replace(color, f"var({variable})")
    return re.sub(r"#0([ab])00([0-9a-f]{2})", lambda m: f"var(--{'s' if m[1] == 'a' else 'g'}{int(m[2], 16)})", tag)


def _without_plain_groups(body: str) -> str:
    """Leave out the groups of an SVG that carry nothing."""
    is_plain: list[bool] = []

    def kept(tag: re.Match[str]) -> str:
        if tag[0] == "</g>":
            return "" if is_plain.pop() else tag[0]
        if tag[0].endswith("/>"):
            return ""  # nothing is in it
        is_plain.append(tag[0] == "<g>")
        return "" if is_plain[-1] else tag[0]

    return re.sub(r"</?g\b[^>]*>", kept, body)

"""A critical-difference diagram: learners along their mean ranks, with bars that join those not told apart."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from autometa.comparison.report.canvas import GRID, INK, MUTED, Style, axes, to_svg
from autometa.comparison.report.drawing import drawn
from autometa.contracts.printable import printable

_LINE, _BAR = 0.22, 0.13
"""Inches between labels and between bars."""
_MARGIN = 0.06
"""From the ends of the axis to the labels, as a share of it."""
_LONGEST = 22
"""Characters of a name that are shown."""


@drawn
def rank_figure(ranks: pd.DataFrame, looks: Mapping[str, Style], title: str) -> str:
    """Draw the learners of one task distribution, or of all, best on the left (Demšar 2006, figure 1).

    Parameters
    ----------
    ranks : DataFrame
        Rows of :func:`autometa.critical_difference`, best first: ``learner``, ``mean_rank``, ``groups``,
        ``critical_difference``.
    looks : mapping of learner to Style
    title : str
        What a screen reader says.

    Returns
    -------
    str
        SVG.
    """
    n = len(ranks)
    bars = _bars(ranks)
    n_left = math.ceil(n / 2)
    top = 0.5  # of the labels, in inches below the axis, beyond the bars
    depth = top + _BAR * len(bars) + _LINE * n_left
    figure, ax = axes(6.4, depth + 0.5)
    ax.axis("off")
    ax.grid(False)
    reach = max(n - 1, 1)
    left, right = 1 - _MARGIN * reach, n + _MARGIN * reach
    ax.set_xlim(left, right)
    ax.set_ylim(-depth, 0.5)
    ax.plot([1, n], [0, 0], color=MUTED, linewidth=1)
    for rank in _ticks(n):
        ax.plot([rank, rank], [0, 0.06], color=MUTED, linewidth=1)
        ax.text(rank, 0.09, f"{rank}", ha="center", va="bottom", color=MUTED, fontsize=8)
    distance = float(ranks["critical_difference"].iloc[0])
    if math.isfinite(distance):
        shown = min(distance, n - 1.0)
        ax.plot([1, 1 + shown], [0.36, 0.36], color=INK, linewidth=1.4)
        _beside(ax, 1 + shown, 0.36, f"critical difference {distance:.2f}", fontsize=8)
    for place, row in enumerate(ranks.itertuples()):
        on_left = place < n_left
        line = place if on_left else n - 1 - place
        height = -(0.16 + _BAR * len(bars) + _LINE * (line + 1))
        end = left if on_left else right
        look = looks[str(row.learner)]
        ax.plot([row.mean_rank, row.mean_rank, end], [0, height, height], color=GRID, linewidth=1, zorder=1)
        ax.plot([row.mean_rank], [0], look.marker, color=look.color, markersize=6, zorder=3)
        name = printable(str(row.learner))
        name = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
        text = f"{name}  {row.mean_rank:.2f}" if on_left else f"{row.mean_rank:.2f}  {name}"
        _beside(ax, end, height, text, on_left=on_left)
    for level, members in enumerate(bars):
        height = -0.14 - _BAR * level
        ax.plot([members.min(), members.max()], [height, height], color=INK, linewidth=3, solid_capstyle="round")
        ax.plot(members, [height] * len(members), "|", color=INK, markersize=7)
    return to_svg(figure, title)


def _beside(ax: Axes, x: float, y: float, text: str, *, on_left: bool = False, fontsize: int = 9) -> None:
    """Write text a little beside a point."""
    ax.annotate(
        text, (x, y), xytext=(-4 if on_left else 4, 0), textcoords="offset points", ha="right" if on_left else "left",
        va="center", color=INK, fontsize=fontsize, parse_math=False, annotation_clip=False,
    )  # fmt: skip


def _bars(ranks: pd.DataFrame) -> list[pd.Series[float]]:
    """Mean ranks of the members of each group."""
    every = sorted({group for groups in ranks["groups"] for group in groups})
    return [ranks["mean_rank"][[group in groups for groups in ranks["groups"]]] for group in every]


def _ticks(n: int) -> range:
    """Ranks that are numbered: not more than a dozen."""
    return range(1, n + 1, max(1, math.ceil(n / 12)))

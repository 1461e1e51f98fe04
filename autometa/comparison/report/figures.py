"""The figures of a report: scores with intervals, learning curves, cost against score, a study's history."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray
from optuna import Study
from optuna.trial import TrialState

from autometa.comparison.report.canvas import INK, MUTED, N_COLORS, PAPER, Style, axes, to_svg
from autometa.comparison.report.drawing import drawn
from autometa.comparison.report.markup import LARGE, metric_title
from autometa.comparison.results.labelled_rows import AXIS
from autometa.comparison.results.pareto import not_dominated
from autometa.comparison.results.shown import ShownEpisode
from autometa.contracts.printable import printable
from autometa.contracts.problems import problem_of_metric

Points: TypeAlias = Sequence[tuple[int, float]]

_WIDE = 15.0
"""Ratio of largest to smallest error from which a logarithmic axis shows more."""

_WIDE_OVER_ROWS = 4.0
"""The same for errors over labelled rows, which fall fast with the first ones."""
_CUT = 30.0
"""Errors over labelled rows of more than so many times the median are cut off: one learner may fail with one row."""


@drawn
def interval_figure(rows: pd.DataFrame, looks: Mapping[str, Style]) -> str:
    """Score and 95% interval of every learner on one task distribution, best on top.

    Parameters
    ----------
    rows : DataFrame
        Rows of the leaderboard, in its order.
    looks : mapping of learner to Style
    """
    figure, ax = axes(4.7, max(3.0, 0.7 + 0.25 * len(rows)))
    for place, row in enumerate(rows.itertuples()):
        look = looks[str(row.learner)]
        ax.plot([row.ci_low, row.ci_high], [place, place], color=look.color, linewidth=2.4, solid_capstyle="round")
        ax.plot([row.score], [place], look.marker, color=look.color, markersize=7, markeredgecolor=PAPER)
    ax.set_yticks(range(len(rows)), [_broken(printable(name)) for name in rows["learner"]], parse_math=False)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    metric = str(rows["metric"].iloc[0])
    _score_axis(ax, "x", metric, _scores_and_ends(rows))
    return to_svg(figure, f"{metric_title(metric)} and 95% interval of each learner")


@drawn
def curve_figure(
    curves: pd.DataFrame, metric: str, looks: Mapping[str, Style], axis: str, *, known: Sequence[float] = ()
) -> str:
    """Score along one axis: a line per learner, thin ones per seed where there are several.

    Seconds are logarithmic; numbers of labelled rows stand side by side, without thin lines.

    Parameters
    ----------
    curves : DataFrame
        Columns learner, seed, value, score.
    metric : str
    looks : mapping of learner to Style
    axis : str
        Name of the axis, such as ``"outer steps"``.
    known : sequence of float, optional
        Scores of who takes no part, such as the best there is, drawn as dotted lines.
    """
    figure, ax = axes(4.7, 3.0)
    numbers = sorted(set(curves["value"]))
    if axis == AXIS:
        curves = curves.assign(value=curves["value"].map({number: place for place, number in enumerate(numbers)}))
    for name, rows in curves.groupby("learner", sort=True):
        look = looks[str(name)]
        seeds = [seed.sort_values("value") for _, seed in rows.groupby("seed")]
        line = "--" if look.dashed else "-"
        faint: list[NDArray[np.float64]] = []
        if len({len(seed) for seed in seeds}) == 1:
            # Seconds differ a little from seed to seed: the mean is over the k-th points, wherever each lies.
            points = np.stack([seed[["value", "score"]].to_numpy(dtype=float) for seed in seeds])
            lines = [points.mean(axis=0)]
            faint = list(points) if len(seeds) > 1 and axis not in ("seconds", AXIS) else []
        else:
            lines = [seed[["value", "score"]].to_numpy(dtype=float) for seed in seeds]
        for seed_points in faint:
            ax.plot(*seed_points.T, line, color=look.color, linewidth=0.7, alpha=0.45)
        for points in lines:
            shown = points[-1:] if len(points) > 8 else points
            ax.plot(*points.T, line, color=look.color, linewidth=1.8)
            ax.plot(*shown.T, look.marker, color=look.color, markersize=5, markeredgecolor=PAPER)
    ax.set_xlabel(printable(axis), parse_math=False)
    if axis == "seconds":
        _log_ticks(ax, "x", curves["value"])
    elif axis == AXIS:
        ax.set_xticks(range(len(numbers)), [f"{number:g}" for number in numbers])
    else:
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    scores = curves["score"].to_numpy(dtype=float)
    for score in known:
        ax.axhline(score, linestyle=":", color=INK, linewidth=1.2)
    _score_axis(ax, "y", metric, np.append(scores, known))
    if (
        axis == AXIS
        and not problem_of_metric(metric).higher_is_better
        and (top := _CUT * np.median(scores)) < scores.max()
    ):
        ax.set_ylim(top=top)
    return to_svg(figure, f"{metric_title(metric)} over {axis}")


@drawn
def steps_figure(episode: ShownEpisode, title: str) -> str:
    """Reward of each step of an episode, and below it what was observed; every series has a line of its own kind.

    Parameters
    ----------
    episode : ShownEpisode
        Without a picture.
    title : str
        What a screen reader says.
    """
    figure, ax = axes(4.7, 2.6)
    lines = ["-", "--", "-.", ":"]
    ax.step(episode.steps, episode.reward, where="mid", color=INK, linewidth=1.8, label="reward")
    for place, series in enumerate(episode.observation):
        color = f"#0a00{place % N_COLORS:02x}"
        ax.plot(episode.steps, series, lines[place % len(lines)], color=color, linewidth=1.2, label=f"seen {place + 1}")
    ax.set_xlabel("step")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    legend = figure.legend(loc="outside upper center", ncols=1 + len(episode.observation), frameon=False, fontsize=8)
    for text in legend.get_texts():
        text.set_color(INK)
    return to_svg(figure, title)


@drawn
def function_figure(
    support: NDArray[np.float64], query: NDArray[np.float64], answers: NDArray[np.float64], look: Style, title: str
) -> str:
    """What is known of a function of one number, and what was answered.

    Parameters
    ----------
    support, query : ndarray of shape [n, 2]
        Inputs and targets.
    answers : ndarray of shape [m]
        To the first m queries, m <= n.
    look : Style
        Of the learner.
    title : str
        What a screen reader says.
    """
    figure, ax = axes(4.7, 2.4)
    ax.plot(*query.T, "o", color=MUTED, markersize=3.5, markeredgewidth=0)
    asked = query[: len(answers), 0]
    order = np.argsort(asked, kind="stable")
    ax.plot(asked[order], answers[order], look.marker, linestyle="-", color=look.color, linewidth=1.2, markersize=4)
    ax.plot(*support.T, "x", color=INK, markersize=7, markeredgewidth=1.8)
    ax.set_xlabel("x")
    ax.yaxis.set_major_locator(MaxNLocator(5))
    return to_svg(figure, title)


def _scores_and_ends(rows: pd.DataFrame) -> NDArray[np.float64]:
    """Scores and the ends of their intervals; of errors, which are above 0, without the ends that are not."""
    values: NDArray[np.float64] = rows[["score", "ci_low", "ci_high"]].to_numpy(dtype=np.float64)
    values = values[~np.isnan(values)]
    return values[values > 0] if rows["score"].min() > 0 else values


@drawn
def cost_figure(rows: pd.DataFrame, cost: pd.Series[float], label: str, looks: Mapping[str, Style]) -> str:
    """Draw score with its interval over cost (logarithmic); a cost of zero stands at the left edge.

    A line joins the learners that no other beats at no higher cost: the Pareto front.

    Parameters
    ----------
    rows : DataFrame
        Rows of the leaderboard.
    cost : Series
        What each row costs, >= 0.
    label : str
        What the cost is, with its unit.
    looks : mapping of learner to Style
    """
    figure, ax = axes(4.7, 3.0)
    costs = cost.to_numpy(dtype=float)
    paid = costs[costs > 0]
    nothing = float(paid.min()) / 4 if len(paid) else 1.0
    for row, spent in zip(rows.itertuples(), costs, strict=True):
        look = looks[str(row.learner)]
        x = spent if spent > 0 else nothing
        ax.plot([x, x], [row.ci_low, row.ci_high], color=look.color, linewidth=1.4)
        ax.plot([x], [row.score], look.marker, color=look.color, markersize=7, markeredgecolor=PAPER)
    metric = str(rows["metric"].iloc[0])
    scores = rows["score"].to_numpy(dtype=float)
    front = pareto_front(costs, scores, higher_is_better=problem_of_metric(metric).higher_is_better)
    places = np.maximum(costs, nothing)[front]
    ax.step(places, scores[front], where="post", color=MUTED, linewidth=1.0, zorder=1)
    ax.set_xlabel(label, parse_math=False)
    _log_ticks(ax, "x", costs[costs > 0])
    if len(paid) < len(costs):
        ax.set_xlim(left=nothing / 1.6)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value) if value > 1.5 * nothing else ""))
        ax.axvline(nothing, color=MUTED, linewidth=0.8, linestyle=":")
        ax.annotate(
            "nothing", (nothing, 1), xycoords=("data", "axes fraction"), xytext=(4, -9), textcoords="offset points",
            color=MUTED, fontsize=8,
        )  # fmt: skip
    _score_axis(ax, "y", metric, _scores_and_ends(rows))
    return to_svg(figure, f"{label} against {metric_title(metric)}")


def pareto_front(
    costs: NDArray[np.float64], scores: NDArray[np.float64], *, higher_is_better: bool
) -> NDArray[np.intp]:
    """Return which rows no other beats at no higher cost, cheapest first.

    It is the rule of :attr:`autometa.Comparison.pareto`, for this cost alone.

    Parameters
    ----------
    costs, scores : ndarray of shape [n]
    higher_is_better : bool
    """
    prices = np.column_stack([costs, -scores if higher_is_better else scores])
    front = np.flatnonzero(not_dominated(prices))
    return front[np.argsort(costs[front], kind="stable")]


def history_of(study: Study) -> tuple[Points, Points]:
    """Return the number and the value of each complete trial of a study of one objective, and of each pruned one."""
    done: list[tuple[int, float]] = []
    cut: list[tuple[int, float]] = []
    for trial in study.get_trials(deepcopy=False):
        if trial.state is TrialState.COMPLETE and trial.value is not None:
            done.append((trial.number, trial.value))
        elif trial.state is TrialState.PRUNED and trial.intermediate_values:
            cut.append((trial.number, trial.intermediate_values[max(trial.intermediate_values)]))
    done = [(number, value) for number, value in done if np.isfinite(value)]
    cut = [(number, value) for number, value in cut if np.isfinite(value)]
    return done, cut


@drawn
def history_figure(done: Points, cut: Points, metric: str, look: Style, *, minimize: bool) -> str:
    """Every trial of a study and the best so far; pruned ones are crosses.

    Parameters
    ----------
    done, cut : see :func:`history_of`
        At least one is done.
    metric : str
    look : Style
    minimize : bool
    """
    figure, ax = axes(2.5, 1.5)
    numbers, values = (np.array(column) for column in zip(*done, strict=True))
    best = (np.minimum if minimize else np.maximum).accumulate(values)
    last = max(number for number, _ in [*done, *cut])
    ax.step([*numbers, last], [*best, best[-1]], where="post", color=look.color, linewidth=1.6)
    ax.plot(numbers, values, "o", color=look.color, markersize=3.6, alpha=0.6, markeredgewidth=0)
    if cut:
        ax.plot(*zip(*cut, strict=True), "x", color=MUTED, markersize=4)
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.set_xlim(-0.4, last + 0.4)
    ax.set_xlabel("trial", fontsize=8)
    _score_axis(ax, "y", metric, np.array([value for _, value in done]), label=False)
    n_trials = f"{len(done)} trial{'s' if len(done) > 1 else ''}"
    return to_svg(
        figure,
        f"{metric_title(metric)} of {n_trials} on validation tasks, and the best so far",
    )


def tick_text(value: float) -> str:
    """Return a number for an axis: in full, from a million on as ``3.35e+12``."""
    return f"{value:,.10g}" if abs(value) < LARGE else re.sub(r"\.?0*e", "e", f"{value:.4e}")


def _broken(name: str, length: int = 24) -> str:
    """Return a name on as many lines as it needs."""
    return "\n".join(name[start : start + length] for start in range(0, len(name), length))


def _score_axis(
    ax: Axes, which: str, metric: str, scores: NDArray[np.float64], *, label: bool = True, wide: float = _WIDE
) -> None:
    """Percent for shares; a logarithmic axis for errors whose largest is more than ``wide`` times their smallest."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    if label:
        axis.set_label_text(metric_title(metric), parse_math=False)
    finite = scores[np.isfinite(scores)]
    problem = problem_of_metric(metric)
    if not problem.higher_is_better and len(finite) and finite.min() > 0 and finite.max() > wide * finite.min():
        _log_ticks(ax, which, finite)
        return
    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if problem.is_share:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}%"))
    elif len(finite) and abs(finite).max() >= LARGE:
        axis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value)))


def _log_ticks(ax: Axes, which: str, values: Iterable[float]) -> None:
    """A logarithmic axis with numbers written plainly, at least two of them, never crowded."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    positive = np.array(list(values))
    positive = positive[positive > 0]
    decades = float(np.log10(positive.max() / positive.min())) if len(positive) else 0.0
    subs = (1.0,) if decades > 2.5 else (1.0, 3.0) if decades > 1.2 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    if decades < 0.4 and len(positive):
        middle = float(np.sqrt(positive.max() * positive.min()))
        (ax.set_xlim if which == "x" else ax.set_ylim)(middle / 3.2, middle * 3.2)

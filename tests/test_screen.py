"""Leaderboards on terminals of any width: no learner and no number is cut."""

from __future__ import annotations

import io
import math

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import autometa as am
from autometa.cli.screen import leaderboard_table, show_leaderboard
from autometa.comparison.report.canvas import styles
from autometa.comparison.report.figures import cost_figure, interval_figure, tick_text
from autometa.comparison.report.markup import interval_text, milliseconds_text, score_text
from tiers import first_by_default

pytestmark = pytest.mark.pictures

NAMES = ["ridge", "prototypical", "maml_plus_plus", "baseline_plus_plus:evolution_strategy", "evolution_strategy"]


def board(scores: list[float], metric: str = "mse") -> pd.DataFrame:
    n = len(scores)
    return pd.DataFrame(
        {
            "tasks": "plants", "rank": range(1, n + 1), "learner": NAMES[:n], "metric": metric, "score": scores,
            "ci_low": [s * 0.875 for s in scores], "ci_high": [s * 1.125 for s in scores], "n_test_tasks": 600,
            "n_seeds": 3, "n_shot": 10, "n_query": ["5–20", 15, 5, 20, 7][:n],
            "normalization": ["batch (transductive)", "none", "batch (inductive)", "layer", "group, layer"][:n],
            "meta_train_seconds": [3.6, 725.0, 40_000.0, 0.0, 1.0][:n],
            "adapt_ms": [0.1, 12_345.0, 1.0, 2.0, 3.0][:n], "predict_ms": [1.0, 0.071, 2e7, 1.0, 2.0][:n],
        }
    )  # fmt: skip


def printed(rows: pd.DataFrame, width: int) -> str:
    screen = io.StringIO()
    table = leaderboard_table("plants", rows, {NAMES[1]: "no difference found"}, width)
    Console(file=screen, width=width, highlight=False).print(table)
    return screen.getvalue()


@pytest.mark.parametrize("width", first_by_default(1, [60, 79, 80, 81, 90, 100, 120, 200]))
@pytest.mark.parametrize("scale", [1e-7, 0.5, 123_456.0, 3.35e12, 3.35e150])
@pytest.mark.parametrize("n", [1, 3, 5])
def test_no_learner_and_no_score_is_cut_and_no_line_is_too_long(width: int, scale: float, n: int) -> None:
    rows = board([scale * (1 + k) for k in range(n)])
    text = printed(rows, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for row in rows.itertuples():
        assert score_text(row.score, row.metric) in text
        if width >= 79:
            assert interval_text(row.ci_low, row.ci_high, row.metric) in text
        if len(row.learner) <= 24:
            assert row.learner in text
    letters = "".join(line[2:26] for line in text.splitlines() if line.strip()).replace(" ", "")
    assert NAMES[n - 1].replace(" ", "")[-6:] in letters


def test_columns_without_room_are_named() -> None:
    text, told = printed(board([3.35e12, 4e12, 5e12]), 80).split("Too narrow for: ")
    names = ["trained", "adapt", "predict", "normalization"]
    assert [name for name in names if name not in text] == [name for name in names if name in told]
    shares = printed(board([0.584, 0.5], "accuracy"), 80)
    assert "Too narrow" not in printed(board([0.584, 0.5], "accuracy"), 100)
    assert "58.4%" in shares
    assert "queries" in shares


@pytest.mark.parametrize("width", [20, 35])
def test_even_the_smallest_terminal_cuts_nothing(width: int) -> None:
    text = printed(board([3.35e12]), width)
    assert "3.350e+12" in text
    assert "ridge" in text


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (3.35e12, "3.350e+12"),
        (-3.35e12, "-3.350e+12"),
        (1e6, "1.000e+06"),
        (999_999.7, "1.000e+06"),
        (999_999.2, "999,999"),
        (12_345.6, "12,346"),
        (1.2345e-5, "1.234e-05"),
        (1e300, "1.000e+300"),
        (math.nan, "–"),
        (math.inf, "inf"),
    ],
)
def test_scores_are_short_at_any_scale(score: float, text: str) -> None:
    assert score_text(score, "mse") == text


@pytest.mark.thorough
def test_targets_of_a_large_scale_are_shown_whole(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"task": np.repeat(np.arange(12), 16), "x": rng.normal(size=192)})
    frame["y"] = 3e6 * frame["x"] * (1 + frame["task"]) + 1e6 * rng.normal(size=192)
    table = am.make_tasks("table", data=frame, task="task", target="y", n_shot=5)
    small = {"n_trials": 1, "max_steps": 1, "n_test_tasks": 6, "n_valid_tasks": 4, "n_seeds": 1, "tasks_per_step": 2}
    compared = am.compare({"money": table}, "ridge", output=tmp_path / "out", **small)
    screen = io.StringIO()
    show_leaderboard(compared, Console(file=screen, width=80, highlight=False))
    assert max(map(len, screen.getvalue().splitlines())) <= 80
    report = (tmp_path / "out" / "report.html").read_text()
    for row in compared.leaderboard.itertuples():
        assert row.learner in screen.getvalue()
        for text in (score_text(row.score, row.metric), interval_text(row.ci_low, row.ci_high, row.metric)):
            assert "e+" in text
            assert text in screen.getvalue()
            assert text in report
    assert milliseconds_text(2e7) == "2.0e+07"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.25, "0.25"), (123_456.0, "123,456"), (1e6, "1e+06"), (3.35e12, "3.35e+12"), (2e150, "2e+150")],
)
def test_numbers_on_axes_are_short(value: float, text: str) -> None:
    assert tick_text(value) == text


@pytest.mark.parametrize("scale", [1.0, 3.35e12, 3.35e150])
def test_figures_have_room_for_large_scores_and_long_names(scale: float) -> None:
    rows = board([scale * (1 + k) for k in range(5)])
    looks = styles(rows["learner"])
    figure = interval_figure(rows, looks)
    assert "baseline_plus_plus:evolu" in figure
    assert "000,000,000" not in figure + cost_figure(rows, rows["adapt_ms"] * 1e9, "ms", looks)

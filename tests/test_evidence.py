"""The diagram of ranks and the table of practical equivalence, as the report has them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

import autometa as am
from autometa.comparison.report.canvas import styles
from autometa.comparison.report.rank_figure import rank_figure

pytestmark = pytest.mark.pictures


def ranks_of(n: int, groups: dict[int, tuple[int, ...]], distance: float = float("nan")) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "learner": [f"learner_{k}" for k in range(n)],
            "mean_rank": [1 + 0.9 * k for k in range(n)],
            "groups": [groups.get(k, ()) for k in range(n)],
            "critical_difference": distance,
        }
    )


def drawn(ranks: pd.DataFrame) -> str:
    return rank_figure(ranks, styles(ranks["learner"], ["learner_1"]), "Mean ranks <of> learners")


def texts(svg: str) -> list[str]:
    return [" ".join(text.split()) for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


def test_every_learner_is_named_with_its_rank() -> None:
    for n in (1, 2, 7, 24):
        svg = drawn(ranks_of(n, {}))
        HTMLParser().feed(svg)
        assert "NaN" not in svg
        named = " ".join(texts(svg))
        for k in range(n):
            assert f"learner_{k}" in named
            assert f"{1 + 0.9 * k:.2f}" in named
    assert "Mean ranks &lt;of&gt; learners" in svg


def test_a_bar_and_the_critical_difference_are_drawn_where_there_is_one() -> None:
    plain, joined = drawn(ranks_of(4, {})), drawn(ranks_of(4, {0: (1,), 1: (1, 2), 2: (2,)}))
    assert sum("stroke-width:3;" in line or 'stroke-width:3"' in line for line in plain.splitlines()) == 0
    assert sum("stroke-width:3;" in line or 'stroke-width:3"' in line for line in joined.splitlines()) == 2
    assert "critical difference 1.25" in texts(drawn(ranks_of(4, {}, 1.25)))
    assert not any("critical" in text for text in texts(plain))


def test_equal_rows_give_equal_pictures_and_names_are_harmless() -> None:
    ranks = ranks_of(3, {})
    assert drawn(ranks) == drawn(ranks)
    hostile = ranks.assign(learner=["<script>", "$x^", "a" * 80])
    svg = drawn(hostile)
    assert "<script>" not in svg
    assert "a" * 30 not in svg


@pytest.fixture(scope="module")
def small() -> am.Comparison:
    return am.compare(
        {"sines": am.make_tasks("sinusoid", n_shot=10)},
        ["ridge", "sklearn"],
        n_trials=1, n_seeds=2, max_steps=2, tasks_per_step=2, n_test_tasks=20, n_valid_tasks=5, verbose=0,
    )  # fmt: skip


@pytest.mark.thorough
def test_a_comparison_answers_with_the_baseline_as_its_unit(small: am.Comparison) -> None:
    found = small.practical_equivalence(n_samples=500)
    error = small.leaderboard.set_index("learner").loc["sklearn", "score"]
    assert len(found) == 1
    assert found["rope"].iloc[0] == pytest.approx(0.01 * error)
    assert found["rope_words"].iloc[0] == "a hundredth of the mean squared error of sklearn"
    assert small.practical_equivalence(rope=1.0, pairs="all", method="mean")["rope"].tolist() == [1.0]
    ranks = small.critical_difference()
    assert set(ranks["learner"]) == {"ridge", "sklearn"}
    assert ranks["mean_rank"].sum() == pytest.approx(3)


@pytest.mark.thorough
def test_the_report_has_both(small: am.Comparison, tmp_path: Path) -> None:
    page = small.report(tmp_path / "report.html").read_text()
    section = page[page.index('<section id="evidence">') : page.index('<section id="tuning">')]
    assert "Mean ranks of the learners on sines" in section
    assert "a hundredth of the mean squared error of sklearn, count as none" in section
    assert small.without("sklearn").report(tmp_path / "one.html").read_text().count('id="evidence"') == 0

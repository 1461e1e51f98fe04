"""What the report says first, its tables to sort and search, the Pareto front, failures."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from autometa.comparison.report.across import leaderboard_on
from autometa.comparison.report.each_task import COLUMNS, MOST_ROWS
from autometa.comparison.report.figures import pareto_front
from autometa.comparison.report.page import kind_words, render
from autometa.comparison.report.sentence import lead_section, sentence_on
from autometa.comparison.results.pareto import pareto_of
from autometa.comparison.results.record import Record
from test_report import LEARNERS, made_up
from test_verdict import with_board

pytestmark = pytest.mark.reports

BAD = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def with_frames(record: Record, **frames: pd.DataFrame) -> Record:
    return replace(record, frames=replace(record.frames, **frames))


def with_scores(record: Record, n_tasks: int, n_seeds: int = 2) -> Record:
    """Scores of every learner on every task, the harder the larger its number, and in their order on the board."""
    rng = np.random.default_rng(0)
    rows = []
    for of in record.frames.leaderboard.itertuples():
        higher = of.metric == "accuracy"
        for seed in range(n_seeds):
            for task in range(n_tasks):
                hard = task / n_tasks / 10 + 0.001 * rng.random()
                score = of.score - hard if higher else of.score + hard
                rows.append((of.tasks, of.learner, seed, task, of.metric, score, of.trained_on))
    columns = ["tasks", "learner", "seed", "task", "metric", "score", "trained_on"]
    return with_frames(record, scores=pd.DataFrame(rows, columns=columns))


# ---------------------------------------------------------------- the first sentence


def test_one_sentence_says_who_by_how_much_how_sure_and_at_what_cost() -> None:
    record = with_board(made_up(("glyphs",)), meta_train_seconds=150.0, adapt_ms=2.0, predict_ms=0.4)
    board = record.frames.leaderboard.set_index("learner")["score"]
    gain = 100 * (board["prototypical"] - board["sklearn"])
    assert sentence_on(record, "glyphs") == (
        f"On glyphs, prototypical does best: accuracy {100 * board['prototypical']:.1f}%, {gain:.1f} points above the "
        "best baseline (sklearn; beyond chance, p < 0.001); a task takes 2.4 ms, after 2 min 30 s of meta-training."
    )


def test_a_baseline_that_wins_is_held_against_the_best_that_is_meta_trained() -> None:
    record = with_board(made_up(("glyphs",)), family="baseline", meta_train_seconds=0.0)
    said = sentence_on(record, "glyphs")
    assert said.startswith("On glyphs, prototypical, a baseline, does best: accuracy ")
    assert "points above the best that is meta-trained (ridge; may be chance, p = 0.400)" in said
    assert said.endswith(" ms, without meta-training.")


def test_a_gap_that_nothing_decides_is_told_as_such() -> None:
    record = made_up(("glyphs",))
    nothing = record.frames.significance.assign(p_beside_best=np.nan)
    said = sentence_on(with_frames(record, significance=nothing), "glyphs")
    assert "(sklearn; not decided: one training run, or one task, says nothing of a learner)" in said


def test_without_anybody_to_be_held_against_or_a_time_the_rest_is_said() -> None:
    record = with_board(made_up(("sinusoid",), ("ridge",), n_trials=1), meta_train_seconds=np.nan)
    score = record.frames.leaderboard["score"].iloc[0]
    assert sentence_on(record, "sinusoid") == f"On sinusoid, ridge does best: mean squared error {score:#.4g}."


def test_the_report_begins_with_a_sentence_for_each_distribution() -> None:
    record = made_up(("glyphs", "sinusoid"))
    page = render(record)
    header = page[page.index("<h1>") : page.index("<nav>")]
    assert header.count("<li>") == 2
    assert header.index("</h1>") < header.index('<ul class="lead">') < header.index("2 task distributions")
    empty = record.frames.leaderboard.iloc[:0]
    assert lead_section(with_frames(record, leaderboard=empty)) == ""


def test_the_title_says_what_was_compared() -> None:
    def kinds(*metrics: str) -> str:
        return kind_words(pd.DataFrame({"metric": metrics}))

    assert kinds("accuracy", "mse") == "few-shot learners"
    assert kinds("return", "return") == "agents"
    assert kinds("return", "mse") == "few-shot learners and agents"
    assert kinds() == "few-shot learners"


# ---------------------------------------------------------------- every task


def rows_of(page: str) -> list[list[str]]:
    """Texts of the cells of the table of every task."""
    table = page.split('<details class="every">')[1].split("</table>")[0]
    rows = table.split("<tbody>")[1].split("<tr>")[1:]
    return [re.sub(r"<[^>]+>", "\t", row).split() for row in rows]


@pytest.mark.thorough
def test_every_task_has_a_row_the_hardest_of_the_winner_first() -> None:
    record = with_scores(made_up(("glyphs", "sinusoid")), 40)
    page = render(record)
    assert page.count('<details class="every">') == 2
    assert "Scores on each of the 40 meta-test tasks" in page
    rows = rows_of(page)
    winner = leaderboard_on(record.frames.leaderboard, "glyphs")["learner"].iloc[0]
    scores = record.frames.scores
    means = scores[(scores["tasks"] == "glyphs") & (scores["learner"] == winner)].groupby("task")["score"].mean()
    assert [int(row[0]) for row in rows] == means.sort_values().index.tolist()
    assert [row[1] for row in rows] == [f"{100 * score:.1f}%" for score in means.sort_values()]
    assert {row[-1] for row in rows} == {winner}, "the best of all"
    errors = [float(row[1]) for row in rows_of(page.split('id="tasks-1"')[1])]
    assert errors == sorted(errors, reverse=True)


def test_the_best_baseline_is_among_the_columns_however_many_learners_there_are() -> None:
    many = {f"learner_{number}": "metric" for number in range(COLUMNS + 2)}
    LEARNERS.update(many)
    try:
        record = with_scores(made_up(("glyphs",), (*many, "sklearn"), n_trials=1), 3)
    finally:
        for name in many:
            del LEARNERS[name]
    page = render(record)
    head = page.split('<details class="every">')[1].split("</thead>")[0]
    names = re.findall(r'scope="col">([^<]*)<', head)
    assert names == ["task", *list(many)[: COLUMNS - 1], "sklearn", "best of all"]
    assert f"Shown are {COLUMNS} of {len(many) + 1} learners" in page


@pytest.mark.thorough
def test_a_page_has_no_more_rows_than_it_can_show() -> None:
    record = with_scores(made_up(("glyphs",), ("ridge", "sklearn"), n_trials=1), MOST_ROWS + 7, n_seeds=1)
    page = render(record)
    assert len(rows_of(page)) == MOST_ROWS
    assert f"Shown are {MOST_ROWS} of {MOST_ROWS + 7} tasks" in page


def test_tasks_with_names_are_called_by_them() -> None:
    record = with_scores(made_up(("glyphs",), ("ridge", "sklearn"), n_trials=1), 3)
    page = render(replace(record, task_names={"glyphs": ("<b>first", "second", "third")}))
    assert [row[0] for row in rows_of(page)] == ["third", "second", "&lt;b&gt;first"]


# ---------------------------------------------------------------- costs, failures


def test_the_front_holds_who_is_beaten_by_nobody_that_costs_no_more() -> None:
    costs = np.array([1.0, 2.0, 2.0, 3.0, 4.0, 5.0])
    scores = np.array([0.5, 0.6, 0.7, 0.7, 0.65, 0.9])
    assert pareto_front(costs, scores, higher_is_better=True).tolist() == [0, 2, 5]
    assert pareto_front(costs, scores, higher_is_better=False).tolist() == [0]
    assert pareto_front(costs, -scores, higher_is_better=False).tolist() == [0, 2, 5]
    assert pareto_front(np.zeros(3), np.ones(3), higher_is_better=True).tolist() == [0, 1, 2], "nor beats its equals"


@pytest.mark.parametrize("better", [True, False])
def test_the_front_that_is_drawn_is_that_of_the_tables_where_memory_is_all_the_same(better: bool) -> None:
    numbers = np.random.default_rng(0)
    board = pd.DataFrame({"score": numbers.integers(1, 9, 40), "adapt_ms": numbers.integers(0, 9, 40)})
    board = board.assign(tasks="t", trained_on="t", learner="l", predict_ms=1.0, mebibytes=1.0)
    table = pareto_of(board, {"t": better})
    drawn = pareto_front(
        table["milliseconds_per_task"].to_numpy(float), board["score"].to_numpy(float), higher_is_better=better
    )
    assert set(drawn) == set(np.flatnonzero(table["on_front"]))


def test_a_failure_shows_its_traceback_folded_away() -> None:
    record = made_up(("digits",), ("ridge", "sklearn"), n_trials=1)
    trace = 'Traceback (most recent call last):\n  File "<string>", line 1\nValueError: loss is nan'
    page = render(replace(record, tracebacks={("digits", "broken", "trial", 3): trace}))
    failed = page[page.index('<div class="problem">') :]
    assert "<details><summary>Traceback</summary><pre>Traceback (most recent call last):" in failed
    assert "File &quot;&lt;string&gt;&quot;, line 1" in failed
    assert "<summary>Traceback" not in render(record)


# ---------------------------------------------------------------- text of others


def test_nothing_that_others_wrote_is_markup() -> None:
    learners = ("ridge", "sklearn")
    record = with_scores(made_up(("glyphs",), learners, n_trials=5), 4)

    def renamed(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.replace({"ridge": BAD, "glyphs": BAD, "loss is nan": BAD, "broken": BAD})

    frames = record.frames
    bad = replace(
        record,
        name=BAD,
        frames=replace(
            frames,
            **{
                name: renamed(getattr(frames, name))
                for name in ("leaderboard", "scores", "curves", "significance", "skipped", "failures")
            },
        ),
        plan={
            "settings": {"a": BAD},
            "tasks": {BAD: {"name": BAD, "class": BAD, "params": {"b": BAD}}},
            "learners": {BAD: record.plan["learners"]["ridge"]},
        },
        studies={f"first/{BAD}/{BAD}": record.studies["first/glyphs/ridge"]},
        environment={"command": f"autometa compare --tasks {BAD}", BAD: BAD},
        task_names={BAD: (BAD,) * 4},
        tracebacks={("digits", BAD, "trial", 3): BAD},
    )
    page = render(bad)
    assert page.count("&lt;script&gt;alert(1)") > 20
    assert "<script>alert" not in page
    assert "<img" not in page
    assert page.count("<script>") == 1
    assert page.count("</script>") == 1


@pytest.mark.parametrize("part", ["script-src 'sha256-", "default-src 'none'"])
def test_no_script_but_its_own_may_run(part: str) -> None:
    page = render(made_up(("glyphs",), ("ridge",), n_trials=1))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert part in policy[1]

"""The meta-test tasks that a learner does worst on: kept with its answers, drawn again, shown in the report."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import autometa as am
from autometa.comparison.execution.hard_tasks import HARDEST, MOST_ANSWERS, HardTasks
from autometa.comparison.execution.stored_trials import RESULT
from autometa.comparison.report.raw_rows import OTHER, column_names, raw_rows
from autometa.comparison.report.task_drawing import class_name
from autometa.engine.judging import Outcome
from autometa.schema import misfit
from autometa.training.evaluation import drawn_again, evaluate

FAST = {
    "n_trials": 1,
    "n_seeds": 1,
    "n_test_tasks": 30,
    "n_valid_tasks": 10,
    "max_steps": 1,
    "verbose": 0,
    "device": "cpu",
}


@dataclass
class Fixed:
    """An outcome with given errors, whose answers are the number of the task."""

    errors: Tensor
    query: am.Examples
    first: int

    @property
    def scores(self) -> Tensor:
        return self.errors

    @property
    def outputs(self) -> Tensor:
        number = self.first + torch.arange(len(self.errors), dtype=torch.float32)
        return number.reshape(-1, 1, 1).expand(-1, self.query.y.shape[1], 1)


def looked_at(*errors: list[float], ids: list[list[int]] | None = None, n_query: int = 2) -> list[dict[str, Any]]:
    """What is kept of batches of tasks with these errors."""
    hard, first = HardTasks(am.make_tasks("sinusoid").info), 0
    for number, values in enumerate(errors):
        nothing = torch.zeros(len(values), n_query)
        examples = am.Examples(nothing.unsqueeze(-1), nothing)
        of = None if ids is None else torch.tensor(ids[number])
        batch = am.TaskBatch(support=examples, query=examples, ids=of)
        hard(batch, None, Fixed(torch.tensor(values), examples, first))  # type: ignore[arg-type]
        first += len(values)
    return hard.kept()


# ---------------------------------------------------------------- what is kept


@pytest.mark.parametrize("at_once", [1, 4, 30])
def test_the_tasks_with_the_largest_errors_are_kept_however_they_come(at_once: int) -> None:
    errors = np.random.default_rng(0).permutation(30).astype(float).tolist()
    kept = looked_at(*(errors[start : start + at_once] for start in range(0, 30, at_once)))
    wanted = sorted(range(30), key=lambda place: -errors[place])[:HARDEST]
    assert [one["place"] for one in kept] == wanted
    assert [one["score"] for one in kept] == [29.0, 28.0, 27.0]
    assert [one["answers"] for one in kept] == [[float(place)] * 2 for place in wanted]


def test_of_equal_tasks_the_first_are_kept_and_no_score_that_is_none() -> None:
    nan, inf = float("nan"), float("inf")
    kept = looked_at([1.0, nan, 1.0], [inf, 1.0, 1.0])
    assert [one["place"] for one in kept] == [0, 2, 4]


def test_an_entity_drawn_several_times_stands_once_with_its_worst_draw() -> None:
    kept = looked_at([3.0, 9.0, 1.0, 2.0], [8.0, 10.0, 0.5], ids=[[7, 5, 6, 8], [7, 5, 9]])
    assert [(one["place"], one["score"]) for one in kept] == [(5, 10.0), (4, 8.0), (3, 2.0)]


def test_no_more_answers_are_kept_than_a_storage_wants() -> None:
    kept = looked_at([1.0], n_query=3 * MOST_ANSWERS)
    assert len(kept[0]["answers"]) == MOST_ANSWERS
    assert len(json.dumps(kept)) < 1000


# ---------------------------------------------------------------- what is drawn again


def a_table(n_schools: int = 30) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"school": np.repeat([f"<i>{i}" for i in range(n_schools)], 12)})
    frame["hours <b>"] = rng.uniform(0, 9, len(frame)).round(1)
    frame["kind"] = rng.choice(["public", "private"], len(frame))
    frame["since"] = pd.Timestamp("2020-02-28") + pd.to_timedelta(rng.integers(0, 900, len(frame)), "D")
    frame.loc[3, "hours <b>"] = np.nan
    frame["score"] = 50 + frame["hours <b>"].fillna(4) + rng.normal(0, 1, len(frame))
    return frame


@pytest.mark.parametrize("name", ["digits", "sinusoid", "table"])
def test_a_task_is_drawn_again_as_it_was_judged(name: str) -> None:
    extra = {"data": a_table(), "task": "school", "target": "score", "n_shot": 4} if name == "table" else {}
    tasks = am.make_tasks(name, **extra)
    learner = am.make_learner("ridge" if name != "digits" else "prototypical")
    seen: list[am.TaskBatch] = []
    outcomes: list[Outcome] = []

    def look(batch: am.TaskBatch, adapted: Any, outcome: Outcome) -> None:
        seen.extend(batch[i : i + 1] for i in range(len(batch)))
        outcomes.append(outcome)

    module = learner.build(tasks.info)
    judged = evaluate(learner, module, tasks, split="test", n_tasks=40, seed=3, look=look)
    assert torch.cat([outcome.scores for outcome in outcomes]).numpy() == pytest.approx(
        judged.scores / tasks.info.target_scale**tasks.info.problem_record.unit_power
    )
    for place in (0, 24, 25, 39):
        again = drawn_again(tasks, place, split="test", seed=3)
        assert len(again) == 1
        for part in ("support", "query"):
            one, other = getattr(again, part), getattr(seen[place], part)
            assert torch.equal(one.x[one.mask], other.x[other.mask].to(one.x.dtype))
            assert torch.equal(one.y[one.mask], other.y[other.mask].to(one.y.dtype))


def test_rows_are_shown_as_they_stand_in_the_table() -> None:
    frame = a_table()
    columns = frame.drop(columns=["school", "score"])
    encoder = am.TableEncoder(max_levels=1).fit(columns, frame["score"], problem="regression")
    encoded = torch.from_numpy(encoder.transform(columns))
    assert column_names(encoded, encoder) == ["hours <b>", "kind", "since"]
    common = frame["kind"].mode()[0]
    for place, (hours, kind, since) in enumerate(raw_rows(encoded[:20], encoder)):
        row = frame.iloc[place]
        assert hours == ("missing" if place == 3 else f"{row['hours <b>']:.4g}")
        assert kind == (row["kind"] if row["kind"] == common else OTHER)
        assert since == str(row["since"].date())
    assert list(raw_rows(torch.tensor([[0.5, 2.0]]), None)) == [["0.5", "2"]]


def test_classes_are_called_by_their_names_or_by_letters() -> None:
    assert [class_name(number, None) for number in (0, 25, 26)] == ["A", "Z", "class 26"]
    assert class_name(1, ["no", "yes"]) == "yes"


# ---------------------------------------------------------------- what the report shows


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[am.Comparison, str]:
    output = tmp_path_factory.mktemp("hard")
    tasks = {
        "digits": am.make_tasks("digits", n_query=3),
        "sinusoid": am.make_tasks("sinusoid"),
        "schools": am.make_tasks("table", data=a_table(), task="school", target="score", n_shot=4),
        "kinds": am.make_tasks("table", data=a_table(), task="school", target="kind", n_shot=2),
    }
    found = am.compare(tasks, ["sklearn"], baselines=False, output=output, **FAST)
    return found, (output / "report.html").read_text(encoding="utf-8")


def section(page: str, tasks: str) -> str:
    return page.split(f"<h3>{tasks}: where ")[1].split("<details")[0]


def scores_of(found: am.Comparison, tasks: str) -> pd.Series:
    scores = found.scores[found.scores["tasks"] == tasks]
    return scores.groupby("task")["score"].mean()


@pytest.mark.thorough
def test_images_are_shown_with_the_queries_answered_wrongly(compared: tuple[am.Comparison, str]) -> None:
    shown = section(compared[1], "digits")
    worst = scores_of(compared[0], "digits").sort_values(kind="stable").index[:HARDEST]
    places = [shown.index(f"<b>Task {number}</b>") for number in worst]
    assert places == sorted(places)
    first = shown[places[0] : places[1]]
    n_wrong = round(9 * (1 - scores_of(compared[0], "digits")[worst[0]]))
    assert f"{n_wrong} of 9 queries answered wrongly" in first
    assert first.count('<img src="data:image/png;base64,') == 3 + min(n_wrong, 8)
    assert first.count(", said ") == 2 * min(n_wrong, 8)  # beside the picture, and for screen readers


@pytest.mark.thorough
def test_functions_are_shown_as_curves(compared: tuple[am.Comparison, str]) -> None:
    shown = section(compared[1], "sinusoid")
    assert shown.count('<svg class="plot"') == HARDEST
    assert f"<b>Task {scores_of(compared[0], 'sinusoid').idxmax()}</b>" in shown.split("</div>")[0]


@pytest.mark.thorough
def test_rows_of_a_table_are_shown_with_names_and_values_escaped(compared: tuple[am.Comparison, str]) -> None:
    shown = section(compared[1], "schools")
    assert shown.count("<table") == HARDEST
    assert shown.count("<b>&lt;i&gt;") == HARDEST, "entities have names"
    assert "hours &lt;b&gt;" in shown
    assert shown.count(">support</th>") == 4 * HARDEST
    assert "<i>" not in compared[1]


@pytest.mark.thorough
def test_rows_with_classes_are_shown_with_their_names_wrong_answers_first(compared: tuple[am.Comparison, str]) -> None:
    shown = section(compared[1], "kinds").split("<table")[1]
    rows = [re.findall(r"<td[^>]*>(?:<b>)?([^<]*)", row)[-2:] for row in shown.split(">query</th>")[1:]]
    assert {name for pair in rows for name in pair} <= {"public", "private"}
    right = [target == answer for target, answer in rows]
    assert not right[0]
    assert right == sorted(right)


@pytest.mark.thorough
def test_what_is_kept_fits_the_storage(compared: tuple[am.Comparison, str]) -> None:
    results = [
        trial.user_attrs["result"]
        for arm in compared[0]._arms
        for trial in arm.finals()
    ]  # fmt: skip
    assert len(results) == 4
    for result in results:
        assert misfit(json.loads(json.dumps(result)), RESULT) is None
        assert len(json.dumps(result["hardest"])) < 2000


@pytest.mark.thorough
@pytest.mark.reports
def test_tasks_that_cannot_be_drawn_again_are_told_of(
    compared: tuple[am.Comparison, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autometa.comparison.report.page import render

    def sample(*args: Any, **kwargs: Any) -> None:
        raise OSError("the file <b> is gone")

    record = compared[0]._record
    assert render(record) == compared[1]
    monkeypatch.setattr(type(am.make_tasks("sinusoid")), "sample", sample)
    page = render(record)
    assert "These tasks cannot be drawn again: OSError: the file &lt;b&gt; is gone" in page
    assert "<h3>digits: where " in page
    assert "does worst" not in render(replace(record, hardest={}))


@pytest.mark.reports
def test_worlds_are_shown_with_what_the_actor_did(tmp_path: Path) -> None:
    grid = am.make_tasks("gridnavi", size=3, steps=4, n_shot=1)
    found = am.compare({"grid": grid}, ["control/random"], baselines=False, output=tmp_path, **FAST)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    shown = section(page, "grid")
    worst = scores_of(found, "grid").sort_values(kind="stable").index[:HARDEST]
    assert [f"<b>Task {number}</b>" in shown for number in worst] == [True] * HARDEST
    assert shown.count('<pre class="world"') == 2 * HARDEST
    assert "Comparison of agents: " in page
    assert "few-shot learners" not in page

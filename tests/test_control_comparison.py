"""Comparing learners that act: the leaderboard, the returns by episode and the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import autometa as am
from autometa.comparison.execution.adaptation_curve import curve_returns, known_returns
from autometa.comparison.plan.domains import open_domains
from autometa.comparison.plan.settings import Settings
from autometa.contracts.seeding import derive_seed

pytestmark = pytest.mark.reports

BASELINES = {"random", "multitask_policy", "fine_tuned_policy", "scratch"}
"""In every comparison of learners that act."""
FAST = {
    "n_trials": 1,
    "n_seeds": 2,
    "n_test_tasks": 60,
    "n_valid_tasks": 10,
    "max_steps": 3,
    "verbose": 0,
    "device": "cpu",
}
ONCE = {**FAST, "n_seeds": 1, "n_test_tasks": 20, "n_valid_tasks": 10, "max_steps": 1}


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[am.Comparison, Path]:
    output = tmp_path_factory.mktemp("worlds")
    learners = {"rl2": ("rl2", am.make_meta_optimizer("policy_gradient", trials=40))}
    tasks = {"grid": am.make_tasks("gridnavi", size=3, steps=4, n_shot=1)}
    return am.compare(tasks, learners, output=output, **FAST), output


@pytest.mark.thorough
def test_the_leaderboard_tells_returns_of_which_larger_ones_are_better(compared: tuple[am.Comparison, Path]) -> None:
    board = compared[0].leaderboard
    assert set(board["learner"]) == {"rl2"} | BASELINES
    assert set(board["metric"]) == {"return"}
    assert board["score"].is_monotonic_decreasing
    assert board.set_index("learner").loc["rl2", ["n_shot", "n_query", "n_test_tasks"]].tolist() == [1, 1, 60]


@pytest.mark.thorough
def test_returns_are_told_by_episode(compared: tuple[am.Comparison, Path]) -> None:
    curves = compared[0].curves
    episodes = curves[curves["axis"] == "episodes"]
    assert set(episodes["learner"]) == {"rl2"} | BASELINES
    assert sorted(episodes["value"].unique()) == [1.0, 2.0]
    assert np.isfinite(episodes["score"]).all()
    assert not (curves["axis"] == "shots").any()


@pytest.mark.thorough
def test_the_report_speaks_of_episodes_and_shows_the_best_return(compared: tuple[am.Comparison, Path]) -> None:
    text = (compared[1] / "report.html").read_text()
    for words in (
        "Score over episodes",
        "of a trial in meta-test worlds",
        "dotted: the best of who knows the world and what acting at random gets",
        "episodes to adapt",
        "episodes judged",
        "higher is better",
        ">normalised<",
        "1 the best of who knows them",
    ):
        assert words in text
    assert ">shots<" not in text
    for words in ("labelled rows", "by sharing", "gap to pooled"):
        assert words not in text


@pytest.mark.thorough
def test_scores_are_normalised_by_what_is_known_of_the_worlds_judged_on(compared: tuple[am.Comparison, Path]) -> None:
    comparison, output = compared
    tasks = am.make_tasks("gridnavi", size=3, steps=4, n_shot=1)
    (domain,) = open_domains({"grid": tasks}, Settings(n_test_tasks=60, random_state=0)).values()
    drawn = tasks.sample(60, split="test", seed=derive_seed(domain.seed("test"), "test", 0))
    low, high = (float(drawn.reference[name].mean()) for name in ("random", "best"))
    found = known_returns(domain)
    assert found == {"random": pytest.approx(low), "best": pytest.approx(high)}
    text = (output / "report.html").read_text()
    for score in comparison.leaderboard["score"]:
        assert f">{(score - low) / (high - low):.3f}<" in text


def test_the_known_returns_beside_the_curve_are_those_of_the_worlds_in_it() -> None:
    tasks = am.make_tasks("gridnavi", size=3, steps=4)
    (domain,) = open_domains({"grid": tasks}, Settings(n_test_tasks=30, random_state=0)).values()
    drawn = tasks.sample(30, split="test", seed=domain.seed("curve"))
    found = curve_returns(domain)
    assert found == {name: pytest.approx(float(drawn.reference[name].mean())) for name in ("best", "random")}
    assert list(curve_returns(replace(domain, sampler=am.make_tasks("navigation_2d")))) == ["best"]


@pytest.mark.thorough
def test_the_winner_is_an_agent_that_acts(compared: tuple[am.Comparison, Path]) -> None:
    comparison, output = compared
    agent = comparison.best_estimator()
    assert isinstance(agent, am.MetaAgent)
    world = am.make_tasks("gridnavi", size=3, steps=4).sample(1, split="test", seed=3)
    assert agent.fit(world, episodes=2).returns_.shape == (1, 2)
    loaded = am.load(output / "best.autometa")
    assert isinstance(loaded, am.MetaAgent)


def test_what_was_trained_in_some_worlds_is_judged_in_others(tmp_path: Path) -> None:
    few, many = (am.make_tasks("bandit", arms=2, pulls=pulls) for pulls in (3, 5))
    learner = ("rl2", am.make_meta_optimizer("policy_gradient", trials=20))
    found = am.compare({"few": few}, [learner], test_tasks={"many": many}, output=tmp_path, **ONCE)
    assert set(found.leaderboard["tasks"]) == {"few", "many"}
    assert set(found.skipped["learner"]) == {"beb", "psrl"}, "which are for processes whose state is seen"


def test_learners_of_other_problems_are_left_out_with_the_reason(tmp_path: Path) -> None:
    tasks = {"arms": am.make_tasks("bandit", arms=2, pulls=3), "waves": "sinusoid"}
    found = am.compare(tasks, ["ridge", "random"], baselines=False, output=tmp_path, **FAST)
    reasons = found.skipped.set_index("learner")["reason"]
    assert "not for control; use another, such as 'rl2'" in reasons["ridge"]
    assert "learner 'random' is for control, not for regression" in reasons["random"]
    assert found.leaderboard.set_index("tasks")["metric"].to_dict() == {"arms": "return", "waves": "mse"}


@pytest.mark.slow
def test_the_report_tells_rows_of_a_table_and_episodes_of_worlds_each_where_it_belongs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"school": np.repeat([f"school {i}" for i in range(16)], 12), "hours": rng.normal(size=192)})
    frame["score"] = frame["hours"] + rng.normal(size=192)
    tasks = {
        "schools": am.make_tasks("table", data=frame, task="school", target="score", n_shot=3),
        "grid": am.make_tasks("gridnavi", size=3, steps=4, n_shot=1),
    }
    found = am.compare(tasks, ["sklearn_pooled", "random"], output=tmp_path, **FAST)
    assert set(zip(found.leaderboard["tasks"], found.leaderboard["learner"], strict=True)) == {
        ("schools", "sklearn_pooled"), ("schools", "sklearn"), *(("grid", name) for name in BASELINES),
    }  # fmt: skip
    text = (tmp_path / "report.html").read_text()
    of_schools, of_grid = text.split("<h2>schools</h2>")[1].split("<h2>Significance</h2>")[0].split("<h2>grid</h2>")
    assert "by the number of labelled rows" in of_schools
    assert "which are hurt by sharing" in of_schools
    assert "episodes" not in of_schools
    assert "Score over episodes" in of_grid
    assert "labelled rows" not in of_grid


@pytest.mark.thorough
def test_known_rules_are_compared_in_the_worlds_they_are_for_and_left_out_elsewhere(tmp_path: Path) -> None:
    tasks = {
        "arms": am.make_tasks("bandit", arms=2, pulls=3),
        "grid": am.make_tasks("gridnavi", size=3, steps=2),
        "process": am.make_tasks("mdp", states=2, actions=2, steps=2, n_query=2),
    }
    imitation = am.make_meta_optimizer("imitation", trials=8)
    found = am.compare(tasks, {"imitated": ("imitated", imitation)}, output=tmp_path, **ONCE)
    everywhere, rules, planners = {"imitated", *BASELINES}, {"gittins", "thompson", "ucb"}, {"beb", "psrl"}
    for label, those in (("arms", rules), ("grid", set()), ("process", planners)):
        board, skipped = (part[part["tasks"] == label] for part in (found.leaderboard, found.skipped))
        assert set(board["learner"]) == everywhere | those
        assert set(skipped["learner"]) == (rules | planners) - those
        told = skipped.set_index("learner")["reason"]
        assert told[told.index.isin(rules)].str.contains("is for bandits").all()
        assert told[told.index.isin(planners)].str.contains("is for Markov decision processes").all()


def test_a_learner_that_nobody_advises_is_refused_before_any_work(tmp_path: Path) -> None:
    tasks = {"long": am.make_tasks("bandit", arms=2, pulls=201)}
    with pytest.raises(am.Incompatible, match=r"'imitated' fits none of the tasks \['long'\]: .* name no adviser"):
        am.compare(tasks, ["imitated"], output=tmp_path, **FAST)

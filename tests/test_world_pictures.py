"""Pictures of what actors did: in characters, kept with a comparison, shown in its report."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from torch import Tensor

import autometa as am
from autometa.comparison.execution import adaptation_curve
from autometa.comparison.execution.shown_trials import MOST_CHARACTERS, MOST_TIMES, shown_trials
from autometa.comparison.execution.stored_trials import RESULT, result_of
from autometa.engine.judging import TrialOutcome
from autometa.schema import misfit

pytestmark = pytest.mark.pictures

STAY, EAST, SOUTH, WEST, NORTH = range(5)


def walked(environments: Any, actions: Tensor) -> am.Experience:
    """What happens in the first episode under actions [tasks, time, ...] that lead to its end, or a part of it."""
    worlds = environments.begin()
    observation = worlds.reset()
    told = torch.ones_like(environments.key, dtype=torch.bool)
    steps = []
    for action in actions.unbind(1):
        after, reward, terminated, truncated = worlds.step(action)
        steps.append(am.Transition(observation, action, reward, terminated, truncated, after, told))
        observation = after
    parts = {
        name: torch.stack(values, 1) for name, values in zip(steps[0]._fields, zip(*steps, strict=True), strict=True)
    }
    nothing = torch.zeros_like(parts["reward"])
    return am.Experience(
        **parts, log_prob=nothing, episode=nothing.long(), mask=nothing == 0, hidden=environments.hidden
    )


def judged(tasks: am.TaskSampler, n_tasks: int = 4) -> TrialOutcome:
    actor = am.make_learner("control/random")
    return am.judge(actor, actor.build(tasks.info), tasks.sample(n_tasks, split="test", seed=0))


# ---------------------------------------------------------------- characters


def test_a_walk_on_a_grid_tells_the_step_that_first_ended_in_each_cell() -> None:
    grids = am.make_tasks("gridnavi", size=3).sample(1, seed=0)
    grids = replace(grids, goal=torch.tensor([[0, 2]]))
    seen = walked(grids, torch.tensor([[SOUTH, NORTH, EAST, EAST, STAY]]))
    assert grids.picture_of(seen, 0, 0).splitlines() == ["   2   3 [4]", "   1   .   .", "   .   .   ."]
    seen = walked(grids, torch.tensor([[SOUTH]]))
    assert grids.picture_of(seen, 0, 0).splitlines() == ["   S   .   G", "   1   .   .", "   .   .   ."]


def test_a_walk_in_a_dark_room_starts_in_the_middle() -> None:
    rooms = am.make_tasks("dark_room", size=3).sample(1, seed=0)
    rooms = replace(rooms, goal=torch.tensor([[1, 1]]))
    assert rooms.picture_of(walked(rooms, torch.tensor([[NORTH]])), 0, 0).splitlines()[:2] == [
        "   .   1   .", "   .   G   .",
    ]  # fmt: skip
    assert "[1]" in rooms.picture_of(walked(rooms, torch.tensor([[STAY]])), 0, 0)


def test_a_walk_in_a_maze_numbers_cells_where_the_picture_of_the_maze_is_open() -> None:
    mazes = am.make_tasks("maze").sample(20, split="test", seed=0)
    shown = mazes.demonstrations()
    for task in range(20):
        plain = mazes.picture(task).splitlines()
        for episode in (0, 2):
            drawn = mazes.picture_of(shown, task, episode).splitlines()
            columns = [0, *(c for k in range(5) for c in (2 + 5 * k, 5 + 5 * k))]
            walls = ["".join("#" if row[c] == "#" else " " for c in columns) for row in drawn]
            assert walls == [re.sub("[SG]", " ", row) for row in plain]
            steps = len(shown.of_episode(task, episode).action)
            assert f"[{steps}]" in "".join(drawn)
        numbers = sorted(int(n) for n in re.findall(r"\d+", "".join(drawn)))
        assert numbers == list(range(1, steps + 1))  # straight: no cell twice


def test_pulls_of_a_bandit_stand_in_the_row_of_their_arm() -> None:
    arms = am.make_tasks("bandit", arms=2, pulls=4).sample(1, seed=0)
    arms = replace(arms, mean=torch.tensor([[1.0, 0.0]]))
    seen = walked(arms, torch.tensor([[0, 1, 1, 0]]))
    assert arms.picture_of(seen, 0, 0).splitlines() == ["arm 0  1.00* |+  +|", "arm 1  0.00  | -- |"]
    assert arms.picture(0).splitlines() == ["arm 0  1.00* " + 40 * "=", "arm 1  0.00"]
    many = am.make_tasks("bandit", arms=2, pulls=201)
    assert judged(many).environments.picture_of(judged(many).experience, 0, 0) is None


def test_a_way_in_the_plane_has_a_start_a_goal_and_an_end() -> None:
    planes = am.make_tasks("navigation_2d").sample(1, seed=0)
    planes = replace(planes, goal=torch.tensor([[0.5, 0.5]]))
    seen = walked(planes, torch.tensor([[[0.1, 0.0], [0.1, 0.0], [0.1, 0.0]]]))
    rows = planes.picture_of(seen, 0, 0).splitlines()
    assert rows[9] == "|" + 20 * " " + "S   .   .   X" + 8 * " " + "|"
    assert rows[1] == "|" + 40 * " " + "G|"
    assert rows[-1] == "x -0.50 to 0.50, y -0.50 to 0.50"


def test_a_way_that_leaves_the_plane_shown_widens_it() -> None:
    planes = am.make_tasks("navigation_2d", rewards="sparse").sample(1, seed=0)
    seen = walked(planes, torch.full((1, 15, 2), 0.1))
    assert planes.picture_of(seen, 0, 0).splitlines()[-1] == "x -1.00 to 1.50, y 0.00 to 1.50"


def test_steps_of_a_process_are_written_down_with_a_star_at_the_best_ones() -> None:
    chain = am.make_tasks("mdp", states=2, actions=2, steps=2).sample(1, seed=0)
    chance = torch.tensor([[[[0.0, 1.0]] * 2, [[1.0, 0.0]] * 2]])
    chain = replace(chain, chance=chance, reward=torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))
    lines = chain.picture_of(walked(chain, torch.tensor([[0, 0]])), 0, 0).splitlines()
    assert lines[0] == "step state action reward"
    assert lines[1].startswith("   1     0     0* ")
    assert lines[2].startswith("   2     1     0  ")


# ---------------------------------------------------------------- what is kept


def test_first_and_last_episode_of_three_worlds_are_kept_with_their_returns() -> None:
    outcome = judged(am.make_tasks("gridnavi"))
    kept = shown_trials(outcome)["shown"]
    assert [[episode["number"] for episode in world] for world in kept["worlds"]] == [[1, 4]] * 3
    for task, world in enumerate(kept["worlds"]):
        for episode in world:
            number = episode["number"] - 1
            assert episode["return"] == pytest.approx(float(outcome.returns[task, number]), rel=1e-3)
            assert episode["picture"] == outcome.environments.picture_of(outcome.experience, task, number)
    assert kept["key"].startswith("Numbers: the step")


def test_one_episode_stands_alone() -> None:
    kept = shown_trials(judged(am.make_tasks("bandit", pulls=5)))["shown"]
    assert [len(world) for world in kept["worlds"]] == [1, 1, 1]


def test_worlds_without_a_picture_keep_a_few_numbers_over_time() -> None:
    outcome = judged(am.make_tasks("pendulum", steps=120))
    episode = shown_trials(outcome)["shown"]["worlds"][1][1]
    steps = outcome.experience.of_episode(1, 2)
    assert len(episode["steps"]) == len(episode["reward"]) == MOST_TIMES
    assert (episode["steps"][0], episode["steps"][-1]) == (1, 120)
    assert [len(series) for series in episode["observation"]] == [MOST_TIMES] * 3
    at = torch.tensor(episode["steps"]) - 1
    torch.testing.assert_close(torch.tensor(episode["reward"]), steps.reward[at], rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(torch.tensor(episode["observation"]), steps.observation[at].T, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["gridnavi", "maze", "cartpole", "acrobot", "navigation_2d", "mdp", "bandit"])
def test_what_is_kept_fits_the_storage_and_is_small(name: str) -> None:
    steps = {"steps": 60} if name in ("cartpole", "acrobot") else {}
    kept = shown_trials(judged(am.make_tasks(name, **steps)))
    assert misfit(kept["shown"], RESULT["shown?"]) is None
    assert len(json.dumps(kept)) < MOST_CHARACTERS + 6000


def test_pictures_that_are_too_large_are_left_out_from_the_last_world_on() -> None:
    tasks = am.make_tasks("maze", size=20, steps=30)  # 4,140 characters a picture
    assert len(shown_trials(judged(tasks))["shown"]["worlds"]) == 1
    (world,) = shown_trials(judged(am.make_tasks("dark_room", size=60, steps=9), 1))["shown"]["worlds"]
    assert all("picture" not in episode and len(episode["reward"]) == 9 for episode in world)


@pytest.mark.parametrize(("drawn", "said"), [(ValueError("no ink"), "ValueError: no ink"), (3, "returned a int")])
def test_a_plugin_that_cannot_draw_is_told_of(monkeypatch: pytest.MonkeyPatch, drawn: Any, said: str) -> None:
    outcome = judged(am.make_tasks("gridnavi"))

    def picture_of(*args: Any) -> Any:
        if isinstance(drawn, Exception):
            raise drawn
        return drawn

    monkeypatch.setattr(type(outcome.environments), "picture_of", picture_of)
    assert said in shown_trials(outcome)["shown"]["error"]


# ---------------------------------------------------------------- in a comparison

FAST = {
    "n_trials": 1,
    "n_seeds": 2,
    "n_test_tasks": 20,
    "n_valid_tasks": 10,
    "max_steps": 1,
    "verbose": 0,
    "device": "cpu",
}
RL2 = {"rl2": ("rl2", am.make_meta_optimizer("policy_gradient", trials=10)), "random": "random"}


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[am.Comparison, Path]:
    output = tmp_path_factory.mktemp("shown")
    tasks = {
        "grid": am.make_tasks("gridnavi", size=3, steps=4, n_shot=1),
        "cart <b>": am.make_tasks("cartpole", steps=8, n_shot=1),
    }
    return am.compare(tasks, RL2, baselines=False, output=output, **FAST), output


@pytest.mark.thorough
def test_the_report_shows_every_learner_in_the_same_worlds_side_by_side(compared: tuple[am.Comparison, Path]) -> None:
    text = (compared[1] / "report.html").read_text()
    of_grid = text.split("grid: what they did</h3>")[1].split("<h3>")[0]
    assert of_grid.count('<pre class="world" role="img" aria-label="World ') == 12  # 2 learners, 3 worlds, 2 episodes
    assert of_grid.count('<div class="shown">') == 6
    assert "S: the start; G: a goal that was not reached." in of_grid
    winner = compared[0].leaderboard.iloc[0]["learner"]
    assert of_grid.index(f">{winner}") < of_grid.index("<details>")
    assert f'aria-label="World 1, episode 2 of {winner}, return ' in of_grid
    goals = [re.findall(r"G|\[", "".join(re.findall(r'tabindex="0">(.*?)</pre>', part, re.DOTALL)))
             for part in of_grid.split("<details>")]  # fmt: skip
    assert [len(marks) for marks in goals] == [6, 6]


@pytest.mark.thorough
def test_worlds_without_a_picture_are_figures_that_say_what_they_are(compared: tuple[am.Comparison, Path]) -> None:
    text = (compared[1] / "report.html").read_text()
    of_cart = text.split("cart &lt;b&gt;: what they did</h3>")[1].split("<h3>")[0]
    assert of_cart.count('role="img" aria-label="World ') == 12
    assert of_cart.count('<svg class="plot"') == 12
    assert ">seen 4<" in of_cart
    assert "<pre" not in of_cart
    assert "cart <b>" not in text


@pytest.mark.thorough
def test_a_comparison_that_was_loaded_draws_the_same_report(
    compared: tuple[am.Comparison, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def acts(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("nothing is judged again")

    monkeypatch.setattr(adaptation_curve, "judge", acts)
    loaded = am.Comparison.load(compared[1])
    assert loaded.report(tmp_path / "again.html").read_text() == (compared[1] / "report.html").read_text()


@pytest.mark.thorough
def test_a_comparison_of_an_earlier_version_kept_nothing_and_is_reported_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adaptation_curve, "shown_trials", lambda outcome: {})
    am.compare("bandit", ["control/random"], baselines=False, output=tmp_path, **FAST)
    text = am.Comparison.load(tmp_path).report(tmp_path / "again.html").read_text()
    assert "what they did" not in text
    assert "<h2>bandit</h2>" in text


@pytest.mark.thorough
def test_an_environment_that_cannot_draw_fails_no_learner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def picture_of(*args: Any) -> str:
        raise ValueError("no ink")

    monkeypatch.setattr(type(am.make_tasks("bandit").sample(1, seed=0)), "picture_of", picture_of)
    with pytest.warns(UserWarning, match="2 trials or final runs failed"):
        found = am.compare("bandit", ["control/random"], baselines=False, output=tmp_path, **FAST)
    assert set(found.failures["stage"]) == {"drawing what it did"}
    assert set(found.failures["reason"]) == {"ValueError: no ink"}
    assert len(found.leaderboard) == 1


def test_numbers_of_other_steps_than_those_kept_are_damage() -> None:
    world = [{"number": 1, "return": 1.0, "steps": [1, 2], "reward": [0.0, 1.0], "observation": [[0.5, 0.5]]}]
    result = {
        "tasks": [0], "scores": [1.0], "normalization": "none", "n_shot": 0, "n_query": 1, "adapt_ms": 0.0,
        "predict_ms": 0.0, "curve": [], "history": [], "steps": 0, "meta_train_seconds": 0.0, "axis": "episodes",
        "adaptation": [], "shown": {"key": "", "worlds": [world]},
    }  # fmt: skip

    def stored() -> Any:
        attributes = {"result": result, "params": {}, "slot": 0}
        return optuna.trial.create_trial(value=1.0, user_attrs=attributes)

    assert result_of(stored(), "study")["shown"]["worlds"] == [world]
    world[0]["observation"] = [[0.5]]
    with pytest.raises(am.StorageError, match="numbers of other steps than the 2 of episode 1"):
        result_of(stored(), "study")
    world[0]["picture"] = 3
    with pytest.raises(am.StorageError, match="picture"):
        result_of(stored(), "study")

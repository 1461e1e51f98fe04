"""Tasks made of registered environments of Gymnasium."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

import autometa as am
from autometa.cli import main
from autometa.comparison.plan.foreign import named_by
from autometa.engine.random_state import fresh_module
from autometa.files.description import describe, restore
from autometa.testing import checks_of
from learning import assert_better

gymnasium = pytest.importorskip("gymnasium")

TOY = "toy_gymnasium:Switches-v0"


def gym(env: str = "CartPole-v1", **params: Any) -> am.TaskSampler:
    return am.make_tasks("gymnasium", env=env, **params)


def numbers_of(environments: Any) -> list[list[float]]:
    found: list[list[float]] = environments.numbers.tolist()
    return found


@am.parametrize_with_plugin_checks(gym(vary={"gravity": (5.0, 15.0), "length": [0.25, 0.5]}, steps=40))
def test_carts_pass_the_kit(check: Any) -> None:
    check()


@am.parametrize_with_plugin_checks(gym("Pendulum-v1", vary={"g": (5.0, 15.0), "m": (0.5, 2.0)}, steps=30))
def test_pendulums_pass_the_kit(check: Any) -> None:
    check()


@am.parametrize_with_plugin_checks(gym(TOY, vary={"shift": [0, 1, 2], "pays": (1.0, 2.0), "colour": ["red", "blue"]}))
def test_environments_of_ones_own_pass_the_kit(check: Any) -> None:
    check()


# ---------------------------------------------------------------- what happens in them


def by_hand(environments: Any, make: Any, actions: torch.Tensor) -> list[list[tuple[Any, float, bool, bool]]]:
    """What Gymnasium's own environments do under actions [time, tasks], episode after episode."""
    found = []
    for task, key in enumerate(environments.key.tolist()):
        env, episode, told = make(*numbers_of(environments)[task]), 0, []
        env.reset(seed=am.derive_seed(key, "episode", 0) % 2**31)
        for action in actions[:, task].numpy():
            observation, reward, terminated, truncated, _ = env.step(action)
            told.append((np.asarray(observation), float(reward), terminated, truncated))
            if terminated or truncated:
                episode += 1
                env.reset(seed=am.derive_seed(key, "episode", episode) % 2**31)
        found.append(told)
    return found


def same_as_by_hand(environments: am.Environments, make: Any, actions: torch.Tensor) -> int:
    """Compare what happens; return how many episodes ended."""
    expected = by_hand(environments, make, actions)
    worlds, n_ended = environments.to(dtype=torch.float64).begin(), 0
    worlds.reset()
    for time, action in enumerate(actions):
        result = worlds.step(action)
        for task, told in enumerate(expected):
            observation, reward, terminated, truncated = told[time]
            np.testing.assert_array_equal(result.observation[task].numpy(), observation)
            assert float(result.reward[task]) == reward
            assert bool(result.terminated[task]) == terminated
            assert bool(result.truncated[task]) == (truncated and not terminated)
        ended = result.terminated | result.truncated
        n_ended += int(ended.sum())
        if ended.any():
            worlds.reset(ended)
    return n_ended


def cart(gravity: float, mass: float, length: float) -> Any:
    env = gymnasium.make("CartPole-v1", max_episode_steps=12)
    world = env.unwrapped
    world.gravity, world.masspole, world.length = gravity, mass, length
    world.total_mass, world.polemass_length = mass + world.masscart, mass * length
    return env


def test_carts_do_what_those_of_gymnasium_do_whose_other_constants_follow() -> None:
    tasks = gym(vary={"gravity": (5.0, 15.0), "masspole": (0.05, 1.0), "length": (0.2, 1.0)}, steps=12)
    drawn = tasks.sample(5, split="test", seed=3)
    actions = torch.from_numpy(np.random.default_rng(0).integers(2, size=(60, 5)))
    assert same_as_by_hand(drawn, cart, actions) > 20


def test_pendulums_do_what_those_of_gymnasium_do() -> None:
    drawn = gym("Pendulum-v1", vary={"g": (5.0, 15.0)}).sample(3, seed=0)
    actions = torch.from_numpy(np.random.default_rng(0).uniform(-2, 2, size=(210, 3, 1)).astype(np.float32))
    assert same_as_by_hand(drawn, lambda g: gymnasium.make("Pendulum-v1", g=g), actions) == 3


def test_bounds_hold_what_an_actor_does() -> None:
    worlds = gym("Pendulum-v1").sample(2, seed=0).begin()
    worlds.reset()
    far = worlds.step(torch.tensor([[50.0], [-50.0]]))
    again = gym("Pendulum-v1").sample(2, seed=0).begin()
    again.reset()
    assert torch.equal(far.reward, again.step(torch.tensor([[2.0], [-2.0]])).reward)


def test_a_task_is_the_same_in_any_rows_and_another_one_with_another_key() -> None:
    drawn = gym(vary={"gravity": (5.0, 15.0)}).sample(6, seed=0)
    first = drawn.begin().reset()
    rows = torch.tensor([4, 1, 4])
    assert torch.equal(drawn[rows].begin().reset(), first[rows])
    assert torch.equal(drawn[rows].hidden, drawn.hidden[rows])
    other = drawn.with_key(am.draw_keys(6, 9))
    assert torch.equal(other.hidden, drawn.hidden)
    assert not (other.begin().reset() == first).any()


def test_an_episode_starts_as_its_number_says_whatever_happened_before() -> None:
    drawn = gym(TOY, vary={"shift": [0]}).sample(2, seed=0)
    starts = []
    for presses in (1, 4):
        worlds = drawn.begin()
        worlds.reset()
        for _ in range(presses):
            worlds.step(torch.tensor([1, 1]))
        worlds.reset(torch.tensor([True, False]))
        starts.append(worlds.step(torch.tensor([1, 1])).reward)
    assert starts[0][0] == starts[1][0]


def test_a_task_whose_episode_is_over_rests_until_it_is_reset() -> None:
    worlds = gym(TOY, vary={"shift": [0]}).sample(2, seed=0).begin()
    worlds.reset()
    ended = worlds.step(torch.tensor([0, 1]))
    assert ended.terminated.tolist() == [True, False]
    rested = worlds.step(torch.tensor([1, 1]))
    assert rested.reward[0] == 0
    assert rested.terminated.tolist() == [True, False]
    shown = worlds.reset(torch.tensor([True, False]))
    assert shown.argmax(1).tolist() == [0, 2]


@pytest.mark.parametrize("name", ["scratch", "rl2"])
def test_a_trial_makes_one_environment_of_each_task(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = gym(TOY, vary={"shift": [0, 1, 2]}, n_shot=3, n_query=2)
    drawn, made = tasks.sample(4, seed=0), []
    make = type(drawn).make
    monkeypatch.setattr(type(drawn), "make", lambda here, task: made.append(make(here, task)) or made[-1])
    learner = am.make_learner(name)
    module = fresh_module(learner, tasks.info, seed=0)
    with torch.no_grad():
        am.judge(learner, module, drawn)
    assert len(made) == 4


def test_environments_that_go_on_in_a_round_do_what_new_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = gym(TOY, vary={"shift": [0, 1, 2]}, n_shot=5, n_query=2)
    drawn, closed = tasks.sample(6, seed=0), []
    make, kind = type(drawn).make, type(drawn)

    def told(here: Any, task: int) -> Any:
        env = make(here, task)
        env.close = lambda: closed.append(task)
        return env

    monkeypatch.setattr(kind, "make", told)
    learner = am.make_learner("scratch", steps=2)
    module = fresh_module(learner, tasks.info, seed=0)
    with torch.no_grad():
        going_on = am.judge(learner, module, drawn)
        assert sorted(closed) == list(range(6))
        monkeypatch.setattr(kind, "begin_after", lambda here, worlds: here.begin())
        anew = am.judge(learner, module, drawn)
    assert len(closed) == 6 + 6 * 7
    for name in ("observation", "action", "reward", "mask"):
        assert torch.equal(getattr(going_on.experience, name), getattr(anew.experience, name))
    for name, value in going_on.memory["weights"].items():
        assert torch.equal(value, anew.memory["weights"][name])


# ---------------------------------------------------------------- what differs from task to task


def test_what_is_drawn_of_a_name_does_not_depend_on_the_others() -> None:
    alone = gym(vary={"gravity": (5.0, 15.0)}).sample(50, seed=1).hidden[:, 0]
    beside = gym(vary={"length": [0.5, 1.0], "gravity": {"low": 5, "high": 15}}).sample(50, seed=1).hidden[:, 1]
    assert torch.equal(alone, beside)
    assert 5 <= float(alone.min()) < 6 < 14 < float(alone.max()) <= 15


def test_numbers_are_told_as_they_are_and_other_choices_one_hot() -> None:
    vary = {"shift": [0, 2], "colour": ["red", "blue", "green"]}
    drawn = gym(TOY, vary=vary).sample(40, seed=0)
    assert drawn.hidden.shape == (40, 4)
    assert set(drawn.hidden[:, 0].tolist()) == {0.0, 2.0}
    assert torch.equal(drawn.hidden[:, 1:].sum(1), torch.ones(40))
    for task in range(10):
        made: Any = drawn.make(task).unwrapped
        assert made.shift == drawn.hidden[task, 0]
        assert vary["colour"].index(made.colour) == drawn.hidden[task, 1:].argmax()
        assert isinstance(made.shift, int)
    assert "colour = 'blue'" in "".join(str(drawn.picture(task)) for task in range(40))


def test_tasks_recur_where_they_are_few() -> None:
    assert gym().tasks_recur
    assert gym(TOY, vary={"shift": [0, 1]}).tasks_recur
    assert not gym(TOY, vary={"shift": [0, 1], "pays": (1.0, 2.0)}).tasks_recur


def test_the_length_of_an_episode_is_the_environments_own_unless_it_is_given() -> None:
    assert gym().info.horizon == 500
    assert gym(steps=7).info.horizon == 7
    assert gym(TOY).info.horizon == 9
    assert gym(TOY).info.input_shape == (6,)
    tasks = gym(TOY)
    assert tasks.set_params(steps=3).info.horizon == 3


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("params", "kind", "said"),
    [
        ({"env": None}, am.InvalidParameter, "env=None of task sampler 'gymnasium' must be an id"),
        ({"env": "CartPole"}, am.InvalidParameter, "env='CartPole' .* not registered .*did you mean 'CartPole-v1'"),
        ({"env": "no_such_module:A-v0"}, am.InvalidParameter, "importing 'no_such_module' raised ModuleNotFoundError"),
        ({"vary": 5}, am.InvalidParameter, "vary=5 of task sampler 'gymnasium' must map names to"),
        ({"vary": {"gravity": (15, 5)}}, am.InvalidParameter, r"vary\['gravity'\]=\(15, 5\) .* the lower one first"),
        ({"vary": {"gravity": []}}, am.InvalidParameter, r"a pair \(low, high\), .* or a list of choices"),
        ({"vary": {"gravity": [1, 1]}}, am.InvalidParameter, "names a choice twice"),
        ({"vary": {"gravity": [None]}}, am.InvalidParameter, "must hold finite numbers, texts, True or False alone"),
        ({"vary": {"gravty": (1, 2)}}, am.InvalidParameter, "nothing of this name; did you mean 'gravity'.*force_mag"),
        ({"vary": {"step": (1, 2)}}, am.InvalidParameter, "CartPole-v1 has nothing of this name"),
        ({"vary": {"total_mass": (1, 2)}}, am.InvalidParameter, "total_mass .* follows from masspole and masscart"),
        ({"vary": {"np_random_seed": [1, 2]}}, am.InvalidParameter, "np_random_seed.* cannot be 1"),
        ({"env": TOY, "vary": {"colour": ["red"], "pay": [1]}}, am.InvalidParameter, "takes colour, fails, pays; its"),
        (
            {"env": "Pendulum-v1", "vary": {"max_torque": (1.0, 2.0)}},
            am.Incompatible,
            "changes what all tasks have in common: action_bounds is",
        ),
        ({"env": "toy_gymnasium:Endless-v0"}, am.InvalidParameter, "steps=None .* without a limit of its steps"),
        ({"env": "toy_gymnasium:Endless-v0", "steps": 5}, am.Incompatible, "space Box.* must have finite bounds"),
        ({"env": "Blackjack-v1", "steps": 5}, am.Incompatible, "the observation space Tuple.* is a Tuple"),
        ({"steps": 0}, am.InvalidParameter, "steps=0 of task sampler 'gymnasium'"),
        ({"n_shot": -1}, am.InvalidParameter, "n_shot=-1 of task sampler 'gymnasium'"),
    ],
)
def test_what_cannot_be_is_one_sentence(params: dict[str, Any], kind: type, said: str) -> None:
    with pytest.raises(kind, match=said):
        gym(**params).info  # noqa: B018


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        ("raises", r"step\(\) of the environment .* raised RuntimeError: a fuse blew"),
        ("pays", r"the environment tells reward=\[nan\], which is not finite"),
        ("shows", "the environment shows observation=.*99.*, which is not in its space"),
    ],
)
def test_an_environment_that_fails_in_one_task_is_told(fails: str, said: str) -> None:
    drawn = gym(TOY, vary={"fails": ["never", fails]}).sample(12, seed=0)
    assert set(drawn.hidden[:, 1].tolist()) == {0.0, 1.0}
    worlds = drawn.begin()
    worlds.reset()
    with pytest.raises(am.InvalidData, match=said):
        worlds.step(torch.ones(12, dtype=torch.int64))


def test_tasks_of_other_spaces_are_refused() -> None:
    drawn = gym(steps=5).sample(2, seed=0)

    class Mixed(type(drawn)):  # type: ignore[misc]
        def make(self, task: int) -> Any:
            return gymnasium.make("CartPole-v1" if task == 0 else "Acrobot-v1")

    mixed = Mixed(**{name: getattr(drawn, name) for name in drawn.__dataclass_fields__})
    with pytest.raises(am.Incompatible, match="a task has the spaces .* another one .*must be the same"):
        mixed.begin().reset()
    with pytest.raises(am.Incompatible, match=r"observations have the shape \(4,\)"):
        replace(drawn, info=replace(drawn.info, input_shape=(3,))).begin().reset()


WITHOUT_GYMNASIUM = """
import sys
sys.modules["gymnasium"] = None
import autometa as am
tasks = am.make_tasks("gymnasium", env="CartPole-v1")
assert am.GymnasiumEnvironments
for made in (tasks, am.make_tasks("half_cheetah", task="velocity")):
    try:
        made.sample(1, seed=0).begin().reset()
    except am.MissingData as error:
        print(error)
"""


@pytest.mark.thorough
def test_without_gymnasium_the_extra_is_named_where_it_is_needed() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_GYMNASIUM], capture_output=True, text=True, check=True)
    assert done.stdout.count("needs the package gymnasium; install autometa with the extra 'control'") == 2


# ---------------------------------------------------------------- plans, and other processes


def test_a_sampler_comes_back_from_a_plan_as_it_was() -> None:
    tasks = gym(vary={"gravity": (5.0, 15.0), "length": [0.5, 1.0]}, steps=30)
    tasks.info  # noqa: B018
    for back in (restore(describe(tasks), "a plan"), clone(tasks), pickle.loads(pickle.dumps(tasks))):
        assert back.get_params() == tasks.get_params()
        assert torch.equal(back.sample(4, seed=0).begin().reset(), tasks.sample(4, seed=0).begin().reset())


def test_a_plan_names_the_module_that_an_environment_imports_as_code() -> None:
    found = list(named_by(describe(gym(TOY))))
    assert [(one.kind, one.text, one.parameter) for one in found] == [("code", TOY, "env")]
    assert not list(named_by(describe(gym())))


def test_the_command_line_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "gymnasium:env=CartPole-v1,vary={'gravity': (5.0, 15.0)},steps=20", "-n", "2"]) == 0
    shown = capsys.readouterr().out
    assert "gravity = " in shown
    assert "horizon" in shown


# ---------------------------------------------------------------- agents


def test_an_agent_meta_trains_in_them_and_adapts_to_an_environment_of_gymnasium() -> None:
    tasks = gym(vary={"gravity": (5.0, 15.0)}, steps=20, n_shot=1)
    optimizer = am.make_meta_optimizer("policy_gradient", trials=10)
    agent = am.MetaAgent("rl2", optimizer, max_steps=2, device="cpu", random_state=0).meta_fit(tasks)
    curve = agent.adaptation_curve(tasks, n_tasks=6)
    assert curve["return"].between(1, 20).all()
    assert len(curve) == 12
    assert agent.fit(gymnasium.make("CartPole-v1"), episodes=2).returns_.shape == (1, 2)
    assert agent.fit(tasks.sample(3, split="test", seed=0), episodes=2).returns_.shape == (3, 2)


@pytest.mark.slow
def test_two_processes_compare_learners_in_them(tmp_path: Path) -> None:
    tasks = {
        "carts": gym(vary={"gravity": (5.0, 15.0)}, steps=15, n_shot=1),
        "switches": gym(TOY, vary={"shift": [0, 1]}),
    }
    learners = {"rl2": ("rl2", am.make_meta_optimizer("policy_gradient", trials=10)), "random": "random"}
    found = am.compare(
        tasks, learners, n_trials=1, n_seeds=1, n_test_tasks=20, max_steps=2, verbose=0, device="cpu",
        output=tmp_path, n_workers=2, baselines=False,
    )  # fmt: skip
    board = found.leaderboard
    assert set(zip(board["tasks"], board["learner"], strict=True)) == {
        (tasks, learner) for tasks in ("carts", "switches") for learner in ("rl2", "random")
    }
    assert np.isfinite(board["score"]).all()


@pytest.mark.slow
def test_rl2_balances_poles_of_any_gravity_far_longer_than_at_random() -> None:
    tasks = gym(vary={"gravity": (5.0, 15.0)}, steps=100, n_shot=1)
    returns = {}
    for name, steps in (("random", 0), ("rl2", 25)):
        optimizer = am.make_meta_optimizer("policy_gradient", trials=100) if steps else "auto"
        agent = am.MetaAgent(name, optimizer, max_steps=steps, device="cpu", random_state=0).meta_fit(tasks)
        curve = agent.adaptation_curve(tasks, n_tasks=100)
        returns[name] = curve[curve["episode"] == 2]["return"].to_numpy()
    assert_better(returns["rl2"], than=returns["random"] + 20, info=tasks.info)


# ---------------------------------------------------------------- half-cheetahs


def test_half_cheetahs_are_drawn_without_mujoco() -> None:
    sides = am.make_tasks("half_cheetah", task="direction").sample(200, seed=0).hidden
    assert set(sides.flatten().tolist()) == {-1.0, 1.0}
    assert 70 < int((sides > 0).sum()) < 130
    speeds = am.make_tasks("half_cheetah", task="velocity", fastest=3.0).sample(200, seed=0).hidden
    assert 0 <= float(speeds.min()) < 0.2 < 2.8 < float(speeds.max()) <= 3
    with pytest.raises(am.InvalidParameter, match="task='run' of task sampler 'half_cheetah' must be one of"):
        am.make_tasks("half_cheetah", task="run").info  # noqa: B018


@pytest.mark.skipif(find_spec("mujoco") is not None, reason="MuJoCo is installed")
def test_without_mujoco_the_extra_is_named() -> None:
    with pytest.raises(am.MissingData, match="HalfCheetah-v5 needs .*; autometa's extra 'mujoco' brings it"):
        am.make_tasks("half_cheetah", task="direction").sample(1, seed=0).begin().reset()


@pytest.mark.parametrize("task", ["direction", "velocity"])
def test_half_cheetahs_pass_the_kit_and_pay_for_speed(task: str) -> None:
    pytest.importorskip("mujoco", reason="half-cheetahs need MuJoCo (extra 'mujoco')")
    tasks = am.make_tasks("half_cheetah", task=task, steps=8)
    for check in checks_of(tasks):
        if check.name not in ("check_name_round_trip", "check_references", "check_advice"):
            check()
    drawn = tasks.sample(4, seed=0)
    worlds = drawn.to(dtype=torch.float64).begin()
    worlds.reset()
    rng = np.random.default_rng(0)
    bodies = [gymnasium.make("HalfCheetah-v5") for _ in range(4)]
    for body, key in zip(bodies, drawn.key.tolist(), strict=True):
        body.reset(seed=am.derive_seed(key, "episode", 0) % 2**31)
    for _ in range(8):
        action = rng.uniform(-1, 1, (4, 6)).astype(np.float32)
        result = worlds.step(torch.from_numpy(action))
        for i, body in enumerate(bodies):
            observation, _, _, _, facts = body.step(action[i])
            wanted, speed = float(drawn.wanted[i]), facts["x_velocity"]
            gain = wanted * speed if task == "direction" else -abs(speed - wanted)
            np.testing.assert_array_equal(result.observation[i].numpy(), observation)
            assert float(result.reward[i]) == pytest.approx(gain - 0.05 * float((action[i] ** 2).sum()), abs=1e-6)

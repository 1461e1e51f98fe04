"""Agents in environments of Gymnasium, and under Stable-Baselines3's evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

import autometa as am
from autometa.estimators.given_environments import GivenEnvironments

gymnasium = pytest.importorskip("gymnasium")
spaces, vector = gymnasium.spaces, gymnasium.vector


class World(gymnasium.Env):
    """One task that a sampler drew."""

    def __init__(self, environments: am.Environments, **broken: Any) -> None:
        self.environments, self.broken = environments, broken
        info = environments.info
        self.observation_space = spaces.Box(-np.inf, np.inf, info.input_shape, np.float32)
        self.action_space = spaces.Discrete(info.n_outputs)
        self.worlds = environments.begin()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.worlds.reset()[0].numpy(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated = self.worlds.step(torch.tensor([int(action)]))
        if "error" in self.broken:
            raise self.broken["error"]
        pays = self.broken.get("reward", float(reward))
        if "shows" in self.broken:
            return self.broken["shows"], pays, False, False, {}
        if "tells" in self.broken:
            return self.broken["tells"]
        return observation[0].numpy(), pays, bool(terminated), bool(truncated), {}


class Coded(gymnasium.Env):
    """Shows a number of a Discrete space, and takes two real actions."""

    observation_space = spaces.Discrete(4)
    action_space = spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 10.0], np.float32))

    def __init__(self) -> None:
        self.actions: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.int64(1), {}

    def step(self, action: Any) -> Any:
        self.actions.append(action)
        return np.int64(3), 1.0, False, len(self.actions) % 3 == 0, {}


TASKS = am.make_tasks("gridnavi", size=3, steps=4, n_shot=1)


@pytest.fixture(scope="module")
def meta_trained() -> am.MetaAgent:
    optimizer = am.make_meta_optimizer("policy_gradient", trials=10)
    return am.MetaAgent("rl2", optimizer, max_steps=1, device="cpu", random_state=0).meta_fit(TASKS)


@pytest.fixture
def agent(meta_trained: am.MetaAgent) -> am.MetaAgent:
    return clone(meta_trained)


def test_an_environment_is_explored_like_the_task_it_shows(agent: am.MetaAgent) -> None:
    world = TASKS.sample(1, split="test", seed=4)
    agent.fit(World(world), episodes=2)
    assert agent.returns_.shape == (1, 2)
    assert np.isfinite(agent.score(World(world), episodes=3))


def test_a_vector_of_environments_is_explored_one_by_one_in_it(agent: am.MetaAgent) -> None:
    worlds = [TASKS.sample(1, split="test", seed=seed) for seed in range(3)]
    makes = [lambda world=world: World(world) for world in worlds]
    envs = vector.SyncVectorEnv(makes, autoreset_mode=vector.AutoresetMode.DISABLED)
    agent.fit(envs, episodes=2)
    assert agent.returns_.shape == (3, 2)
    actions, state = agent.predict(envs.reset()[0], None, np.ones(3, bool), deterministic=True)
    assert actions.shape == (3,)
    agent.predict(envs.step(actions)[0], state)
    with pytest.raises(am.Incompatible, match=r"autoreset_mode=NEXT_STEP of the vector environment must be .*DISABLED"):
        agent.fit(vector.SyncVectorEnv(makes))


def test_discrete_observations_and_real_actions_are_translated() -> None:
    class Real(am.TaskSampler):
        @property
        def info(self) -> am.TaskInfo:
            bounds = ((-1.0, 0.0), (1.0, 10.0))
            return am.TaskInfo(
                problem="control", input_shape=(4,), n_outputs=2, n_shot=0, n_query=1, horizon=3, action_bounds=bounds
            )

        def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> Any:
            raise NotImplementedError

    agent = am.MetaAgent("rl2", max_steps=0, device="cpu", random_state=0).meta_fit(Real())
    env = Coded()
    agent.fit(env, episodes=2)
    np.testing.assert_allclose(agent.returns_, [[3.0, 3.0]])
    actions = np.stack(env.actions)
    assert actions.dtype == np.float32
    assert env.action_space.contains(actions[0])
    assert ((actions >= [-1, 0]) & (actions <= [1, 10])).all()
    action, _ = agent.predict(np.eye(4)[1])
    assert action.shape == (2,)
    env.reset = lambda **_: (np.int64(5), {})  # type: ignore[method-assign]
    with pytest.raises(am.InvalidData, match="the environment shows observation=.*5.*, which is not in its space"):
        agent.fit(env)


def test_what_is_wrong_with_an_environment_is_one_sentence(agent: am.MetaAgent) -> None:
    with pytest.raises(am.Incompatible, match=r"observations have the shape \(4,\), and the agent .* on \(6,\)"):
        agent.fit(gymnasium.make("CartPole-v1"))
    strange = World(TASKS.sample(1, seed=0))
    strange.action_space = spaces.MultiBinary(3)
    with pytest.raises(
        am.Incompatible, match=r"the action space MultiBinary\(3\) is a MultiBinary; an agent knows Box"
    ):
        agent.fit(strange)
    more = World(am.make_tasks("gridnavi", size=3).sample(1, seed=0))
    more.action_space = spaces.Discrete(7)
    with pytest.raises(am.Incompatible, match="actions are 7 choices, and the agent was meta-trained on 5 choices"):
        agent.fit(more)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"reward": float("nan")}, "the environment tells reward=nan, which is not finite"),
        ({"reward": "much"}, "the environment tells reward=.much., which is not a number"),
        ({"reward": [1.0, 2.0]}, r"the environment tells reward=\[1.0, 2.0\], which is not a number"),
        ({"shows": np.full(6, np.inf)}, "the environment tells observation=.*, which is not finite"),
        ({"shows": np.zeros(4)}, r"the environment tells observation=.*, which is not numbers of shape \(1, 6\)"),
        (
            {"error": RuntimeError("the motor\nbroke")},
            r"step\(\) of the environment World raised RuntimeError: the motor",
        ),
        ({"tells": (np.zeros(6), 1.0, True, {})}, r"step\(\) of the environment World returned .* a tuple of 5"),
    ],
    ids=repr,
)
def test_what_a_faulty_environment_does_is_one_error(agent: am.MetaAgent, broken: dict[str, Any], said: str) -> None:
    with pytest.raises(am.InvalidData, match=said):
        agent.fit(World(TASKS.sample(1, seed=0), **broken))


@pytest.mark.parametrize("env", [None, 3, am.make_tasks("bandit").sample(1, seed=0)])
def test_only_environments_of_gymnasium_are_watched(agent: am.MetaAgent, env: Any) -> None:
    with pytest.raises(am.InvalidParameter, match=r"env=.* must be an environment of Gymnasium; in worlds"):
        agent.watch(env)


def test_a_watched_environment_tells_its_rewards(agent: am.MetaAgent) -> None:
    world = TASKS.sample(1, split="test", seed=4)
    agent.fit(world, episodes=0)
    watched = agent.watch(World(world))
    seen, _ = watched.reset()
    action, state = agent.predict(seen, None, np.array([True]), deterministic=True)
    before = state[0]["memory"]["last"].clone()
    seen, reward, *_ = watched.step(action)
    _, state = agent.predict(seen, state, np.array([False]), deterministic=True)
    last = state[0]["memory"]["last"]
    assert not torch.equal(before, last)
    assert float(last[0, -1]) == 1.0
    assert float(last[0, -3]) == pytest.approx(float(reward))
    _, state = agent.predict(seen, state, np.array([False]), deterministic=True)
    assert float(state[0]["memory"]["last"][0, -1]) == 0.0


@pytest.mark.slow
def test_stable_baselines_evaluation_scores_what_the_agent_can() -> None:
    evaluation = pytest.importorskip("stable_baselines3.common.evaluation")
    tasks = am.make_tasks("gridnavi")
    agent = am.MetaAgent("rl2", device="cpu", random_state=0).meta_fit(tasks)
    returns = []
    for seed in range(200):
        world = tasks.sample(1, split="test", seed=seed)
        agent.fit(world, episodes=3)
        found, _ = evaluation.evaluate_policy(
            agent, World(world), n_eval_episodes=3, return_episode_rewards=True, warn=False
        )
        returns.append(found)
    assert (np.mean(returns, axis=0) >= 10.8).all(), np.mean(returns, axis=0)


def test_numbers_that_do_not_begin_at_0_are_refused() -> None:
    spaces = pytest.importorskip("gymnasium.spaces")
    info = am.TaskInfo(problem="control", input_shape=(4,), n_outputs=2, n_shot=1, n_query=1, horizon=3)

    class Late:
        observation_space, action_space = spaces.Discrete(4, start=3), spaces.Discrete(2)
        reset = step = None

    with pytest.raises(am.Incompatible, match="begins at 3; wrap it"):
        GivenEnvironments(Late(), info, 0)

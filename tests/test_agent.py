"""MetaAgent: meta-trained once, it explores a new environment and acts in it."""

from __future__ import annotations

import dataclasses
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import Tensor

import autometa as am
from autometa.estimators.agent_steps import observations_in
from autometa.testing.toys import Lines

TASKS = am.make_tasks("gridnavi", size=3, steps=4, n_shot=1)


@pytest.fixture(scope="module")
def meta_trained() -> am.MetaAgent:
    optimizer = am.make_meta_optimizer("policy_gradient", trials=10)
    return am.MetaAgent("rl2", optimizer, max_steps=2, device="cpu", random_state=0).meta_fit(TASKS)


@pytest.fixture
def agent(meta_trained: am.MetaAgent) -> am.MetaAgent:
    return clone(meta_trained)


def new_world(seed: int = 0) -> am.Environments:
    return TASKS.sample(1, split="test", seed=seed)


def walk(agent: am.MetaAgent, n: int = 6, **kwargs: Any) -> list[int]:
    """Actions in a world that shows its start again and again."""
    state, actions, start = None, [], new_world().begin().reset()[0].numpy()
    for step in range(n):
        action, state = agent.predict(start, state, np.array([step == 0]), **kwargs)
        actions.append(int(action))
    return actions


def test_meta_training_tells_returns_and_steps_in_environments(agent: am.MetaAgent) -> None:
    assert agent.history_["environment_steps"].tolist() == [80, 160]
    assert {"loss", "return_1", "return_2"} <= set(agent.history_)
    assert agent.task_info_ == TASKS.info


def test_the_returns_of_exploring_are_those_of_collecting(agent: am.MetaAgent) -> None:
    world = new_world()
    agent.fit(world, episodes=3)
    with torch.no_grad():
        seen, _ = am.collect(agent.learner_, agent.module_, world, n_episodes=3, horizon=4)
    np.testing.assert_allclose(agent.returns_, seen.returns(3).numpy())


def test_the_adaptation_curve_has_every_episode_of_every_task(agent: am.MetaAgent) -> None:
    curve = agent.adaptation_curve(TASKS, n_tasks=300, seed=1)
    assert curve.columns.tolist() == ["task", "episode", "return", "normalised"]
    assert len(curve) == 600
    assert sorted(curve["episode"].unique()) == [1, 2]
    assert curve["task"].nunique() == 300
    assert curve.equals(agent.adaptation_curve(TASKS, n_tasks=300, seed=1))


def test_memory_of_what_was_explored_changes_what_is_done(agent: am.MetaAgent) -> None:
    start = torch.zeros(1, 6)
    before = agent.learner_.act(agent.module_, agent.learner_.start(agent.module_, 1), start)[0].policy.logits
    agent.fit(new_world(), episodes=2)
    after = agent.learner_.act(agent.module_, agent._fitted.adapted, start)[0].policy.logits
    assert not torch.allclose(before, after)
    agent.fit(new_world(), episodes=0)
    forgotten = agent.learner_.act(agent.module_, agent._fitted.adapted, start)[0].policy.logits
    torch.testing.assert_close(forgotten, before)


def test_predicting_follows_the_memory_of_its_own_steps(agent: am.MetaAgent) -> None:
    agent.fit(new_world(), episodes=1)
    start = new_world().begin().reset()
    (action, state) = agent.predict(start[0].numpy(), deterministic=True)
    assert action.shape == ()
    decision, memory = agent.learner_.act(agent.module_, agent._fitted.adapted, start)
    assert int(action) == int(decision.policy.mode)
    for name, value in state[0]["memory"]["state"].items():
        torch.testing.assert_close(value, memory["state"][name])
    begins = np.ones(5, dtype=bool)
    many, _ = agent.predict(start.expand(5, -1).numpy(), None, begins, deterministic=True)
    assert (many == int(action)).all()


def test_an_episode_that_was_not_told_begins_from_what_was_fitted(agent: am.MetaAgent) -> None:
    agent.fit(new_world(), episodes=1)
    start = new_world().begin().reset()[0].numpy()
    fresh, _ = agent.predict(start, None, np.array([True]), deterministic=True)
    state = None
    for step in range(5):
        _, state = agent.predict(start, state, np.array([step == 0]), deterministic=True)
    again, state = agent.predict(start, state, np.array([True]), deterministic=True)
    assert again == fresh
    kept, _ = agent.predict(start, None, np.array([True]), deterministic=True)
    assert kept == fresh


def test_a_forgetful_caller_is_told(agent: am.MetaAgent) -> None:
    start = new_world().begin().reset()[0].numpy()
    agent.predict(start)
    with pytest.warns(UserWarning, match="state=None twice in a row: the agent forgets"):
        agent.predict(start)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, state = agent.predict(start, None, np.array([True]))
        agent.predict(start, state)
        agent.predict(start, None, np.array([True]))


def test_a_saved_agent_does_what_the_first_one_did(agent: am.MetaAgent, tmp_path: Path) -> None:
    agent.fit(new_world(), episodes=2)
    agent.save(tmp_path / "agent.autometa")
    loaded = am.load(tmp_path / "agent.autometa")
    assert isinstance(loaded, am.MetaAgent)
    assert walk(loaded) == walk(agent)
    assert loaded.task_info_ == agent.task_info_
    assert loaded.score(new_world(), episodes=2) == agent.score(new_world(), episodes=2)
    assert loaded.history_.equals(agent.history_)
    without = tmp_path / "without.autometa"
    agent.save(without, keep_support=False)
    assert walk(am.load(without).fit(new_world(), episodes=2)) == walk(agent)


def test_clones_and_nested_parameters_are_those_of_scikit_learn(agent: am.MetaAgent) -> None:
    agent.fit(new_world())
    copied = clone(agent)
    assert copied.module_ is agent._meta.module
    assert not hasattr(copied, "returns_")
    copied.set_params(learner__greedy=False)
    assert copied.fit(new_world()).learner_.greedy is False
    copied.set_params(learner__hidden_size=8)
    with pytest.raises(am.InvalidParameter, match="learner__hidden_size=8 changed after meta_fit"):
        copied.fit(new_world())
    assert repr(am.MetaAgent(learner="rl2")) == "MetaAgent(learner='rl2')"


def test_what_happened_elsewhere_can_be_learned_from(agent: am.MetaAgent) -> None:
    world = new_world()
    with torch.no_grad():
        seen, memory = am.collect(agent.learner_, agent.module_, world, n_episodes=2, horizon=4)
    agent.fit(transitions=seen)
    torch.testing.assert_close(agent._fitted.adapted["state"], memory["state"])
    assert agent.returns_.shape == (1, 2)


def test_policy_and_value_are_networks_in_the_units_of_rewards(agent: am.MetaAgent) -> None:
    features = torch.zeros(1, 1, 64)
    assert agent.policy_(features).shape == (1, 1, 5)
    unit = agent.value_(features, torch.zeros(1, 0))
    agent.value_.scale.mul_(2)
    torch.testing.assert_close(agent.value_(features, torch.zeros(1, 0)), 2 * unit)
    agent.value_.scale.div_(2)
    random = am.MetaAgent("control/random", max_steps=0).meta_fit(TASKS)
    with pytest.raises(AttributeError, match="has no value_"):
        _ = random.value_


def test_what_cannot_be_is_said_in_one_sentence(agent: am.MetaAgent) -> None:
    with pytest.raises(NotFittedError, match="has met no worlds yet; call meta_fit"):
        am.MetaAgent().fit(new_world())
    with pytest.raises(am.Incompatible, match="are regression and MetaAgent is for control; use FewShotRegressor"):
        am.MetaAgent().meta_fit(Lines())
    with pytest.raises(am.Incompatible, match="are control and FewShotRegressor is for regression; use MetaAgent"):
        am.FewShotRegressor().meta_fit(TASKS)
    with pytest.raises(am.Incompatible, match="learner 'ridge' is for classification and regression, not for control"):
        am.MetaAgent("ridge").meta_fit(TASKS)
    with pytest.raises(am.InvalidParameter, match="env=int is no environment of Gymnasium"):
        agent.fit(3)
    with pytest.raises(am.Incompatible, match=r"input_shape of the environments is \(10,\), and the agent"):
        agent.fit(am.make_tasks("gridnavi").sample(1, seed=0))
    with pytest.raises(am.Incompatible, match=r"n_outputs of the environments is 3, and the agent was .* on 5"):
        agent.adaptation_curve(am.make_tasks("bandit", arms=3))
    with pytest.raises(am.InvalidParameter, match="either env or transitions"):
        agent.fit()
    with pytest.raises(am.InvalidParameter, match=r"transitions=\[1\] must be an autometa.Experience"):
        agent.fit(transitions=[1])
    elsewhere, tasks = am.make_learner("control/random"), am.make_tasks("bandit")
    seen, _ = am.collect(elsewhere, elsewhere.build(tasks.info), tasks.sample(1, seed=0), n_episodes=1, horizon=2)
    with pytest.raises(am.Incompatible, match=r"observations of shape \(1,\) .* was meta-trained on \(6,\)"):
        agent.fit(transitions=seen)
    with pytest.raises(am.InvalidData, match=r"observation has the shape \(4,\); it must be \(6,\)"):
        agent.predict(np.zeros(4))
    agent.fit(TASKS.sample(3, seed=0))
    with pytest.raises(am.InvalidParameter, match="fit met 3 environments, and there are 2"):
        agent.predict(np.zeros((2, 6)))


def test_watching_without_gymnasium_names_the_extra(agent: am.MetaAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(am.MissingData, match=r"needs the package gymnasium; install autometa with the extra 'control'"):
        agent.watch(object())


@pytest.mark.thorough
def test_an_interrupted_meta_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    optimizer = am.make_meta_optimizer("policy_gradient", trials=10)
    made = am.MetaAgent("rl2", optimizer, max_steps=2, device="cpu", random_state=0)
    first = clone(made).meta_fit(TASKS, checkpoint=tmp_path / "begun")
    again = clone(made).meta_fit(TASKS, checkpoint=tmp_path / "begun")
    assert again.history_.equals(first.history_)
    for name, value in first.module_.state_dict().items():
        assert torch.equal(value, again.module_.state_dict()[name])


def test_an_agent_that_learns_nothing_is_saved_and_acts(tmp_path: Path) -> None:
    agent = am.MetaAgent("control/random", max_steps=0, device="cpu", random_state=0).meta_fit(TASKS)
    agent.fit(new_world(), episodes=2)
    agent.save(tmp_path / "random.autometa")
    assert walk(am.load(tmp_path / "random.autometa")) == walk(agent)


def test_an_agent_travels_to_another_process(agent: am.MetaAgent) -> None:
    agent.fit(new_world(), episodes=1)
    assert walk(pickle.loads(pickle.dumps(agent))) == walk(agent)


@pytest.mark.parametrize("name", ["gittins", "thompson", "ucb", "random"])
def test_what_is_known_of_a_bandit_is_saved(name: str, tmp_path: Path) -> None:
    tasks = am.make_tasks("bandit", arms=3, pulls=4)
    agent = am.MetaAgent(name, device="cpu", random_state=0).meta_fit(tasks).fit(tasks.sample(2, split="test", seed=0))
    agent.save(tmp_path / "agent")
    seen = np.ones((2, 1), np.float32)
    np.testing.assert_array_equal(am.load(tmp_path / "agent").predict(seen)[0], agent.predict(seen)[0])


def test_scoring_is_not_a_replay_of_exploring() -> None:
    tasks = am.make_tasks("bandit", arms=3, pulls=4, rewards="gaussian")
    agent, world = am.MetaAgent("random", device="cpu", random_state=0).meta_fit(tasks), tasks.sample(1, seed=0)
    agent.fit(world, episodes=1)
    score = agent.score(world, episodes=1)
    assert score != agent.returns_[0, 0]
    assert score == agent.score(world, episodes=1)


def test_an_episode_is_no_longer_than_that_of_its_world() -> None:
    tasks = am.make_tasks("dark_room", steps=8, n_shot=1)
    agent = am.MetaAgent("random", device="cpu", random_state=0).meta_fit(tasks)
    short = am.make_tasks("dark_room", steps=3, n_shot=1).sample(5, seed=0)
    with torch.no_grad():
        seen, _ = am.collect(agent.learner_, agent.module_, short, n_episodes=2, horizon=8)
    assert seen.n_steps == 6
    assert seen.truncated[:, 2::3].all()


def test_padded_steps_are_no_episode(agent: am.MetaAgent) -> None:
    tasks = am.make_tasks("cartpole", steps=12)
    actor = am.MetaAgent("random", device="cpu", random_state=0).meta_fit(tasks)
    with torch.no_grad():
        seen, _ = am.collect(actor.learner_, actor.module_, tasks.sample(5, seed=0), n_episodes=2, horizon=12)
    assert int(seen.episode.max()) == 2, "trials end apart"
    assert actor.fit(transitions=seen).returns_.shape == (5, 2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"observation": np.full(6, np.nan)}, "observation must hold finite numbers alone"),
        ({"observation": np.array(["a"] * 6)}, "observation must hold finite numbers alone"),
        ({"observation": np.zeros(6), "state": ()}, r"state=\(\) must be None or what predict"),
        ({"observation": np.zeros(6), "state": (1,)}, r"state=\(1,\) must be None or what predict"),
        ({"observation": np.zeros((2, 6)), "episode_start": [True]}, "episode_start has 1 values for 2 observations"),
    ],
)
def test_what_predict_cannot_take_is_said_in_one_sentence(
    agent: am.MetaAgent, given: dict[str, Any], said: str
) -> None:
    with pytest.raises((am.InvalidData, am.InvalidParameter), match=said):
        agent.predict(**given)
    state = agent.predict(np.zeros((2, 6)), episode_start=[True, True])[1]
    with pytest.raises(am.InvalidParameter, match="state is of 2 environments, and there are 3 observations"):
        agent.predict(np.zeros((3, 6)), state=state)


def test_a_privileged_critic_is_not_asked_where_nothing_is_known() -> None:
    actor = am.make_learner("rl2", privileged=True, hidden_size=8)
    module = actor.build(TASKS.info)
    with torch.no_grad():
        seen, _ = am.collect(actor, module, TASKS.sample(2, seed=0), n_episodes=1, horizon=4)
        decision, _ = actor.along(module, dataclasses.replace(seen, hidden=torch.zeros(2, 0)))
        assert decision.value is None
        assert actor.along(module, seen)[0].value is not None


def test_every_reader_that_is_named_reads_worlds() -> None:
    for reader in ("gru", "lstm", "mann", "snail", "plastic"):
        actor = am.make_learner("rl2", reader=reader)
        module = actor.build(TASKS.info)
        with torch.no_grad():
            seen, _ = am.collect(actor, module, TASKS.sample(2, seed=0), n_episodes=1, horizon=4)
        assert seen.n_steps == 4


# ---------------------------------------------------------------- what is no distribution, or no world


class Stepped:
    """What looks like an environment."""

    def step(self, action: int) -> None: ...


def test_the_mean_of_normalised_returns_is_the_share_of_the_way_to_the_best() -> None:
    """Some bandits have arms that are nearly alike: shares of each by itself would have no mean."""
    tasks = am.make_tasks("bandit", arms=2, pulls=6)
    agent = am.MetaAgent("gittins", max_steps=0, device="cpu", random_state=0).meta_fit(tasks)
    curve = agent.adaptation_curve(tasks, n_tasks=600, seed=3)
    parts = [
        tasks.sample(min(250, 600 - start), split="test", seed=am.derive_seed(3, "test", start))
        for start in (0, 250, 500)
    ]
    low, high = (torch.cat([part.reference[who] for part in parts]).mean() for who in ("random", "best"))
    wanted = (curve["return"].mean() - float(low)) / float(high - low)
    assert curve["normalised"].mean() == pytest.approx(wanted, abs=1e-5)
    assert 0.3 < wanted < 1


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda agent, world: agent.meta_fit(world), am.InvalidParameter, "make_tasks('gymnasium', env="),
        (lambda agent, world: agent.meta_fit([world]), am.InvalidParameter, "no distribution of worlds"),
        (lambda agent, world: agent.meta_fit(Stepped()), am.InvalidParameter, "no distribution of worlds"),
        (lambda agent, world: agent.meta_fit(np.zeros((2, 2)), y=[0, 1], task=[0, 1]), am.Incompatible, "of a table"),
        (lambda agent, world: agent.fit(TASKS), am.InvalidParameter, "a task sampler draws: tasks.sample(1"),
        (lambda agent, world: agent.fit("gridnavi"), am.InvalidParameter, "a task sampler draws: tasks.sample(1"),
    ],
)  # fmt: skip
def test_what_is_no_distribution_or_no_world_is_refused_with_what_would_work(
    call: Any, error: type[Exception], words: str
) -> None:
    agent = am.MetaAgent("random", max_steps=0, device="cpu", random_state=0).meta_fit(TASKS)
    with pytest.raises(error) as found:
        call(agent, TASKS.sample(1, seed=0))
    assert words in str(found.value)


# ---------------------------------------------------------------- what happened elsewhere, and actors that are wrong


@pytest.fixture(scope="module")
def elsewhere() -> am.Experience:
    actor = am.make_learner("control/random")
    with torch.no_grad():
        seen, _ = am.collect(actor, actor.build(TASKS.info), TASKS.sample(2, seed=1), n_episodes=2, horizon=4)
    return seen


def changed(of: am.Experience, **parts: Any) -> am.Experience:
    return dataclasses.replace(of, **{name: change(getattr(of, name)) for name, change in parts.items()})


@pytest.mark.parametrize(
    ("parts", "error", "words"),
    [
        ({"reward": lambda t: t * float("nan")}, am.InvalidData, "reward of transitions holds numbers"),
        ({"observation": lambda t: t / 0}, am.InvalidData, "observation of transitions holds"),
        ({"action": lambda t: t + 5}, am.InvalidData, "choices are 0 to 4"),
        ({"action": lambda t: t.float()}, am.Incompatible, "are real numbers"),
        ({"episode": lambda t: t + 3}, am.InvalidData, "from 0, one after the other"),
        ({"mask": torch.zeros_like}, am.InvalidParameter, "a task without any step"),
        ({"reward": lambda t: t[:, :-1]}, am.InvalidData, "and reward is"),
    ],
)  # fmt: skip
def test_transitions_that_cannot_be_are_refused(
    agent: am.MetaAgent, elsewhere: am.Experience, parts: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as found:
        agent.fit(transitions=changed(elsewhere, **parts))
    assert words in str(found.value)


def test_transitions_in_another_precision_are_learned_from(agent: am.MetaAgent, elsewhere: am.Experience) -> None:
    doubled = changed(elsewhere, observation=Tensor.double, reward=Tensor.double, next_observation=Tensor.double)
    np.testing.assert_allclose(agent.fit(transitions=doubled).returns_, agent.fit(transitions=elsewhere).returns_)


def test_who_learns_only_from_what_it_tried_refuses_transitions_of_others(elsewhere: am.Experience) -> None:
    agent = am.MetaAgent("es_policy", max_steps=0, device="cpu", random_state=0).meta_fit(TASKS)
    with pytest.raises(am.Incompatible, match="learns from what it tried itself; explore with fit"):
        agent.fit(transitions=elsewhere)


@pytest.mark.parametrize(
    ("observation", "n", "rows", "single"),
    [
        (np.array([0, 1, 2]), 3, [[1, 0, 0], [0, 1, 0], [0, 0, 1]], False),
        (np.array([0, 1, 2]), None, [[1, 0, 0], [0, 1, 0], [0, 0, 1]], False),
        (np.array([0, 1, 0]), None, [[0, 1, 0]], True),
        (np.array([0, 1, 0]), 3, [[1, 0, 0], [0, 1, 0], [1, 0, 0]], False),
        (np.array([0.0, 1.0, 0.0]), None, [[0, 1, 0]], True),
        (np.array(2), None, [[0, 0, 1]], True),
        (np.array([2, 0]), None, [[0, 0, 1], [1, 0, 0]], False),
    ],
)
def test_numbers_of_as_many_environments_as_there_are_states_are_numbers(
    observation: Any, n: int | None, rows: list[list[int]], single: bool
) -> None:
    found, alone = observations_in(observation, (3,), n)
    np.testing.assert_array_equal(found, rows)
    assert alone == single

"""es_policy: what a round of neighbours teaches, candidates of an evolution together, and what evolution learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import autometa as am
from autometa.engine.random_state import fresh_module
from autometa.engine.rounds import returns_by_round
from autometa.training import MetaTraining
from learning import assert_better, training_seed
from tiers import first_by_default

PLANE = am.make_tasks("navigation_2d", steps=12, n_shot=10)
DISCRETE = {
    "cartpole": am.make_tasks("cartpole", steps=30, n_shot=4),
    "gridnavi": am.make_tasks("gridnavi", size=3, steps=6, n_shot=3),
}
WORLDS = {"navigation_2d": PLANE, **DISCRETE}
METHODS = ("climb", "gradient")


def made(tasks: am.TaskSampler = PLANE, **parameters: Any) -> tuple[Any, Any]:
    """A learner and a θ that does something."""
    learner = am.make_learner("es_policy", **parameters)
    module: Any = fresh_module(learner, tasks.info, seed=0)
    with torch.no_grad():
        for parameter in module.policy.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return learner, module


def a_round(returns: list[float], *, untold: tuple[int, ...] = ()) -> am.Experience:
    """One task's round of episodes of two steps each in the plane, which pay half of the returns each."""
    n = len(returns)
    reward = torch.tensor(returns).repeat_interleave(2).unsqueeze(0) / 2
    episode = torch.arange(n).repeat_interleave(2).unsqueeze(0)
    told = ~torch.isin(episode, torch.tensor(untold, dtype=torch.int64))
    no, seen = torch.zeros_like(told), torch.zeros(1, 2 * n, 2)
    truncated = (torch.arange(2 * n) % 2 == 1).unsqueeze(0)
    return am.Experience(
        observation=seen, action=seen, reward=reward, terminated=no, truncated=truncated, next_observation=seen,
        told=told, log_prob=reward, episode=episode, mask=~no, hidden=seen[:, 0], is_full=True, n_shot=n,
    )  # fmt: skip


def tried(learner: Any, module: nn.Module, memory: dict[str, Tensor], n: int) -> Tensor:
    """Weights of the candidates of a round, [n, weights], read off what they decide.

    A linear policy tells its bias where nothing is seen, and a column of its matrix by what a number adds to that.
    """
    seen = torch.cat([torch.zeros(1, 2), 1e-3 * torch.eye(2)]).repeat(n, 1).unsqueeze(0)
    episode = torch.arange(n).repeat_interleave(3).unsqueeze(0)
    mean = learner.decide(module, memory, seen, episode).policy.mean[0].view(n, 3, 2) / 3  # 1/30 is at the bound, 0.1
    columns = (mean[:, 1:] - mean[:, :1]) / 1e-3
    return torch.cat([columns.transpose(1, 2).flatten(1), mean[:, 0]], 1).detach()


def little(**parameters: Any) -> tuple[Any, Any, dict[str, Tensor]]:
    """A learner in double precision whose candidates stay within the bounds of actions, and its first memory."""
    learner, module = made(**{"step": 0.003, "learn_step": False, **parameters})
    module.double()
    with torch.no_grad():
        for parameter in module.policy.parameters():
            parameter.mul_(0.03)
    return learner, module, {name: value.detach() for name, value in learner.start(module, 1).items()}


# ---------------------------------------------------------------- a round


def test_climbing_goes_on_with_the_weights_that_got_most() -> None:
    learner, module, memory = little()
    weights = tried(learner, module, memory, 5)
    torch.testing.assert_close(weights[0], memory["weights"][0], msg="the first candidate is where the round began")
    after = learner.adapt(module, memory, a_round([-3.0, -4.0, -1.0, -2.0, -9.0]))
    torch.testing.assert_close(after["weights"][0], weights[2])
    assert after["round"].tolist() == [1]


def test_climbing_stays_where_nothing_was_better() -> None:
    learner, module, memory = little()
    after = learner.adapt(module, memory, a_round([1.0, 1.0, 0.0, 1.0, 1.0]))
    assert torch.equal(after["weights"], memory["weights"])


@pytest.mark.parametrize("method", METHODS)
def test_an_episode_that_was_not_told_or_not_lived_through_counts_for_nothing(method: str) -> None:
    learner, module, memory = little(method=method)
    whole = learner.adapt(module, memory, a_round([-3.0, -4.0]))
    more = learner.adapt(module, memory, a_round([-3.0, -4.0, 7.0, 8.0], untold=(2, 3)))
    assert torch.equal(whole["weights"], more["weights"])
    nothing = learner.adapt(module, memory, a_round([0.0, 1.0], untold=(0, 1)))
    assert torch.equal(nothing["weights"], memory["weights"])


def test_neighbours_of_a_gradient_are_mirror_images_and_an_odd_one_stays() -> None:
    learner, module, memory = little(method="gradient")
    offsets = tried(learner, module, memory, 5) - memory["weights"]
    torch.testing.assert_close(offsets[0], -offsets[1])
    torch.testing.assert_close(offsets[2], -offsets[3])
    torch.testing.assert_close(offsets[4], torch.zeros_like(offsets[4]))
    assert not torch.isclose(offsets[0], offsets[2]).any()


def test_a_gradient_steps_along_standardised_returns_whatever_their_unit() -> None:
    learner, module, memory = little(method="gradient")
    offsets = tried(learner, module, memory, 5) - memory["weights"]
    returns = [-3.0, -5.0, -2.0, -2.0, 9.0]
    moved = learner.adapt(module, memory, a_round(returns))["weights"] - memory["weights"]
    deviation = torch.tensor([-3.0, -5.0, -2.0, -2.0]).std(correction=0).double()
    torch.testing.assert_close(moved[0], offsets[0] / deviation / 2**0.5)
    other = learner.adapt(module, memory, a_round([100 * value - 7 for value in returns]))
    torch.testing.assert_close(other["weights"] - memory["weights"], moved, rtol=1e-4, atol=1e-7)


def test_steps_shrink_over_the_rounds_and_begin_anew() -> None:
    learner, module, memory = little(step=0.004, decay=0.5, rounds=3)
    sizes = []
    for number in range(5):
        here = {**memory, "round": torch.tensor([number])}
        offset = tried(learner, module, here, 2)[1] - memory["weights"][0]
        sizes.append(float((offset / module.directions[number, 1]).mean()))
    assert sizes == pytest.approx([0.004, 0.002, 0.001, 0.004, 0.002], rel=1e-4)


def test_directions_are_standard_normal_and_the_same_in_every_process() -> None:
    module = made(hidden_size=16)[1]
    numbers = module.directions[:, 1:]
    assert numbers.mean().abs() < 4 / numbers.numel() ** 0.5
    assert (numbers.square().mean() - 1).abs() < 4 * (2 / numbers.numel()) ** 0.5
    assert torch.equal(module.directions, made(hidden_size=16)[1].directions)
    assert "directions" not in module.state_dict()


def test_more_rounds_of_climbing_do_no_harm_in_a_world_without_chance() -> None:
    learner, module = made()
    with torch.no_grad():
        curve = returns_by_round(learner, module, PLANE.sample(50, seed=0))
    assert curve.shape == (50, 3)
    # What is judged differs from what was tried by the noise of actions, a thousandth of their bounds.
    assert (curve.diff(dim=1) >= -0.02).all()
    assert (curve[:, -1] > curve[:, 0] + 0.1).float().mean() > 0.5


# ---------------------------------------------------------------- candidates of an evolution


def population(module: nn.Module, n: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        name: (value + 0.3 * torch.randn(n, *value.shape, generator=generator)).detach()
        for name, value in module.named_parameters()
    }


@pytest.mark.parametrize("method", first_by_default(1, METHODS))
@pytest.mark.parametrize("name", WORLDS)
def test_candidates_of_an_evolution_run_together_as_in_turn(name: str, method: str) -> None:
    """Episodes that end early are gone through to the last step, so nothing depends on a value."""
    tasks = WORLDS[name]
    learner, module = made(tasks, method=method)
    candidates, worlds = population(module, 5), tasks.sample(12, seed=0)
    judge = am.PopulationLosses(learner, module)
    together = judge(candidates, worlds)
    assert judge.strategy == "vmap"
    in_turn = am.PopulationLosses(learner, module, strategy="loop")(candidates, worlds)
    torch.testing.assert_close(together, in_turn, rtol=1e-4, atol=1e-4)
    assert together.std(0).max() > 0, "candidates differ"


# ---------------------------------------------------------------- what is learned


def curve(tasks: am.TaskSampler, n_steps: int, **parameters: Any) -> Tensor:
    """Returns [tasks, rounds + 1] in held-out worlds after some generations."""
    learner = am.make_learner("es_policy", **parameters)
    optimizer = am.make_meta_optimizer("evolution_strategy", population=8, lr=0.05)
    run = MetaTraining(learner, optimizer, tasks, n_steps=max(n_steps, 1), tasks_per_step=8, seed=training_seed())
    if n_steps:
        run.run_to()
    with torch.no_grad():
        return returns_by_round(learner, run.module.eval(), tasks.sample(200, split="test", seed=1))


@pytest.mark.slow
def test_evolution_finds_a_start_from_which_climbing_gets_further() -> None:
    """The control climbs as well, from where nothing was learned, in the same worlds."""
    before, after = curve(PLANE, 0), curve(PLANE, 40)
    assert_better(after[:, -1], before[:, -1], PLANE.info)
    assert_better(after[:, -1], after[:, 0], PLANE.info)


def test_steps_that_are_learned_are_genes_of_theta_and_fixed_ones_are_not() -> None:
    def names(**parameters: Any) -> set[str]:
        return set(dict(made(**parameters)[1].named_parameters()))

    assert names() - names(learn_step=False) == {"learned"}
    learned, fixed = (made(learn_step=flag)[0] for flag in (True, False))
    assert fixed.adaptation_parameters - learned.adaptation_parameters == {"step", "decay"}
    here, there = (made(learn_step=flag) for flag in (True, False))
    worlds = PLANE.sample(3, seed=0)
    with torch.no_grad():
        torch.testing.assert_close(*(returns_by_round(*pair, worlds) for pair in (here, there)))


def test_an_agent_keeps_what_it_climbed_to(tmp_path: Path) -> None:
    agent = am.MetaAgent("es_policy", max_steps=0, device="cpu", random_state=0).meta_fit(PLANE)
    worlds = PLANE.sample(8, split="test", seed=0)
    before = agent.score(worlds, episodes=1)
    agent.fit(worlds, episodes=20)
    assert agent.returns_.shape == (8, 20)
    after = agent.score(worlds, episodes=1)
    assert after > before
    assert isinstance(agent.policy_, nn.Module)
    agent.save(tmp_path / "agent.autometa")
    again = am.load(tmp_path / "agent.autometa")
    assert again.score(worlds, episodes=1) == pytest.approx(after)
    actions, _ = again.predict([[0.1, 0.2]] * 8, deterministic=True)
    assert actions.shape == (8, 2)
    assert len({tuple(action) for action in actions.tolist()}) > 1, "each of its own world"


@pytest.mark.parametrize("hidden_size", [0, 16])
def test_worlds_without_an_episode_to_adapt_in_are_acted_in(hidden_size: int) -> None:
    tasks = am.make_tasks("gridnavi", size=3, steps=4, n_shot=0)
    learner, module = made(tasks, hidden_size=hidden_size)
    with torch.no_grad():
        assert am.judge(learner, module, tasks.sample(5, seed=0)).scores.shape == (5,)


@pytest.mark.slow
def test_three_adaptations_come_near_a_goal_in_the_plane() -> None:
    """An adaptation is 20 episodes; standing still gets -38.3, and the best of who knows the goal -0.5."""
    agent = am.MetaAgent("es_policy", max_steps=60, device="cpu", random_state=training_seed())
    agent.meta_fit(am.make_tasks("navigation_2d"))
    tasks = am.make_tasks("navigation_2d", n_shot=60)
    mean = agent.adaptation_curve(tasks, n_tasks=1000).groupby("episode")["return"].mean()
    assert mean[4] >= -12
    assert mean[12] >= -5
